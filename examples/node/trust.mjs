// What a worker believes about keys, and what it makes of messages under them. A newer keyring is believed once it is
// on disk, never before.
import { readFileSync } from "node:fs";
import { follow, judge, recall } from "../verify/judge.mjs";
import { anchorOf, installed, kept, ofKeys, pastKeys } from "../verify/keyring.mjs";
import { Rejected, bodyOf, sha256 } from "../verify/unseal.mjs";

const MOST_STEPS = 8;
const MOST_STEP_BYTES = 2 ** 20;
const SPKI = /^302a300506032b6570032100([0-9a-f]{64})$/;

/** Return the anchor of whoever installed this worker: of a public key (hex or PEM), or of a keyring's file. */
export function anchored({ publicKey, keyringFile }) {
  if (keyringFile) {
    const bytes = readFileSync(keyringFile);
    return installed(bytes.at(-1) === 0x0a ? bytes.subarray(0, -1) : bytes);
  }
  const text = (publicKey ?? "").trim();
  const pem = /^-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----$/.exec(text);
  const [, hex] = pem ? (SPKI.exec(Buffer.from(pem[1], "base64").toString("hex")) ?? []) : [null, text];
  if (!hex) throw new Error("trust needs `publicKey` (what `config-daemon keys public` prints) or `keyringFile`");
  return ofKeys([hex]);
}

/** The members of a config that decide something, as plain values; `config` stays as it was parsed. */
function updateOf(members) {
  const number = (one) => (typeof one === "bigint" ? Number(one) : one);
  const plain = Object.fromEntries([...members].map(([name, one]) => [name, number(one)]));
  return { ...plain, deleted: plain.deleted === true, secrets: plain.secrets ?? null };
}

function accepted(raw, members) {
  const update = updateOf(members);
  const { generation, sequence } = update;
  return { raw, update, floor: { generation, sequence, body_sha256: sha256(bodyOf(raw)) } };
}

export class Trust {
  constructor(anchor, state, services) {
    this.installed = anchor;
    this.held = anchor;
    this.steps = [];
    this.state = state;
    this.services = services;
  }

  static anchorName = anchorOf;

  /** Believe what was taken last, unless somebody installed a newer one. True when what was kept is lost. */
  start() {
    const before = this.state.loadKeyring();
    if (before.raw === null) return before.lost;
    const taken = kept(before.raw, before.past);
    this.held = goesOn(this.installed, taken) ? taken : { ...this.installed, past: pastKeys(taken, this.installed) };
    this.steps = this.held === taken ? before.steps : [];
    return false;
  }

  /** Return the messages that lead whoever knows an older keyring to the one held; none for a single key. */
  get proof() {
    const newest = this.held.raw === null ? [] : [this.held.raw];
    return [...this.steps, ...newest].filter((raw, at, all) => all.findIndex((one) => one.equals(raw)) === at);
  }

  /** Return the keyring to hold after these bytes were shown; nothing is believed yet. Throws Rejected. */
  follow(raw) {
    return follow(this.held, raw);
  }

  /** Believe a keyring that `follow` returned, once it is on disk. Throws what the disk says; then nothing changed. */
  hold(shown) {
    const steps = this.#stepsAfter(shown);
    this.state.saveKeyring(shown.raw, shown.past.map(({ hex }) => hex), steps);
    this.held = shown;
    this.steps = steps;
  }

  /** Take a config through steps 1 to 9; `again` for the very message at the floor. Throws Rejected. */
  judge(topic, raw, floor) {
    const message = accepted(raw, judge(raw, { topic, services: this.services, floor }, this.held));
    return { ...message, again: floor !== null && message.floor.body_sha256 === floor.body_sha256 };
  }

  /** Verify a beacon or a shard; returns its members. Throws Rejected. */
  beacon(topic, raw) {
    return judge(raw, { topic, services: [], floor: null }, this.held);
  }

  /** Read a message that was accepted before, and flag what would be refused if it came now. */
  recall(topic, raw) {
    const message = accepted(raw, recall(raw, { topic, services: this.services }));
    return { ...message, again: true, flag: this.#flagOf(topic, raw, message.update.key_id) };
  }

  #flagOf(topic, raw, keyId) {
    try {
      judge(raw, { topic, services: this.services, floor: null }, this.held);
      return null;
    } catch (error) {
      if (!(error instanceof Rejected)) throw error;
      return this.held.revoked.has(keyId) ? "revoked-signer" : "stale";
    }
  }

  #stepsAfter(shown) {
    const ids = ({ roots }) => roots.map(({ id }) => id).sort().join();
    let steps = [...this.steps, ...(ids(shown) === ids(this.held) ? [] : [shown.raw])].slice(-MOST_STEPS);
    const bytes = () => steps.reduce((sum, one) => sum + one.length, 0);
    while (bytes() > MOST_STEP_BYTES) steps = steps.slice(1);
    return steps;
  }
}

/** A person chose what is installed: what was taken counts only where it goes on from there. */
function goesOn(from, taken) {
  if (from.raw !== null && taken.raw.equals(from.raw)) return true;
  const forgets = [...from.revoked].some((id) => !taken.revoked.has(id));
  return taken.number > from.number && taken.generation >= from.generation && !forgets;
}

// What a worker believes, on disk: one file for each service and one for the keyring. It belongs to one trust anchor:
// with another one floors and keyring count for nothing, and the config that runs stays.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Damaged, readMembers, setAside, writeMembers } from "./files.mjs";

/**
 * @typedef {object} Belief What is kept of one service
 * @property {{generation: number, sequence: number, body_sha256: string} | null} floor The highest ever accepted
 * @property {Buffer | null} current The message that runs
 * @property {Buffer | null} previous The one before, while an attempt is under way
 * @property {Buffer | null} unused The message at the floor where it is not `current`: refused, failed, or a tombstone
 * @property {"pending" | "applied" | "rejected" | "deleted" | null} outcome How the last attempt ended
 * @property {object | null} attempt The last attempt as a status tells it
 */

/** @type {Belief} */
export const NOTHING = { floor: null, current: null, previous: null, unused: null, outcome: null, attempt: null };
const MESSAGES = ["current", "previous", "unused"];

export class State {
  constructor(folder, anchor) {
    this.folder = folder;
    this.anchor = anchor;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  }

  /** Return what is known of a service, and whether an earlier belief was lost with its file. */
  load(service) {
    const kept = this.#read(service);
    if (kept.members === null) return { belief: NOTHING, lost: kept.lost };
    const belief = { ...NOTHING, ...kept.members.belief };
    for (const name of MESSAGES) belief[name] = belief[name] === null ? null : Buffer.from(belief[name]);
    if (kept.members.anchor !== this.anchor) belief.floor = null;
    return { belief, lost: false };
  }

  /** Make a belief durable. Throws what the disk says; on disk is then the one before. */
  save(service, belief) {
    const texts = Object.fromEntries(MESSAGES.map((name) => [name, belief[name]?.toString() ?? null]));
    writeMembers(this.#path(service), { anchor: this.anchor, belief: { ...belief, ...texts } });
  }

  /** Return the keyring that was taken last, keys believed before it, and the way to it. */
  loadKeyring() {
    const { members, lost } = this.#read("keyring");
    if (members === null || members.anchor !== this.anchor) return { raw: null, past: [], steps: [], lost };
    const { keyring, past, steps } = members;
    return { raw: Buffer.from(keyring), past, steps: steps.map((step) => Buffer.from(step)), lost };
  }

  /** Make a keyring durable, before it is believed. Throws what the disk says. */
  saveKeyring(raw, past, steps) {
    const members = { keyring: raw.toString(), past, steps: steps.map(String) };
    writeMembers(this.#path("keyring"), { anchor: this.anchor, ...members });
  }

  #read(subject) {
    try {
      return { members: readMembers(this.#path(subject)), lost: false };
    } catch (error) {
      if (!(error instanceof Damaged)) throw error;
      setAside(this.#path(subject));
      return { members: null, lost: true };
    }
  }

  #path(subject) {
    return join(this.folder, `${subject}.state`);
  }
}

// Who this worker is: a key to sign what it says, one that secrets could be sealed to, and a number that grows with
// every start. Made at the first start; the private halves never leave the folder.
import { createPrivateKey, createPublicKey, randomBytes, sign } from "node:crypto";
import { readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { sha256, signedBytes } from "../verify/unseal.mjs";
import { Damaged, readMembers, replaceFile, writeMembers } from "./files.mjs";

// PKCS #8 of a 32-byte private key: RFC 8410
const PREFIX = { ed25519: "302e020100300506032b657004220420", x25519: "302e020100300506032b656e04220420" };

function keyOf(kind, seed) {
  const der = Buffer.from(PREFIX[kind] + seed, "hex");
  const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  const hex = createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32).toString("hex");
  return { key, hex };
}

function seedsIn(path) {
  const kept = readMembers(path);
  if (kept !== null && statSync(path).mode & 0o077) {
    throw new Error(`${path} can be read by others: chmod 600 it, and enrol this worker again with new keys`);
  }
  if (kept !== null && !("signing" in kept && "box" in kept)) {
    throw new Error(`${path} belongs to another worker program: give this one a folder of its own`);
  }
  if (kept !== null) return kept;
  if (readdirSync(dirname(path)).some((name) => name.endsWith(".state"))) {
    throw new Error(`${path} is gone: put it back, or empty its folder and enrol this worker again with new keys`);
  }
  const seeds = { signing: randomBytes(32).toString("hex"), box: randomBytes(32).toString("hex") };
  writeMembers(path, seeds);
  return seeds;
}

/** JSON in the one form that is signed: compact, members sorted. Their names are ASCII here. */
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.keys(value).sort().map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`);
  return `{${members.join(",")}}`;
}

export class Identity {
  /** Read the keys of a worker, or make them, and begin a new life. Throws when its keys are there and unusable. */
  constructor(folder, worker) {
    const path = join(folder, "worker.keys");
    let seeds;
    try {
      seeds = seedsIn(path);
    } catch (error) {
      if (!(error instanceof Damaged)) throw error;
      throw new Error(`${error.message}: put it back, or remove it and enrol this worker again with new keys`);
    }
    const [signing, box] = [keyOf("ed25519", seeds.signing), keyOf("x25519", seeds.box)];
    this.key = signing.key;
    this.keyId = sha256("cd-ed25519-v1\0", Buffer.from(signing.hex, "hex")).slice(0, 32);
    this.publicKeys = { worker, verify_key: signing.hex, box_key: box.hex };
    replaceFile(join(folder, "worker.public.json"), `${JSON.stringify(this.publicKeys)}\n`, 0o644);
    this.boot = this.#begin(join(folder, "worker.boot"));
    this.n = 0;
  }

  /** Return a signed status: members beside those that say who speaks, and in which order. */
  status(service, members) {
    this.n += 1;
    const { worker } = this.publicKeys;
    const who = { version: 1, service, worker, boot: this.boot, n: this.n, key_id: this.keyId };
    const body = Buffer.from(canonical({ ...who, issued_at: new Date().toISOString(), ...members }));
    const signature = sign(null, signedBytes("status", body), this.key).toString("base64");
    return Buffer.concat([body.subarray(0, -1), Buffer.from(`,"signature":"${signature}"}`)]);
  }

  /** Statuses are ordered by (boot, n), so every start has a higher number, whatever the clock says. */
  #begin(path) {
    let before = 0;
    try {
      before = readMembers(path)?.boot ?? 0;
    } catch (error) {
      if (!(error instanceof Damaged)) throw error;
    }
    const boot = Math.max(before + 1, Date.now());
    writeMembers(path, { boot });
    return boot;
  }
}

// Steps 1 to 5, which are the same for every message: size, tail, signature, strict JSON, format version. Nothing
// is parsed before its signature was verified.
import { createHash, createPublicKey, verify } from "node:crypto";
import { parseStrict } from "./strict-json.mjs";

const MAX_MESSAGE_BYTES = 2 ** 20 - 1;
export const TAIL_BYTES = 104;
const TAIL = /^,"signature":"([A-Za-z0-9+/]{86}==)"\}$/;
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");

export class Rejected extends Error {
  constructor(step, reason) {
    super(`step ${step}: ${reason}`);
    this.step = step;
    this.reason = reason;
  }
}

export const sha256 = (...parts) => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
};

// Points of small order make signatures that fit any message; y of each one, below the prime 2^255 - 19.
const PRIME = 2n ** 255n - 19n;
const SMALL_ORDER_Y = new Set([
  0n, // order 4
  1n, // order 1, the identity
  PRIME - 1n, // order 2
  0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n, // order 8
  0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n, // order 8
]);

/** Read a public key of 64 hex digits; refuse what no honest daemon has. */
export function loadKey(hex) {
  if (!/^[0-9a-f]{64}$/i.test(hex)) throw new Error("a public key has 64 hex digits");
  const bytes = Buffer.from(hex, "hex");
  const y = BigInt(`0x${Buffer.from(bytes).reverse().toString("hex")}`) & (2n ** 255n - 1n);
  if (y >= PRIME || SMALL_ORDER_Y.has(y)) throw new Error("a public key of small order, or not canonical");
  const key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, bytes]), format: "der", type: "spki" });
  return { key, id: sha256("cd-ed25519-v1\0", bytes).slice(0, 32), hex: bytes.toString("hex") };
}

/** Return what the signature of a message covers, besides its type: everything before the tail, and a brace. */
export const bodyOf = (raw) => Buffer.concat([raw.subarray(0, -TAIL_BYTES), Buffer.from("}")]);

/** Return the bytes that are signed: the type and the body, each with its length. */
export function signedBytes(bodyType, body) {
  const type = `application/vnd.config-daemon.${bodyType}.v1+json`;
  return Buffer.concat([Buffer.from(`DSSEv1 ${type.length} ${type} ${body.length} `), body]);
}

/** Steps 1 to 3: return the signed bytes and the key that verified them. */
export function unseal(raw, bodyType, keys) {
  if (raw.length === 0) throw new Rejected(1, "wiped");
  if (raw.length > MAX_MESSAGE_BYTES) throw new Rejected(1, "oversize");
  const [, base64] = TAIL.exec(raw.subarray(-TAIL_BYTES).toString("latin1")) ?? [];
  if (base64 === undefined || raw.length <= TAIL_BYTES || raw[0] !== 0x7b) throw new Rejected(2, "bad-tail");
  const signature = Buffer.from(base64, "base64");
  // Node ignores the unused bits of the last digit; one signature has one spelling only
  if (signature.toString("base64") !== base64) throw new Rejected(2, "bad-tail");
  const body = bodyOf(raw);
  const signed = signedBytes(bodyType, body);
  const signer = keys.find(({ key }) => verify(null, signed, key, signature));
  if (signer === undefined) throw new Rejected(3, "bad-signature");
  return { body, signer };
}

/** Step 4 and the format of step 5: return the members and the text that they stand in. */
export function read(body, fits) {
  let text, members;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
    members = parseStrict(text);
  } catch {
    throw new Rejected(4, "bad-json");
  }
  // integers arrive as BigInt: 1.0 and true are no version
  if (!(members instanceof Map) || typeof members.get("version") !== "bigint") throw new Rejected(4, "bad-json");
  if (members.get("version") !== 1n) throw new Rejected(5, "unknown-version");
  if (!fits(members)) throw new Rejected(4, "bad-json");
  return { members, text };
}

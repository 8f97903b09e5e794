// The checks of the protocol, in its order, with nothing but Node's own crypto: nothing is parsed before
// its signature was verified, and the first fault counts. What lasts (keys, floor) comes from the caller.
import { createHash, createPublicKey, verify } from "node:crypto";
import { parseStrict, valueEnd } from "./strict-json.mjs";
import { isBeacon, isHealth, isUpdate } from "./members.mjs";

const MAX_MESSAGE_BYTES = 2 ** 20 - 1;
const TAIL_BYTES = 104;
const TAIL = /^,"signature":"([A-Za-z0-9+/]{86}==)"\}$/;
const CONFIG_OFFSET = 88;
const UPDATE_HEAD = /^\{"checksum":"[0-9a-f]{64}","config":/;
const SERVICE = /^(?!keyring$)[a-z][a-z0-9-]{0,63}$/;
const BEACON_TOPIC = "system/trust/beacon";
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");
const MAX_KEYS = 4;

export class Rejected extends Error {
  constructor(step, reason) {
    super(`step ${step}: ${reason}`);
    this.step = step;
    this.reason = reason;
  }
}

const sha256 = (...parts) => {
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
  return { key, id: sha256("cd-ed25519-v1\0", bytes).slice(0, 32) };
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
  const body = Buffer.concat([raw.subarray(0, -TAIL_BYTES), Buffer.from("}")]);
  const type = `application/vnd.config-daemon.${bodyType}.v1+json`;
  const signed = Buffer.concat([Buffer.from(`DSSEv1 ${type.length} ${type} ${body.length} `), body]);
  const signer = keys.find(({ key }) => verify(null, signed, key, signature));
  if (signer === undefined) throw new Rejected(3, "bad-signature");
  return { body, signer };
}

/** Steps 4 and 5: return the members and the text that they stand in. */
function read(body, fits, signer) {
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
  if (members.get("key_id") !== signer.id) throw new Rejected(5, "wrong-key");
  return { members, text };
}

/** Step 7: the digest of the config's own bytes, null when they do not begin at offset 88. */
function configDigest(text) {
  if (!UPDATE_HEAD.test(text)) return null;
  // all before the config is ASCII, so that characters and bytes count alike
  const end = valueEnd(text, CONFIG_OFFSET);
  return end === null ? null : sha256(text.slice(CONFIG_OFFSET, end));
}

/** Steps 8 and 9: the keyring's generation and the floor. */
function order(members, digest, { generation, floor }) {
  const own = [members.get("generation"), members.get("sequence")];
  if (own[0] > generation) throw new Rejected(8, "keyring-behind");
  if (own[0] < generation) throw new Rejected(8, "rollback");
  if (floor === null) return;
  const held = [BigInt(floor.generation), BigInt(floor.sequence)];
  const level = own[0] === held[0] && own[1] === held[1];
  if (level && digest !== floor.body_sha256) throw new Rejected(9, "fork");
  if (!level && (own[0] < held[0] || (own[0] === held[0] && own[1] < held[1]))) throw new Rejected(9, "rollback");
}

/** Beacons and shards: each on its own topic, and of the keyring's generation. */
function judgeBeacon(raw, keys, { topic, generation }) {
  const { body, signer } = unseal(raw, "beacon", keys);
  const { members } = read(body, isBeacon, signer);
  const shard = members.get("shard") ?? null;
  if (topic !== (shard === null ? BEACON_TOPIC : `${BEACON_TOPIC}/${shard}`)) throw new Rejected(6, "wrong-service");
  if (members.get("generation") !== BigInt(generation)) throw new Rejected(8, "rollback");
  return members;
}

/** Return the digest by which a beacon names a shard's list: of its compact form, names sorted. */
export function listDigest(services) {
  // names are ASCII and digests hex: nothing needs an escape, and sort() compares as code points do
  const lines = [...services.keys()].sort().map((name) => {
    const [number, digest] = services.get(name);
    return `"${name}":[${number},"${digest}"]`;
  });
  return sha256(`{${lines.join(",")}}`);
}

/** Judge one message; the type follows from the topic. Returns its members as a Map, or throws Rejected. */
export function judge(raw, reader) {
  const { topic, services, public_keys: hexes } = reader;
  if (hexes.length < 1 || hexes.length > MAX_KEYS) throw new Error(`trust one to ${MAX_KEYS} keys`);
  const keys = hexes.map(loadKey);
  if (topic.startsWith("system/health/")) {
    const { body, signer } = unseal(raw, "health", keys);
    return read(body, isHealth, signer).members;
  }
  if (topic === BEACON_TOPIC || topic.startsWith(`${BEACON_TOPIC}/`)) return judgeBeacon(raw, keys, reader);
  const { body, signer } = unseal(raw, "config-update", keys);
  const { members, text } = read(body, isUpdate, signer);
  const service = members.get("service");
  const mine = services.includes(service) && SERVICE.test(service);
  if (!mine || topic !== `system/config/${service}`) throw new Rejected(6, "wrong-service");
  if (configDigest(text) !== members.get("checksum")) throw new Rejected(7, "bad-checksum");
  order(members, sha256(body), reader);
  return members;
}

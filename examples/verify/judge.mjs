// The checks of the protocol, in its order, with nothing but Node's own crypto: the first fault counts. What
// lasts (keys, keyrings, floor) comes from the caller.
import { valueEnd } from "./strict-json.mjs";
import { isBeacon, isConvergence, isHealth, isStatus, isUpdate } from "./members.mjs";
import { follow, installed, ofKeys, unsealUnder } from "./keyring.mjs";
import { Rejected, bodyOf, loadKey, read, sha256 } from "./unseal.mjs";

export { Rejected, loadKey };

const CONFIG_OFFSET = 88;
const UPDATE_HEAD = /^\{"checksum":"[0-9a-f]{64}","config":/;
const SERVICE = /^(?!keyring$)[a-z][a-z0-9-]{0,63}$/;
const BEACON_TOPIC = "system/trust/beacon";
const KEYRING_TOPIC = "system/trust/keyring";
const MAX_KEYS = 4;
const MAX_STATUS_BYTES = 2 ** 16;

const isBelow = (topic, parent) => topic === parent || topic.startsWith(`${parent}/`);

/** Return the keyring that a reader holds: of the keys or the keyring that it was given, and of those it took. */
export function holding({ public_keys: hexes, keyrings_base64: taken = [], generation }) {
  const keyrings = taken.map((text) => Buffer.from(text, "base64"));
  if (hexes.length === 0) return keyrings.slice(1).reduce(follow, installed(keyrings[0]));
  if (hexes.length > MAX_KEYS) throw new Error(`trust one to ${MAX_KEYS} keys`);
  return keyrings.reduce(follow, ofKeys(hexes, keyrings.length === 0 ? generation : 1));
}

/** Steps 1 to 5 of what the daemon signs. */
function open(raw, bodyType, fits, held) {
  const { body, signer } = unsealUnder(held, raw, bodyType);
  const { members, text } = read(body, fits);
  if (members.get("key_id") !== signer.id) throw new Rejected(5, "wrong-key");
  return { body, members, text };
}

/** Step 7: the digest of the config's own bytes, null when they do not begin at offset 88. */
function configDigest(text) {
  if (!UPDATE_HEAD.test(text)) return null;
  // all before the config is ASCII, so that characters and bytes count alike
  const end = valueEnd(text, CONFIG_OFFSET);
  return end === null ? null : sha256(text.slice(CONFIG_OFFSET, end));
}

/** Step 8: the keyring's generation. */
function checkGeneration(members, held) {
  if (members.get("generation") > held.generation) throw new Rejected(8, "keyring-behind");
  if (members.get("generation") < held.generation) throw new Rejected(8, "rollback");
}

/** Step 9: the floor. */
function checkFloor(members, digest, floor) {
  if (floor === null) return;
  const own = [members.get("generation"), members.get("sequence")];
  const highest = [BigInt(floor.generation), BigInt(floor.sequence)];
  const level = own[0] === highest[0] && own[1] === highest[1];
  if (level && digest !== floor.body_sha256) throw new Rejected(9, "fork");
  const below = own[0] < highest[0] || (own[0] === highest[0] && own[1] < highest[1]);
  if (below) throw new Rejected(9, "rollback");
}

/** Beacons and shards: each on its own topic, and of the keyring's generation. */
function judgeBeacon(raw, topic, held) {
  const { members } = open(raw, "beacon", isBeacon, held);
  const shard = members.get("shard") ?? null;
  if (topic !== (shard === null ? BEACON_TOPIC : `${BEACON_TOPIC}/${shard}`)) throw new Rejected(6, "wrong-service");
  checkGeneration(members, held);
  return members;
}

/** Statuses: the only key that counts is the worker's own, and what it says is for its own topic. */
function judgeStatus(raw, topic, held) {
  if (raw.length > MAX_STATUS_BYTES) throw new Rejected(1, "oversize");
  const { members } = open(raw, "status", isStatus, held);
  const own = `system/status/${members.get("service")}/${members.get("worker")}`;
  if (topic !== own) throw new Rejected(6, "wrong-service");
  return members;
}

/** How far a message got: the generation in it is that message's, and none of the reader's business. */
function judgeConvergence(raw, topic, held) {
  const { members } = open(raw, "convergence", isConvergence, held);
  if (topic !== `system/convergence/${members.get("service")}`) throw new Rejected(6, "wrong-service");
  return members;
}

/** Step 6 and 7: a config for a service of this reader, on its topic, with the checksum of its own bytes. */
function checkContent({ members, text }, topic, services) {
  const service = members.get("service");
  const mine = services.includes(service) && SERVICE.test(service);
  if (!mine || topic !== `system/config/${service}`) throw new Rejected(6, "wrong-service");
  if (configDigest(text) !== members.get("checksum")) throw new Rejected(7, "bad-checksum");
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

/** Judge one message that is no keyring; the type follows from the topic. Returns its members as a Map, or throws Rejected. */
export function judge(raw, { topic, services, floor }, held) {
  if (topic.startsWith("system/health/")) return open(raw, "health", isHealth, held).members;
  if (isBelow(topic, BEACON_TOPIC)) return judgeBeacon(raw, topic, held);
  if (topic.startsWith("system/status/")) return judgeStatus(raw, topic, held);
  if (topic.startsWith("system/convergence/")) return judgeConvergence(raw, topic, held);
  const { body, members, text } = open(raw, "config-update", isUpdate, held);
  checkContent({ members, text }, topic, services);
  checkGeneration(members, held);
  checkFloor(members, sha256(body), floor);
  return members;
}

/** Read a config again that was judged before: keys, generations and floors are for what arrives. */
export function recall(raw, { topic, services }) {
  const { members, text } = read(bodyOf(raw), isUpdate);
  checkContent({ members, text }, topic, services);
  return members;
}

/** Tell whether keyrings travel on a topic: then `follow(held, raw)` judges, and no other function. */
export const isKeyringTopic = (topic) => isBelow(topic, KEYRING_TOPIC);
export { follow };

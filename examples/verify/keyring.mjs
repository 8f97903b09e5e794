// What a reader believes about keys, and the only way to change that: a keyring that a root of the one held
// signed. It only goes on: numbers rise, generations never fall, and what was revoked stays revoked.
import { Rejected, bodyOf, loadKey, read, sha256, unseal } from "./unseal.mjs";
import { isKeyring } from "./members.mjs";

const MAX_PAST_KEYS = 4;

/** Return what is held by whoever was given these keys: of one key that is number 0, of which there are no bytes. */
export function ofKeys(hexes, generation = 1) {
  const keys = hexes.map(loadKey);
  // of a single key a beacon names the digest of its 32 bytes
  const none = { number: 0n, raw: null, sha256: sha256(Buffer.from(hexes[0], "hex")), revoked: new Set(), past: [] };
  return { ...none, generation: BigInt(generation), roots: keys, configKeys: keys };
}

/** Return what is held by whoever was given a keyring: a root that it lists itself signed it. */
export function installed(raw) {
  const keyring = readKeyring(bodyOf(raw), raw);
  unseal(raw, "keyring", keyring.roots);
  return { ...keyring, past: [] };
}

/** Return what was held before a restart: verified when it was taken, and perhaps by a root that it lists no more. */
export const kept = (raw, past) => ({ ...readKeyring(bodyOf(raw), raw), past: past.map(loadKey) });

/** Return what names the trust in these roots: the name of the only one, or a digest of all. */
export function anchorOf({ roots }) {
  const ids = roots.map(({ id }) => id).sort();
  return ids.length === 1 ? ids[0] : sha256(ids.join("")).slice(0, 32);
}

/** Return what is held after these bytes were shown; `held` itself for its own bytes. Throws Rejected. */
export function follow(held, raw) {
  if (held.raw !== null && raw.equals(held.raw)) return held;
  const shown = readKeyring(unseal(raw, "keyring", held.roots).body, raw);
  if (shown.number === held.number) throw new Rejected(8, "fork");
  if (shown.number < held.number || shown.generation < held.generation) throw new Rejected(8, "rollback");
  if (![...held.revoked].every((id) => shown.revoked.has(id))) throw new Rejected(8, "unrevoked");
  return { ...shown, past: pastKeys(held, shown) };
}

/** Like `unseal` of a message of the daemon's, and say it where a key signed that was believed once. */
export function unsealUnder(held, raw, bodyType) {
  try {
    return unseal(raw, bodyType, held.configKeys);
  } catch (error) {
    if (error.reason !== "bad-signature") throw error;
    const signer = held.past.find((key) => signs(key, raw, bodyType));
    if (signer === undefined) throw error;
    throw new Rejected(5, held.revoked.has(signer.id) ? "revoked-key" : "wrong-key");
  }
}

function signs(key, raw, bodyType) {
  try {
    return unseal(raw, bodyType, [key]) !== null;
  } catch {
    return false;
  }
}

function readKeyring(body, raw) {
  const { members } = read(body, isKeyring);
  const listed = members.get("keys").map((one) => ({ ...usable(one), roles: one.get("roles") }));
  const revoked = new Set(members.get("revoked").map((one) => one.get("key_id")));
  if (listed.some(({ id }) => revoked.has(id))) throw new Rejected(5, "revoked-key");
  const having = (role) => listed.filter(({ roles }) => roles.includes(role));
  return {
    number: members.get("number"),
    generation: members.get("generation"),
    sha256: sha256(body),
    raw,
    roots: having("root"),
    configKeys: having("config"),
    revoked,
  };
}

function usable(listed) {
  let key;
  try {
    key = loadKey(listed.get("public_key"));
  } catch {
    throw new Rejected(5, "wrong-key");
  }
  if (key.id !== listed.get("key_id")) throw new Rejected(5, "wrong-key");
  return key;
}

/** The keys that were believed once and are not now: only to say why one is refused. */
export function pastKeys(held, shown) {
  const known = [...held.past, ...held.configKeys];
  return known.filter(({ id }) => !shown.configKeys.some((one) => one.id === id)).slice(-MAX_PAST_KEYS);
}

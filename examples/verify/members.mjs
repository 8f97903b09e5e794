// What the members of each message must be. Unknown members are ignored; wrong types never are.
// The same rules as JSON Schema: schemas/wire/*.schema.json.

const MAX_SAFE = 2n ** 53n - 1n;

const text = (pattern = /^/) => (value) => typeof value === "string" && pattern.test(value);
const integer = (low, high) => (value) =>
  typeof value === "bigint" && value >= low && (high === undefined || value <= high);
const oneOf = (...words) => (value) => words.includes(value);
const boolean = (value) => typeof value === "boolean";
const object = (value) => value instanceof Map;
const nullable = (rule) => (value) => value === null || rule(value);
const optional = (rule) => (value) => value === undefined || value === null || rule(value);
const shaped = (shape) => (value) =>
  object(value) && Object.entries(shape).every(([name, fits]) => fits(value.get(name)));
const mapOf = (name, rule) => (value) =>
  object(value) && [...value].every(([key, one]) => name(key) && rule(one));
const listOf = (rule) => (value) => Array.isArray(value) && value.every(rule);

const counter = integer(1n, MAX_SAFE);
const count = integer(0n);
const timestamp = text(/^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$/);
const uuid = text(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/);
const keyId = text(/^[0-9a-f]{32}$/);
const sha256 = text(/^[0-9a-f]{64}$/);
const service = text(/^[a-z][a-z0-9-]{0,63}$/);
const version = (value) => value === 1n;

const secrets = shaped({
  nonce: text(),
  ciphertext: text(),
  recipients: (value) => object(value) && [...value.values()].every(text()),
});

const condition = shaped({
  name: text(),
  subject: text(),
  severity: oneOf("info", "warning", "critical"),
  since: timestamp,
  detail: text(),
});

const update = shaped({
  checksum: sha256,
  config: object,
  config_epoch: uuid,
  config_version: counter,
  generation: counter,
  issued_at: timestamp,
  key_id: keyId,
  sequence: counter,
  service,
  version,
  deleted: optional((value) => value === true),
  secrets: optional(secrets),
  expires_at: optional(timestamp),
  confirm_seconds: optional(integer(10n, 3600n)),
  until: optional(timestamp),
  then: optional(object),
});

/** Tell whether a Map has the members of a config update. */
export function isUpdate(members) {
  if (!update(members)) return false;
  const absent = (name) => (members.get(name) ?? null) === null;
  const emptyTombstone = absent("deleted") || members.get("config").size === 0;
  return emptyTombstone && absent("until") === absent("then");
}

/** Tell whether a Map has the members of a health message. */
export const isHealth = shaped({
  ok: boolean,
  database_status: oneOf("healthy", "locked", "corrupted", "schema-mismatch"),
  operational_mode: oneOf("normal", "read-only-fallback", "rebuilding"),
  config_epoch: uuid,
  schema_version: count,
  lkg_cache_valid: boolean,
  litestream_status: oneOf("healthy", "error", "disabled"),
  last_backup: nullable(timestamp),
  event: nullable(text()),
  err: nullable(text()),
  version,
  session: uuid,
  generation: counter,
  sequence: counter,
  issued_at: timestamp,
  key_id: keyId,
  conditions: listOf(condition),
  services: count,
  behind: count,
});

const shard = text(/^[0-9a-f]{2}$/);
const atMost = integer(0n, MAX_SAFE);
const numbered = (value) => Array.isArray(value) && value.length === 2 && atMost(value[0]) && sha256(value[1]);

/** Tell whether a Map has the members of a beacon, or of one of its shards. */
export const isBeacon = shaped({
  version,
  generation: counter,
  sequence: counter,
  issued_at: timestamp,
  key_id: keyId,
  shard: optional(shard),
  keyring: optional(numbered),
  services: mapOf(service, numbered),
  shards: optional(mapOf(shard, sha256)),
  audit: optional(mapOf(oneOf("history", "access"), numbered)),
});

const MAX_LISTED = 8;
const MAX_CONFIG_KEYS = 4;
const REASON_CHARACTERS = 200;
// a character is a code point, of which some take two units of a JavaScript string
const atMostCharacters = (most) => (value) => typeof value === "string" && [...value].length <= most;
const listedKey = shaped({ key_id: keyId, public_key: sha256, roles: listOf(text()) });
const revocation = shaped({ key_id: keyId, at: timestamp, reason: atMostCharacters(REASON_CHARACTERS) });
const allDiffer = (list) => new Set(list.map((one) => one.get("key_id"))).size === list.length;
const keyring = shaped({
  version,
  number: counter,
  generation: counter,
  issued_at: timestamp,
  keys: listOf(listedKey),
  revoked: listOf(revocation),
});

/** Tell whether a Map has the members of a keyring: a root, one to four keys for configs, eight at most, no key twice. */
export function isKeyring(members) {
  if (!keyring(members)) return false;
  const [keys, revoked] = [members.get("keys"), members.get("revoked")];
  const having = (role) => keys.filter((one) => one.get("roles").includes(role)).length;
  const counts = having("root") >= 1 && having("config") >= 1 && having("config") <= MAX_CONFIG_KEYS;
  return counts && keys.length <= MAX_LISTED && allDiffer(keys) && allDiffer(revoked);
}

const word = text(/^[a-z][a-z0-9-]{0,63}$/);
const defaulted = (rule) => (value) => value === undefined || rule(value);
const fewOf = (rule, most) => (value) => listOf(rule)(value) && value.length <= most;
const [shortText, longText] = [atMostCharacters(100), atMostCharacters(500)];
const place = { generation: counter, sequence: counter, config_version: counter, body_sha256: sha256 };
const problem = shaped({
  error_type: shortText,
  error_code: text(/^[A-Z_]{1,64}$/),
  message: longText,
  suggestion: longText,
  failed_field: defaulted(longText),
  received_value: defaulted(shortText),
  expected_type: defaulted(longText),
  fallback_applied: defaulted(boolean),
});

/** Tell whether a Map has the members of a worker's status. */
export const isStatus = shaped({
  version,
  service,
  worker: service,
  boot: counter,
  n: counter,
  key_id: keyId,
  issued_at: timestamp,
  beacon: atMost,
  running: nullable(shaped({ ...place, source: oneOf("broker", "cache", "then"), applied_at: timestamp })),
  last_attempt: nullable(
    shaped({
      ...place,
      state: oneOf("applied", "rejected", "rolled-back", "pending", "deleted"),
      reason: nullable(word),
      errors: fewOf(problem, 12),
      at: timestamp,
    }),
  ),
  flags: fewOf(word, 12),
  agent: shortText,
});

const laggard = shaped({
  worker: service,
  state: oneOf("applied", "pending", "rejected", "rolled-back", "offline", "silent", "stale"),
  reason: nullable(word),
});

/** Tell whether a Map has the members of a convergence. */
export const isConvergence = shaped({
  version,
  service,
  config_version: counter,
  generation: counter,
  sequence: counter,
  number: counter,
  issued_at: timestamp,
  key_id: keyId,
  ...Object.fromEntries(
    ["total", "applied", "pending", "rejected", "rolled_back", "offline", "silent", "stale"].map((name) => [name, count]),
  ),
  converged: boolean,
  converged_ms: nullable(count),
  worst: fewOf(laggard, 10),
});

// Whether the world that this worker is shown is today's: what beacons prove. No clock takes part in accepting a
// config; here it only decides for how long a beacon counts.
import { createHash } from "node:crypto";
import { listDigest } from "../verify/judge.mjs";

const INTERVALS = 3;
const TWICE = 2;
const WITHHELD = Symbol("a list that is named and did not come");

/** Return which of the 256 shards lists a service. */
export const shardOf = (service) => createHash("sha256").update(service).digest("hex").slice(0, 2);

/** Compare pairs of numbers: below zero, zero, above zero. */
export const compare = (one, other) => one[0] - other[0] || one[1] - other[1];

/** Tell whether one floor is above another. */
export const isAbove = (one, other) =>
  compare([one.generation, one.sequence], [other.generation, other.sequence]) > 0;

const timeOf = (members) => {
  const unixMs = Date.parse(members.get("issued_at"));
  // a day that no calendar has counts as 1970
  return Number.isNaN(unixMs) || new Date(unixMs).toISOString() !== members.get("issued_at") ? 0 : unixMs;
};

/** @typedef {"listed" | "more" | "less" | "unknown"} Standing What the newest fresh beacon says of a message */

export class Beacons {
  /** Times are seconds of a clock that only goes on. */
  constructor(startedAt, beaconSeconds = 30) {
    this.patience = INTERVALS * beaconSeconds;
    this.freshAt = startedAt;
    this.place = [0, 0];
    this.placeAt = null;
    this.newest = null;
    this.shards = new Map(); // shard to the lists that came: the one that fits, the last one that does not
    this.counts = new Map();
    this.isTimeUnsure = false;
  }

  /** The highest number of a beacon in this process, 0 before the first. */
  get highest() {
    return this.place[1];
  }

  isStale(now) {
    return now - this.freshAt > this.patience;
  }

  /** Take a verified beacon; true when it is fresh. `held` is the highest pair of numbers among the floors. */
  take(members, held, now, unixMs) {
    const place = [Number(members.get("generation")), Number(members.get("sequence"))];
    if (compare(place, this.place) <= 0 || compare(place, held) < 0) return false;
    const advanced = this.placeAt !== null && now - this.placeAt <= this.patience;
    this.place = place;
    this.placeAt = now;
    const age = (unixMs - timeOf(members)) / 1000;
    // signed by the daemon and later than our clock: then the clock is behind, and only beacons that go on count
    const isUnsure = age < -this.patience;
    if (age > this.patience || (isUnsure && !advanced)) return false;
    this.newest = members;
    this.freshAt = now;
    this.isTimeUnsure = isUnsure;
    return true;
  }

  /** Take a verified shard: it counts as far as a fresh beacon names its digest. */
  takeShard(members) {
    const shard = members.get("shard");
    const fitting = (this.shards.get(shard) ?? []).filter((list) => this.#fits(shard, list));
    this.shards.set(shard, [...fitting.slice(0, 1), members.get("services")]);
  }

  /** @returns {Standing} what is listed of a service, compared with its floor */
  standing(service, floor) {
    if (this.newest === null) return "unknown";
    const listed = this.#listed(service);
    if (listed === null && floor === null) return "unknown";
    if (floor === null || listed === WITHHELD) return "more";
    const generation = Number(this.newest.get("generation"));
    if (listed === null || floor.generation > generation) return "less";
    const [sequence, digest] = [Number(listed[0]), listed[1]];
    if (sequence === floor.sequence && digest === floor.body_sha256) return "listed";
    return isAbove({ generation, sequence }, floor) ? "more" : "less";
  }

  /** @returns {Standing} the same of the keyring */
  keyringStanding(held) {
    const listed = this.newest?.get("keyring") ?? null;
    if (listed === null) return "unknown";
    if (listed[0] === held.number && listed[1] === held.sha256) return "listed";
    return listed[0] > held.number ? "more" : "less";
  }

  /** Count what fresh beacons say of a subject; true from the second one in a row. */
  isTwice(subject, standing) {
    const number = this.newest === null ? 0 : Number(this.newest.get("sequence"));
    const before = this.counts.get(subject) ?? { standing: "unknown", count: 0, number: 0 };
    let { count } = before;
    if (standing !== before.standing) count = 1;
    else if (number !== before.number) count += 1;
    this.counts.set(subject, { standing, count, number });
    return count >= TWICE;
  }

  /** A time that is not before now, as a timestamp: the latest that the clock or the daemon of today vouches for. */
  trustedTime(unixMs, update, generation) {
    const times = [new Date(unixMs).toISOString()];
    if (update.generation === generation) times.push(update.issued_at);
    if (this.newest && Number(this.newest.get("generation")) === generation) times.push(this.newest.get("issued_at"));
    return times.sort().at(-1);
  }

  #listed(service) {
    const shards = this.newest.get("shards") ?? null;
    if (shards === null) return this.newest.get("services").get(service) ?? null;
    const shard = shardOf(service);
    if (!shards.has(shard)) return null;
    const list = (this.shards.get(shard) ?? []).find((one) => this.#fits(shard, one));
    return list === undefined ? WITHHELD : (list.get(service) ?? null);
  }

  #fits(shard, list) {
    const digest = this.newest?.get("shards")?.get(shard);
    return digest !== undefined && listDigest(list) === digest;
  }
}

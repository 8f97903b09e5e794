// Watches what this worker is shown: flags what is starved, and shows the daemon what is held here when it has
// forgotten. A flag stops nothing; evidence is unchanged bytes, at most once a minute for each subject.
import { Beacons, compare } from "./beacon.mjs";

const EVIDENCE_SECONDS = 60;

export class Lookout {
  /**
   * @param {import("./trust.mjs").Trust} trust
   * @param {(topic: string, raw: Buffer) => void} show publishes evidence
   */
  constructor(trust, worker, show, { clock, calendar, beaconSeconds }) {
    this.trust = trust;
    this.worker = worker;
    this.show = show;
    this.clock = clock;
    this.calendar = calendar;
    this.beacons = new Beacons(clock(), beaconSeconds);
    this.frozen = new Set();
    this.shownAt = new Map();
  }

  /** Take a message on a beacon's topic; true when what is known may have changed. Throws Rejected. */
  take(topic, raw, floors) {
    const members = this.trust.beacon(topic, raw);
    if ((members.get("shard") ?? null) !== null) {
      this.beacons.takeShard(members);
      return true;
    }
    const places = floors.filter((one) => one !== null).map((one) => [one.generation, one.sequence]);
    const held = places.sort(compare).at(-1) ?? [0, 0];
    return this.beacons.take(members, held, this.clock(), this.calendar());
  }

  /** Tell whether a fresh beacon lists exactly this message. */
  confirms(service, floor) {
    return !this.beacons.isStale(this.clock()) && this.beacons.standing(service, floor) === "listed";
  }

  /** Compare a service with a fresh beacon; true when something newer was listed twice and never came. */
  compareService(service, floor, proof) {
    return this.#compare(service, this.beacons.standing(service, floor), proof);
  }

  compareKeyring() {
    return this.#compare("keyring", this.beacons.keyringStanding(this.trust.held), this.trust.proof);
  }

  /** While no beacon comes, show the keyring: a daemon that lost its own is silent until it sees it. */
  tick() {
    if (this.beacons.isStale(this.clock())) this.evidence("keyring", this.trust.proof);
  }

  /** Publish what proves that the daemon has forgotten something. */
  evidence(subject, proof) {
    const now = this.clock();
    if (proof.length === 0 || now - (this.shownAt.get(subject) ?? -Infinity) < EVIDENCE_SECONDS) return;
    this.shownAt.set(subject, now);
    for (const raw of proof) this.show(`system/evidence/${subject}/${this.worker}`, raw);
  }

  /** What a person should know about how this worker is served, and of the age of what runs. */
  flags(service, running) {
    const holds = {
      stale: this.beacons.isStale(this.clock()) || this.#hasExpired(running),
      frozen: this.frozen.has(service) || this.frozen.has("keyring"),
      "time-unsure": this.beacons.isTimeUnsure,
    };
    return Object.keys(holds).filter((flag) => holds[flag]);
  }

  #compare(subject, standing, proof) {
    const isTwice = this.beacons.isTwice(subject, standing);
    if (standing === "less" && isTwice) this.evidence(subject, proof);
    const isStarved = standing === "more" && isTwice;
    const isNews = isStarved && !this.frozen.has(subject);
    if (isStarved) this.frozen.add(subject);
    else this.frozen.delete(subject);
    return isNews;
  }

  #hasExpired(update) {
    if (!update?.expires_at) return false;
    const generation = Number(this.trust.held.generation);
    return this.beacons.trustedTime(this.calendar(), update, generation) > update.expires_at;
  }
}

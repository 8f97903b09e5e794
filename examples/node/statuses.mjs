// What this worker says of itself: on change, at most once a second for each service, and every minute.

const LEAST_SECONDS = 1;
const EVERY_SECONDS = 60;
const JITTER_SECONDS = 10;
const MISSED_BEACONS = 2; // a status counts while it quotes one of the last three

export class Statuses {
  /**
   * @param {import("./identity.mjs").Identity} identity
   * @param {(topic: string, raw: Buffer, retain: boolean) => void} publish
   * @param {(service: string) => object} describe the members of a status that do not say who speaks
   */
  constructor(identity, services, publish, describe) {
    Object.assign(this, { identity, publish, describe });
    this.due = new Map(services.map((service) => [service, 0])); // seconds; when to say it next
    this.saidAt = new Map();
    this.said = new Map();
    this.quoted = new Map(); // by service, the newest beacon seen and how many came since the status
  }

  /** Say it soon, where it is anything new: not each refusal of what somebody writes is. */
  changed(service) {
    if (this.said.get(service) === this.#gist(service)) return;
    const next = (this.saidAt.get(service) ?? -Infinity) + LEAST_SECONDS;
    this.due.set(service, Math.min(this.due.get(service), next));
  }

  /** Say everything: a connection has begun. */
  connected() {
    for (const service of this.due.keys()) this.due.set(service, 0);
  }

  /** Say what is due; while there is a connection. */
  tick(now) {
    for (const [service, due] of this.due) {
      if (now < Math.min(due, this.#heed(service, now))) continue;
      const { worker } = this.identity.publicKeys;
      this.publish(`system/status/${service}/${worker}`, this.identity.status(service, this.describe(service)), true);
      this.saidAt.set(service, now);
      this.said.set(service, this.#gist(service));
      this.quoted.set(service, { beacon: this.describe(service).beacon, newer: 0 });
      this.due.set(service, now + EVERY_SECONDS + JITTER_SECONDS * (2 * Math.random() - 1));
    }
  }

  /** When to say it again for the sake of its beacon: soon once that is none of the last ones, or it quoted none. */
  #heed(service, now) {
    const quoted = this.quoted.get(service);
    const { beacon } = this.describe(service);
    if (!quoted || beacon === quoted.beacon) return this.due.get(service);
    const first = quoted.beacon === 0 ? this.saidAt.get(service) + LEAST_SECONDS : Infinity;
    Object.assign(quoted, { beacon, newer: quoted.newer + 1 });
    const again = quoted.newer === MISSED_BEACONS ? now + JITTER_SECONDS * Math.random() : Infinity;
    this.due.set(service, Math.min(this.due.get(service), first, again));
    return this.due.get(service);
  }

  /** All but the number of the beacon, which grows without any news. */
  #gist(service) {
    return JSON.stringify({ ...this.describe(service), beacon: null });
  }
}

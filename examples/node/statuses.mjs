// What this worker says of itself: on change, at most once a second for each service, and every minute.

const LEAST_SECONDS = 1;
const EVERY_SECONDS = 60;
const JITTER_SECONDS = 10;

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
      if (now < due) continue;
      const { worker } = this.identity.publicKeys;
      this.publish(`system/status/${service}/${worker}`, this.identity.status(service, this.describe(service)), true);
      this.saidAt.set(service, now);
      this.said.set(service, this.#gist(service));
      this.due.set(service, now + EVERY_SECONDS + JITTER_SECONDS * (2 * Math.random() - 1));
    }
  }

  /** All but the number of the beacon, which grows without any news. */
  #gist(service) {
    return JSON.stringify({ ...this.describe(service), beacon: null });
  }
}

// Takes each message to where it belongs: keyrings, beacons, the config of a service. Knows no MQTT.
import { Rejected } from "../verify/unseal.mjs";
import { isKeyringTopic } from "../verify/judge.mjs";
import { cannotKeep } from "./attempt.mjs";
import { shardOf } from "./beacon.mjs";
import { Lookout } from "./lookout.mjs";
import { Service } from "./service.mjs";
import { State } from "./state.mjs";
import { Trust } from "./trust.mjs";

const KEYRING = "system/trust/keyring";
const BEACON = "system/trust/beacon";

export class Follower {
  /**
   * @param {object} parts anchor, folder, worker, services (names), program, say (takes reports), show (publishes)
   * @param {object} policy firstUse, onRevoked
   * @param {object} time clock (seconds that only go on), calendar (Unix milliseconds), beaconSeconds
   */
  constructor({ anchor, folder, worker, services, program, say, show }, policy, time) {
    const state = new State(folder, Trust.anchorName(anchor));
    this.trust = new Trust(anchor, state, services);
    this.lookout = new Lookout(this.trust, worker, show, time);
    this.say = say;
    const parts = { trust: this.trust, state, lookout: this.lookout, program, say };
    this.services = new Map(services.map((name) => [name, new Service(name, parts, policy)]));
  }

  /** What to subscribe to: keyrings before anything else. */
  get filters() {
    const names = [...this.services.keys()];
    const shards = [...new Set(names.map(shardOf))].sort().map((shard) => `${BEACON}/${shard}`);
    return [`${KEYRING}/+`, KEYRING, BEACON, ...shards, ...names.map((name) => `system/config/${name}`)];
  }

  /** Run what was accepted before. */
  async start() {
    const isLost = this.trust.start();
    for (const service of this.services.values()) await service.start(isLost);
  }

  /** Take one message. False: have what is retained delivered again. */
  async receive(topic, raw) {
    if (isKeyringTopic(topic)) return this.#heedKeyring(topic, raw);
    if (topic.startsWith(BEACON)) return this.#heedBeacon(topic, raw);
    return (await this.services.get(topic.split("/")[2])?.receive(raw)) ?? true;
  }

  /** What changes by the passing of time alone; a few times a second. */
  tick() {
    this.lookout.tick();
    for (const service of this.services.values()) service.tick();
  }

  #heedKeyring(topic, raw) {
    let shown;
    try {
      shown = this.trust.follow(raw);
    } catch (error) {
      if (!(error instanceof Rejected)) throw error;
      if (topic === KEYRING) this.#refuseKeyring(error.reason);
      return true;
    }
    if (shown === this.trust.held) return true;
    try {
      this.trust.hold(shown);
    } catch (error) {
      this.#tell("held", null, shown, [cannotKeep(error)]);
      return false;
    }
    this.#tell("applied", null, shown);
    for (const service of this.services.values()) service.heedKeyring();
    this.tick();
    return false; // what was refused before may be accepted now
  }

  /** Somebody publishes another past; on the topics of numbers old ones stay for those who slept, and are no news. */
  #refuseKeyring(reason) {
    this.#tell("rejected", reason);
    this.lookout.evidence("keyring", this.trust.proof);
  }

  async #heedBeacon(topic, raw) {
    const services = [...this.services.values()];
    try {
      if (!this.lookout.take(topic, raw, services.map(({ belief }) => belief.floor))) return true;
    } catch (error) {
      if (!(error instanceof Rejected)) throw error;
      return error.reason !== "keyring-behind"; // else it proves nothing; if no good one comes, that shows
    }
    let isStarved = this.lookout.compareKeyring();
    for (const service of services) isStarved = (await service.heedBeacon()) || isStarved;
    this.tick();
    return !isStarved;
  }

  #tell(state, reason, keyring = null, errors = []) {
    const [generation, sequence] = keyring ? [Number(keyring.generation), Number(keyring.number)] : [null, null];
    this.say({ service: "keyring", generation, sequence, config_version: null, state, reason, flags: [], errors });
  }
}

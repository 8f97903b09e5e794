// A worker for config-daemon: verified configs for a program, and what it says about them. Services without secrets.
import { EventEmitter } from "node:events";
import { mkdirSync } from "node:fs";
import { Follower } from "./follower.mjs";
import { Identity } from "./identity.mjs";
import { Link } from "./link.mjs";
import { Statuses } from "./statuses.mjs";
import { anchored } from "./trust.mjs";

const TICK_MS = 250;
const MOST_WAITING = 1000;
const MOST_WAITING_BYTES = 2 ** 24;
const NAME = /^[a-z][a-z0-9-]{0,63}$/;

/**
 * Events, whose listeners may be asynchronous; the next message waits for them:
 *   config (values, {service, generation, sequence, configVersion, source})  throwing keeps what ran: `apply-failed`
 *   deleted (service)   the service was withdrawn; what runs goes on until this process ends
 *   report (verdict)    what became of a message
 *   note (text)         what happens to the connection, for a log
 */
export class ConfigWorker extends EventEmitter {
  #work = Promise.resolve();
  #waiting = 0;
  #waitingBytes = 0;

  /**
   * @param {object} options
   * @param {string[]} options.services names of services, none of which has secrets
   * @param {string} options.worker this worker's name, and its client id
   * @param {string} options.broker mqtt://…, mqtts://…
   * @param {string} options.state a folder of its own, kept over restarts
   * @param {string} [options.publicKey] the daemon's public key, PEM or hex; or
   * @param {string} [options.keyringFile] a keyring to begin with
   * @param {(values: object, service: string) => void} [options.check] throws where the program would not take them
   * @param {"wait" | "run"} [options.firstUse] whether a first config waits until a beacon lists it
   * @param {"keep" | "refuse-start"} [options.onRevoked] whether a start takes what a revoked key signed
   * @param {object} [options.mqttOptions] username, password, ca, cert, key: for the MQTT library
   */
  constructor({ services, worker, broker, state, publicKey, keyringFile, check = () => {}, ...rest }) {
    super();
    const isName = (name) => NAME.test(name);
    if (![worker, ...services].every(isName) || services.length === 0 || services.includes("keyring")) {
      throw new Error("`worker` and `services` are names: lower-case letters, digits, hyphens; none is `keyring`");
    }
    const { firstUse = "wait", onRevoked = "keep", topicPrefix = "system", agent = "example-node/1" } = rest;
    mkdirSync(state, { recursive: true, mode: 0o700 });
    const identity = new Identity(state, worker);
    this.publicKeys = identity.publicKeys;
    const program = {
      check: (service, values) => check(values, service),
      apply: (service, values, { generation, sequence, config_version: configVersion }, source) =>
        this.#call("config", values, { service, generation, sequence, configVersion, source }),
      deleted: (service) => this.#call("deleted", service).catch((error) => this.emit("note", error.stack)),
    };
    const time = { clock: () => performance.now() / 1000, calendar: Date.now };
    const say = (report) => this.#say(report);
    const show = (topic, raw) => this.link.publish(topic, raw, false);
    const parts = { anchor: anchored({ publicKey, keyringFile }), folder: state, worker, services, program, say, show };
    this.follower = new Follower(parts, { firstUse, onRevoked }, time);
    const where = { url: broker, mqttOptions: rest.mqttOptions, worker, prefix: topicPrefix };
    this.link = new Link(where, {
      filters: this.follower.filters,
      receive: (topic, raw) => this.#receive(topic, raw),
      connected: () => this.statuses.connected(),
      note: (text) => this.emit("note", text),
    });
    const describe = (service) => ({
      beacon: this.follower.lookout.beacons.highest,
      ...this.follower.services.get(service).standing,
      agent,
    });
    this.statuses = new Statuses(identity, services, (...message) => this.link.publish(...message), describe);
  }

  /** Hand over what was accepted before, then follow the broker until `stop`. Does not wait for a connection. */
  async start() {
    await this.follower.start();
    this.link.start();
    this.ticking = setInterval(() => this.#tick(), TICK_MS);
  }

  /** Leave the broker; what is being applied is finished first. */
  async stop() {
    clearInterval(this.ticking);
    await this.#work;
    if (this.link.isConnected) this.statuses.tick(performance.now() / 1000);
    await this.link.stop();
  }

  /** Messages are taken one after the other, and those that nobody has time for come again. */
  #receive(topic, raw) {
    if (this.#waiting >= MOST_WAITING || this.#waitingBytes > MOST_WAITING_BYTES) return this.link.again();
    this.#waiting += 1;
    this.#waitingBytes += raw.length;
    this.#work = this.#work.then(() => this.follower.receive(topic, raw)).then(
      (isSettled) => isSettled || this.link.again(),
      (error) => this.emit("note", `${topic}: ${error.stack}`),
    ).finally(() => {
      this.#waiting -= 1;
      this.#waitingBytes -= raw.length;
      this.#tick();
    });
  }

  #tick() {
    this.follower.tick();
    if (this.link.isConnected) this.statuses.tick(performance.now() / 1000);
  }

  #say(report) {
    if (report.service !== "keyring") this.statuses.changed(report.service);
    this.emit("report", report);
  }

  async #call(event, ...given) {
    for (const listener of this.listeners(event)) await listener(...given);
  }
}

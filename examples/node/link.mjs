// The broker, for ever: every connection is a fresh client, so that nothing is sent twice; what is retained is asked
// for again by subscribing anew, since a broker delivers it once for each subscription.
import mqtt from "mqtt";

const FIRST_SECONDS = 1;
const LAST_SECONDS = 60;
const AGAIN_SECONDS = 0.25;
const LARGEST_PACKET = 2 ** 21; // what a broker may send: more than the largest message, so that one too large shows

const spread = (seconds) => seconds * (0.5 + Math.random()) * 1000;

/** When to subscribe anew: at once, then later and later, until nobody wished for it for a while. */
class Redelivery {
  seconds = 0;
  wishedAt = -Infinity;
  timer = null;

  wish(now, subscribe) {
    if (this.timer === null) {
      const isFirst = now - this.wishedAt > 2 * LAST_SECONDS;
      this.seconds = isFirst ? 0 : Math.min(Math.max(AGAIN_SECONDS, 2 * this.seconds), LAST_SECONDS);
      this.timer = setTimeout(() => {
        this.timer = null;
        subscribe();
      }, this.seconds * (1 + Math.random()) * 1000);
    }
    this.wishedAt = now;
  }
}

export class Link {
  /**
   * @param {{url: string, mqttOptions?: object, worker: string, prefix: string}} where
   * @param {{filters: string[], receive: Function, connected: Function, note: Function}} parts
   */
  constructor(where, parts) {
    Object.assign(this, where, parts);
    this.presence = `system/presence/${this.worker}`;
    this.redelivery = new Redelivery();
    this.delay = FIRST_SECONDS;
    this.noted = new Set();
  }

  get isConnected() {
    return this.client?.connected ?? false;
  }

  start() {
    const will = { topic: this.#outside(this.presence), payload: "offline", qos: 1, retain: true };
    const began = performance.now();
    const client = mqtt.connect(this.url, {
      ...this.mqttOptions,
      ...{ will, clientId: this.worker, protocolVersion: 5, clean: true, keepalive: 15, connectTimeout: 5000 },
      ...{ reconnectPeriod: 0, resubscribe: false, reconnectOnConnackError: true },
      properties: { maximumPacketSize: LARGEST_PACKET },
    });
    this.client = client;
    client.on("connect", () => {
      this.#subscribe();
      this.publish(this.presence, "online", true);
      this.connected();
    });
    client.on("message", (topic, raw) => this.receive(this.#inside(topic), raw));
    client.on("error", (error) => this.note(`no connection to ${new URL(this.url).host}: ${error.message}`));
    client.once("close", () => this.#lost(client, began));
  }

  /** Publish while there is a connection; a refusal by the broker is noted once for each topic. */
  publish(topic, raw, retain) {
    if (!this.isConnected) return;
    this.client.publish(this.#outside(topic), raw, { qos: 1, retain }, (error) => {
      if (!error || this.noted.has(topic) || !this.isConnected) return;
      this.noted.add(topic);
      this.note(`the broker refused what was written to ${topic}: ${error.message}`);
    });
  }

  /** Have what is retained delivered again, soon. */
  again() {
    if (this.isStopping) return;
    this.redelivery.wish(performance.now() / 1000, () => this.#subscribe());
  }

  /** Leave politely: the broker sends no will, so presence is told here. */
  async stop() {
    this.isStopping = true;
    clearTimeout(this.timer);
    clearTimeout(this.redelivery.timer);
    if (this.isConnected) {
      await this.client.publishAsync(this.#outside(this.presence), "offline", { qos: 1, retain: true }).catch(() => {});
    }
    await this.client?.endAsync(!this.isConnected);
  }

  #subscribe() {
    if (!this.isConnected) return;
    const filters = Object.fromEntries(this.filters.map((one) => [this.#outside(one), { qos: 1 }]));
    this.client.subscribe(filters, (error, granted = []) => {
      const refused = granted.filter(({ qos }) => qos >= 0x80).map(({ topic }) => topic);
      const trouble = error?.message ?? refused.join(" ");
      if (this.isConnected && trouble) this.note(`subscription refused: ${trouble}`);
    });
  }

  #lost(client, began) {
    client.end(true);
    if (this.isStopping) return;
    if (performance.now() - began > LAST_SECONDS * 1000) this.delay = FIRST_SECONDS;
    this.timer = setTimeout(() => this.start(), spread(this.delay));
    this.delay = Math.min(2 * this.delay, LAST_SECONDS);
  }

  #outside(topic) {
    return this.prefix + topic.slice("system".length);
  }

  #inside(topic) {
    return `system${topic.slice(this.prefix.length)}`;
  }
}

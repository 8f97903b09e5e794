// The example worker without a broker: takes orders, one JSON line each, and tells after each what came of it, so that
// another worker can be compared with it step by step.
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { createInterface } from "node:readline";
import { Follower } from "./examples/node/follower.mjs";
import { anchored } from "./examples/node/trust.mjs";
import { sha256 } from "./examples/verify/unseal.mjs";

const time = {};
const { writeSync } = fs;
let told, follower, isFull;

// no power fails here, and the disk is full when an order says so
fs.fsyncSync = () => {};
fs.writeSync = (...given) => {
  if (isFull) throw Object.assign(new Error("no space"), { code: "ENOSPC" });
  return writeSync(...given);
};
syncBuiltinESMExports();

/** Values so that the other language's are the same text: a Number as the bytes of its binary64. */
function tagged(value) {
  if (typeof value === "bigint") return `integer ${value}`;
  if (typeof value === "number") return `number ${Buffer.from(new Float64Array([value]).buffer).toString("hex")}`;
  if (Array.isArray(value)) return value.map(tagged);
  if (value === null || typeof value !== "object") return value;
  return Object.keys(value).sort().map((key) => [key, tagged(value[key])]);
}

/** What a status tells, but for words and times, which each worker has of its own. */
function stands({ running, last_attempt, flags }) {
  const place = (told) => {
    if (told === null) return null;
    const { applied_at, at, errors, ...rest } = told;
    return rest;
  };
  return { running: place(running), last_attempt: place(last_attempt), flags: [...flags].sort() };
}

function live({ folder, key, firstUse, mended, now, full }) {
  Object.assign(time, now);
  isFull = full;
  const says = (values, word) => Object.hasOwn(values, word) && !mended;
  const program = {
    check: (_service, values) => {
      if (says(values, "invalid")) throw new Error("it breaks the definition");
    },
    apply: async (_service, values) => {
      if (says(values, "deadly")) await new Promise(() => {}); // nothing of this life is heard of again
      if (says(values, "failing")) throw new Error("this program cannot do that");
      told.applied.push(tagged(values));
    },
    deleted: async () => {},
  };
  const parts = { anchor: anchored({ publicKey: key }), folder, worker: "edge", services: ["stt-worker"], program };
  follower = new Follower(
    { ...parts, say: (report) => told.reports.push(report), show: (topic, raw) => told.shown.push([topic, sha256(raw)]) },
    { firstUse, onRevoked: "keep" },
    { clock: () => time.clock, calendar: () => time.calendar, beaconSeconds: 30 },
  );
  return follower.start();
}

const orders = {
  live: (order) => live(order).then(() => null),
  receive: ({ topic, raw }) => follower.receive(topic, Buffer.from(raw, "base64")),
  time: (order) => void Object.assign(time, order.now),
  tick: () => void follower.tick(),
  damage: ({ folder, subject }) => {
    const was = isFull;
    isFull = false; // of the program's disk, not of whoever damages it
    fs.writeFileSync(`${folder}/${subject}.state`, "what was here is lost");
    isFull = was;
  },
  disk: (order) => void (isFull = order.full),
};

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  told = { reports: [], shown: [], applied: [] };
  const dead = new Promise((resolve) => setTimeout(resolve, 0, "dead"));
  const done = (async () => orders[order.do](order))();
  const settled = await Promise.race([done, dead]);
  const standing = settled === "dead" ? null : stands(follower.services.get("stt-worker").standing);
  console.log(JSON.stringify({ settled: settled ?? null, ...told, standing }));
}

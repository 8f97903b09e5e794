// A program for tests on the example worker: one JSON line for each verdict, and for each config that it was given.
// Environment: NODE_WORKER (options as JSON); REFUSE and DIE: the value of `vad_threshold` at which `apply` throws,
// and at which the process ends as by kill -9, before it has applied anything.
import { ConfigWorker } from "./examples/node/worker.mjs";

const worker = new ConfigWorker(JSON.parse(process.env.NODE_WORKER));
const print = (line) => console.log(JSON.stringify(line));
worker.on("config", async (values, meta) => {
  await new Promise(setImmediate);
  if (String(values.vad_threshold) === process.env.DIE) process.kill(process.pid, "SIGKILL");
  if (String(values.vad_threshold) === process.env.REFUSE) throw new Error("mqtt://me:my-word@here takes no such threshold");
  print({ event: "config", values, ...meta });
});
worker.on("deleted", (service) => print({ event: "deleted", service }));
worker.on("report", (report) => print({ event: "report", ...report }));
worker.on("note", (text) => console.error(text));
process.once("SIGTERM", () => worker.stop());
await worker.start();

// A program that follows one service: node example.mjs mqtt://127.0.0.1:1883 stt-worker public-key.pem
import { readFileSync } from "node:fs";
import { ConfigWorker } from "./worker.mjs";

const [broker, service, keyFile] = process.argv.slice(2);
const publicKey = readFileSync(keyFile, "utf8");
const worker = new ConfigWorker({ services: [service], worker: "kitchen", broker, state: "state", publicKey });
worker.on("config", async (values, { configVersion }) => console.log(`version ${configVersion}:`, values));
worker.on("note", (text) => console.error(text));
process.once("SIGTERM", () => worker.stop());
await worker.start();

// Judge config-daemon's test vectors (Node 18 or later, nothing to install).
//
//     node verify.mjs ../../schemas/vectors/*.json
//
// Prints one JSON line for each vector: {file, verdict, step, reason}, and for a good shard of the beacon
// list_sha256, the digest by which the beacon names its list.
import { readFileSync } from "node:fs";
import { Rejected, judge, listDigest } from "./judge.mjs";

function verdictOf(file) {
  const vector = JSON.parse(readFileSync(file, "utf8"));
  try {
    const members = judge(Buffer.from(vector.message_base64, "base64"), vector);
    const isShard = vector.topic.startsWith("system/trust/beacon/");
    const list = isShard ? { list_sha256: listDigest(members.get("services")) } : {};
    return { file, verdict: "good", step: null, reason: null, ...list };
  } catch (error) {
    if (!(error instanceof Rejected)) throw error;
    return { file, verdict: "rejected", step: error.step, reason: error.reason };
  }
}

const files = process.argv.slice(2);
if (files.length === 0) {
  console.error("usage: node verify.mjs VECTOR.json...");
  process.exitCode = 2;
}
for (const file of files) console.log(JSON.stringify(verdictOf(file)));

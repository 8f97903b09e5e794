// Judge config-daemon's test vectors (Node 18 or later, nothing to install).
//
//     node verify.mjs ../../schemas/vectors/*.json
//
// Prints one JSON line for each vector: {file, verdict, step, reason}, and for a good shard of the beacon
// list_sha256, the digest by which the beacon names its list. For a keyring it says whether it was held already.
import { readFileSync } from "node:fs";
import { Rejected, follow, holding, isKeyringTopic, judge, listDigest } from "./judge.mjs";

function verdictOf(file) {
  const vector = JSON.parse(readFileSync(file, "utf8"));
  const [raw, held] = [Buffer.from(vector.message_base64, "base64"), holding(vector)];
  try {
    if (isKeyringTopic(vector.topic)) {
      const known = follow(held, raw) === held; // else this is what the reader holds from now on
      return { file, verdict: "good", step: null, reason: null, known };
    }
    const members = judge(raw, vector, held);
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

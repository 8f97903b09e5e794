// A config as a program wants it: plain objects. An integer beyond 2^53 stays a BigInt, because a Number would be
// another one; the daemon writes none.

function plainNumber(integer) {
  const number = Number(integer);
  return Number.isSafeInteger(number) ? number : integer;
}

/** Return what the strict parser made (Maps, BigInts) as plain values. */
export function plain(value) {
  if (typeof value === "bigint") return plainNumber(value);
  if (Array.isArray(value)) return value.map(plain);
  // fromEntries makes an own member even of a key such as __proto__
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, one]) => [key, plain(one)]));
  return value;
}

/** Return text that fits into a status: well-formed Unicode, and so many code points at most. */
export function fitting(text, most) {
  const wellFormed = Buffer.from(String(text).slice(0, 2 * most)).toString();
  return [...wellFormed].slice(0, most).join("");
}

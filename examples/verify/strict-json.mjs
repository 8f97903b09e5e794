// JSON as RFC 8259 and RFC 7493 (I-JSON) mean it, stricter than JSON.parse: no duplicate keys, no lone
// surrogates, no numbers beyond binary64. Objects become Maps, integers BigInts, so that 1, 1.0 and true
// stay three different things.

const MAX_DEPTH = 500; // writers stop at 32; the rest only keeps the stack whole
const MAX_DIGITS = 4300; // bounds what one number costs
const SPACE = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const LONE_SURROGATE = /\p{Surrogate}/u;
const WORDS = { true: true, false: false, null: null };

class Scanner {
  constructor(text, at) {
    this.text = text;
    this.at = at;
    this.depth = 0;
  }

  fail(why) {
    throw new SyntaxError(`${why} at character ${this.at}`);
  }

  skipSpace() {
    SPACE.lastIndex = this.at;
    SPACE.test(this.text);
    this.at = SPACE.lastIndex;
  }

  value() {
    const first = this.text[this.at];
    if (first === "{") return this.nested(() => this.object());
    if (first === "[") return this.nested(() => this.array());
    if (first === '"') return this.string();
    for (const word of Object.keys(WORDS)) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return WORDS[word];
      }
    }
    return this.number();
  }

  nested(read) {
    this.depth += 1;
    if (this.depth > MAX_DEPTH) this.fail("nested too deeply");
    const value = read();
    this.depth -= 1;
    return value;
  }

  /** Call `item` for each item up to `close`; the opening bracket is still to be read. */
  items(close, item) {
    this.at += 1;
    this.skipSpace();
    if (this.text[this.at] === close) {
      this.at += 1;
      return;
    }
    for (;;) {
      this.skipSpace();
      item();
      this.skipSpace();
      const next = this.text[this.at];
      this.at += 1;
      if (next === close) return;
      if (next !== ",") this.fail(`no comma and no ${close}`);
    }
  }

  object() {
    const members = new Map();
    this.items("}", () => {
      if (this.text[this.at] !== '"') this.fail("no key");
      const key = this.string();
      if (members.has(key)) this.fail("a key stands twice");
      this.skipSpace();
      if (this.text[this.at] !== ":") this.fail("no colon");
      this.at += 1;
      this.skipSpace();
      members.set(key, this.value());
    });
    return members;
  }

  array() {
    const list = [];
    this.items("]", () => list.push(this.value()));
    return list;
  }

  string() {
    let end = this.at + 1;
    for (; this.text[end] !== '"'; end += 1) {
      if (end >= this.text.length) this.fail("a text without end");
      if (this.text[end] === "\\") end += 1;
    }
    // the platform decodes the escapes, and refuses bad ones and control characters
    const value = JSON.parse(this.text.slice(this.at, end + 1));
    if (LONE_SURROGATE.test(value)) this.fail("half of a surrogate pair");
    this.at = end + 1;
    return value;
  }

  number() {
    NUMBER.lastIndex = this.at;
    const [token, fraction, exponent] = NUMBER.exec(this.text) ?? this.fail("no value");
    this.at += token.length;
    if (fraction === undefined && exponent === undefined) {
      if (token.replace("-", "").length > MAX_DIGITS) this.fail("too many digits");
      return BigInt(token);
    }
    if (!Number.isFinite(Number(token))) this.fail("a number beyond binary64");
    return Number(token);
  }
}

/** Parse one JSON text; throws SyntaxError. */
export function parseStrict(text) {
  const scanner = new Scanner(text, 0);
  scanner.skipSpace();
  const value = scanner.value();
  scanner.skipSpace();
  if (scanner.at !== text.length) scanner.fail("something follows the value");
  return value;
}

/** Return where the value ends that begins exactly at `start`, null when none does. */
export function valueEnd(text, start) {
  const scanner = new Scanner(text, start);
  try {
    scanner.value();
    return scanner.at;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

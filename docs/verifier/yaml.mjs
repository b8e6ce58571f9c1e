// A strict reader of the part of YAML in which rules, rosters and release lists are written:
// block maps and lists, flow maps and lists (also over several lines), plain, 'single' and
// "double" quoted scalars on one line, comments. Everything else is refused with its line:
// anchors, aliases, tags, merge keys, documents, block scalars (| and >), scalars over several
// lines, tabs, keys that are no scalars, keys that stand twice.
//
// A map is a Map, a list an Array, a scalar a Scalar. What a scalar means (a number, an hour) is
// for the reader to say, who knows the field: no guess is made here.

const MAX_BYTES = 1 << 20;
const MAX_DEPTH = 32;
const MAX_KEYS = 250; // of one map
const MAX_NODES = 1 << 18;

/** The file is no YAML of this kind. */
export class YamlFault extends Error {
  /** @param {number} line @param {string} why */
  constructor(line, why) {
    super(`line ${line}: ${why}`);
    this.name = "YamlFault";
  }
}

/** A word of the file. */
export class Scalar {
  /** @param {string} text @param {boolean} quoted @param {number} line */
  constructor(text, quoted, line) {
    this.text = text;
    this.quoted = quoted;
    this.line = line;
  }
  get isNull() {
    return !this.quoted && ["", "~", "null", "Null", "NULL"].includes(this.text);
  }
}

/**
 * @param {string} text
 * @returns {Map<string, any>} the map that the file is
 */
export function parseYaml(text) {
  if (Buffer.byteLength(text) > MAX_BYTES) throw new YamlFault(1, `more than ${MAX_BYTES} bytes`);
  const p = new Parser(text);
  const out = p.block(0, 1);
  p.blank();
  if (!p.done()) p.fail("it stands in no column of what is around it");
  if (!(out instanceof Map)) throw new YamlFault(1, "the file is no map");
  return out;
}

const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\u0080-\u009f\ufffe\uffff]/;
const NOT_FIRST = /^[\[\]{},#&*!|>'"%@`]|^[-?:]( |$)/; // how no plain scalar begins

class Parser {
  /** @param {string} text */
  constructor(text) {
    const odd = CONTROL.exec(text);
    if (odd) throw new YamlFault(text.slice(0, odd.index).split("\n").length, "a control character");
    this.lines = text.split("\n").map((l) => (l.endsWith("\r") ? l.slice(0, -1) : l));
    const lone = this.lines.findIndex((l) => l.includes("\r"));
    if (lone >= 0) throw new YamlFault(lone + 1, "a carriage return within a line");
    this.row = 0;
    this.col = 0;
    this.nodes = 0;
  }

  /** @returns {never} */
  fail(/** @type {string} */ why) {
    throw new YamlFault(Math.min(this.row + 1, this.lines.length), why);
  }

  done() {
    return this.row >= this.lines.length;
  }

  rest() {
    return this.lines[this.row].slice(this.col);
  }

  count() {
    if (++this.nodes > MAX_NODES) this.fail(`more than ${MAX_NODES} words: this is no file for people`);
  }

  /** Goes to the next word, over blanks, comments and ends of lines. */
  blank() {
    while (!this.done()) {
      const line = this.lines[this.row];
      while (line[this.col] === " ") this.col++;
      if (line[this.col] === "\t") this.fail("a tab");
      if (this.col < line.length && !(line[this.col] === "#" && (this.col === 0 || line[this.col - 1] === " "))) return;
      this.row++;
      this.col = 0;
    }
  }

  /** Ends a line after a value. */
  endOfLine() {
    if (!/^ *$|^ +#/.test(this.rest())) this.fail(`what is ${JSON.stringify(this.rest().trim().slice(0, 40))}? Want one value on this line`);
    this.row++;
    this.col = 0;
  }

  /**
   * A block of entries that all begin in one column, which is at least `least`.
   * @param {number} least @param {number} depth
   * @returns {any}
   */
  block(least, depth) {
    if (depth > MAX_DEPTH) this.fail(`lists and maps stand in each other more than ${MAX_DEPTH} deep`);
    this.blank();
    if (this.done() || this.col < least) return new Scalar("", false, this.row + 1);
    const column = this.col;
    if (/^(---|\.\.\.)( |$)/.test(this.lines[this.row])) this.fail("several documents are not read");
    return /^-( |$)/.test(this.rest()) ? this.list(column, depth) : this.map(column, depth);
  }

  /** @param {number} column @param {number} depth @returns {any[]} */
  list(column, depth) {
    const out = [];
    for (;;) {
      this.blank();
      if (this.done() || this.col < column || (this.col === column && !/^-( |$)/.test(this.rest()))) return out;
      if (this.col > column) this.fail("it stands in no column of what is around it");
      this.count();
      this.col++;
      const row = this.row;
      while (this.rest().startsWith(" ")) this.col++;
      if (this.rest() === "" || this.rest().startsWith("#")) {
        out.push(this.block(column + 1, depth + 1));
      } else if (/^-( |$)/.test(this.rest())) {
        this.fail("a list within a list on one line is not read");
      } else if (this.keyAhead()) {
        out.push(this.map(this.col, depth + 1));
      } else {
        out.push(this.value(depth + 1));
      }
      if (this.row === row) this.fail("it stands in no column of what is around it");
    }
  }

  /** @param {number} column @param {number} depth */
  map(column, depth) {
    if (depth > MAX_DEPTH) this.fail(`lists and maps stand in each other more than ${MAX_DEPTH} deep`);
    /** @type {Map<string, any>} */
    const out = new Map();
    for (;;) {
      this.blank();
      if (this.done() || this.col < column || (this.col === column && /^-( |$)/.test(this.rest()))) return out;
      if (this.col > column) this.fail("it stands in no column of what is around it");
      if (!this.keyAhead()) this.fail("want a key and a colon");
      const key = this.key(out);
      this.col++; // the colon
      while (this.rest().startsWith(" ")) this.col++;
      if (this.rest() !== "" && !this.rest().startsWith("#")) {
        out.set(key, this.value(depth + 1));
        continue;
      }
      this.row++;
      this.col = 0;
      this.blank();
      // A list may stand in the column of its key.
      const own = !this.done() && this.col === column && /^-( |$)/.test(this.rest());
      out.set(key, this.block(own ? column : column + 1, depth + 1));
    }
  }

  /** Is there a key with its colon on this line? */
  keyAhead() {
    return /^([A-Za-z0-9_.-]+|"([^"\\]|\\.)*"|'([^']|'')*'):( |$)/.test(this.rest());
  }

  /** @param {Map<string, any>} map */
  key(map) {
    this.count();
    const s = this.scalar(":");
    if (map.has(s.text)) this.fail(`key ${s.text} stands twice`);
    if (map.size >= MAX_KEYS) this.fail(`a map with more than ${MAX_KEYS} keys`);
    return s.text;
  }

  /** A value that begins on this line, and the end of its last one. @param {number} depth */
  value(depth) {
    const out = /^[\[{]/.test(this.rest()) ? this.flow(depth) : this.scalar("");
    this.endOfLine();
    return out;
  }

  /**
   * @param {string} within what ends a plain scalar besides a comment: ":" of a key, or the marks of a flow
   */
  scalar(within) {
    this.count();
    const line = this.row + 1, rest = this.rest();
    if (rest[0] === '"') return new Scalar(this.double(), true, line);
    if (rest[0] === "'") {
      const m = /^'((?:[^']|'')*)'/.exec(rest);
      if (!m) return this.fail("a quoted text without its end on the same line");
      this.col += m[0].length;
      return new Scalar(m[1].replaceAll("''", "'"), true, line);
    }
    if (NOT_FIRST.test(rest)) this.fail(`${JSON.stringify(rest.slice(0, 20))} is not read here: write a plain or a quoted text`);
    let n = 0;
    for (; n < rest.length; n++) {
      const c = rest[n], next = rest[n + 1];
      if (c === "\t") this.fail("a tab");
      if (c === "#" && rest[n - 1] === " ") break;
      if (within.length > 1 && ",[]{}".includes(c)) break;
      if (c === ":" && (next === undefined || next === " " || (within.length > 1 && ",[]{}".includes(next)))) {
        if (within === "") this.fail("a colon within a plain text: put it in quotes");
        break;
      }
    }
    const text = rest.slice(0, n).trimEnd();
    this.col += text.length;
    return new Scalar(text, false, line);
  }

  double() {
    const m = /^"((?:[^"\\]|\\.)*)"/.exec(this.rest());
    if (!m) return this.fail("a quoted text without its end on the same line");
    this.col += m[0].length;
    /** @type {Record<string, string>} */
    const plain = { 0: "\0", a: "\x07", b: "\b", t: "\t", n: "\n", v: "\v", f: "\f", r: "\r", e: "\x1b", '"': '"', "/": "/", "\\": "\\", " ": " " };
    return m[1].replace(/\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)/gu, (_, e) => {
      if (e.length > 1) {
        const code = parseInt(e.slice(1), 16);
        if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) this.fail(`\\${e} is no character`);
        return String.fromCodePoint(code);
      }
      if (!(e in plain)) this.fail(`\\${e} is not read in a quoted text`);
      return plain[e];
    });
  }

  /** A list or map in brackets. @param {number} depth @returns {any} */
  flow(depth) {
    if (depth > MAX_DEPTH) this.fail(`lists and maps stand in each other more than ${MAX_DEPTH} deep`);
    const map = this.rest()[0] === "{", end = map ? "}" : "]";
    /** @type {any} */
    const out = map ? new Map() : [];
    this.col++;
    for (;;) {
      this.flowBlank();
      if (this.rest()[0] === end) break;
      let key = "";
      if (map) {
        key = this.key2(out);
        while (this.rest().startsWith(" ")) this.col++;
        if (this.rest()[0] !== ":") this.fail("want a colon after the key");
        this.col++;
        this.flowBlank();
      }
      const c = this.rest()[0];
      let value;
      if (c === "[" || c === "{") value = this.flow(depth + 1);
      else if (c === "," || c === end) value = new Scalar("", false, this.row + 1);
      else value = this.scalar(",[]{}");
      if (map) out.set(key, value);
      else if (c === ",") this.fail("a comma without a value before it");
      else out.push(value);
      this.flowBlank();
      if (this.rest()[0] === ",") this.col++;
      else if (this.rest()[0] !== end) this.fail(`want a comma or ${end}`);
    }
    this.col++;
    return out;
  }

  /** A key within braces. @param {Map<string, any>} map */
  key2(map) {
    this.count();
    const s = this.scalar(",[]{}");
    if (map.has(s.text)) this.fail(`key ${s.text} stands twice`);
    if (map.size >= MAX_KEYS) this.fail(`a map with more than ${MAX_KEYS} keys`);
    return s.text;
  }

  flowBlank() {
    this.blank();
    if (this.done()) this.fail("a bracket without its end");
  }
}

/**
 * The file as plain values: maps become objects (without a prototype), lists arrays, plain scalars
 * null, booleans and numbers where these words are the only spelling of them, so that String() gives
 * the text back. All else stays text: an hour, a hash, 1.50, 007 and what is quoted.
 * @param {string} text
 */
export function parseYAML(text) {
  return plainOf(parseYaml(text));
}

/** @param {any} v @returns {any} */
function plainOf(v) {
  if (v instanceof Map) {
    const out = Object.create(null);
    for (const [k, x] of v) out[k] = plainOf(x);
    return out;
  }
  if (Array.isArray(v)) return v.map(plainOf);
  if (v.isNull) return null;
  if (v.quoted) return v.text;
  if (v.text === "true" || v.text === "false") return v.text === "true";
  const n = Number(v.text);
  return /^-?[0-9]/.test(v.text) && String(n) === v.text ? n : v.text;
}

// Canonical JSON (RFC 8785), and the types of which the format is made.
import { Refused, want, within } from './refused.mjs';
import { quote, readBase64, readHour, readInstant, readUTF8 } from './words.mjs';

export const MAX_DEPTH = 16; // of lists and objects in each other
export const MAX_MEMBERS = 256; // of one of them
export const MAX_INTEGER = 2 ** 53;

/** The one spelling of a value, which is not so deep that the program's own stack ends. */
export function canonical(v, depth = 0) {
  want(depth <= 2 * MAX_DEPTH, `more than ${2 * MAX_DEPTH} lists and objects stand in each other`);
  switch (typeof v) {
    case 'string':
      want(v.isWellFormed(), () => `text ${quote(v)} has half a character`);
      return JSON.stringify(v);
    case 'number':
      want(Math.abs(v) <= MAX_INTEGER, 'a number is beyond 2^53');
      return JSON.stringify(v);
    case 'boolean':
      return String(v);
  }
  if (v === null) return 'null';
  if (Array.isArray(v)) return `[${v.map((x) => canonical(x, depth + 1)).join(',')}]`;
  return `{${Object.keys(v).sort().map((k) => `${canonical(k)}:${canonical(v[k], depth + 1)}`).join(',')}}`;
}

/** Refuses lists too long or too deep before anything is decoded. */
export function shaped(bytes) {
  const members = [];
  let quoted = false;
  for (let i = 0; i < bytes.length; i++) {
    const c = bytes[i];
    if (quoted) {
      if (c === 0x5c) i++;
      else if (c === 0x22) quoted = false;
    } else if (c === 0x22) {
      quoted = true;
    } else if (c === 0x7b || c === 0x5b) {
      want(members.length < MAX_DEPTH, `more than ${MAX_DEPTH} lists and objects stand in each other`);
      members.push(1);
    } else if (c === 0x7d || c === 0x5d) {
      want(members.length > 0, 'a list or object ends that did not begin');
      members.pop();
    } else if (c === 0x2c && members.length > 0) {
      want(++members[members.length - 1] <= MAX_MEMBERS, `a list or object has more than ${MAX_MEMBERS} members`);
    }
  }
}

/** An object in canonical JSON of any size, such as report.json: all that is read is one. */
export function readCanonical(bytes, what) {
  const text = readUTF8(bytes, what);
  let v;
  try {
    v = JSON.parse(text);
  } catch (e) {
    throw new Refused(`${what}: ${e.message}`);
  }
  want(v !== null && typeof v === 'object' && !Array.isArray(v), `${what}: want an object`);
  want(within(what, () => canonical(v)) === text, `${what}: not in canonical form (RFC 8785)`);
  return v;
}

/**
 * A line of the format: no longer than limit, in shape, canonical, of the type. plain is
 * the JSON as it is, with the members that the format does not know; value what the type
 * makes of it.
 */
export function readLine(bytes, limit, type, what) {
  want(bytes.length <= limit, `${what}: a line of ${bytes.length} bytes is too long, want ${limit} at most`);
  within(what, () => shaped(bytes));
  const plain = readCanonical(bytes, what);
  return { plain, value: within(what, () => type.read(plain)) };
}

// A type reads a plain JSON value and refuses what is not of it. Instants become
// milliseconds, hours numbers. Its member empty is the value of an absent member; members
// that the format does not know are passed over.

const isEmpty = (v) => v === '' || v === 0 || v === false || v === null || (Array.isArray(v) && v.length === 0);

/** Text of so many bytes at most; check refuses more. */
export const text = (limit, check) => ({
  empty: '',
  read(v) {
    want(typeof v === 'string', 'want text');
    want(Buffer.byteLength(v) <= limit, () => `text of ${Buffer.byteLength(v)} bytes, want ${limit} at most`);
    if (check) check(v);
    return v;
  },
});

/** One of some words. */
export const word = (...words) => text(100, (v) => want(words.includes(v), () => `${quote(v)} is not one of ${words}`));

export const int = (min = -MAX_INTEGER, max = MAX_INTEGER) => ({
  empty: 0,
  read(v) {
    want(Number.isInteger(v) && v >= min && v <= max, () => `${quote(v)}: want an integer from ${min} to ${max}`);
    return v;
  },
});

export const bool = {
  empty: false,
  read(v) {
    want(typeof v === 'boolean', 'want true or false');
    return v;
  },
};

const spelled = (read) => ({
  empty: null,
  read(v) {
    want(typeof v === 'string', 'want text');
    return read(v);
  },
});
export const instant = spelled(readInstant);
export const hour = spelled(readHour);

/** Binary, of so many bytes at most. It stays text. */
export const binary = (max, min = 0) => ({
  empty: '',
  read(v) {
    want(typeof v === 'string', 'want text');
    const n = readBase64(v).length;
    want(n >= min && n <= max, `${n} bytes, want ${min} to ${max}`);
    return v;
  },
});
export const hash = binary(32, 32);

/** A list; without members it may be written null. */
export const list = (type, max) => ({
  empty: [],
  read(v) {
    if (v === null) return [];
    want(Array.isArray(v), 'want a list');
    want(v.length <= max, `a list of ${v.length}, want ${max} at most`);
    return v.map((x, i) => within(`[${i}]`, () => type.read(x)));
  },
});

/** An object. optional marks a member that is absent when it is empty. */
export const object = (members, check) => ({
  empty: null,
  read(v) {
    want(v !== null && typeof v === 'object' && !Array.isArray(v), 'want an object');
    const out = {};
    for (const [name, type] of Object.entries(members)) {
      if (!Object.hasOwn(v, name)) {
        want(type.absent, `${name} is missing`);
        out[name] = Array.isArray(type.empty) ? [] : type.empty;
        continue;
      }
      out[name] = within(name, () => type.read(v[name]));
      want(!type.absent || !isEmpty(out[name]), `${name} is empty, so it is to be left out`);
    }
    if (check) check(out, v);
    return out;
  },
});
export const optional = (type) => ({ ...type, read: type.read.bind(type), absent: true });

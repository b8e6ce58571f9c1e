// Hours, months, instants, hashes and base64, each in its one spelling.
import { createHash } from 'node:crypto';
import { Refused, want } from './refused.mjs';

export const HOUR = 3_600_000; // milliseconds
/** How long after its end an hour is still open. */
export const CLOSE_AFTER = 16 * 60_000;

/** The first millisecond of an hour. */
export const startOf = (hour) => hour * HOUR;
/** The hour into which an instant falls. */
export const hourOf = (ms) => Math.floor(ms / HOUR);
/** Says whether an hour had closed at an instant. */
export const closed = (hour, ms) => ms >= startOf(hour + 1) + CLOSE_AFTER;

/** "2026-11-03T14:05:06.789Z" as milliseconds since 1970. */
export function readInstant(text) {
  if (/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(text)) {
    const ms = Date.parse(text);
    if (!Number.isNaN(ms) && writeInstant(ms) === text) return ms;
  }
  throw new Refused(`time ${quote(text)}: want UTC with milliseconds, such as 2026-11-03T14:05:06.789Z`);
}

export const writeInstant = (ms) => new Date(ms).toISOString();

/** "2026-11-03T14:00:00Z" as hours since 1970. */
export function readHour(text) {
  if (/^\d{4}-\d\d-\d\dT\d\d:00:00Z$/.test(text)) {
    const ms = Date.parse(text);
    if (!Number.isNaN(ms) && writeHour(ms / HOUR) === text) return ms / HOUR;
  }
  throw new Refused(`hour ${quote(text)}: want a full UTC hour such as 2026-11-03T14:00:00Z`);
}

export const writeHour = (hour) => writeInstant(startOf(hour)).replace('.000Z', 'Z');

/** "2026-11": its first hour, and the first hour after it. */
export function readMonth(text) {
  const m = /^(\d{4})-(0[1-9]|1[0-2])$/.exec(text);
  if (!m || m[1] < '1970') throw new Refused(`month ${quote(text)}: want YYYY-MM, such as 2026-11`);
  return { month: text, first: Date.UTC(+m[1], +m[2] - 1) / HOUR, end: Date.UTC(+m[1], +m[2]) / HOUR };
}

/** Standard base64 in the spelling that an encoder writes. */
export function readBase64(text) {
  const bytes = Buffer.from(text, 'base64');
  want(bytes.toString('base64') === text, () => `${quote(text)} is not base64 in its one spelling`);
  return bytes;
}

export const base64 = (bytes) => Buffer.from(bytes).toString('base64');

export const sha256 = (...parts) => {
  const h = createHash('sha256');
  for (const p of parts) h.update(p);
  return h.digest();
};
export const sha256hex = (bytes) => sha256(bytes).toString('hex');
export const isHexSHA256 = (text) => /^[0-9a-f]{64}$/.test(text);

/** Text as it stands in an error: short, and on one line. */
export const quote = (text) => JSON.stringify(String(text).slice(0, 100));

/** UTF-8 and nothing else. */
export function readUTF8(bytes, what) {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Refused(`${what} is not UTF-8`);
  }
}

/** Lines, each ended by one newline, as bytes. */
export function readLines(bytes, max, what) {
  const lines = [];
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(10, at);
    want(end >= 0, `${what}: the last line is not ended`);
    want(lines.length < max, `${what} has more than ${max} lines`);
    lines.push(bytes.subarray(at, end));
    at = end + 1;
  }
  return lines;
}

// Peer IDs: base58 of a multihash.
import { createHash } from 'node:crypto';

const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';

function readBase58(text) {
  let n = 0n;
  for (const c of text) {
    const digit = ALPHABET.indexOf(c);
    if (digit < 0) return null;
    n = n * 58n + BigInt(digit);
  }
  const zeros = /^1*/.exec(text)[0].length;
  const hex = n === 0n ? '' : n.toString(16);
  return Buffer.concat([Buffer.alloc(zeros), Buffer.from(hex.length % 2 ? `0${hex}` : hex, 'hex')]);
}

export function writeBase58(bytes) {
  let n = BigInt(`0x0${Buffer.from(bytes).toString('hex')}`);
  let out = '';
  for (; n > 0n; n /= 58n) out = ALPHABET[Number(n % 58n)] + out;
  let zeros = 0;
  while (zeros < bytes.length && bytes[zeros] === 0) zeros++;
  return '1'.repeat(zeros) + out;
}

/** An unsigned varint in its shortest form: [value, bytes read], or null. */
function readVarint(bytes, at) {
  let value = 0;
  for (let i = 0; i < 9 && at + i < bytes.length; i++) {
    const b = bytes[at + i];
    value += (b & 0x7f) * 2 ** (7 * i);
    if (b < 0x80) return i > 0 && b === 0 ? null : [value, i + 1];
  }
  return null;
}

/** Says whether bytes are a multihash: its code, its length, so many bytes. */
export function isMultihash(bytes) {
  const code = readVarint(bytes, 0);
  const length = code && readVarint(bytes, code[1]);
  return !!length && code[1] + length[1] + length[0] === bytes.length;
}

/** The bytes of a peer ID; null if it is none in base58. */
export function readPeerID(text) {
  if (!/^(1|Qm)/.test(text)) return null;
  const bytes = readBase58(text);
  return bytes && isMultihash(bytes) ? bytes : null;
}

let last = ''; // all records of a month are of one relay
export function isPeerID(text) {
  if (text !== last && !readPeerID(text)) return false;
  last = text;
  return true;
}

/** The peer ID, in bytes, of a public key in protobuf. */
export function peerOfKey(key) {
  if (key.length <= 42) return Buffer.concat([Buffer.of(0, key.length), key]);
  return Buffer.concat([Buffer.of(0x12, 32), createHash('sha256').update(key).digest()]);
}

/** A public key in protobuf: its type, its data. */
export function writeKey(type, data) {
  const length = [];
  for (let n = data.length; ; n = Math.floor(n / 128)) {
    if (n < 128) {
      length.push(n);
      break;
    }
    length.push((n % 128) | 0x80);
  }
  return Buffer.concat([Buffer.of(0x08, type, 0x12, ...length), data]);
}

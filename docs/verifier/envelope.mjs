// libp2p's signed envelopes: the reservation voucher in one, and a relay's statement.
import { createPublicKey, verify } from 'node:crypto';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { want } from './refused.mjs';
import { ed25519Key, ed25519Verify } from './notes.mjs';
import { isMultihash, peerOfKey, writeBase58, writeKey } from './peer.mjs';
import { readUTF8 } from './words.mjs';

const MAX_VOUCHER = 16 << 10;
const MAX_DEPTH = 100; // of groups, which nobody uses

/** Reads an unsigned varint of protobuf, which may be longer than need be. */
function varint(bytes, at) {
  let value = 0n;
  for (let i = 0; i < 10; i++) {
    want(at + i < bytes.length, 'protobuf: it ends in a number');
    const b = bytes[at + i];
    want(i < 9 || b < 2, 'protobuf: a number is too large');
    value |= BigInt(b & 0x7f) << BigInt(7 * i);
    if (b < 0x80) return { value, next: at + i + 1 };
  }
  want(false, 'protobuf: a number is too long');
}

/** One field from a position on. */
function field(bytes, at, depth) {
  const tag = varint(bytes, at);
  const number = Number(tag.value >> 3n);
  want(number > 0 && number < 2 ** 29, 'protobuf: a field has no number');
  const out = { number, wire: Number(tag.value & 7n), value: null, next: tag.next };
  switch (out.wire) {
    case 0: {
      const v = varint(bytes, tag.next);
      return { ...out, value: v.value, next: v.next };
    }
    case 1:
      out.next += 8;
      break;
    case 2: {
      const n = varint(bytes, tag.next);
      want(n.value <= BigInt(bytes.length - n.next), 'protobuf: a field is longer than the message');
      const end = n.next + Number(n.value);
      return { ...out, value: bytes.subarray(n.next, end), next: end };
    }
    case 3:
      want(depth < MAX_DEPTH, 'protobuf: groups stand too deep');
      for (;;) {
        const f = field(bytes, out.next, depth + 1);
        out.next = f.next;
        if (f.wire === 4) {
          want(f.number === number, 'protobuf: a group ends that did not begin');
          return out;
        }
      }
    case 4:
      want(depth > 0, 'protobuf: a group ends that did not begin');
      return out;
    case 5:
      out.next += 4;
      break;
    default:
      want(false, 'protobuf: a field of no kind');
  }
  want(out.next <= bytes.length, 'protobuf: it ends in a field');
  return out;
}

/**
 * Reads a message. wires says of which kind each known field is; the last value of a field
 * counts, those of messages are joined. Other fields come back as bytes.
 */
function message(bytes, wires, joined = []) {
  const out = { unknown: [] };
  for (let at = 0; at < bytes.length; ) {
    const f = field(bytes, at, 0);
    if (wires[f.number] !== f.wire) out.unknown.push(bytes.subarray(at, f.next));
    else if (joined.includes(f.number)) out[f.number] = Buffer.concat([out[f.number] ?? Buffer.alloc(0), f.value]);
    else out[f.number] = f.value;
    at = f.next;
  }
  return out;
}

const CURVES = ['secp224r1', 'prime256v1', 'secp384r1', 'secp521r1'];

/** A key in X.509's form, which must be in the one spelling. */
function pkix(data, type) {
  let key;
  try {
    key = createPublicKey({ key: data, format: 'der', type: 'spki' });
  } catch {
    key = null;
  }
  want(key?.asymmetricKeyType === type && key.export({ format: 'der', type: 'spki' }).equals(data), `the relay's key is no ${type} key`);
  return key;
}

/** A key of the four types of libp2p: its peer ID, and how it verifies. */
function readKey(raw) {
  const m = message(raw, { 1: 0, 2: 2 });
  want(m[1] !== undefined && m[2] !== undefined, 'the relay\'s key has no type or no data');
  const [type, data] = [Number(BigInt.asIntN(32, m[1])), m[2]];
  switch (type) {
    case 0: {
      const key = pkix(data, 'rsa');
      const { modulusLength: bits, publicExponent: e } = key.asymmetricKeyDetails;
      want(bits >= 2048 && bits <= 4096 && e >= 3n && e <= 65537n && e % 2n === 1n, `the relay's RSA key has ${bits} bits and the exponent ${e}`);
      return { peer: peerOfKey(Buffer.concat([writeKey(0, data), ...m.unknown])), verify: (msg, sig) => verify('sha256', msg, key, sig) };
    }
    case 1: {
      want(data.length === 32, 'an Ed25519 key has 32 bytes');
      const key = ed25519Key(data);
      return { peer: peerOfKey(writeKey(1, data)), verify: (msg, sig) => ed25519Verify(key, msg, sig) };
    }
    case 2: {
      const compressed = Buffer.from(secp256k1.Point.fromBytes(data).toBytes(true));
      return {
        peer: peerOfKey(writeKey(2, compressed)),
        verify: (msg, sig) => secp256k1.verify(sig, msg, compressed, { format: 'der', lowS: false, prehash: true }),
      };
    }
    case 3: {
      const key = pkix(data, 'ec');
      want(CURVES.includes(key.asymmetricKeyDetails.namedCurve), 'the relay\'s key is on a curve that is not known');
      return { peer: peerOfKey(writeKey(3, data)), verify: (msg, sig) => verify('sha256', msg, key, sig) };
    }
  }
  want(false, `the relay's key is of type ${type}, which is not known`);
}

const sized = (bytes) => {
  want(bytes.length < 2 ** 21, 'too long');
  const n = bytes.length;
  const head = n < 128 ? [n] : n < 16384 ? [(n & 127) | 128, n >> 7] : [(n & 127) | 128, ((n >> 7) & 127) | 128, n >> 14];
  return Buffer.concat([Buffer.from(head), bytes]);
};

/**
 * Opens a voucher that the relay (in bytes) signed: the reserving peer, in bytes, and the
 * expiration in seconds since 1970.
 */
export function openVoucher(raw, relay) {
  want(raw.length <= MAX_VOUCHER, 'the voucher is too long');
  const e = message(raw, { 1: 2, 2: 2, 3: 2, 5: 2 }, [1]);
  const empty = Buffer.alloc(0);
  want(e[1] !== undefined, 'the voucher has no key');
  const key = readKey(e[1]);
  const [payloadType, payload, signature] = [e[2] ?? empty, e[3] ?? empty, e[5] ?? empty];
  want(payloadType.equals(Buffer.of(3, 2)), `the voucher has payload type ${payloadType.toString('hex')}, want 0302`);
  want(key.peer.equals(relay), 'the voucher is not signed by the relay');
  const signed = Buffer.concat([Buffer.from('libp2p-relay-rsvp'), payloadType, payload].map(sized));
  want(key.verify(signed, signature), 'the signature of the voucher is not good');
  const v = message(payload, { 1: 2, 2: 2, 3: 0 });
  want(isMultihash(v[1] ?? empty) && isMultihash(v[2] ?? empty), 'the voucher names no peers');
  want(v[1].equals(relay), 'the voucher is of another relay');
  return { peer: v[2], expires: BigInt.asIntN(64, v[3] ?? 0n) };
}

const STATEMENT = Buffer.of(0x90, 0x8a, 0xc0, 0x01);

/**
 * Opens a statement of a relay's in its one spelling: its payload as text, and the peer ID of
 * the key that signed it.
 */
export function openStatement(raw) {
  const e = message(raw, { 1: 2, 2: 2, 3: 2, 5: 2 }, [1]);
  want(e[1] && e[2] && e[3] && e[5] && e.unknown.length === 0, 'the statement is no envelope');
  const again = Buffer.concat([[0x0a, e[1]], [0x12, e[2]], [0x1a, e[3]], [0x2a, e[5]]].flatMap(([tag, v]) => [Buffer.of(tag), sized(v)]));
  want(again.equals(raw), 'the envelope is not in its one spelling');
  want(e[2].equals(STATEMENT), `the statement has payload type ${e[2].toString('hex')}`);
  const key = readKey(e[1]);
  const signed = Buffer.concat([Buffer.from('psf-relay-statement'), e[2], e[3]].map(sized));
  want(key.verify(signed, e[5]), 'the signature of the statement is not good');
  return { payload: readUTF8(e[3], 'the statement'), peer: writeBase58(key.peer) };
}

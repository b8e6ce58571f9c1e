// Rounds of drand's chain quicknet. They are collected while the logs are read and
// verified together in the end.
import { readPublicKey, readSignature, verifyBatch } from './bls.mjs';
import { want } from './refused.mjs';
import { sha256 } from './words.mjs';

const KEY =
  '83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d106451' +
  '0d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a';
const GENESIS = 1692803367; // seconds since 1970
const PERIOD = 3; // seconds

/** The first round at or after an instant. */
const firstRound = (ms) => Math.max(1, 1 + Math.ceil((ms / 1000 - GENESIS) / PERIOD));

export class Beacons {
  #rounds = new Map(); // by their bytes in hex

  /** Takes a round that stands in a voucher's challenge, of an hour that starts at ms. */
  collect(bytes, ms) {
    want(bytes.length === 8 + 48, `a beacon of ${bytes.length} bytes, want 56`);
    const round = bytes.readBigUInt64BE(0);
    want(round === BigInt(firstRound(ms)), () => `drand round ${round} is not the first one of the hour, which is ${firstRound(ms)}`);
    const name = bytes.toString('hex');
    if (!this.#rounds.has(name)) this.#rounds.set(name, { bytes, good: null });
    return name;
  }

  /** Takes a round that a header holds; null: it is none of an hour that starts at ms. */
  offer(bytes, ms) {
    if (bytes.length !== 8 + 48 || bytes.readBigUInt64BE(0) !== BigInt(firstRound(ms))) return null;
    return this.collect(bytes, ms);
  }

  /** Says whether a round that was collected is the chain's. */
  isGood(name) {
    if (this.#rounds.get(name).good === null) this.#settle();
    return this.#rounds.get(name).good;
  }

  #settle() {
    const open = [...this.#rounds.values()].filter((r) => r.good === null);
    const items = [];
    for (const r of open) {
      r.item = readSignature(r.bytes.subarray(8), sha256(r.bytes.subarray(0, 8)));
      r.good = false;
      if (r.item) items.push(r);
    }
    const good = verifyBatch(items.map((r) => r.item), readPublicKey(Buffer.from(KEY, 'hex')));
    items.forEach((r, i) => (r.good = good[i]));
    for (const r of open) delete r.item;
  }
}

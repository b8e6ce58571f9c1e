// Whether a relay's voucher shows that the relay signed for this monitor and this hour.
import { ed25519 } from '@noble/curves/ed25519.js';
import { openVoucher } from './envelope.mjs';
import { cosignedAt, parseNote, readCheckpoint } from './notes.mjs';
import { peerOfKey, readPeerID, writeBase58, writeKey } from './peer.mjs';
import { Refused, want, within } from './refused.mjs';
import { HOUR, readBase64, sha256, startOf } from './words.mjs';

const LAG = 5000; // milliseconds that clocks may differ by
const MAX_COSIGNED = 1024;

/** The peer ID, in bytes, of the Ed25519 key with the seed. */
const peerOfSeed = (seed) => peerOfKey(writeKey(1, Buffer.from(ed25519.getPublicKey(seed))));

function bigEndian(n, size) {
  const out = Buffer.alloc(size);
  if (size === 4) out.writeUInt32BE(n);
  else out.writeBigInt64BE(BigInt(n));
  return out;
}

/** Judges the vouchers that stand in one log. */
export class Vouchers {
  constructor(log, witnesses, beacons) {
    this.log = log;
    this.witnesses = witnesses;
    this.beacons = beacons;
  }

  /**
   * The voucher of an attempt in the record of an hour. Where a beacon is in it, what is
   * given back has a member pending until settle was called with it.
   */
  check(attempt, hour) {
    const r = attempt.facts.reservation;
    if (r === null || r.voucher === '') return { state: 'none', reason: '', expires: null, beacon: false, witness: '' };
    try {
      return this.#check(attempt, r, hour);
    } catch (e) {
      return bad(e);
    }
  }

  #check(attempt, r, hour) {
    const relay = readPeerID(attempt.peer_id);
    want(Buffer.byteLength(r.cosigned) <= MAX_COSIGNED, 'cosigned: the note is too long');
    const { peer, expires } = openVoucher(readBase64(r.voucher), relay);
    want(writeBase58(peer) === r.peer, 'the voucher is for another peer than the one that reserved');
    const from = BigInt(Math.floor(attempt.started / 1000));
    const until = BigInt(attempt.started + 24 * HOUR);
    want(expires >= from && expires * 1000n <= until, 'the voucher expires before the attempt, or more than 24 hours after it');
    const [beacon, salt] = [readBase64(r.beacon), readBase64(r.salt)];
    want(salt.length === 32, `a salt of ${salt.length} bytes, want 32`);
    const fields = ['relaymon/probe-id/v1', beacon, r.cosigned, this.log.vkey, relay, bigEndian(hour, 8), salt].map((f) => Buffer.from(f));
    const seed = sha256(...fields.flatMap((f) => [bigEndian(f.length, 4), f]));
    want(peerOfSeed(seed).equals(peer), 'the voucher is not bound to this monitor, relay and hour: its peer does not follow from the salt');
    const out = { state: 'bound', reason: '', expires: Number(expires) * 1000, beacon: false, witness: '' };
    if (beacon.length > 0) {
      out.pending = within('beacon', () => this.beacons.collect(beacon, startOf(hour)));
      out.beacon = true;
    }
    if (r.cosigned !== '') {
      const { witness, at } = within('cosigned', () => this.#openCosigned(Buffer.from(r.cosigned)));
      want(at >= startOf(hour - 1) && at <= attempt.started + LAG, `cosigned: ${witness} did so before the start of the hour before, or after the attempt`);
      out.witness = witness;
    }
    return out;
  }

  /** Puts the outcome of a beacon into a voucher that waits for it. */
  settle(voucher) {
    if (voucher.pending === undefined) return;
    const good = this.beacons.isGood(voucher.pending);
    delete voucher.pending;
    if (!good) Object.assign(voucher, bad(new Refused('beacon: its signature is not the chain\'s')));
  }

  /** A checkpoint of this log with the cosignature of one known witness. */
  #openCosigned(raw) {
    const { text, signatures } = parseNote(raw, MAX_COSIGNED);
    want(signatures.length === 1, 'want exactly one signature line');
    const w = this.witnesses.get(signatures[0].id);
    want(w, `a signature by ${signatures[0].id}, which is not known`);
    want(w.verify(text, signatures[0].bytes), `the signature by ${signatures[0].id} is not good`);
    want(readCheckpoint(text).origin === this.log.name, 'the checkpoint is of another log');
    return { witness: w.vkey, at: cosignedAt(signatures[0]) };
  }
}

const bad = (e) => ({ state: 'bad', reason: e.message, expires: null, beacon: false, witness: '' });

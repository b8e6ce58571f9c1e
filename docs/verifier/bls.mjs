// BLS signatures in G1 of BLS12-381 with keys in G2 (the plan, drand's quicknet).
import { randomBytes } from 'node:crypto';
import { bls12_381 as bls } from '@noble/curves/bls12-381.js';
import { pippenger } from '@noble/curves/abstract/curve.js';

const DST = 'BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_';
const G1 = bls.G1.Point;
const G2 = bls.G2.Point;
const { Fp12 } = bls.fields;

function point(Group, bytes, size) {
  if (bytes.length !== size) return null;
  try {
    const p = Group.fromBytes(new Uint8Array(bytes));
    if (p.is0()) return null;
    p.assertValidity(); // on the curve, and in the subgroup
    return Buffer.from(p.toBytes(true)).equals(bytes) ? p : null;
  } catch {
    return null;
  }
}

/** A public key: a compressed point of G2, not infinity; null if the bytes are none. */
export const readPublicKey = (bytes) => point(G2, bytes, 96);

/** A signature over a message, to be verified with others; null if the bytes are no signature. */
export function readSignature(bytes, message) {
  const signature = point(G1, bytes, 48);
  return signature && { signature, message: bls.G1.hashToCurve(message, { DST }) };
}

/** e(signature, generator) = e(message, key) */
function holds(signature, message, key) {
  return Fp12.eql(bls.pairingBatch([{ g1: signature.negate(), g2: G2.BASE }, { g1: message, g2: key }]), Fp12.ONE);
}

/**
 * Says of each signature by the key whether it is good. Those of a batch are multiplied by
 * random numbers and added up, so that two pairings do for all; where the sum is wrong,
 * the halves are looked at.
 */
export function verifyBatch(items, key) {
  const good = new Array(items.length).fill(false);
  const check = (from, to) => {
    if (from === to) return;
    if (to - from === 1) {
      good[from] = holds(items[from].signature, items[from].message, key);
      return;
    }
    const part = items.slice(from, to);
    const random = part.map(() => BigInt(`0x${randomBytes(16).toString('hex')}`) | 1n);
    const sum = (points) => pippenger(G1, points, random);
    if (holds(sum(part.map((i) => i.signature)), sum(part.map((i) => i.message)), key)) {
      good.fill(true, from, to);
      return;
    }
    const half = (from + to) >> 1;
    check(from, half);
    check(half, to);
  };
  check(0, items.length);
  return good;
}

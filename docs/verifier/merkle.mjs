// Merkle trees: that of a log (RFC 6962) and the prefix tree of a block's records.
import { want } from './refused.mjs';
import { sha256 } from './words.mjs';

const LEAF = Buffer.of(0);
const NODE = Buffer.of(1);

export const leafHash = (...parts) => sha256(LEAF, ...parts);
export const nodeHash = (left, right) => sha256(NODE, left, right);

const onesOf = (n) => n.toString(2).replaceAll('0', '').length;

/** A log's tree that grows at its right edge: only its perfect subtrees are kept. */
export class Tree {
  /** Perfect subtrees, the largest first: [hash, number of leaves]. */
  #edge = [];

  constructor(size, frontier) {
    want(frontier.length === onesOf(size), `a frontier of ${frontier.length} hashes does not make a tree of ${size} leaves`);
    this.size = size;
    let rest = size;
    for (const hash of frontier) {
      const leaves = 2 ** Math.floor(Math.log2(rest));
      this.#edge.push([hash, leaves]);
      rest -= leaves;
    }
  }

  add(leaf) {
    let node = [leaf, 1];
    while (this.#edge.at(-1)?.[1] === node[1]) {
      const [left, leaves] = this.#edge.pop();
      node = [nodeHash(left, node[0]), 2 * leaves];
    }
    this.#edge.push(node);
    this.size++;
  }

  root() {
    if (this.size === 0) return sha256('');
    return this.#edge.map(([hash]) => hash).reduceRight((right, left) => nodeHash(left, right));
  }
}

/** Says whether a proof shows that the tree of size and root extends the older one (RFC 9162, 2.1.4.2). */
export function isConsistent(proof, oldSize, oldRoot, size, root) {
  const path = [...proof];
  let fn = oldSize - 1;
  let sn = size - 1;
  // A perfect tree is a node of the larger one by itself.
  if (onesOf(oldSize) === 1) path.unshift(oldRoot);
  if (path.length === 0) return false;
  const half = (n) => Math.floor(n / 2);
  while (fn % 2 === 1) [fn, sn] = [half(fn), half(sn)];
  let fr = path[0];
  let sr = path[0];
  for (const hash of path.slice(1)) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      fr = nodeHash(hash, fr);
      sr = nodeHash(hash, sr);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else {
      sr = nodeHash(sr, hash);
    }
    fn = half(fn);
    sn = half(sn);
  }
  return sn === 0 && fr.equals(oldRoot) && sr.equals(root);
}

const bit = (key, n) => (key[n >> 3] >> (7 - (n & 7))) & 1;

/** The hash of a place alone in its subtree. */
const placeHash = (key, value) => leafHash(key, value);

/**
 * Says whether a block of the root holds the relay's record or, with record null, none.
 * proof has key and value of other, and path, as bytes.
 */
export function showsRecord(root, relay, record, path, other) {
  const key = sha256(relay);
  let end = sha256('');
  if (record !== null) {
    end = placeHash(key, sha256(record));
  } else if (other !== null) {
    if (other.key.equals(key)) return false;
    if (path.some((_, depth) => bit(other.key, depth) !== bit(key, depth))) return false;
    end = placeHash(other.key, other.value);
  }
  for (let depth = path.length - 1; depth >= 0; depth--) {
    end = bit(key, depth) === 0 ? nodeHash(end, path[depth]) : nodeHash(path[depth], end);
  }
  return end.equals(root);
}

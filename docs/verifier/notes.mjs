// Signed notes (C2SP signed-note), checkpoints (tlog-checkpoint), cosignatures
// (tlog-cosignature) and DSSE envelopes: Ed25519 only.
import { createPublicKey, verify } from 'node:crypto';
import { Misused, Refused, want } from './refused.mjs';
import { base64, quote, readBase64, readUTF8, sha256 } from './words.mjs';

const NOTE = 0x01; // key types
const COSIGNATURE = 0x04;
const ML_DSA_44 = 0x06; // a witness's; this verifier has no such algorithm
const MAX_SIGNATURES = 100;
const MAX_FORK = 4 << 10;
const MAX_SIZE = 2 ** 32; // blocks in a log
const LAST_SECOND = 253402300799n; // of the year 9999

/** An Ed25519 key from its 32 bytes. */
export function ed25519Key(raw) {
  return createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: Buffer.from(raw).toString('base64url') }, format: 'jwk' });
}

export const ed25519Verify = (key, message, signature) => signature.length === 64 && verify(null, message, key, signature);

/** A key's ID: its name and the first four bytes of the hash over name, type and key. */
function keyID(name, type, raw) {
  return `${name}+${sha256(name, '\n', Buffer.of(type), raw).subarray(0, 4).toString('hex')}`;
}

const isKeyName = (name) => /^[!-*,-~]{1,200}$/.test(name);

/** Takes a verifier key, <name>+<hash>+<base64>, apart. */
function readKey(vkey) {
  const m = /^([^+]*)\+([^+]*)\+(.*)$/s.exec(vkey);
  const raw = m && Buffer.from(m[3], 'base64');
  if (!m || raw.length !== 33 || base64(raw) !== m[3] || !isKeyName(m[1]) || (raw[0] !== NOTE && raw[0] !== COSIGNATURE)) {
    throw new Refused(`verifier key ${quote(vkey)}: want <name>+<hash>+<base64> of an Ed25519 key`);
  }
  const [name, type, key] = [m[1], raw[0], raw.subarray(1)];
  want(keyID(name, type, key) === `${name}+${m[2]}`, `verifier key ${quote(vkey)}: its hash is wrong`);
  return { name, type, raw: key, key: ed25519Key(key) };
}

/** The key of a log, a committee, or whoever signs the text itself. */
export function readLogKey(vkey) {
  const k = readKey(vkey);
  want(k.type === NOTE, `verifier key ${quote(vkey)}: want the key of a log (type 1), this is a witness's`);
  return {
    name: k.name,
    id: keyID(k.name, NOTE, k.raw),
    vkey,
    key: k.key,
    verify: (text, signature) => ed25519Verify(k.key, text, signature),
  };
}

/** What stands in a cosignature of who made it: one for two spellings of a key. */
export function witnessID(vkey) {
  const [name, , b64] = vkey.split(/\+(.{8})\+/s);
  const raw = Buffer.from(b64 ?? '', 'base64');
  want(raw.length > 0, `verifier key ${quote(vkey)}: want <name>+<hash>+<base64>`);
  return keyID(name, raw[0] === NOTE ? COSIGNATURE : raw[0], raw.subarray(1));
}

/** The key of a witness; written with type 1 or 4 it is the same. */
function readWitnessKey(vkey) {
  const m = /^([^+]*\+[0-9a-f]{8})\+(.*)$/s.exec(vkey);
  if (m && Buffer.from(m[2], 'base64')[0] === ML_DSA_44) {
    throw new Misused(`witness ${m[1]} has an ML-DSA-44 key (type 6), which this verifier cannot check: without it no verdict can be trusted; use relayaudit`);
  }
  const k = readKey(vkey);
  return {
    name: k.name,
    id: keyID(k.name, COSIGNATURE, k.raw),
    vkey,
    verify(text, signature) {
      if (signature.length !== 8 + 64) return false;
      const at = signature.readBigUInt64BE(0);
      return at > 0n && at <= LAST_SECOND && ed25519Verify(k.key, Buffer.concat([Buffer.from(`cosignature/v1\ntime ${at}\n`), text]), signature.subarray(8));
    },
  };
}

/** Witnesses by their IDs. Of two spellings of one key the later one gives the name. */
export function readWitnesses(vkeys) {
  const byID = new Map();
  for (const vkey of vkeys) {
    const w = readWitnessKey(vkey);
    byID.set(w.id, w);
  }
  return byID;
}

// What Unicode calls white space, since version 6.3.
const SPACE = /[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

/** Takes a note apart: its text, and its signature lines, unverified. */
export function parseNote(raw, limit) {
  want(raw.length <= limit, `a note of ${raw.length} bytes is too long`);
  readUTF8(raw, 'a note');
  want(!raw.some((c) => c < 0x20 && c !== 0x0a), 'a note holds a control character');
  const split = raw.lastIndexOf('\n\n');
  want(split >= 0 && split + 2 < raw.length && raw.at(-1) === 0x0a, 'a note has no signature lines at its end');
  const text = raw.subarray(0, split + 1);
  const lines = raw.subarray(split + 2).toString().slice(0, -1).split('\n');
  want(lines.length <= MAX_SIGNATURES, `a note has more than ${MAX_SIGNATURES} signatures`);
  const signatures = lines.map((line) => {
    const m = /^— ([^ ]+) ([^ ]+)$/.exec(line);
    want(m && !m[1].includes('+') && !SPACE.test(m[1]), () => `${quote(line)} is no signature line`);
    const bytes = readBase64(m[2]);
    want(bytes.length >= 5, 'a signature is too short');
    return { name: m[1], hash: bytes.readUInt32BE(0), id: `${m[1]}+${bytes.subarray(0, 4).toString('hex')}`, bytes: bytes.subarray(4) };
  });
  return { text, signatures };
}

const compareBytes = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b));

/**
 * Opens a note in its one spelling: the author's signature first, then those of others
 * sorted by name and hash, one a key. Gives the text and the signatures by the others that
 * are known.
 */
export function openNote(raw, author, others, limit) {
  const { text, signatures } = parseNote(raw, limit);
  const [first, ...rest] = signatures;
  want(first.id === author.id, `the first signature is not by ${author.id}`);
  want(author.verify(text, first.bytes), `the signature by ${author.id} is not good`);
  const known = [];
  rest.forEach((s, i) => {
    const before = rest[i - 1];
    want(!before || (compareBytes(before.name, s.name) || before.hash - s.hash) < 0, 'signatures are not sorted, or one is there twice');
    want(s.id !== author.id, 'the author signed twice');
    const witness = others.get(s.id);
    if (!witness) return; // a stranger's says nothing
    want(witness.verify(text, s.bytes), `the signature by ${s.id} is not good`);
    known.push({ ...s, witness });
  });
  return { text, signatures: known };
}

/** When a cosignature was made. */
export const cosignedAt = (signature) => Number(signature.bytes.readBigUInt64BE(0)) * 1000;

/** The three lines of a checkpoint, in their one spelling. Lines after them stand only in a fork. */
export function readCheckpoint(text, extended = false) {
  const m = /^([^\n]+)\n(0|[1-9]\d*)\n([^\n]+)\n((?:[^\n]+\n)*)$/.exec(text.toString());
  want(m, 'this is no text of a checkpoint: want origin, size and root');
  want(m[4] === '' || extended, 'a checkpoint has extension lines, which a log of this format has not');
  const root = readBase64(m[3]);
  want(root.length === 32 && Number(m[2]) <= MAX_SIZE, 'a checkpoint has a malformed size or root');
  return { origin: m[1], size: Number(m[2]), root };
}

/** A checkpoint of the log and who cosigned it when: [{witness, at}]. */
export function openCheckpoint(raw, log, witnesses, limit, extended = false) {
  const note = openNote(raw, log, witnesses, limit);
  const c = readCheckpoint(note.text, extended);
  want(c.origin === log.name, () => `a checkpoint of log ${quote(c.origin)}, not of ${log.name}`);
  c.cosigned = note.signatures.map((s) => ({ witness: s.witness.vkey, id: s.id, name: s.name, at: cosignedAt(s) }));
  return c;
}

/** Notes that stand behind each other, an empty line between two. */
export function splitNotes(raw, max, limit) {
  if (raw.length === 0) return [];
  const notes = [];
  for (let at = 0; at < raw.length; ) {
    want(notes.length < max, `there are more than ${max} notes`);
    const text = raw.indexOf('\n\n', at);
    want(text >= 0, 'notes are not separated by empty lines');
    const end = raw.indexOf('\n\n', text + 2);
    const note = raw.subarray(at, end < 0 ? raw.length : end + 1);
    want(note.length <= limit, `a note of ${note.length} bytes, want ${limit} at most`);
    notes.push(note);
    want(end < 0 || end + 2 < raw.length, 'an empty line with no note behind it');
    at = end < 0 ? raw.length : end + 2;
  }
  return notes;
}

/** What convicts a log: two checkpoints of one size with different roots, the smaller first. */
export function openFork(raw, log) {
  const notes = splitNotes(raw, 3, MAX_FORK);
  want(notes.length === 2, 'a fork is two checkpoints with an empty line between them');
  want(notes.every((n) => parseNote(n, MAX_FORK).signatures.length === 1), 'a fork has signatures of others than the log');
  const [a, b] = notes.map((n) => openCheckpoint(n, log, new Map(), MAX_FORK, true));
  want(a.size === b.size, `sizes ${a.size} and ${b.size} do not contradict each other`);
  want(Buffer.compare(a.root, b.root) < 0, 'the roots agree, or the smaller one does not stand first');
  return { size: a.size, roots: [base64(a.root), base64(b.root)] };
}

const PAYLOAD_TYPE = 'application/vnd.in-toto+json';

/** A DSSE envelope with one signature, in canonical JSON; nothing is verified. */
export function parseEnvelope(raw) {
  const m = /^\{"payload":"([^"]*)","payloadType":"application\/vnd\.in-toto\+json","signatures":\[\{"keyid":"([^"\\]*)","sig":"([^"]*)"\}\]\}$/.exec(
    readUTF8(raw, 'the envelope'),
  );
  want(m, `this is no envelope in canonical form with a payload of type ${PAYLOAD_TYPE} and one signature`);
  return { payload: readBase64(m[1]), keyid: m[2], signature: readBase64(m[3]) };
}

/** The statement in an envelope that the log signed. */
export function openEnvelope(envelope, log) {
  want(envelope.keyid === log.id, 'the key ID is not the log\'s');
  const head = Buffer.from(`DSSEv1 ${PAYLOAD_TYPE.length} ${PAYLOAD_TYPE} ${envelope.payload.length} `);
  want(ed25519Verify(log.key, Buffer.concat([head, envelope.payload]), envelope.signature), 'the signature is not good');
  return envelope.payload;
}

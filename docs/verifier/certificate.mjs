// What a record says of a server's certificate, read from its DER (X.509).
import { X509Certificate } from 'node:crypto';
import { Refused, want } from './refused.mjs';
import { readUTF8, sha256hex } from './words.mjs';

/** An element of DER, and the elements in it. */
class Element {
  constructor(bytes, at) {
    want(at + 2 <= bytes.length && (bytes[at] & 0x1f) !== 0x1f, 'DER: it ends too early');
    this.tag = bytes[at];
    let size = bytes[at + 1];
    let from = at + 2;
    if (size & 0x80) {
      const n = size & 0x7f;
      want(n > 0 && n <= 3 && from + n <= bytes.length, 'DER: a length is malformed');
      size = bytes.readUIntBE(from, n);
      from += n;
      want(size >= 0x80 && size >= 2 ** (8 * (n - 1)), 'DER: a length is not in its shortest form');
    }
    this.end = from + size;
    want(this.end <= bytes.length, 'DER: an element is too long');
    this.value = bytes.subarray(from, this.end);
  }

  get members() {
    const out = [];
    for (let at = 0; at < this.value.length; at = out.at(-1).end) out.push(new Element(this.value, at));
    return out;
  }

  get oid() {
    const out = [];
    let n = 0;
    for (const b of this.value) {
      n = n * 128 + (b & 0x7f);
      if (b & 0x80) continue;
      if (out.length === 0) out.push(Math.min(2, Math.floor(n / 40)), n - 40 * Math.min(2, Math.floor(n / 40)));
      else out.push(n);
      n = 0;
    }
    return out.join('.');
  }

  /** Text of one of the kinds that names have. */
  get text() {
    const v = this.value;
    switch (this.tag) {
      case 0x0c:
        return readUTF8(v, 'a name');
      case 0x14:
        return v.toString('latin1');
      case 0x13:
        want(/^[A-Za-z0-9 '()+,\-./:=?*&]*$/.test(v.toString('latin1')), 'DER: text is not printable');
        return v.toString('latin1');
      case 0x12:
        want(/^[0-9 ]*$/.test(v.toString('latin1')), 'DER: text is not numeric');
        return v.toString('latin1');
      case 0x16:
        want(v.every((b) => b < 0x80), 'DER: text is not ASCII');
        return v.toString('latin1');
      case 0x1e: {
        want(v.length % 2 === 0, 'DER: text is malformed');
        const s = Buffer.from(v).swap16().toString('utf16le').replace(/\0$/, '');
        want(s.isWellFormed() && !/[\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]/.test(s), 'DER: text is malformed');
        return s;
      }
    }
    throw new Refused(`DER: text of kind ${this.tag} is not known`);
  }

  get time() {
    const m = /^(\d\d|\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(this.value.toString('latin1'));
    want(m && m[1].length === (this.tag === 0x17 ? 2 : 4), 'DER: a time is malformed');
    const year = this.tag === 0x17 ? +m[1] + (+m[1] >= 50 ? 1900 : 2000) : +m[1];
    return Date.parse(`${String(year).padStart(4, '0')}-${m[2]}-${m[3]}T${m[4]}:${m[5]}:${m[6]}Z`);
  }
}

// The attributes of a name that are written by their letters, in the order in which they
// stand in the text: the last one first.
const LETTERS = [
  ['2.5.4.6', 'C'],
  ['2.5.4.8', 'ST'],
  ['2.5.4.7', 'L'],
  ['2.5.4.9', 'STREET'],
  ['2.5.4.17', 'POSTALCODE'],
  ['2.5.4.10', 'O'],
  ['2.5.4.11', 'OU'],
  ['2.5.4.3', 'CN'],
  ['2.5.4.5', 'SERIALNUMBER'],
];
const SINGLE = ['2.5.4.3', '2.5.4.5']; // of which the last one counts

function escape(value) {
  const last = Buffer.byteLength(value) - 1;
  let at = 0;
  let out = '';
  for (const c of value) {
    const edge = at === 0 || at === last;
    out += ',+"\\<>;'.includes(c) || (c === ' ' && edge) || (c === '#' && at === 0) ? `\\${c}` : c;
    at += Buffer.byteLength(c);
  }
  return out;
}

/** An attribute without letters: its number, and the DER of its text. */
function bare(oid, value) {
  const bytes = Buffer.from(value);
  const tag = /^[A-Za-z0-9 '()+,\-./:=?]*$/.test(value) ? 0x13 : 0x0c;
  const n = bytes.length;
  const length = n < 128 ? [n] : n < 256 ? [0x81, n] : [0x82, n >> 8, n & 255];
  return `${oid}=#${Buffer.concat([Buffer.of(tag, ...length), bytes]).toString('hex')}`;
}

function nameText(name) {
  const values = new Map();
  const others = [];
  for (const rdn of name.members) {
    for (const attribute of rdn.members) {
      const [type, value] = attribute.members;
      const oid = type.oid;
      if (!LETTERS.some(([known]) => known === oid)) others.push(bare(oid, value.text));
      else if (SINGLE.includes(oid) || !values.has(oid)) values.set(oid, [value.text]);
      else values.get(oid).push(value.text);
    }
  }
  for (const oid of SINGLE) if (values.get(oid)?.[0] === '') values.delete(oid);
  const lettered = LETTERS.filter(([oid]) => values.has(oid)).map(([oid, letters]) => values.get(oid).map((v) => `${letters}=${escape(v)}`).join('+'));
  return [...others, ...lettered].reverse().join(',');
}

/** Text fit for a line: printable, of so many bytes at most. */
function clean(text, limit) {
  const out = [...text].map((c) => (/^\p{White_Space}$/u.test(c) ? ' ' : c !== '\ufffd' && /^[\p{L}\p{M}\p{N}\p{P}\p{S}]$/u.test(c) ? c : '?'));
  let bytes = 0;
  let n = 0;
  while (n < out.length && bytes + Buffer.byteLength(out[n]) <= limit) bytes += Buffer.byteLength(out[n++]);
  return out.slice(0, n).join('');
}

const SAN = '2.5.29.17';

/** What a record says of the leaf. */
export function readCertificate(der) {
  try {
    new X509Certificate(der);
  } catch (e) {
    throw new Refused(`certificate: ${e.message}`);
  }
  const whole = new Element(der, 0);
  want(whole.end === der.length, 'certificate: bytes behind it');
  const tbs = whole.members[0].members;
  const at = tbs[0].tag === 0xa0 ? 1 : 0; // without a version it is of version 1
  const [issuer, validity] = [tbs[at + 2], tbs[at + 3]];
  const [notBefore, notAfter] = validity.members.map((e) => e.time);
  const names = [];
  for (const extension of tbs.find((e) => e.tag === 0xa3)?.members[0].members ?? []) {
    const [oid, ...rest] = extension.members;
    if (oid.oid !== SAN) continue;
    for (const name of new Element(rest.at(-1).value, 0).members) {
      if (name.tag === 0x82) names.push(clean(name.value.toString('latin1'), 256));
    }
  }
  return { sha256: sha256hex(der), issuer: clean(nameText(issuer), 256), dns_names: names.slice(0, 100), not_before: notBefore, not_after: notAfter };
}

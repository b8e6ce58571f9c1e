// The archive: a ZIP file that can be packed in exactly one way. It is read from the disk
// file by file; nothing is held but the directory.
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { fileLimit } from './month.mjs';
import { Refused, want } from './refused.mjs';
import { LIMITS } from './types.mjs';
import { quote } from './words.mjs';

const MAX_ARCHIVE = 600 << 20;
const MAX_FILES = 10_000;
const MAX_LOGS = 100;
const MAX_NAME = 200;
const MAX_FORK = 4 << 10;
const CHUNK = 1 << 20;

const SINGLE = {
  'VERIFY.md': 64 << 10,
  'inputs/rules.yaml': 4 << 20,
  'inputs/roster.yaml': 4 << 20,
  'inputs/releases.yaml': 4 << 20,
  'report.json': 8 << 20,
  'report.html': 16 << 20,
  'report.md': 8 << 20,
  'report.dsse.json': 4 << 20,
};

const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*(\/[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*){0,5}$/;
const LOG = /^(logs\/[0-9a-f]{16}\/)(.+)$/;

const END = 22; // bytes of the archive's last part
const ENTRY = 46; // bytes of a directory entry, its name not counted
const LOCAL = 30; // bytes before a file, its name not counted
const DATE = 0x21; // 1980-01-01

/** The part of a file's header that stands before it and in the directory. */
function fields(name, crc, size) {
  const b = Buffer.alloc(26);
  b.writeUInt16LE(20, 0); // version
  b.writeUInt16LE(DATE, 8);
  b.writeUInt32LE(crc, 10);
  b.writeUInt32LE(size, 14);
  b.writeUInt32LE(size, 18);
  b.writeUInt16LE(name.length, 22);
  return b;
}

const localHeader = (name, crc, size) => Buffer.concat([Buffer.from('PK\x03\x04'), fields(name, crc, size), Buffer.from(name)]);

function directoryEntry(name, crc, size, offset) {
  const rest = Buffer.alloc(14);
  rest.writeUInt32LE(offset, 10);
  return Buffer.concat([Buffer.from('PK\x01\x02'), Buffer.of(20, 0), fields(name, crc, size), rest, Buffer.from(name)]);
}

export class Archive {
  #fd;
  /** Names, sorted, to {size, sum, at}. */
  files = new Map();
  #change;

  /** change {at, xor} reads the file as if one of its bytes were another: for tests. */
  constructor(path, change) {
    this.#change = change;
    this.#fd = openSync(path, 'r');
    try {
      this.#open();
    } catch (e) {
      this.close();
      throw e;
    }
  }

  close() {
    closeSync(this.#fd);
  }

  #read(at, size) {
    const b = Buffer.allocUnsafe(size);
    for (let n = 0; n < size; ) {
      const k = readSync(this.#fd, b, n, size - n, at + n);
      want(k > 0, 'the archive is cut off');
      n += k;
    }
    const i = this.#change ? this.#change.at - at : -1;
    if (i >= 0 && i < size) b[i] ^= this.#change.xor;
    return b;
  }

  #open() {
    const total = fstatSync(this.#fd).size;
    want(total >= END, 'this is no ZIP archive');
    want(total <= MAX_ARCHIVE, `the archive has ${total} bytes, at most ${MAX_ARCHIVE} are read`);
    const end = this.#read(total - END, END);
    const [count, length, offset] = [end.readUInt16LE(10), end.readUInt32LE(12), end.readUInt32LE(16)];
    want(count <= MAX_FILES && length <= MAX_FILES * (ENTRY + MAX_NAME), 'the archive holds too many files');
    const again = Buffer.alloc(END);
    again.write('PK\x05\x06', 'latin1');
    again.writeUInt16LE(count, 8);
    again.writeUInt16LE(count, 10);
    again.writeUInt32LE(length, 12);
    again.writeUInt32LE(offset, 16);
    want(end.equals(again) && offset + length + END === total, 'the archive is not packed as a bundle is: its end');
    const entries = this.#directory(this.#read(offset, length), count);
    this.#limits(entries);
    let at = 0;
    for (const e of entries) {
      want(e.offset === at, `the archive is not packed as a bundle is: ${e.name} is not where it should be`);
      at += LOCAL + e.name.length + e.size;
    }
    want(at === offset, 'the archive is not packed as a bundle is: there are bytes between its files and its directory');
    for (const e of entries) this.#file(e);
  }

  #directory(raw, count) {
    const entries = [];
    let at = 0;
    let last = '';
    for (let i = 0; i < count; i++) {
      want(at + ENTRY <= raw.length, 'the directory of the archive is cut off');
      const size = raw.readUInt32LE(at + 24);
      const next = at + ENTRY + raw.readUInt16LE(at + 28);
      const name = raw.subarray(at + ENTRY, next).toString('latin1');
      want(name.length <= MAX_NAME && NAME.test(name), `${quote(name)} is no name for a file in a bundle`);
      want(name > last, `${name} is there twice, or not in the order of the names`);
      const e = { name, size, crc: raw.readUInt32LE(at + 16), offset: raw.readUInt32LE(at + 42) };
      want(raw.subarray(at, next).equals(directoryEntry(name, e.crc, size, e.offset)), `the archive is not packed as a bundle is: its entry of ${name}`);
      entries.push(e);
      last = name;
      at = next;
    }
    want(at === raw.length, 'the archive is not packed as a bundle is: its directory');
    return entries;
  }

  /** Names and sizes, before anything is read. */
  #limits(entries) {
    const logs = new Map();
    let forks = 0;
    for (const { name, size } of entries) {
      if (Object.hasOwn(SINGLE, name)) {
        want(size <= SINGLE[name], `${name} has ${size} bytes, at most ${SINGLE[name]} are read`);
        continue;
      }
      if (/^forks\/[1-9][0-9]{0,2}\.txt$/.test(name)) {
        want(size <= MAX_FORK, `${name} has ${size} bytes, at most ${MAX_FORK} are read`);
        want(++forks <= MAX_LOGS, `there are more than ${MAX_LOGS} forks`);
        continue;
      }
      const m = LOG.exec(name);
      const limit = m ? fileLimit(m[2]) : 0;
      want(limit > 0, `${name}: no bundle has a file of that name`);
      want(size <= limit, `${name} has ${size} bytes, at most ${limit} are read`);
      const log = logs.get(m[1]) ?? { bytes: 0, certificates: 0 };
      logs.set(m[1], log);
      want(logs.size <= MAX_LOGS, `there are more than ${MAX_LOGS} logs`);
      log.bytes += size;
      want(log.bytes <= LIMITS.month, `the files of ${m[1]} have more than ${LIMITS.month} bytes together`);
      if (m[2].startsWith('certificates/')) want(++log.certificates <= LIMITS.hours * LIMITS.attempts, `${m[1]} has too many certificates`);
    }
    const names = new Set(entries.map((e) => e.name));
    for (let n = 1; n <= forks; n++) want(names.has(`forks/${n}.txt`), `forks/${n}.txt is missing: there are ${forks} forks`);
  }

  #file({ name, size, crc, offset }) {
    const head = localHeader(name, crc, size);
    want(this.#read(offset, head.length).equals(head), `the archive is not packed as a bundle is: what stands before ${name}`);
    const at = offset + head.length;
    const sum = createHash('sha256');
    let check = 0;
    for (let n = 0; n < size; n += CHUNK) {
      const b = this.#read(at + n, Math.min(CHUNK, size - n));
      sum.update(b);
      check = crc32(b, check);
    }
    want(check === crc, `the bytes of ${name} are not those it was packed with`);
    this.files.set(name, { size, at, sum: sum.digest('hex') });
  }

  has(name) {
    return this.files.has(name);
  }

  /** The content of a file, which is still what was looked at. */
  read(name) {
    const f = this.files.get(name);
    if (!f) throw new Refused(`${name} is missing`);
    const b = this.#read(f.at, f.size);
    want(createHash('sha256').update(b).digest('hex') === f.sum, `${name} has changed while the bundle was read`);
    return b;
  }

  /** The names that begin with a prefix, sorted. */
  under(prefix) {
    return [...this.files.keys()].filter((n) => n.startsWith(prefix));
  }
}

// What one log shows of one relay in one month (evidence: "Exported months").
import { readPublicKey, readSignature, verifyBatch } from './bls.mjs';
import { readLine } from './json.mjs';
import { isConsistent, leafHash, showsRecord, Tree } from './merkle.mjs';
import { openCheckpoint, readLogKey, readWitnesses, splitNotes } from './notes.mjs';
import { want, within } from './refused.mjs';
import * as types from './types.mjs';
import { LIMITS } from './types.mjs';
import { Vouchers } from './voucher.mjs';
import { base64, closed, isHexSHA256, readBase64, readLines, readMonth, sha256, sha256hex, startOf, writeHour, writeInstant } from './words.mjs';

const NO_PLAN = 'no plan';
const FOREIGN_PLAN = 'plan is not by the monitor\'s plan key';
const MAX_SEEN = 100_000;
const seen = new Map(); // plans, and whether they are good: a month may be read again, with a newer roster
const LAG = 5000; // how far behind the sealing a witness's clock may be, in milliseconds

const lines = (each) => Math.min(LIMITS.hours * (each + 1), LIMITS.month);
const FILES = {
  'month.json': LIMITS.index + 1,
  start: LIMITS.checkpoint,
  tip: LIMITS.checkpoint,
  'blocks.jsonl': lines(LIMITS.header),
  checkpoints: lines(LIMITS.checkpoint),
  'proofs.jsonl': lines(LIMITS.proof),
  'records.jsonl': lines(LIMITS.record),
};
const REQUIRED = ['month.json', 'blocks.jsonl', 'checkpoints', 'proofs.jsonl', 'records.jsonl'];

/** How many bytes a file of a month may have, by its name; 0 if no file has that name. */
export function fileLimit(name) {
  if (Object.hasOwn(FILES, name)) return FILES[name];
  const m = /^certificates\/(.*)\.der$/.exec(name);
  if (m && isHexSHA256(m[1])) return LIMITS.certificate;
  return 0;
}

/**
 * Verifies a month. files is a Map of names and bytes, sorted by name; keys are those that
 * the reader brings along: log, witnesses, plan ("" if the monitor has none). beacons
 * collects the rounds of drand: settle() of the result says what came of them.
 */
export function verifyMonth(files, keys, beacons) {
  return new MonthReader(files, keys, beacons).verify();
}

class MonthReader {
  constructor(files, keys, beacons) {
    this.files = files;
    this.hours = [];
    this.keys = keys;
    this.log = readLogKey(keys.log);
    this.witnesses = readWitnesses(keys.witnesses);
    this.vouchers = new Vouchers(this.log, this.witnesses, beacons);
  }

  verify() {
    this.limits();
    this.identity();
    this.start();
    this.blocks();
    this.checkpoints();
    this.tip();
    this.certificates();
    this.records();
    this.plans();
    want(this.unused.size === 0, () => `no record refers to certificate ${[...this.unused][0]}`);
    return this.out;
  }

  /** Sizes, which an archive's directory has told already. */
  limits() {
    let total = 0;
    for (const [name, bytes] of this.files) {
      want(bytes.length <= fileLimit(name), `${name} is not known, or has too many bytes`);
      total += bytes.length;
    }
    want(total <= LIMITS.month, `the files have more than ${LIMITS.month} bytes together`);
  }

  identity() {
    for (const name of REQUIRED) want(this.files.has(name), `file ${name} is missing`);
    const file = this.files.get('month.json');
    want(file.at(-1) === 10, 'month.json: the line is not ended');
    const { value: m } = readLine(file.subarray(0, -1), LIMITS.index, types.index, 'month.json');
    want(m.key === this.keys.log, 'month.json has another key than the roster');
    want(m.origin === this.log.name, 'month.json: the origin is not the name of the key');
    const name = /^([a-z0-9]([a-z0-9._-]{0,98}[a-z0-9])?)\/relaymon\/(lab|psf)$/.exec(m.origin);
    want(name, `origin ${m.origin}: want <name>/relaymon/<lab or psf>`);
    this.m = { ...m, ...readMonth(m.month) };
    this.frontier = m.frontier.map(readBase64);
    this.out = {
      key: this.keys.log,
      origin: m.origin,
      name: name[1],
      network: name[3],
      month: m.month,
      relay: m.relay,
      asOf: m.as_of,
      size: 0,
      root: base64(Buffer.alloc(32)),
      digest: this.digest(),
      tip: { end: 0, cosigned: [] },
      hours: { [Symbol.iterator]: () => this.shown() },
      settle: () => this.settle(),
    };
  }

  /** The SHA-256 over the hashes and names of all files but the certificates. */
  digest() {
    const names = [...this.files.keys()].filter((n) => !n.startsWith('certificates/')).sort();
    return sha256hex(names.map((n) => `${sha256hex(this.files.get(n))} ${n}\n`).join(''));
  }

  /** A checkpoint; nobody cosigned it after as_of. */
  checkpoint(raw) {
    const c = openCheckpoint(raw, this.log, this.witnesses, LIMITS.checkpoint);
    for (const s of c.cosigned) want(s.at <= this.m.as_of, `${s.name} cosigned the checkpoint of size ${c.size} after the export`);
    return c;
  }

  start() {
    this.tree = new Tree(this.m.start_size, this.frontier);
    const raw = this.files.get('start');
    want((raw !== undefined) === (this.m.start_size > 0), 'start is there if and only if the log has blocks before the month');
    if (raw === undefined) return;
    this.first = within('start', () => this.checkpoint(raw));
    want(this.first.size === this.m.start_size && this.first.root.equals(this.tree.root()), 'start is not of the blocks before the month');
    this.reached(this.first);
  }

  reached(c) {
    this.out.size = c.size;
    this.out.root = base64(c.root);
  }

  blocks() {
    const type = types.header;
    const { hours } = this;
    let previous = null;
    this.roots = new Map(); // of signed blocks, by size
    for (const line of readLines(this.files.get('blocks.jsonl'), LIMITS.hours, 'blocks.jsonl')) {
      const n = hours.length;
      const { value: h } = readLine(line, LIMITS.header, type, `block ${n}`);
      const where = `block ${writeHour(h.hour)}`;
      if (previous) {
        want(h.hour === previous.hour + 1, `${where} does not follow ${writeHour(previous.hour)}`);
        want(readBase64(h.previous).equals(previous.leaf), `${where} does not refer to the one before`);
      } else if (this.m.start_size > 0) {
        want(h.hour === this.m.first, `${where}: want the month's first hour`);
      } else {
        want(readBase64(h.previous).equals(Buffer.alloc(32)), `${where} is the log's first and refers to one before`);
      }
      want(h.hour >= this.m.first && h.hour < this.m.end, `${where} is not of the month`);
      want(h.sealed_at <= this.m.as_of, `${where} was sealed after the export`);
      previous = { hour: h.hour, leaf: leafHash(line) };
      this.tree.add(previous.leaf);
      if (h.signed) this.roots.set(this.tree.size, this.tree.root());
      hours.push({ h, line, record: null, cosigned: [], clockFault: types.clockFault(h.clock), due: null, planFault: '', vouchers: null, round: this.vouchers.beacons.offer(readBase64(h.round), startOf(h.hour)) });
    }
    this.last = this.hours.at(-1)?.h ?? null;
    want(!this.last || this.last.signed, 'the last block is under no checkpoint');
  }

  checkpoints() {
    const { hours } = this;
    const notes = splitNotes(this.files.get('checkpoints'), LIMITS.hours, LIMITS.checkpoint);
    want(notes.length === this.roots.size, `there are ${notes.length} checkpoints for ${this.roots.size} signed blocks`);
    const cosigned = new Map(); // by the index of the signed block
    let covered = 0;
    let n = 0;
    const known = new Map();
    for (const [size, root] of this.roots) {
      const i = size - this.m.start_size - 1;
      const c = within(`checkpoint over block ${writeHour(hours[i].h.hour)}`, () => this.checkpoint(notes[n++]));
      want(c.size === size && c.root.equals(root), `the checkpoint over block ${writeHour(hours[i].h.hour)} is of another size or root`);
      this.reached(c);
      known.set(size, c);
      cosigned.set(i, c.cosigned);
      for (const s of c.cosigned) {
        if (s.at >= hours[i].h.sealed_at - LAG) continue;
        for (let j = covered; j <= i; j++) {
          hours[j].clockFault ||= `${s.name} cosigned at ${writeInstant(s.at)} what the monitor says it sealed at ${writeInstant(hours[i].h.sealed_at)}`;
        }
      }
      covered = i + 1;
    }
    this.commitments(known);
    if (this.last) this.out.tip = { end: this.last.hour + 1, cosigned: sorted(new Map(cosigned.get(hours.length - 1).map((s) => [s.witness, s.at]))) };
    // A later checkpoint speaks for earlier hours, too, unless its time is wrong.
    const first = new Map();
    let wrong = new Map();
    for (let i = hours.length - 1; i >= 0; i--) {
      if (cosigned.has(i)) {
        wrong = new Map();
        for (const { witness, at } of cosigned.get(i)) {
          if (at < hours[i].h.sealed_at - LAG) wrong.set(witness, at);
          else if (!first.has(witness) || at < first.get(witness)) first.set(witness, at);
        }
      }
      hours[i].cosigned = sorted(new Map([...first, ...wrong]));
    }
  }

  /** What headers say of the cosignatures that the monitor held must be there. */
  commitments(known) {
    let before = this.first ?? null; // the checkpoint over the blocks before
    let size = this.m.start_size;
    for (const { h } of this.hours) {
      const where = `block ${writeHour(h.hour)}`;
      want(h.cosigned.length === 0 || before, `${where} tells of cosignatures, and the block before is not signed`);
      for (const c of h.cosigned) {
        if (!this.witnesses.has(c.witness)) continue;
        const found = before.cosigned.find((s) => s.id === c.witness);
        want(found && found.at === c.time, `the cosignature by ${c.witness} that ${where} tells of is missing, or of another time`);
      }
      before = known.get(++size) ?? null;
    }
  }

  tip() {
    const proof = this.m.tip_proof.map(readBase64);
    const raw = this.files.get('tip');
    if (raw === undefined) return want(proof.length === 0, 'there is a proof for a tip, and no tip');
    want(this.last && this.last.hour === this.m.end - 1, 'there is a tip, and the blocks do not come to the end of the month');
    const c = within('tip', () => this.checkpoint(raw));
    want(c.size > this.out.size, 'the tip is not later than the last checkpoint of the month');
    want(isConsistent(proof, this.out.size, readBase64(this.out.root), c.size, c.root), 'the blocks of the month are not under the tip');
    const end = this.last.hour + 1 + (c.size - this.out.size);
    want(closed(end - 1, this.m.as_of), 'the tip covers hours that had not closed when it was exported');
    this.out.tip = { end, cosigned: sorted(new Map(c.cosigned.map((s) => [s.witness, s.at]))) };
  }

  certificates() {
    this.leaves = new Set(); // their hashes
    for (const [name, der] of this.files) {
      if (!name.startsWith('certificates/')) continue;
      const hash = sha256hex(der);
      want(name === `certificates/${hash}.der`, `${name} is not named after its hash`);
      this.leaves.add(hash);
    }
    this.unused = new Set(this.leaves);
  }

  records() {
    const proofs = readLines(this.files.get('proofs.jsonl'), LIMITS.hours, 'proofs.jsonl');
    const records = readLines(this.files.get('records.jsonl'), LIMITS.hours, 'records.jsonl');
    const type = types.record;
    for (const hour of this.hours) {
      const { h } = hour;
      if (h.records === 0) continue;
      within(`block ${writeHour(h.hour)}`, () => {
        want(proofs.length > 0, 'nothing shows whether a record is of the relay');
        const { value: p } = readLine(proofs.shift(), LIMITS.proof, types.proof, 'proof');
        want(p.hour === h.hour, 'the next proof is of another hour');
        want(!p.present || records.length > 0, 'the relay\'s record is missing');
        const line = p.present ? records.shift() : null;
        const other = p.other && { key: readBase64(p.other.key), value: readBase64(p.other.value) };
        want(showsRecord(readBase64(h.root), this.m.relay, line, p.path.map(readBase64), other), 'the proof does not lead to the root of the block');
        if (line) this.record(hour, line, type);
      });
    }
    want(proofs.length === 0 && records.length === 0, 'there are proofs or records of no block that has records');
  }

  record(hour, line, type) {
    const { value: r } = readLine(line, LIMITS.record, type, 'record');
    want(r.peer_id === this.m.relay && r.hour === hour.h.hour, 'the record is of another relay or hour');
    hour.record = line;
    hour.plan = r.plan;
    hour.vouchers = r.attempts.map((a) => {
      this.certificate(a);
      return this.vouchers.check(a, r.hour);
    });
  }

  /** The certificate that an attempt names is there. What else it says of it is the monitor's word. */
  certificate(attempt) {
    const said = attempt.facts.certificate;
    if (!said) return;
    want(this.leaves.has(said.sha256), `certificate ${said.sha256} is missing`);
    this.unused.delete(said.sha256);
  }

  /** When first attempts were due by the monitor's signatures over hour and relay. */
  plans() {
    if (!this.keys.plan) return;
    const key = readPublicKey(readBase64(this.keys.plan));
    want(key, 'the plan key of the roster is no point of G2');
    const plans = new Map(); // by hour
    for (const hour of this.hours) {
      if (!hour.record) continue;
      if (!hour.plan) hour.planFault = NO_PLAN;
      else plans.set(hour, planText(this.m.origin, hour.h.hour, this.m.relay));
    }
    const id = (hour) => `${this.keys.plan} ${hour.plan} ${plans.get(hour)}`;
    const items = [];
    for (const [hour, text] of plans) {
      if (seen.has(id(hour))) continue;
      seen.set(id(hour), false);
      const item = readSignature(readBase64(hour.plan), text);
      if (item) items.push({ ...item, id: id(hour) });
    }
    verifyBatch(items, key).forEach((good, i) => seen.set(items[i].id, good));
    for (const hour of plans.keys()) {
      if (seen.get(id(hour))) hour.due = startOf(hour.h.hour) + dueSecond(readBase64(hour.plan)) * 1000;
      else hour.planFault = FOREIGN_PLAN;
    }
    if (seen.size > MAX_SEEN) seen.clear();
  }

  /** Called when the beacons of all logs are known. */
  settle() {
    for (const hour of this.hours) {
      for (const v of hour.vouchers ?? []) this.vouchers.settle(v);
      if (hour.round !== null && !this.vouchers.beacons.isGood(hour.round)) hour.round = null;
      delete hour.h; // it takes more room than its line
    }
    this.files = new Map();
  }

  /** What the judge is given of the hours: their lines are read once more, one at a time. */
  *shown() {
    for (const { line, record, cosigned, clockFault, due, planFault, vouchers, round } of this.hours) {
      yield { header: JSON.parse(line.toString()), record: record && JSON.parse(record.toString()), cosigned, clockFault, due, planFault, vouchers, round };
    }
  }
}

const sorted = (times) => [...times].sort(([a], [b]) => (a < b ? -1 : 1)).map(([witness, at]) => ({ witness, at }));

/** What a monitor's plan key signs for a relay and an hour. */
export const planText = (origin, hour, relay) => Buffer.from(`relaymon-plan/v1\n${origin}\n${writeHour(hour)}\n${relay}\n`);

/** The second of the hour in which the first attempt is due by a plan. */
export const dueSecond = (plan) => Number(sha256(plan).readBigUInt64BE(0) % 3600n);

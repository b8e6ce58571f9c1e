// Runs the test vectors of the format (docs/vectors): files that a verifier takes or refuses.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Beacons } from './beacon.mjs';
import { readPublicKey, readSignature, verifyBatch } from './bls.mjs';
import { readEntries } from './decisions.mjs';
import { dueOf } from './judge.mjs';
import { canonical, readLine } from './json.mjs';
import { dueSecond, planText, verifyMonth } from './month.mjs';
import { openCheckpoint, openFork, readLogKey, readWitnesses } from './notes.mjs';
import { Misused, Refused, want } from './refused.mjs';
import * as types from './types.mjs';
import { Vouchers } from './voucher.mjs';
import { readBase64, readHour } from './words.mjs';

const { LIMITS } = types;

// What is done with the cases of a file. Each refuses, or gives what the case shows.
const KINDS = {
  records(c) {
    const { value: r } = readLine(Buffer.from(c.line), LIMITS.record, types.record, 'record');
    want(r.hour === readHour(c.hour), 'the record is of another hour');
  },
  headers: (c) => void readLine(Buffer.from(c.line), LIMITS.header, types.header, 'header'),
  plans(c) {
    const signature = readBase64(c.signature);
    const item = readSignature(signature, planText(c.origin, readHour(c.hour), c.relay));
    want(item && verifyBatch([item], readPublicKey(readBase64(c.plan_key)))[0], 'the plan is not by the plan key');
    return { due_second: dueSecond(signature) };
  },
  checkpoints(c) {
    const { cosigned } = openCheckpoint(Buffer.from(c.note), readLogKey(c.log), readWitnesses(c.witnesses ?? []), LIMITS.checkpoint);
    return { cosigned: cosigned.map((s) => ({ witness: s.witness, seconds: s.at / 1000 })) };
  },
  forks: (c) => void openFork(Buffer.from(c.note), readLogKey(c.log)),
  vouchers(c) {
    const { value: attempt } = readLine(Buffer.from(c.line), LIMITS.record, types.attempt, 'attempt');
    const vouchers = new Vouchers(readLogKey(c.log), readWitnesses(c.witnesses ?? []), new Beacons());
    const voucher = vouchers.check(attempt, readHour(c.hour));
    vouchers.settle(voucher);
    return { voucher: voucher.state };
  },
  due(c) {
    const due = dueOf(c.monitors, c.rules, c.relay, readBase64(c.round).toString('hex'));
    return { due: due.map((m) => m.name) };
  },
  decisions: (c) => readEntries(c.lines, c.network),
  months(c) {
    const files = new Map(Object.keys(c.files).sort().map((name) => [name, Buffer.from(c.files[name])]));
    const log = verifyMonth(files, { log: c.log, witnesses: c.witnesses ?? [], plan: c.plan_key ?? '' }, new Beacons());
    log.settle();
    return { digest: log.digest };
  },
};

/** What is wrong with a case; "" if all is as it says. */
function fault(run, c) {
  let shown = {};
  let why = '';
  try {
    shown = run(c) ?? {};
  } catch (e) {
    if (!(e instanceof Refused)) throw e;
    why = e.message;
  }
  if (c.ok !== (why === '')) return c.ok ? `refused: ${why}` : 'taken, and it must be refused';
  for (const [member, is] of Object.entries(shown)) {
    const [got, said] = [is, c[member] ?? []].map((v) => canonical(v));
    if (got !== said) return `${member} is ${got}, want ${said}`;
  }
  return '';
}

/** Runs all vectors of a folder: how many there are of each kind, and what is wrong. */
export function runVectors(folder) {
  const counts = {};
  const faults = [];
  for (const file of readdirSync(folder).filter((f) => f.endsWith('.json')).sort()) {
    const kind = file.slice(0, -'.json'.length);
    if (!Object.hasOwn(KINDS, kind)) throw new Misused(`${file}: vectors of a kind that is not known`);
    const list = JSON.parse(readFileSync(join(folder, file), 'utf8'));
    counts[kind] = list.length;
    for (const c of list) {
      const why = fault(KINDS[kind], c);
      if (why) faults.push(`${kind}, ${c.name} (${c.why}): ${why}`);
    }
  }
  return { counts, faults };
}

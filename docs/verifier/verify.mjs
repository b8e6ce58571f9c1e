#!/usr/bin/env node
// node verify.mjs BUNDLE --rules FILE --roster FILE --committee VKEY [--releases FILE] [--relay PEERID] [--month YYYY-MM] [--json]
// node verify.mjs --vectors FOLDER
import { readFileSync, statSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { Beacons } from './beacon.mjs';
import { verifyBundle } from './bundle.mjs';
import { verifyMonth } from './month.mjs';
import { Misused, Refused } from './refused.mjs';
import { runVectors } from './vectors.mjs';

const MAX_FILE = 4 << 20; // of what the reader brings along
const MAX_CASE = 1 << 20; // bytes of a line of --stdin-cases

/** @type {import('node:util').ParseArgsConfig['options']} */
const OPTIONS = {
  rules: { type: 'string', multiple: true, default: [] },
  roster: { type: 'string', multiple: true, default: [] },
  releases: { type: 'string' },
  committee: { type: 'string' },
  unsigned: { type: 'boolean', default: false },
  relay: { type: 'string' },
  month: { type: 'string' },
  json: { type: 'boolean', default: false },
  vectors: { type: 'string' },
  'stdin-cases': { type: 'boolean', default: false },
};

function readOwn(path) {
  try {
    if (statSync(path).size > MAX_FILE) throw new Misused(`${path} has more than ${MAX_FILE} bytes`);
    return readFileSync(path);
  } catch (e) {
    throw e instanceof Misused ? e : new Misused(e.message);
  }
}

/** Verifies one bundle. The answer has verified and, if not, error and own: it is the reader's fault. */
function answer(c) {
  const list = (v) => (Array.isArray(v) ? v : v ? [v] : []).map(readOwn);
  try {
    const r = verifyBundle(c.bundle, {
      rules: list(c.rules),
      rosters: list(c.roster),
      releases: c.releases ? readOwn(c.releases) : null,
      committee: c.committee,
      unsigned: c.unsigned,
      relay: c.relay,
      month: c.month,
      factsOnly: c.facts_only,
      change: c.change,
    });
    const out = { verified: true, signed_by: r.signedBy, files: r.files };
    if (r.report) Object.assign(out, { headline: r.counts.headline, result: r.counts.result, final: r.counts.final, warnings: r.warnings, verdict: r.report });
    if (c.facts || c.facts_only) out.logs = r.logs.map(factsOf);
    return out;
  } catch (e) {
    if (e instanceof Refused) return { verified: false, error: e.message };
    if (e instanceof Misused || e.code?.startsWith?.('E')) return { verified: false, own: true, error: e.message };
    throw e;
  }
}

/** What a log shows, without the records. */
function factsOf(log) {
  const hours = [...log.hours].map((h) => ({
    hour: h.header.hour,
    record: h.record !== null,
    attempts: h.record?.attempts.length ?? 0,
    cosigned: h.cosigned,
    clock_fault: h.clockFault,
    due: h.due,
    plan_fault: h.planFault !== '',
    round: h.round ?? '',
    vouchers: h.vouchers?.map(({ state, expires, beacon, witness }) => ({ state, expires, beacon, witness })) ?? [],
  }));
  const { key, origin, name, network, month, relay, asOf, size, root, digest, tip, void: why } = log;
  return { key, origin, name, network, month, relay, as_of: asOf, size, root, digest, tip, void: why, hours };
}

function show(a) {
  if (!a.verified) return `${a.own ? 'your own files or options' : 'not good evidence'}: ${a.error.replaceAll('\n', '; ')}\n`;
  const lines = [`verified: ${a.headline}`, `signed by ${a.signed_by}; ${a.files} files`, ...a.warnings.map((w) => `warning: ${w}`)];
  for (const f of a.verdict.findings) lines.push(`${f.outcome.padEnd(12)} ${f.rule.padEnd(4)} ${f.subject}`);
  return `${lines.join('\n')}\n`;
}

/** Verifies the files of one month alone, which come in base64: for tests. */
function monthAnswer({ files, keys }) {
  try {
    const bytes = new Map(Object.keys(files).sort().map((name) => [name, Buffer.from(files[name], 'base64')]));
    const log = verifyMonth(bytes, keys, new Beacons());
    log.settle();
    return { verified: true, logs: [factsOf({ ...log, void: '' })] };
  } catch (e) {
    if (e instanceof Refused) return { verified: false, error: e.message };
    if (e instanceof Misused) return { verified: false, own: true, error: e.message };
    throw e;
  }
}

/** Says whether a round is the first of drand's after an instant: for tests. */
function roundAnswer({ bytes, at }) {
  try {
    const beacons = new Beacons();
    return { verified: beacons.isGood(beacons.collect(Buffer.from(bytes, 'base64'), at)) };
  } catch (e) {
    if (e instanceof Refused) return { verified: false, error: e.message };
    throw e;
  }
}

const code = (a) => (a.verified ? 0 : a.own ? 2 : 1);

/** One case a line of standard input, one answer a line of standard output. */
async function cases() {
  for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    if (line.length > MAX_CASE) throw new Misused('a case is too long');
    const c = JSON.parse(line);
    const a = c.month_files ? monthAnswer(c.month_files) : c.round ? roundAnswer(c.round) : answer(c);
    const out = `${JSON.stringify({ id: c.id, ...a })}\n`;
    if (!process.stdout.write(out)) await new Promise((done) => process.stdout.once('drain', done));
  }
}

/** Runs test vectors; exit code 1 if one is not as it says. */
function vectors(folder) {
  let all;
  try {
    all = runVectors(folder);
  } catch (e) {
    if (!(e instanceof Misused || e.code?.startsWith?.('E'))) throw e;
    process.stderr.write(`${e.message}\n`);
    return 2;
  }
  const { counts, faults } = all;
  process.stdout.write([...faults, `${Object.entries(counts).map(([kind, n]) => `${kind} ${n}`).join(', ')}; ${faults.length} not as they say`, ''].join('\n'));
  return faults.length > 0 ? 1 : 0;
}

async function main() {
  let args;
  try {
    args = parseArgs({ options: OPTIONS, allowPositionals: true });
    if (!args.values['stdin-cases'] && args.values.vectors === undefined && args.positionals.length !== 1) throw new Error('want one bundle');
  } catch (e) {
    process.stderr.write(`${e.message}\nusage: node verify.mjs BUNDLE --rules FILE --roster FILE --committee VKEY [--releases FILE] [--relay PEERID] [--month YYYY-MM] [--json]\n`);
    return 2;
  }
  if (args.values['stdin-cases']) {
    await cases();
    return 0;
  }
  if (args.values.vectors !== undefined) return vectors(String(args.values.vectors));
  const a = answer({ ...args.values, bundle: args.positionals[0] });
  const out = args.values.json ? `${JSON.stringify(a)}\n` : show(a);
  (a.verified || args.values.json ? process.stdout : process.stderr).write(out);
  return code(a);
}

process.exitCode = await main();

// Verifies a bundle, step by step, as the specification says.
import { Archive } from './archive.mjs';
import { Beacons } from './beacon.mjs';
import { hold, inForce, monitorsOf, unsign, witnessKeys } from './committee.mjs';
import { canonical, readCanonical, shaped } from './json.mjs';
import { compareReport, judge } from './judge.mjs';
import { verifyMonth } from './month.mjs';
import { openEnvelope, openFork, parseEnvelope, readLogKey } from './notes.mjs';
import { Refused, want, within } from './refused.mjs';
import { readInstant, readMonth, sha256hex } from './words.mjs';

const STATEMENT = 'report.dsse.json';
const STATEMENT_TYPE = 'https://in-toto.io/Statement/v1';
const PREDICATE_TYPE = 'https://github.com/psf-relay/relay-appliance/relay-month/v1';

/**
 * Verifies the bundle in a file. options: rules and rosters (lists of bytes), committee,
 * unsigned, releases (bytes), relay, month; factsOnly leaves out the verdict.
 */
export function verifyBundle(path, options) {
  const held = hold(options);
  const archive = new Archive(path, options.change);
  try {
    return verifyFiles(archive, held, options);
  } finally {
    archive.close();
  }
}

function verifyFiles(archive, held, options) {
  const rules = held.rules.find(archive.read('inputs/rules.yaml')).file;
  const { file: roster, newer } = held.rosters.find(archive.read('inputs/roster.yaml'));
  const { signer, predicate } = statement(archive, roster);
  want(!options.relay || options.relay === predicate.relay, 'the bundle is about another relay than the one asked for');
  want(!options.month || options.month === predicate.month, 'the bundle is about another month than the one asked for');
  const month = readMonth(predicate.month);
  inForce(rules, held.rules, month);
  const bring = { archive, rules, roster, month, relay: predicate.relay, releases: releasesOf(archive, roster) };
  const logs = readLogs(bring);
  const out = { files: archive.files.size, signedBy: signer.name, predicate, logs };
  if (options.factsOnly) return out;
  const report = judgeBy(bring, logs);
  const differ = compareReport(report, readCanonical(archive.read('report.json'), 'report.json'));
  want(differ.length === 0, () => `report.json is not what the evidence shows: ${differ.slice(0, 5).join('; ')}`);
  for (const [member, is] of Object.entries({ relay: report.relay.peer_id, network: report.network, month: report.month, as_of: report.as_of, headline: report.headline })) {
    want(predicate[member] === is, `${STATEMENT}: ${member} of its predicate is not what the evidence shows`);
  }
  out.report = report;
  out.warnings = [];
  out.counts = newer > 0 ? byNewest(bring, held, options, out) : report;
  if (!options.committee && report.network !== 'lab') {
    out.warnings.push('unsigned: rules and roster are taken on your own word, so the result is REVIEW at most');
    out.counts = atMostReview(out.counts, out.warnings.at(-1));
  }
  return out;
}

/** The statement over all other files, signed by a monitor of the roster. */
function statement(archive, roster) {
  const raw = archive.read(STATEMENT);
  return within(STATEMENT, () => {
    const envelope = parseEnvelope(raw);
    const signer = roster.monitors.find((m) => readLogKey(m.logKey).id === envelope.keyid);
    want(signer, 'it is signed by no monitor of the roster');
    const body = openEnvelope(envelope, readLogKey(signer.logKey));
    const said = readCanonical(body, 'the statement');
    const p = said.predicate;
    want(p !== null && typeof p === 'object' && !Array.isArray(p), 'it has no predicate');
    shaped(Buffer.from(canonical(p)));
    for (const member of ['relay', 'network', 'month', 'as_of', 'headline', 'drawn_by']) want(typeof p[member] === 'string', `${member} is missing`);
    readInstant(p.as_of);
    want(/^v[0-9A-Za-z.+-]{1,100}$/.test(p.drawn_by), 'drawn_by is no version of a program');
    const subject = [...archive.files].filter(([name]) => name !== STATEMENT).map(([name, f]) => ({ digest: { sha256: f.sum }, name }));
    const whole = canonical({ _type: STATEMENT_TYPE, predicate: p, predicateType: PREDICATE_TYPE, subject });
    want(whole === body.toString(), 'the statement is not over these files');
    return { signer, predicate: p };
  });
}

function releasesOf(archive, roster) {
  const name = 'inputs/releases.yaml';
  if (!archive.has(name)) return null;
  const raw = archive.read(name);
  want(sha256hex(raw) === roster.releases, `${name} is not the release list that the roster names`);
  return { text: unsign(raw).text.toString(), sha256: sha256hex(raw) };
}

/** Reads and verifies all logs, and the forks beside them. */
function readLogs({ archive, roster, month }) {
  const monitors = new Map(monitorsOf(roster, month).map((m) => [folderOf(m.logKey), m]));
  const folders = [...new Set(archive.under('logs/').map((n) => n.slice(0, 'logs/'.length + 17)))];
  for (const f of folders) want(monitors.has(f), `${f}: no monitor of the roster has a log of that name in ${month.month}`);
  const voids = forks(archive, folders.map((f) => monitors.get(f).logKey));
  const beacons = new Beacons();
  const witnesses = witnessKeys(roster, month);
  const logs = folders.map((f) => {
    const m = monitors.get(f);
    const files = new Map(archive.under(f).map((n) => [n.slice(f.length), archive.read(n)]));
    const log = within(`log of monitor ${m.name}`, () => verifyMonth(files, { log: m.logKey, witnesses, plan: m.planKey }, beacons));
    return { ...log, void: voids.get(m.logKey) ?? '' };
  });
  for (const log of logs) log.settle();
  return logs;
}

const folderOf = (logKey) => `logs/${sha256hex(logKey).slice(0, 16)}/`;

/** Why nothing in a log counts, by the log's key: each fork convicts another one. */
function forks(archive, keys) {
  const out = new Map();
  let last = Buffer.alloc(0);
  for (let n = 1; n <= archive.under('forks/').length; n++) {
    const name = `forks/${n}.txt`;
    const raw = archive.read(name);
    want(Buffer.compare(raw, last) > 0, `${name} does not stand in the order of the bytes`);
    last = raw;
    const found = keys.map((key) => [key, forkBy(raw, key)]).find(([, fork]) => fork);
    want(found, `${name} contradicts no log of the bundle`);
    const [key, fork] = found;
    want(!out.has(key), `${name} convicts a monitor that another fork convicts already`);
    out.set(key, `it signed two roots for size ${fork.size}, ${fork.roots[0]} and ${fork.roots[1]}: see ${name}`);
  }
  return out;
}

function forkBy(raw, key) {
  try {
    return openFork(raw, readLogKey(key));
  } catch (e) {
    if (e instanceof Refused) return null;
    throw e;
  }
}

const judged = (file) => ({ text: file.text, sha256: file.sha256, signedBy: file.signedBy });

function judgeBy({ rules, roster, releases, relay, month }, logs) {
  try {
    return judge({ rules: judged(rules), roster: judged(roster), releases, relay, month: month.month, logs });
  } catch (e) {
    if (e.refusal) throw new Refused(e.message);
    throw e;
  }
}

function atMostReview(report, why) {
  if (report.result !== 'ELIGIBLE') return report;
  return { ...report, result: 'REVIEW', headline: report.headline.replace('ELIGIBLE', 'REVIEW'), reasons: [why, ...report.reasons] };
}

/** The verdict by the newest roster that the reader holds. */
function byNewest(bring, held, options, out) {
  const roster = held.rosters.newest;
  let capped = '';
  const now = { ...bring, roster };
  out.warnings.push(`judged by roster serial ${bring.roster.serial}; you hold serial ${roster.serial}: yours counts`);
  if (roster.releases !== bring.roster.releases) {
    if (options.releases) now.releases = { text: unsign(options.releases).text.toString(), sha256: sha256hex(options.releases) };
    else if (roster.releases !== '') capped = 'your newest roster names another release list than the bundle holds: bring that list along';
    else now.releases = null;
  }
  try {
    const report = judgeBy(now, readLogs(now));
    return capped ? atMostReview(report, capped) : report;
  } catch (e) {
    if (!(e instanceof Refused)) throw e;
    out.warnings.push(`by your newest roster it cannot be judged: ${e.message}`);
    return atMostReview(out.report, out.warnings.at(-1));
  }
}

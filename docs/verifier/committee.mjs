// The committee's files: signatures, and the chain of rules and of rosters. Of what
// stands in them only what the format needs is read here.
import { parseNote, readLogKey, witnessID } from './notes.mjs';
import { Misused, Refused, want } from './refused.mjs';
import { isHexSHA256, quote, readHour, readMonth, readUTF8, sha256hex } from './words.mjs';
import { parseYaml } from './yaml.mjs';

const MAX_FILE = 1 << 20;
const MAX_SERIAL = 1_000_000;

const scalar = (map, key) => {
  const v = map.get(key);
  if (v === undefined || v.isNull) return '';
  want(typeof v.text === 'string', `${key}: want one word`);
  return v.text;
};
const entries = (map, key) => {
  const v = map.get(key);
  if (v === undefined || v.isNull) return [];
  want(Array.isArray(v) && v.every((x) => x instanceof Map), `${key}: want a list of entries`);
  return v;
};
const term = (map) => ({
  from: scalar(map, 'from') === '' ? 0 : readHour(scalar(map, 'from')),
  until: scalar(map, 'until') === '' ? Infinity : readHour(scalar(map, 'until')),
});

/** The text of a file that may be a signed note, and who says to have signed it. Nothing is verified. */
export function unsign(raw) {
  if (raw.lastIndexOf('\n\n— ') < 0) return { text: raw, signedBy: [] };
  try {
    const { text, signatures } = parseNote(raw, MAX_FILE);
    return { text, signedBy: signatures.map((s) => s.id) };
  } catch (e) {
    if (!(e instanceof Refused)) throw e;
    return { text: raw, signedBy: [] };
  }
}

/** Reads rules or a roster as far as the format needs it. what is "rules" or "roster". */
function readFile(raw, what) {
  want(raw.length <= MAX_FILE, `${what}: ${raw.length} bytes, at most ${MAX_FILE} are read`);
  const { text, signedBy } = unsign(raw);
  let yaml;
  try {
    yaml = parseYaml(readUTF8(text, what));
  } catch (e) {
    throw new Refused(`${what}: ${e.message}`);
  }
  const file = { what, text: text.toString(), sha256: sha256hex(raw), raw, signedBy, network: scalar(yaml, 'network'), previous: scalar(yaml, 'previous') };
  const serial = scalar(yaml, 'serial') || '0';
  want(/^\d{1,7}$/.test(serial) && +serial <= MAX_SERIAL, `${what}: serial: want 1, 2, 3, ..., not ${quote(serial)}`);
  file.serial = +serial;
  want(file.serial > 0 || signedBy.length === 0, `${what}: serial: a signed file has one`);
  want(file.serial > 1 ? isHexSHA256(file.previous) : file.previous === '', `${what}: previous does not fit serial ${serial}`);
  want(scalar(yaml, 'version') === '1', `${what} is of version ${quote(scalar(yaml, 'version'))}; this reads version 1`);
  Object.assign(file, what === 'rules' ? rulesOf(yaml) : rosterOf(yaml));
  if (what === 'roster') signersDiffer([...file.monitors, ...file.witnesses]);
  return file;
}

const rulesOf = (yaml) => ({ from: readMonth(scalar(yaml, 'from')).first });

const rosterOf = (yaml) => ({
  releases: scalar(yaml, 'releases'),
  monitors: entries(yaml, 'monitors').map((m) => ({
    name: scalar(m, 'name'),
    logKey: scalar(m, 'log_key'),
    witnessKey: scalar(m, 'witness_key'),
    planKey: scalar(m, 'plan_key'),
    ...term(m),
  })),
  witnesses: entries(yaml, 'witnesses').map((w) => ({ witnessKey: scalar(w, 'key'), ...term(w) })),
});

/** No two witnesses sign alike, nor does one in two spellings of its key. */
function signersDiffer(all) {
  const ids = all.filter((w) => w.witnessKey !== '').map((w) => witnessID(w.witnessKey));
  const twice = ids.find((id, i) => ids.indexOf(id) < i);
  want(twice === undefined, () => `roster: witness ${twice} stands there twice`);
}

const inMonth = (month) => (x) => x.from < month.end && month.first < x.until;

/** The keys of all who may cosign in the month, sorted. */
export function witnessKeys(roster, month) {
  const all = [...roster.monitors, ...roster.witnesses].filter((w) => w.witnessKey !== '' && inMonth(month)(w));
  return [...new Set(all.map((w) => w.witnessKey))].sort();
}

/** The monitors that have a log in the month. */
export const monitorsOf = (roster, month) => roster.monitors.filter(inMonth(month));

function verified(file, committee) {
  const key = readLogKey(committee);
  const { text, signatures } = parseNote(file.raw, MAX_FILE);
  const s = signatures.find((x) => x.id === key.id);
  want(s && key.verify(text, s.bytes), `${file.what}: no good signature by the committee's key ${key.name}`);
}

/** Files of one kind that the reader holds, the oldest first; each names the one before. */
class Chain {
  constructor(what, raws) {
    const byHash = new Map(raws.map((raw) => [sha256hex(raw), raw]));
    this.what = what;
    this.files = [...byHash.values()].map((raw) => readFile(raw, what)).sort((a, b) => a.serial - b.serial);
    want(this.files.length > 0, `${what}: no file is held`);
    this.files.slice(1).forEach((f, i) => {
      const old = this.files[i];
      want(old.serial > 0 && f.serial === old.serial + 1 && f.previous === old.sha256, `${what} serial ${f.serial} does not follow serial ${old.serial}`);
    });
  }

  get newest() {
    return this.files.at(-1);
  }

  /** The bundle's file: one of the chain, or the one right before its oldest; and how many are newer. */
  find(raw) {
    const i = this.files.findIndex((f) => f.sha256 === sha256hex(raw));
    if (i >= 0) return { file: this.files[i], newer: this.files.length - 1 - i };
    const file = readFile(raw, this.what);
    const oldest = this.files[0];
    want(file.serial > 0 && this.newest.serial > 0 && file.serial + 1 === oldest.serial && file.sha256 === oldest.previous, `inputs/${this.what}.yaml, serial ${file.serial}, is not of the chain that you hold`);
    return { file, newer: this.files.length };
  }
}

let last = { id: '', held: null }; // of many bundles, most are verified with the same files

/** What the reader brings along; whatever is wrong with it is his own fault. */
export function hold(options) {
  const all = [...options.rules, null, ...options.rosters, null, options.releases].map((raw) => (raw ? sha256hex(raw) : ''));
  const id = JSON.stringify([all, options.committee, options.unsigned]);
  if (last.id !== id) last = { id, held: holdAnew(options) };
  return last.held;
}

function holdAnew(options) {
  try {
    const rules = new Chain('rules', options.rules);
    const rosters = new Chain('roster', options.rosters);
    const [newRules, newRoster] = [rules.newest, rosters.newest];
    if (options.committee) [newRules, newRoster].forEach((f) => verified(f, options.committee));
    want(newRules.network === newRoster.network, 'rules and roster are for different networks');
    want(newRules.network === 'lab' || options.committee || options.unsigned, 'whose rules and roster are these? name the committee\'s key, or accept unsigned ones');
    want(!options.releases || sha256hex(options.releases) === newRoster.releases, 'the release list is not the one that the newest roster names');
    return { rules, rosters };
  } catch (e) {
    if (e instanceof Refused) throw new Misused(e.message);
    throw e;
  }
}

/** Says whether rules judge the month: none that are held and newer do. */
export function inForce(rules, chain, month) {
  want(rules.from <= month.first, `rules serial ${rules.serial} are not in force in ${month.month} yet`);
  const newer = chain.files.find((r) => r.serial > rules.serial && r.from <= month.first);
  want(!newer, () => `rules serial ${newer.serial} are in force in ${month.month}, and it was judged by serial ${rules.serial}`);
}

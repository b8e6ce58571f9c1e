// The entries of a committee's log of decisions: what each says, and which may follow which.
import { openStatement } from './envelope.mjs';
import { binary, bool, instant, list, object, optional, readLine, text, word } from './json.mjs';
import { quote, readBase64, readInstant, readMonth, sha256, sha256hex, isHexSHA256 } from './words.mjs';
import { within, want } from './refused.mjs';
import { peerID } from './types.mjs';

const LIMITS = { entry: 32 << 10, reason: 2000, appeal: 4096, appeals: 8, envelope: 4096 + 2 * 4096 };
const SPACE = '\\t-\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
const ENDS = new RegExp(`^[${SPACE}]|[${SPACE}]$`, 'u');
// Control characters but newline and tab, and Unicode's Bidi_Control.
const STEERS = /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;

/** A text of people's. */
const prose = (limit) => text(limit, (v) => want(v !== '' && !ENDS.test(v) && !STEERS.test(v), () => `${quote(v)} is empty, has white space at its ends, or steers a terminal`));

/** An object that does not grow. */
const strict = (members, check) => object(members, (out, plain) => {
  for (const name of Object.keys(plain)) want(Object.hasOwn(members, name), () => `${quote(name)} is not known`);
  if (check) check(out, plain);
});

const sha = text(64, (v) => want(isHexSHA256(v), () => `${quote(v)}: want 64 hex digits`));
const visible = (limit) => text(limit, (v) => want(/^[!-~]+$/.test(v), () => `${quote(v)}: want printable characters without spaces`));
const month = text(7, (v) => void readMonth(v));
const set = (type, max) => {
  const base = list(type, max);
  return { ...base, read: (v) => {
    const out = base.read(v);
    want(out.every((x, i) => i === 0 || Buffer.compare(Buffer.from(out[i - 1]), Buffer.from(x)) < 0), 'want it sorted, each once');
    return out;
  } };
};

const payment = strict({ txid: sha, payout: visible(200), payout_signed: optional(bool) });

const decision = strict(
  {
    relay: peerID,
    month,
    bundle: sha,
    rules: sha,
    roster: sha,
    verdict: word('ELIGIBLE', 'NOT_ELIGIBLE', 'REVIEW', 'LAB'),
    provisional: optional(bool),
    as_of: instant,
    without: optional(set(prose(100), 100)),
    pay: optional(payment),
    refuse: optional(prose(LIMITS.reason)),
    answers: optional(set(sha, LIMITS.appeals)),
    replaces: optional(sha),
    why: optional(prose(LIMITS.reason)),
  },
  (d) => {
    want((d.pay === null) !== (d.refuse === ''), 'want one of pay and refuse');
    want(d.replaces === '' || d.why !== '', 'a decision that replaces another one says why');
    if (d.pay === null) return;
    want(d.verdict !== 'NOT_ELIGIBLE' && !d.provisional, 'it is NOT_ELIGIBLE or provisional, and paid');
    want((d.verdict !== 'REVIEW' && d.without.length === 0 && d.pay.payout_signed) || d.why !== '', 'it is paid without a reason');
  },
);

const version = { empty: 0, read: (v) => (want(v === 1, () => `version ${quote(v)}, want 1`), v) };

const entry = strict(
  {
    version,
    network: word('psf', 'lab'),
    at: instant,
    decision: optional(decision),
    appeal: optional(strict({ statement: binary(LIMITS.envelope) })),
  },
  (e, plain) => {
    want(e.at >= 1000, 'it was entered before 1970');
    want((e.decision === null) !== (e.appeal === null), 'want one of decision and appeal');
    if (e.decision !== null) {
      want(e.decision.month <= plain.at.slice(0, 7), 'the month has not begun');
      want(e.decision.as_of >= 1000 && e.decision.as_of <= e.at, 'the logs reach beyond the time at which it was entered');
      want((e.decision.verdict === 'LAB') === (e.network === 'lab'), 'a month of a lab belongs in a lab\'s log, and no other does');
    } else {
      e.says = readAppeal(readBase64(e.appeal.statement));
      want(e.says.network === e.network, 'the relay signed the appeal for another network');
      want(e.says.month <= plain.at.slice(0, 7), 'the month has not begun');
    }
  },
);

const stamp = text(20, (v) => void readInstant(v.replace(/Z$/, '.000Z')));
const empty = text(0);
const statement = strict({
  kind: word('appeal'), network: word('psf', 'lab'), peer_id: peerID,
  operator: text(100, (v) => want(v !== '', 'no operator')),
  region: empty, payout: empty, month, text: prose(LIMITS.appeal), made: stamp,
});

/** As Go's encoding/json writes text without escaping for HTML. */
const goText = (v) => JSON.stringify(v).replace(/[\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16)}`);

/** What an appeal says, which the relay has signed. */
function readAppeal(envelope) {
  want(envelope.length <= LIMITS.envelope, 'the envelope is too long');
  const { payload, peer } = openStatement(envelope);
  const plain = JSON.parse(payload);
  const says = within('appeal', () => statement.read(plain));
  const order = ['kind', 'network', 'peer_id', 'operator', 'region', 'payout', 'month', 'text', 'made'];
  want(`{${order.map((name) => `"${name}":${goText(says[name])}`).join(',')}}` === payload, 'the appeal is not in its one spelling');
  want(says.peer_id === peer, `the appeal is about ${quote(says.peer_id)}, but ${peer} signed it`);
  want(readInstant(says.made.replace(/Z$/, '.000Z')) >= 1000, 'made before 1970');
  want(says.month <= says.made.slice(0, 7), 'the month had not begun when the appeal was made');
  return says;
}

/** Reads the entries of a log of a network, in order, and refuses what may not stand there. */
export function readEntries(lines, network) {
  const months = new Map();
  lines.forEach((line, i) => within(`entry ${i}`, () => {
    const bytes = Buffer.from(line);
    const { value: e } = readLine(bytes, LIMITS.entry, entry, 'entry');
    want(e.network === network, 'it is of another network');
    const key = e.decision ? `${e.decision.month} ${e.decision.relay}` : `${e.says.month} ${e.says.peer_id}`;
    if (!months.has(key)) months.set(key, { standing: '', open: [], appeals: [] });
    const m = months.get(key);
    if (e.decision) {
      want(e.decision.replaces === m.standing, m.standing ? 'it does not replace the decision that stands' : 'there is nothing to replace');
      want(e.decision.answers.join() === m.open.sort().join(), 'it does not answer the appeals that stand open, and no others');
      m.standing = sha256(Buffer.of(0), bytes).toString('hex');
      m.open = [];
      return;
    }
    const says = JSON.stringify(e.says);
    want(m.appeals.length < LIMITS.appeals, 'there are too many appeals');
    want(!m.appeals.includes(says), 'the appeal is there already');
    m.appeals.push(says);
    m.open.push(sha256hex(readBase64(e.appeal.statement)));
  }));
}

// The lines of a month: headers, records, proofs, month.json. Each type is the
// specification's table of members and limits; nothing here looks beyond its line.
import { bool, binary, hash, hour, instant, int, list, object, optional, text, word } from './json.mjs';
import { want } from './refused.mjs';
import { CLOSE_AFTER, HOUR, quote, readBase64, sha256, startOf } from './words.mjs';
import { isPeerID } from './peer.mjs';

export const LIMITS = {
  month: 64 << 20, // all files of a month together
  index: 8 << 10,
  checkpoint: 64 << 10,
  header: 32 << 10,
  proof: 8 << 10,
  record: 128 << 10,
  certificate: 16 << 10,
  hours: 31 * 24,
  attempts: 16,
  path: 128,
};

const COMPONENTS = ['tcp4', 'wss', 'relay'];
const TOOK = 3_600_000_000; // microseconds
const name64 = text(64);
const took = int(0, TOOK);
const outcome = word('ok', 'fail', 'busy', 'blind', 'skipped');
const component = word(...COMPONENTS);
const zero = sha256(''); // the root of no records

const rung = object({
  name: name64,
  component: optional(component),
  outcome,
  class: optional(name64),
  detail: optional(text(300)),
  offset_us: took,
  duration_us: took,
  tries: optional(int(0, 1000)),
});

const result = object({ outcome, class: optional(name64), duration_us: took });

const ipv4 = text(15, (v) => want(/^(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}$/.test(v) && !/(^|\.)0\d/.test(v), () => `${quote(v)} is not an IPv4 address`));

const lookup = object(
  { resolver: text(256), ipv4: optional(list(ipv4, 16)), class: optional(word('name-not-found', 'no-a-record', 'name-lookup', 'resolver')) },
  (l) => want(l.resolver !== '' && (l.ipv4.length > 0) !== (l.class !== ''), 'want a resolver, and either addresses or a class'),
);

const certificate = object({
  sha256: text(64),
  issuer: text(256),
  dns_names: optional(list(text(256), 100)),
  not_before: instant,
  not_after: instant,
});

const reservation = object(
  {
    peer: text(256),
    salt: optional(binary(64)),
    beacon: optional(binary(256)),
    cosigned: optional(text(LIMITS.record)),
    voucher: optional(binary(16 << 10)),
    expires: instant,
    addrs: optional(list(text(1024), 32)),
    limit_bytes: optional(int(0)),
    limit_seconds: optional(int(0)),
  },
  (r) => want(r.expires >= 0, 'a reservation expires before 1970'),
);

const INT32 = 2 ** 31;
const facts = object(
  {
    agent_version: optional(text(256)),
    protocols: optional(list(text(256), 128)),
    resolved_ipv4: optional(list(name64, 16)),
    lookup_retries: optional(int(0, 1000)),
    lookups: optional(list(lookup, 9)),
    certificate: optional(certificate),
    http_status: optional(int(0, 999)),
    ping_us: optional(list(took, 16)),
    hop_reserve: optional(int(-INT32, INT32 - 1)),
    hop_connect: optional(int(-INT32, INT32 - 1)),
    reservation: optional(reservation),
    circuit_addr: optional(text(1024)),
    announced: optional(name64),
  },
  (f) => f.lookups.forEach((l, i) => want((l.resolver === 'own') === (i === 0), 'lookups: want own first, then others')),
);

const control = object(
  {
    name: text(100),
    component,
    outcome,
    started: instant,
    duration_us: took,
    sent: optional(int(0, 2 ** 30)),
    resent: optional(int(0, 2 ** 30)),
  },
  (c) => want(c.resent <= c.sent, () => `control ${quote(c.name)}: ${c.sent} packets sent, ${c.resent} of them again`),
);

const results = object({ tcp4: result, wss: result, relay: result }, (_, plain) =>
  want(Object.keys(plain).length === COMPONENTS.length, `want results for exactly ${COMPONENTS}`));

/** A relay by its peer ID. */
export const peerID = text(128, (v) => want(isPeerID(v), () => `${quote(v)} is not a peer ID in base58`));

export const attempt = object(
  {
    started: instant,
    peer_id: peerID,
    tcp4_addr: optional(text(1024)),
    wss_addr: optional(text(1024)),
    rungs: list(rung, 32),
    results,
    level: int(0, 4),
    facts,
    controls: optional(list(control, 128)),
    stepped: optional(bool),
  },
  (a) => {
    for (const c of a.controls) {
      want(a.stepped || Math.abs(c.started - a.started) <= HOUR, () => `control ${quote(c.name)} started more than an hour from the attempt`);
    }
  },
);

const attempts = list(attempt, LIMITS.attempts);

/** Says whether attempts may stand in a record of the hour. */
export function checkAttempts(list, relay, hour) {
  want(list.length > 0, 'a record has no attempt');
  list.forEach((a, i) => {
    want(a.peer_id === relay, () => `the record of ${relay} has an attempt on ${quote(a.peer_id)}`);
    want(a.started >= startOf(hour) && a.started < startOf(hour + 1) + CLOSE_AFTER, 'an attempt does not belong to the hour');
    want(i === 0 || a.started >= list[i - 1].started, 'attempts are not in the order of their start');
  });
  want(list[0].started < startOf(hour + 1), 'the first attempt is after the hour');
}

/** The version of a record or header. */
const version = {
  empty: 0,
  read(v) {
    want(v === 1, () => (Number.isInteger(v) && v > 1 ? `it is of version ${v}: it needs a reader of at least version ${v}; this one reads version 1` : `version ${quote(v)}, want 1`));
    return v;
  },
};

export const record = object({ peer_id: peerID, hour, attempts, plan: optional(binary(48, 48)), version }, (r) =>
  checkAttempts(r.attempts, r.peer_id, r.hour));

const clock = object(
  {
    samples: int(0),
    synchronised: bool,
    drift_ms: int(0),
    steps: optional(list(object({ at: instant, by_ms: int() }), 16)),
  },
  (c) => {
    for (const s of c.steps) {
      const by = Math.abs(s.by_ms);
      want(by >= 1000 && by <= c.drift_ms, () => `clock: a step of ${s.by_ms} ms in a drift of ${c.drift_ms} ms`);
    }
  },
);

/** Why a clock is not to be trusted; "" if it is. */
export function clockFault(c) {
  if (c.samples === 0) return "the monitor's clock was not looked at";
  if (!c.synchronised) return "the monitor's clock was not synchronised";
  if (c.drift_ms >= 2000 || c.steps.length >= 16) return "the monitor's clock was moved";
  return '';
}

const cosignature = object({ time: instant, witness: text(300, (v) => want(/^[!-*,-~]{1,200}\+[0-9a-f]{8}$/.test(v), () => `witness ${quote(v)}: want <name>+<8 hex digits>`)) });

export const header = object(
    {
      hour,
      previous: hash,
      state: word('ok', 'gap'),
      sealed_at: instant,
      signed: bool,
      software: optional(text(256)),
      clock,
      missed: optional(int(0, 3_200_000)),
      records: int(0, 100_000),
      root: hash,
      round: optional(binary(256)),
      cosigned: optional(list(cosignature, 128)),
      version,
    },
    (h) => {
      want(h.cosigned.every((c, i) => i === 0 || h.cosigned[i - 1].witness < c.witness), 'cosigned is not sorted by witness, or one is there twice');
      want(h.state === 'ok' || (h.records === 0 && h.missed === 0), 'a gap with records or missed attempts');
      want((h.records === 0) === readBase64(h.root).equals(zero), 'the root does not fit the number of records');
      want(h.sealed_at >= startOf(h.hour + 1) + CLOSE_AFTER, 'it was sealed before its hour had closed');
    },
  );

export const proof = object(
  { hour, other: optional(object({ key: hash, value: hash })), path: list(hash, LIMITS.path), present: bool },
  (p) => want(!p.present || p.other === null, 'the proof is of a record of the relay and of another in its place'),
);

export const index = object(
  {
    as_of: instant,
    format: word('relaymon-month/v1'),
    frontier: list(hash, 64),
    key: text(512),
    month: text(7),
    origin: text(200),
    relay: peerID,
    start_size: int(0, 2 ** 32),
    tip_proof: list(hash, 128),
  },
  (_, plain) => want(plain.frontier !== null && plain.tip_proof !== null, 'frontier or tip_proof is null: want a list, [] if it is empty'),
);

// The judging half of the second verifier: what was proven of a relay's month becomes a verdict, by the rules
// R1 to R21 of BOUNTY.md. Pure: what comes in is in facts.md, what goes out are the members of report.json.

import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { inBlock, ipNumber, kilometres, openGeo } from "./geo.mjs";
import { parseYAML } from "./yaml.mjs";

/** A case that cannot be judged. */
export class Refusal extends Error {
  refusal = true;
}

/** @param {any} ok @param {string} why */
function want(ok, why) {
  if (!ok) throw new Refusal(why);
}

/** @typedef {any} Json */
/** @typedef {{value: "up" | "down" | "busy" | "unknown", why: string}} Vote */
/** @typedef {{from: string, until: string}} Span */
/** @typedef {{rule: string, subject: string, outcome: string, reasons: string[], hours?: Span[]}} Finding */

// ---------------------------------------------------------------- time (R1)

const HOUR = 3600_000;

/** An instant in milliseconds, from a text or as it is. @param {string | number} t */
const instant = (t) => (typeof t === "number" ? t : Date.parse(t));
/** An hour since 1970, from a text or as it is. @param {string | number} h */
const hourAt = (h) => (typeof h === "number" ? h : Date.parse(h) / HOUR);
/** @param {number} ms */
const hourOf = (ms) => Math.floor(ms / HOUR);
/** @param {number} ms */
const timeText = (ms) => new Date(ms).toISOString();
/** @param {number} h */
const hourText = (h) => timeText(h * HOUR).replace(".000Z", "Z");
/** @param {number} h */
const shortText = (h) => timeText(h * HOUR).slice(0, 16) + "Z";

/** @param {string} month "2026-11" */
export function monthHours(month) {
  const m = /^(\d{4})-(\d{2})$/.exec(month);
  if (!m || Number(m[1]) < 1970 || Number(m[2]) < 1 || Number(m[2]) > 12) throw new Refusal(`month ${month}: want YYYY-MM`);
  const [y, n] = [Number(m[1]), Number(m[2])];
  return { first: Date.UTC(y, n - 1) / HOUR, end: Date.UTC(y, n) / HOUR };
}

/** Runs of hours. @param {number[]} hours ascending @returns {[number, number][]} */
function runs(hours) {
  /** @type {[number, number][]} */
  const out = [];
  for (const h of hours) {
    const last = out[out.length - 1];
    if (last && last[1] === h) last[1]++;
    else if (!last || last[1] < h) out.push([h, h + 1]);
  }
  return out;
}

/** @param {[number, number][]} spans @returns {Span[]} */
const spansJson = (spans) => spans.map(([a, b]) => ({ from: hourText(a), until: hourText(b) }));

/** @param {[number, number]} span */
const spanText = ([a, b]) => (b === a + 1 ? shortText(a) : `${shortText(a)} to ${shortText(b)} (${b - a} h)`);

/** Hours in words: six runs at most. @param {number[]} hours */
function hoursText(hours) {
  const all = runs(hours);
  return [...all.slice(0, 6).map(spanText), ...(all.length > 6 ? [`and ${all.length - 6} more`] : [])].join(", ");
}

// ---------------------------------------------------------------- rules and roster

const UNITS = { ns: 1e-6, us: 1e-3, "µs": 1e-3, "μs": 1e-3, ms: 1, s: 1000, m: 60_000, h: HOUR };

// What a member may be. A member that is absent has its empty value; null says that the value cannot be.
const read = {
  /** @param {any} v */
  text: (v) => (v === undefined ? "" : v === null || typeof v === "object" ? null : String(v)),
  /** One spelling: no 0600, 0x10 or 1e3. @param {any} v */
  int: (v) => (v === undefined ? 0 : /^-?(0|[1-9][0-9]*)$/.test(String(v)) && Number.isSafeInteger(Number(v)) ? Number(v) : null),
  /** @param {any} v */
  number: (v) => (/^-?(0|[1-9][0-9]*)(\.[0-9]+)?$/.test(String(v)) ? Number(v) : null),
  /** @param {any} v */
  bool: (v) => (v === undefined ? false : typeof v === "boolean" ? v : null),
  /** Absent: 0. @param {any} v */
  hour(v) {
    if (v === undefined) return 0;
    const h = Date.parse(String(v)) / HOUR;
    return Number.isInteger(h) && hourText(h) === v ? h : null;
  },
  /** @param {any} v */
  list: (v) => (v === null || v === undefined ? [] : Array.isArray(v) ? v : null),
  /** @param {any} v */
  span(v) {
    const s = String(v);
    if (s === "0") return 0;
    if (!/^([0-9]+(\.[0-9]*)?(ns|us|µs|μs|ms|s|m|h))+$/.test(s)) return null;
    let ms = 0;
    for (const [, n, , unit] of s.matchAll(/([0-9]+(\.[0-9]*)?)(ns|us|µs|μs|ms|s|m|h)/g)) ms += Number(n) * UNITS[/** @type {keyof UNITS} */ (unit)];
    return ms;
  },
  /** @param {any} v @returns {[number, number] | null} */
  share(v) {
    const m = /^([1-9][0-9]?)\/([1-9][0-9]?)$/.exec(String(v));
    return m && Number(m[1]) <= Number(m[2]) ? [Number(m[1]), Number(m[2])] : null;
  },
  /** -1 is half. @param {any} v */
  half: (v) => (v === "half" ? -1 : /^\d{1,3}$/.test(String(v)) ? Number(v) : null),
};

/**
 * The members of a map that are known. Unknown ones mean nothing; in a file that nobody signed they are typing errors.
 * @param {any} map @param {Record<string, (v: any) => any>} fields @param {string} where @param {boolean} strict @returns {Json}
 */
function members(map, fields, where, strict) {
  want(map !== null && typeof map === "object" && !Array.isArray(map), `${where}: want a map`);
  /** @type {Json} */
  const out = {};
  for (const [name, reader] of Object.entries(fields)) {
    out[name] = reader(map[name]);
    want(out[name] !== null, `${where}: ${name}: it cannot be ${JSON.stringify(map[name])}`);
  }
  if (strict) for (const k of Object.keys(map)) want(k in fields, `${where}: unknown key ${k}`);
  return out;
}

/** Kind of each number of the rules, its bounds, and what a lab's file may leave out. @type {Record<string, [string, any, any, any]>} */
const RULES = {
  attempt_close: ["span", 0, HOUR, "16m"], relay_level: ["int", 1, 4, 4], control_within: ["span", 1000, HOUR, "120s"],
  control_share: ["share", 0, 0, "2/3"], control_beside: ["span", 1000, HOUR, "10s"], line_loss: ["int", 0, 100, 3],
  voucher_valid: ["span", 60_000, 24 * HOUR, "3h"], down_attempts: ["int", 1, 10, 2], down_spacing: ["span", 0, HOUR, "5m"],
  busy_cap: ["int", 0, 744, 72], witnesses_required: ["half", -1, 100, "half"], seal_within: ["span", 60_000, 72 * HOUR, "60m"],
  clock_drift: ["span", 1, 60_000, "2s"], clock_ahead: ["span", 0, 300_000, "5s"], hours_required: ["int", 1, 672, 600],
  coverage_flag: ["int", 0, 100, 90], address_changes: ["int", 0, 31, 1], certificate_warn: ["span", 0, 2160 * HOUR, "168h"],
  release_grace: ["span", 0, 744 * HOUR, "72h"], countries: ["list", 0, 0, []], cable_km_per_ms: ["number", 1e-300, 1000, 100],
  vacuum_km_per_ms: ["number", 1e-300, 1000, 150], browser_repeat: ["span", 60_000, 744 * HOUR, "24h"],
  final_after: ["span", 0, 744 * HOUR, "72h"], assured_operators: ["int", 1, 100, 2], committee_dissent: ["int", 0, 744, 24],
  monitors_due: ["int", 0, 100, 7], due_from: ["int", 0, 500, 15],
};
/** Rules that are older than R21 do not name it: it is off. */
const SINCE_R21 = ["monitors_due", "due_from"];
const DEFAULT_COUNTRIES =
  "BN ID KH LA MM MY PH SG TH TL VN JP AU AR BO BR CL CO EC FK GF GY PE PY SR UY VE CN AO BF BI BJ BW CD CF CG CI CM CV DJ DZ EG EH ER ET GA GH GM " +
  "GN GQ GW KE KM LR LS LY MA MG ML MR MU MW MZ NA NE NG RE RW SC SD SL SN SO SS ST SZ TD TG TN TZ UG YT ZA ZM ZW";

/**
 * @param {any} file parsed YAML, or its text
 * @param {boolean} signed
 */
export function readRules(file, signed = true) {
  const map = typeof file === "string" ? parseYAML(file) : file;
  const whole = signed || map.network !== "lab";
  /** @type {Record<string, (v: any) => any>} */
  const fields = { version: read.int, serial: read.int, previous: read.text, from: read.text, network: read.text };
  for (const [name, [kind, least, most, standard]] of Object.entries(RULES)) {
    fields[name] = (v) => {
      if (v === undefined) {
        if (whole && SINCE_R21.includes(name)) return 0;
        want(!whole, `rules: ${name} is missing`);
        v = name === "countries" ? DEFAULT_COUNTRIES.split(" ") : standard;
      }
      const out = /** @type {Record<string, (v: any) => any>} */ (read)[kind](v);
      if (typeof out === "number") want(least <= out && out <= most, `rules: ${name}: ${v} is out of bounds`);
      return out;
    };
  }
  thisVersion(map, "rules");
  const r = members({ version: 1, ...map }, fields, "rules", !signed);
  for (const name of ["version", "serial", "from", "network"]) want(!whole || map[name] !== undefined, `rules: ${name} is missing`);
  checkLink(r, signed, "rules");
  want(r.network === "psf" || r.network === "lab", `rules: network ${r.network}: want psf or lab`);
  want(r.vacuum_km_per_ms >= r.cable_km_per_ms, "rules: vacuum_km_per_ms is below cable_km_per_ms");
  want((r.monitors_due === 0) === (r.due_from === 0), "rules: monitors_due and due_from stand together, or neither does");
  want(r.monitors_due === 0 || (r.monitors_due >= r.assured_operators && r.due_from > r.monitors_due), "rules: want assured_operators <= monitors_due < due_from");
  want(r.countries.length > 0 && r.countries.every((/** @type {any} */ c) => /^[A-Z]{2}$/.test(String(c))), "rules: countries: want ISO 3166-1 codes");
  want(new Set(r.countries).size === r.countries.length, "rules: a country stands twice");
  return r;
}

/** A file of a later version may differ in everything. @param {any} map @param {string} what */
function thisVersion(map, what) {
  const n = read.int(map?.version ?? 1);
  want(n !== null && n <= 1, `${what}: of version ${n}: it needs a verifier of at least version ${n}; this one reads version 1`);
  want(n === 1, `${what}: of version ${map.version}: this one reads version 1`);
}

/** The place of a file in the committee's chain. @param {Json} r @param {boolean} signed @param {string} what */
function checkLink(r, signed, what) {
  want(r.serial >= 0 && r.serial <= 1_000_000 && (r.serial > 0 || !signed), `${what}: serial ${r.serial}: want 1, 2, 3, ...`);
  want(r.serial > 1 ? /^[0-9a-f]{64}$/.test(r.previous) : r.previous === "", `${what}: previous does not go with serial ${r.serial}`);
}

const ADDRESS = { ipv4: read.text, tcp_port: read.int, domain: read.text, wss_port: read.int };
/** Open ends are Infinity. @param {any} v */
const openEnd = (v) => (v === null || v === undefined ? Infinity : read.hour(v));
const TERM = { from: read.hour, until: openEnd };

const NAME = /^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$/;

/**
 * The roster, checked but for signatures and the shape of keys, which are the format half's to check.
 * @param {any} file parsed YAML, or its text
 * @param {boolean} signed
 */
export function readRoster(file, signed = true) {
  const strict = !signed;
  /** @param {Record<string, (v: any) => any>} fields @param {string} where */
  const listOf = (fields, where) => (/** @type {any} */ v) => read.list(v)?.map((e, i) => members(e, fields, `${where}[${i}]`, strict)) ?? null;
  const place = (/** @type {any} */ v) => (v === null || v === undefined ? undefined : members({ lat: 0, lon: 0, ...v }, { lat: read.number, lon: read.number }, "place", strict));
  const map = typeof file === "string" ? parseYAML(file) : file;
  thisVersion(map, "roster");
  const r = members({ version: 1, ...map }, {
    version: read.int, serial: read.int, previous: read.text, network: read.text, releases: read.text,
    monitors: listOf({
      name: read.text, operator: read.text, committee: read.bool, log_key: read.text, plan_key: read.text, witness_key: read.text,
      witness_url: read.text, place, ...TERM,
    }, "monitors"),
    relays: listOf({
      peer_id: read.text, operator: read.text, ...ADDRESS, region: read.text, payout: read.text, enrolled: read.hour, until: openEnd, statement: read.text,
      moves: listOf({ from: read.hour, announced: read.hour, ...ADDRESS, statement: read.text }, "moves"),
    }, "relays"),
    controls: listOf({ name: read.text, operator: read.text, tcp4: read.text, wss: read.text, ...TERM }, "controls"),
    witnesses: listOf({ name: read.text, operator: read.text, key: read.text, url: read.text, ...TERM }, "witnesses"),
    notes: listOf({ relay: read.text, kind: read.text, from: read.hour, until: read.hour, text: read.text }, "notes"),
  }, "roster", strict);
  checkLink(r, signed, "roster");
  checkRoster(r);
  return r;
}

/** R18 and what makes a roster one. @param {Json} r */
function checkRoster(r) {
  want(r.network === "psf" || r.network === "lab", `roster: network ${r.network}: want psf or lab`);
  want(r.monitors.length <= 500 && r.witnesses.length <= 500 && r.controls.length <= 200, "roster: too many terms");
  /** @param {Json[]} list @param {string} kind */
  const terms = (list, kind) => list.forEach((a, i) => {
    want(NAME.test(a.name), `roster: ${kind} ${a.name}: that is no name`);
    want((a.from > 0 || kind === "control") && a.until > a.from, `roster: ${kind} ${a.name}: want from, and until after it`);
    for (const b of list.slice(0, i)) want(a.name !== b.name || !overlap(a, b), `roster: two ${kind}s ${a.name} in the same hours`);
  });
  terms(r.monitors, "monitor");
  terms(r.witnesses, "witness");
  terms(r.controls, "control");
  for (const m of r.monitors) {
    want(m.operator !== "", `roster: monitor ${m.name} has no operator`);
    want(!m.place || (Math.abs(m.place.lat) <= 90 && Math.abs(m.place.lon) <= 180), `roster: monitor ${m.name}: no such place`);
    want(!r.witnesses.some((/** @type {Json} */ w) => w.name === m.name), `roster: a monitor and a witness are named ${m.name}`);
  }
  const keys = new Map();
  const own = (/** @type {string} */ key, /** @type {any} */ who) => {
    want(key === "" || !keys.has(key) || keys.get(key) === who, `roster: key ${key} stands twice`);
    keys.set(key, who);
  };
  for (const m of r.monitors) {
    want(m.plan_key !== "" || r.network !== "psf", `roster: monitor ${m.name} has no plan_key`);
    want(m.log_key.split("+")[0].endsWith(`/relaymon/${r.network}`), `roster: the log of monitor ${m.name} is of no monitor in network ${r.network}`);
    for (const key of [m.log_key, m.plan_key, m.witness_key]) own(key, m);
  }
  for (const w of r.witnesses) own(w.key, w);
  spelledOnce([...r.monitors, ...r.witnesses, ...r.controls, ...r.relays]);
  for (const h of new Set(r.controls.flatMap((/** @type {Json} */ c) => [c.from, c.until]))) {
    const n = r.controls.filter((/** @type {Json} */ c) => holds(c, h)).length;
    want(n === 0 || (n >= 3 && n <= 9), `roster: ${n} controls in one hour: want none or 3 to 9`);
  }
  for (const c of r.controls) want(multiaddr(c.tcp4) !== null && multiaddr(c.wss) !== null, `roster: control ${c.name}: want two multiaddrs, tcp4 and wss`);
  for (const e of r.relays) checkRelay(e, r);
  noTwoAtOnePlace(r);
  for (const n of r.notes) {
    want((n.kind === "maintenance" || n.kind === "incident") && n.from > 0 && n.until > n.from, "roster: a note without kind or hours");
    want(n.text !== "" && Buffer.byteLength(n.text) <= 300, "roster: a note's text: want 1 to 300 bytes");
    want(n.relay === "" || r.relays.some((/** @type {Json} */ e) => e.peer_id === n.relay), "roster: a note on a relay that is not in it");
  }
  want(r.releases === "" || /^[0-9a-f]{64}$/.test(r.releases), "roster: releases: want a SHA-256");
}

/** By an operator's name it is told who may not judge whom: it has one spelling. @param {Json[]} entries */
function spelledOnce(entries) {
  const seen = new Map();
  for (const { operator } of entries) {
    if (operator === "") continue;
    want(operator.trim() === operator && Buffer.byteLength(operator) <= 100 && !/[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/u.test(operator), `roster: operator ${operator}: that is no name`);
    const folded = operator.normalize("NFKC").toUpperCase().toLowerCase().replace(/\s+/gu, "");
    want((seen.get(folded) ?? operator) === operator, `roster: operator ${operator} is almost ${seen.get(folded)}`);
    seen.set(folded, operator);
  }
}

/** @param {Json} e @param {Json} r */
function checkRelay(e, r) {
  const who = `roster: relay ${e.peer_id}`;
  want(e.peer_id !== "" && r.relays.filter((/** @type {Json} */ o) => o.peer_id === e.peer_id).length === 1, `${who} stands twice, or nameless`);
  want(e.operator !== "" && e.enrolled > 0 && e.until > e.enrolled, `${who}: want operator, enrolled, and until after it`);
  want(e.region === "" || /^[A-Z]{2}$/.test(e.region), `${who}: region ${e.region}`);
  want(Buffer.byteLength(e.payout) <= 200 && (e.payout === "" || e.statement !== ""), `${who}: a payout that the relay's key did not sign`);
  let last = e.enrolled;
  for (const m of e.moves) {
    want(m.from > last && m.announced > 0 && m.announced <= m.from, `${who}: moves: want one after the other, none retroactive`);
    last = m.from;
  }
  for (const a of [e, ...e.moves]) {
    const ip = ipNumber(a.ipv4);
    want(ip !== null && (r.network === "lab" || isPublic(a.ipv4)), `${who}: ${a.ipv4} is no public IPv4 address`);
    want(a.tcp_port > 0 && a.tcp_port < 65536 && a.wss_port >= 0 && a.wss_port < 65536, `${who}: no such port`);
    const labels = a.domain.split(".");
    want(labels.length > 1 && a.domain.length <= 253 && labels.every((/** @type {string} */ l) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(l)), `${who}: domain ${a.domain}`);
  }
}

/** One machine is paid once. @param {Json} r */
function noTwoAtOnePlace(r) {
  /** @type {Map<string, {peer: string, from: number, until: number}[]>} */
  const places = new Map();
  for (const e of r.relays) {
    const stays = [e, ...e.moves].map((a, i) => ({ a, from: i ? a.from : e.enrolled, until: Math.min(e.until, e.moves[i]?.from ?? Infinity) }));
    for (const { a, from, until } of stays) {
      if (until <= from) continue;
      for (const key of r.network === "lab" ? [`${a.ipv4} ${a.tcp_port}`] : [a.ipv4, a.domain]) {
        const there = places.get(key) ?? [];
        want(there.every((o) => o.peer === e.peer_id || !overlap(o, { from, until })), `roster: two relays at ${key} in the same hours`);
        places.set(key, [...there, { peer: e.peer_id, from, until }]);
      }
    }
  }
}

const NOT_PUBLIC = [
  "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24",
  "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
];
/** @param {string} ipv4 */
function isPublic(ipv4) {
  const n = ipNumber(ipv4);
  return n !== null && !NOT_PUBLIC.some((b) => inBlock(n, b));
}

/** @param {{from: number, until: number}} t @param {number} h */
const holds = (t, h) => t.from <= h && h < t.until;
/** @param {{from: number, until: number}} a @param {{from: number, until: number}} b */
const overlap = (a, b) => a.from < b.until && b.from < a.until;

/** All keys that may cosign in the month. @param {Json} roster @param {string} month */
export function witnessKeys(roster, month) {
  const { first: from, end: until } = monthHours(month);
  const all = [...roster.monitors.map((/** @type {Json} */ m) => ({ ...m, key: m.witness_key })), ...roster.witnesses];
  return [...new Set(all.filter((w) => w.key !== "" && overlap(w, { from, until })).map((w) => w.key))].sort();
}

/** @param {Json} roster @param {string} key @param {string} month */
export function logMonitor(roster, key, month) {
  const { first: from, end: until } = monthHours(month);
  return roster.monitors.find((/** @type {Json} */ m) => m.log_key === key && overlap(m, { from, until })) ?? null;
}

// ---------------------------------------------------------------- who may say what

/** One who names no operator stands for itself. @param {Json} m */
const operatorOf = (m) => m.operator || `monitor ${m.name}`;

/**
 * R21: those of a bench who are due, by the hour's round in hex. Without one all are.
 * @param {Json[]} bench @param {Json} rules @param {string} relay @param {string | undefined} round @returns {Json[]}
 */
export function dueOf(bench, { monitors_due: most, due_from: least }, relay, round) {
  if (most === 0 || bench.length < least || !round) return bench;
  const ticket = (/** @type {string} */ domain, /** @type {string} */ name) => {
    const sum = createHash("sha256");
    for (const f of [Buffer.from(domain), Buffer.from(round, "hex"), Buffer.from(relay), Buffer.from(name)]) {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(f.length);
      sum.update(length).update(f);
    }
    return sum.digest("hex");
  };
  /** @type {Map<string, {place: string, own: {ticket: string, m: Json}[]}>} */
  const operators = new Map();
  for (const m of bench) {
    const name = operatorOf(m);
    const o = operators.get(name) ?? { place: ticket("relaymon/due-operator/v1", name), own: [] };
    o.own.push({ ticket: ticket("relaymon/due-monitor/v1", m.name), m });
    operators.set(name, o);
  }
  const order = [...operators.values()].sort((a, b) => (a.place < b.place ? -1 : 1));
  for (const o of order) o.own.sort((a, b) => (a.ticket < b.ticket ? -1 : 1));
  const first = order.find((o) => o.own.some((x) => x.m.committee));
  const chosen = new Set(first ? [/** @type {Json} */ (first.own.find((x) => x.m.committee)).m] : []);
  for (const o of order) if (o !== first && chosen.size < most) chosen.add(o.own[0].m);
  return bench.filter((m) => chosen.has(m));
}
/** R7: nobody judges his own operator's relay. @param {Json} m @param {Json} relay */
const recused = (m, relay) => m.operator !== "" && m.operator === relay.operator;
/** @param {Json} relay @param {number} h */
const enrolled = (relay, h) => relay.enrolled <= h && h < relay.until;
/** The address of hour h. @param {Json} relay @param {number} h */
const addressAt = (relay, h) => relay.moves.reduce((/** @type {Json} */ a, /** @type {Json} */ m) => (m.from <= h ? m : a), relay);
/** @param {Json} a @param {string} peer */
const multiaddrs = (a, peer) => ({ tcp4: `/ip4/${a.ipv4}/tcp/${a.tcp_port}/p2p/${peer}`, wss: `/dns4/${a.domain}/tcp/${a.wss_port || 443}/wss/p2p/${peer}` });

/** The case, with what the rules ask of the roster in many hours. */
class Court {
  /** @param {Json} rules @param {Json} roster @param {Json} relay @param {string} month */
  constructor(rules, roster, relay, month) {
    this.rules = rules;
    this.roster = roster;
    this.relay = relay;
    this.month = month;
    Object.assign(this, monthHours(month));
    this.lab = roster.network === "lab";
    /** @type {Map<number, Json[]>} */
    this.witnessCache = new Map();
    /** @type {Map<number, Json[]>} */
    this.benchCache = new Map();
    /** @type {Map<number, string>} the beacon of an hour in hex */
    this.rounds = new Map();
    /** @type {Map<number, Json[]>} */
    this.dueCache = new Map();
  }
  first = 0;
  end = 0;

  /** The monitors that judge the relay in hour h. @param {number} h @returns {Json[]} */
  bench(h) {
    let out = this.benchCache.get(h);
    if (!out) this.benchCache.set(h, (out = this.roster.monitors.filter((/** @type {Json} */ m) => holds(m, h) && !recused(m, this.relay))));
    return /** @type {Json[]} */ (out);
  }

  /** R21: those of the bench whose votes make hour h. Asked when all logs are read. @param {number} h @returns {Json[]} */
  due(h) {
    const round = this.rounds.get(h);
    let out = round ? this.dueCache.get(h) : this.bench(h);
    if (!out) this.dueCache.set(h, (out = dueOf(this.bench(h), this.rules, this.relay.peer_id, round)));
    return out;
  }

  /** All who cosign in hour h. @param {number} h @returns {{name: string, key: string, operator: string}[]} */
  witnesses(h) {
    let out = this.witnessCache.get(h);
    if (!out) {
      out = [
        ...this.roster.monitors.filter((/** @type {Json} */ m) => m.witness_key && holds(m, h)).map((/** @type {Json} */ m) => ({ name: m.name, key: m.witness_key, operator: operatorOf(m) })),
        ...this.roster.witnesses.filter((/** @type {Json} */ w) => holds(w, h)),
      ];
      this.witnessCache.set(h, out);
    }
    return out;
  }

  /** Those of other operators than the monitor's. @param {Json} m @param {number} h */
  others(m, h) {
    return this.witnesses(h).filter((w) => w.name !== m.name && w.operator !== operatorOf(m));
  }

  /** Is the key that of another operator's witness in force in one of the hours? @param {string} key @param {Json} m @param {number[]} hours */
  foreign(key, m, ...hours) {
    return hours.some((h) => this.witnesses(h).some((w) => w.key === key && w.operator !== operatorOf(m)));
  }

  /** Hosts that tell a dead relay from a dead line. @param {"tcp4" | "wss"} kind @param {number} h @returns {string[]} */
  controls(kind, h) {
    return this.roster.controls.filter((/** @type {Json} */ c) => holds(c, h) && this.serves(c) && c[kind] !== "").map((/** @type {Json} */ c) => c.name);
  }

  /** @param {Json} c */
  serves(c) {
    return c.operator === "" || c.operator !== this.relay.operator;
  }

  hasControls() {
    return this.roster.controls.some((/** @type {Json} */ c) => this.serves(c));
  }
}

// ---------------------------------------------------------------- one attempt (R3, R4, R5)

/** @param {Json} a attempt @param {number} us */
const within = (a, us) => Math.floor(instant(a.started) + us / 1000);

/** @param {Json} a @param {string} component */
const outcomeOf = (a, component) => a.results?.[component]?.outcome ?? "";

/** When the last rung of a component that was climbed began and ended. @param {Json} a @param {string} component */
function lastRung(a, component) {
  let from = 0, to = 0;
  for (const r of a.rungs ?? []) {
    const end = r.offset_us + r.duration_us;
    if ((r.component ?? "") === component && r.outcome !== "skipped" && end >= to) [from, to] = [r.offset_us, end];
  }
  return [within(a, from), within(a, to)];
}

/** Microseconds to the end of the last rung that is part of a vote. @param {Json} a */
const lengthOf = (a) => Math.max(0, ...(a.rungs ?? []).filter((/** @type {Json} */ r) => r.component && r.outcome !== "skipped").map((/** @type {Json} */ r) => r.offset_us + r.duration_us));

/**
 * R5: did the monitor's own line work, after a failure and beside a long one?
 * @param {Court} court @param {number} h @param {string} component @param {number} began @param {number} failed @param {Json[]} controls
 * @returns {"none" | "bad" | "ok"}
 */
function line(court, h, component, began, failed, controls) {
  const { rules } = court;
  const at = (/** @type {Json} */ c) => instant(c.started);
  const after = controls.filter((c) => at(c) >= failed && at(c) <= failed + rules.control_within);
  const looks = [after];
  if (failed - began >= rules.control_beside) looks.push(controls.filter((c) => at(c) >= began && at(c) < failed));
  /** @type {("tcp4" | "wss")[]} */
  const kinds = component === "relay" ? ["tcp4", "wss"] : [/** @type {"tcp4" | "wss"} */ (component)];
  for (const look of looks) {
    for (const kind of kinds) {
      const names = court.controls(kind, h);
      if (names.length === 0) return "none";
      const passed = names.map((n) => look.filter((c) => c.name === n && c.component === kind))
        .filter((tries, i) => tries.length > 0 && tries.every((c) => c.outcome === "ok") &&
          !(component === "relay" && look.some((c) => c.name === names[i] && c.component === "relay" && c.outcome !== "ok" && c.outcome !== "busy")))
        .map((tries) => ({ sent: sum(tries.map((c) => c.sent ?? 0)), resent: sum(tries.map((c) => c.resent ?? 0)) }));
      const needed = Math.ceil((names.length * rules.control_share[0]) / rules.control_share[1]);
      if (passed.length < needed || loses(passed, needed, rules.line_loss)) return "bad";
    }
  }
  // A failure within a circuit may be the monitor's own peers'.
  const own = after.filter((c) => c.name === "loopback" && c.component === "relay");
  return component === "relay" && !(own.length > 0 && own.every((c) => c.outcome === "ok")) ? "bad" : "ok";
}

/** @param {number[]} list */
const sum = (list) => list.reduce((a, b) => a + b, 0);

/** A line that loses more than so many percent, and the best hosts' lines more than a third of that. @param {{sent: number, resent: number}[]} hosts @param {number} needed @param {number} percent */
function loses(hosts, needed, percent) {
  const best = [...hosts].sort((a, b) => a.resent * Math.max(1, b.sent) - b.resent * Math.max(1, a.sent)).slice(0, needed);
  const over = (/** @type {typeof hosts} */ list, /** @type {number} */ part) => sum(list.map((p) => p.resent)) * 100 * part > sum(list.map((p) => p.sent)) * percent;
  return over(hosts, 1) && over(best, 3);
}

const PORT = (/** @type {string} */ s) => (/^\d{1,5}$/.test(s) && Number(s) < 65536 ? String(Number(s)) : null);
const NAMED = (/** @type {string} */ s) => (s !== "" ? s : null);
/** The protocols of multiaddrs that relays and controls have, and the values of those that have one. @type {Record<string, ((s: string) => string | null) | null>} */
const PROTOCOLS = {
  ip4: (s) => (ipNumber(s) === null ? null : s), tcp: PORT, udp: PORT, dns: NAMED, dns4: NAMED, dns6: NAMED, dnsaddr: NAMED,
  p2p: (s) => (/^[1-9A-HJ-NP-Za-km-z]{32,128}$/.test(s) ? s : null), tls: null, ws: null, wss: null, quic: null, "quic-v1": null, webtransport: null, "p2p-circuit": null,
};

/** A multiaddr in one spelling; null: it is none that is known here. @param {string} text */
function multiaddr(text) {
  const parts = text.replace(/\/+$/, "").split("/");
  if (parts.length < 2 || parts[0] !== "") return null;
  let out = "";
  for (let i = 1; i < parts.length; i++) {
    const name = parts[i] === "ipfs" ? "p2p" : parts[i], value = Object.hasOwn(PROTOCOLS, name) ? PROTOCOLS[name] : undefined;
    if (value === undefined) return null;
    out += "/" + name;
    if (value === null) continue;
    const v = value(parts[++i] ?? "");
    if (v === null) return null;
    out += "/" + v;
  }
  return out;
}

/** Multiaddrs are one if they differ only in spelling. @param {string} a */
const addressForm = (a) => multiaddr(a)?.replace("/tls/ws/", "/wss/") ?? a;

/** @param {string} a @param {string} b */
const sameAddress = (a, b) => a === b || addressForm(a) === addressForm(b);

// ---------------------------------------------------------------- one monitor's vote (R1, R2, R5, R6)

/** R6: what lacks of the relay's own word that an attempt came through in this hour; "": nothing. @param {Court} court @param {Json} m @param {Json} a @param {Json} voucher */
function unproven(court, m, a, voucher) {
  const state = voucher?.state ?? "none";
  if (state === "bad") return "bad voucher";
  if (state !== "bound") return "unsigned";
  if (instant(voucher.expires) > within(a, lengthOf(a)) + court.rules.voucher_valid) return "presigned";
  const h = hourOf(instant(a.started));
  return court.lab || voucher.beacon || court.foreign(voucher.witness ?? "", m, h - 1, h) ? "" : "not fresh";
}

/** Did an attempt find all three components? @param {Json} rules @param {Json} a */
function cameThrough(rules, a) {
  const relay = outcomeOf(a, "relay"), level = a.level ?? 0;
  return !!a.tcp4_addr && !!a.wss_addr && outcomeOf(a, "tcp4") === "ok" && outcomeOf(a, "wss") === "ok" && level >= rules.relay_level &&
    (relay === "ok" || (relay === "fail" && level < 4));
}

/**
 * @param {Court} court @param {Json} m @param {Json} record @param {Json[]} vouchers
 * @returns {{vote: Vote, causes: string[], wss: boolean, upAttempt: number}}
 */
function ballot(court, m, record, vouchers) {
  const { rules, relay } = court;
  const hour = hourAt(record.hour);
  const registered = multiaddrs(addressAt(relay, hour), relay.peer_id);
  const out = { vote: /** @type {Vote} */ ({ value: "unknown", why: "" }), causes: /** @type {string[]} */ ([]), wss: false, upAttempt: -1 };
  /** @type {Record<string, boolean>} */
  const seen = {};
  /** @type {number[]} */
  const failures = []; // starts of attempts with a failure that counts
  let lacks = "";
  for (const [i, a] of record.attempts.entries()) {
    const started = instant(a.started);
    const belongs = started >= hour * HOUR && started < (hour + 1) * HOUR + rules.attempt_close && (i > 0 || hourOf(started) === hour);
    if (!belongs) continue;
    seen.tried = true;
    if (a.stepped) {
      seen.stepped = true;
      continue;
    }
    if (a.peer_id !== relay.peer_id || (a.tcp4_addr && !sameAddress(a.tcp4_addr, registered.tcp4)) || (a.wss_addr && !sameAddress(a.wss_addr, registered.wss))) {
      seen.elsewhere = true;
      continue;
    }
    if (!a.tcp4_addr || !a.wss_addr) seen.unasked = true;
    if (outcomeOf(a, "wss") === "ok") out.wss = true;
    if (cameThrough(rules, a)) {
      lacks = unproven(court, m, a, vouchers[i]);
      if (lacks) continue;
      out.vote = { value: "up", why: "" };
      out.upAttempt = i;
      return out;
    }
    if (failuresOf(court, hour, a, out.causes, seen)) failures.push(started);
  }
  const enough = failures.length >= rules.down_attempts && failures[failures.length - 1] - failures[0] >= rules.down_spacing;
  if (lacks) out.vote.why = lacks;
  else if (enough) out.vote.value = "down";
  else if (seen.busy && failures.length < rules.down_attempts) out.vote.value = "busy";
  else {
    out.vote.why = seen.stepped ? "clock" : failures.length ? "one failure" : seen.blind ? "blind" : seen.none ? "no controls" : seen.elsewhere ? "other address" :
      seen.unasked ? "not asked" : !seen.tried ? "missed" : "not asked";
  }
  return out;
}

/** Does an attempt hold a failure that counts? Notes causes and what else it shows. @param {Court} court @param {number} hour @param {Json} a @param {string[]} causes @param {Record<string, boolean>} seen */
function failuresOf(court, hour, a, causes, seen) {
  let counted = false;
  for (const component of ["tcp4", "wss", "relay"]) {
    const { outcome = "", class: word = "" } = a.results?.[component] ?? {};
    const note = (/** @type {string} */ otherwise) => {
      const cause = `${component} ${word || otherwise}`;
      if (!causes.includes(cause)) causes.push(cause);
    };
    if (outcome === "busy" && component === "relay") {
      seen.busy = true;
      note("busy");
    } else if (outcome === "blind") {
      seen.blind = true;
    } else if (outcome === "fail" && !(component === "relay" && (a.level ?? 0) >= court.rules.relay_level)) {
      const [began, failed] = lastRung(a, component);
      const own = line(court, hour, component, began, failed, a.controls ?? []);
      if (own === "none") seen.none = true;
      else if (own === "bad") seen.blind = true;
      else {
        counted = true;
        note("fail");
      }
    }
  }
  return counted;
}

/** What an hour without a record is. @param {Json} header */
function silence(header) {
  return header.state === "gap" ? "missing" : (header.missed ?? 0) > 0 ? "overloaded" : "missed";
}

/**
 * R2: the plan. Without a good one, or before the first attempt was due, the vote is unknown. Only a lab may choose its moment.
 * @param {Court} court @param {Json} hour
 * @returns {"" | "unplanned" | "early" | "late" | "kept"} "": nothing can be said
 */
function planned(court, hour) {
  if (court.lab || !hour.record) return "";
  if (hour.due === null || hour.due === undefined) return "unplanned";
  const moved = clockMoved(court, hour.header) ? Math.min(hour.header.clock?.drift_ms ?? 0, 86_400_000) : 0;
  const off = instant(hour.record.attempts[0].started) - hour.due;
  return off <= -court.rules.clock_drift - moved ? "early" : off > court.rules.attempt_close + moved ? "late" : "kept";
}

// ---------------------------------------------------------------- when it was written, and by which clock (R9)

/** @param {Court} court @param {Json} header */
function clockMoved(court, header) {
  return Math.abs(header.clock?.drift_ms ?? 0) >= Math.floor(court.rules.clock_drift) || (header.clock?.steps ?? []).length >= 16;
}

/** @param {Json} header */
const unkept = (header) => !header.clock?.samples || !header.clock?.synchronised;

/** @param {Court} court @param {Json} m @param {Json} hour @param {number} h */
function sealing(court, m, hour, h) {
  const others = court.others(m, h);
  if (others.length === 0) return { fault: "", inTime: /** @type {string[]} */ ([]) };
  const at = new Map(hour.cosigned.map((/** @type {Json} */ c) => [c.witness, instant(c.at)]));
  const earliest = instant(hour.header.sealed_at) - court.rules.clock_ahead, latest = (h + 1) * HOUR + court.rules.seal_within;
  const times = others.filter((w) => at.has(w.key)).map((w) => ({ name: w.name, at: Number(at.get(w.key)) }));
  const behind = times.filter((t) => t.at < earliest), fine = times.filter((t) => t.at >= earliest);
  const inTime = [...new Set(fine.filter((t) => t.at <= latest).map((t) => t.name))].sort();
  const required = court.rules.witnesses_required < 0 ? Math.floor(court.bench(h).length / 2) : court.rules.witnesses_required;
  const fault = behind.length > fine.length ? "clock" : inTime.length < required ? "late" : unkept(hour.header) ? "clock" : "";
  return { fault, inTime };
}

const BY_CLOCK = ["cert-expired", "cert-not-yet-valid", "reserve-expired", "voucher-invalid"];

/** @param {Court} court @param {Json} header @param {Vote} vote @param {string[]} causes @returns {Vote} */
function byClock(court, header, vote, causes) {
  if (vote.value === "up" || (vote.value === "unknown" && vote.why !== "one failure")) return vote;
  const clockOnly = causes.some((c) => BY_CLOCK.includes(c.slice(c.indexOf(" ") + 1)));
  return clockMoved(court, header) || (unkept(header) && clockOnly) ? { value: "unknown", why: "clock" } : vote;
}

// ---------------------------------------------------------------- going through the logs

/** How far a log tells (R16). @param {Court} court @param {Json} m */
function reach(court, m) {
  let has = false;
  for (let h = court.first; h < court.end && !has; h++) has = court.others(m, h).length > 0;
  let at = -Infinity;
  return {
    /** @param {Json[]} cosigned @param {number} end */
    add(cosigned, end) {
      if (!end) return;
      if (!has) at = Math.max(at, end * HOUR);
      for (const c of cosigned ?? []) {
        const t = instant(c.at);
        if (court.foreign(c.witness, m, hourOf(t))) at = Math.max(at, Math.min(t, end * HOUR));
      }
    },
    at: () => at,
  };
}

/** All that the logs say, hour by hour and beside it. */
class Testimony {
  /** @param {Court} court */
  constructor(court) {
    this.court = court;
    this.asOf = court.first * HOUR;
    this.committeeUntil = -Infinity;
    const whole = { from: court.first, until: court.end };
    this.monitors = court.roster.monitors.filter((/** @type {Json} */ m) => overlap(m, whole)).map((/** @type {Json} */ m) => ({
      entry: m, log: /** @type {Json} */ (null), recused: recused(m, court.relay), attempts: 0, ping: 0, ends: 0, voided: /** @type {Json} */ ({}), plan: { checked: 0, unplanned: 0, early: 0, late: 0 },
    }));
    /** @type {Map<string, Map<number, Json>>} by monitor's name and hour */
    this.said = new Map();
    /** @type {Map<string, Json>} */
    this.days = new Map();
    /** @type {Map<string, Json>} */
    this.leaves = new Map();
    /** @type {{monitor: Json, at: number, ok: boolean}[]} */
    this.looks = [];
    /** @type {Json[]} */
  }

  /** @param {Json} log */
  hear(log) {
    const { court } = this;
    const who = this.monitors.find((/** @type {Json} */ m) => m.entry.log_key === log.key);
    if (!who) throw new Refusal(`the log with key ${log.key} is by no monitor that is in the roster in ${court.month}`);
    want(!who.log, `the log of monitor ${who.entry.name} is there twice`);
    want(log.network === court.roster.network, `the log of ${log.origin} is of network ${log.network}, the roster of ${court.roster.network}`);
    want(log.relay === court.relay.peer_id && log.month === court.month, `the log of ${log.origin} is about ${log.relay} in ${log.month}`);
    who.log = log;
    if (!this.said.has(who.entry.name)) this.said.set(who.entry.name, new Map());
    const far = reach(court, who.entry);
    for (const hour of log.hours) {
      const h = hourAt(hour.header.hour);
      far.add(hour.cosigned, h + 1);
      if (hour.round) court.rounds.set(h, hour.round);
      if (holds(who.entry, h) && court.first <= h && h < court.end && enrolled(court.relay, h)) this.hour(who, hour, h);
    }
    far.add(log.tip.cosigned, hourAt(log.tip.end));
    who.ends = hourAt(log.tip.end);
    if (!who.recused && !log.void) {
      this.asOf = Math.max(this.asOf, far.at());
      if (who.entry.committee) this.committeeUntil = Math.max(this.committeeUntil, far.at());
    }
  }

  /** @param {Json} who @param {Json} hour @param {number} h */
  hour(who, hour, h) {
    const { court } = this, { header, record } = hour, m = who.entry;
    /** @type {Json} */
    const x = { vote: { value: "unknown", why: silence(header) }, causes: [], wss: false, signed: false, agent: "", resolved: false, tight: 0 };
    if (record) {
      const vouchers = hour.vouchers ?? [];
      const b = ballot(court, m, record, vouchers);
      Object.assign(x, { vote: b.vote, causes: b.causes, wss: b.wss });
      if (x.vote.why === "one failure" && (header.missed ?? 0) > 0 && record.attempts.length < court.rules.down_attempts) x.vote = { value: "unknown", why: "overloaded" };
      record.attempts.forEach((/** @type {Json} */ a, /** @type {number} */ i) => {
        who.attempts++;
        x.signed ||= unproven(court, m, a, vouchers[i]) === "";
        if (!who.recused && !who.log.void) this.beside(who, x, a, h, i === b.upAttempt);
      });
    }
    const seal = sealing(court, m, hour, h), plan = planned(court, hour);
    x.witnessed = seal.inTime.length > 0;
    if (plan !== "" && plan !== "unplanned") {
      who.plan.checked++;
      if (clockMoved(court, header)) who.plan.moved = (who.plan.moved ?? 0) + 1;
    }
    if (plan !== "" && plan !== "kept") who.plan[plan]++;
    const said = x.vote.value, known = said !== "unknown";
    if (who.log.void) x.vote = { value: "unknown", why: "void" };
    else if (known && (plan === "early" || plan === "unplanned")) x.vote = { value: "unknown", why: plan };
    else x.vote = known && seal.fault ? { value: "unknown", why: seal.fault } : byClock(court, header, x.vote, x.causes);
    x.said = said;
    /** @type {Map<number, Json>} */ (this.said.get(m.name)).set(h, x);
  }

  /** R21: the votes of those who were not due count nowhere. Comes when all logs are read. */
  settle() {
    const { court } = this;
    for (const who of this.monitors) {
      const m = who.entry;
      for (const [h, x] of this.said.get(m.name) ?? []) {
        if (!holds(m, h)) continue;
        if (!who.recused && !court.due(h).includes(m)) {
          x.vote = { value: "unknown", why: "not due" };
          x.notDue = true;
        } else if (x.said !== "unknown" && x.vote.value === "unknown" && !who.log?.void) {
          const by = (who.voided[x.vote.why] ??= {});
          by[x.said] = (by[x.said] ?? 0) + 1;
        }
      }
    }
  }

  /** What an attempt saw besides the vote. @param {Json} who @param {Json} x @param {Json} a @param {number} h @param {boolean} isUp */
  beside(who, x, a, h, isUp) {
    const { court } = this, facts = a.facts ?? {}, name = hourText(h).slice(0, 10);
    const day = this.days.get(name) ?? { attempts: 0, ping: [], ladder: [] };
    this.days.set(name, day);
    day.attempts++;
    if (facts.agent_version) x.agent = facts.agent_version;
    if ((facts.resolved_ipv4 ?? []).some((/** @type {string} */ ip) => ip !== addressAt(court.relay, h).ipv4)) x.resolved = true;
    const ping = Math.min(...(facts.ping_us ?? []));
    if (outcomeOf(a, "tcp4") === "ok" && ping > 0 && ping < Infinity) {
      day.ping.push(ping);
      who.ping = who.ping ? Math.min(who.ping, ping) : ping;
    }
    const limit = facts.reservation?.limit_bytes ?? 0;
    if (a.level === 2 && outcomeOf(a, "relay") === "fail" && limit > 0 && limit < 2048) x.tight = limit;
    if (isUp) day.ladder.push(lengthOf(a));
    if (facts.certificate) this.leaf(facts.certificate, h, outcomeOf(a, "wss") === "ok");
    for (const r of a.rungs ?? []) {
      if (r.name !== "browser" || a.stepped) continue;
      const from = within(a, r.offset_us), to = within(a, r.offset_us + r.duration_us);
      if (r.outcome === "ok" || (r.outcome === "fail" && line(court, h, "wss", from, to, a.controls ?? []) === "ok")) {
        this.looks.push({ monitor: who.entry, at: from, ok: r.outcome === "ok" });
      }
    }
  }

  /** @param {Json} c @param {number} h @param {boolean} accepted */
  leaf(c, h, accepted) {
    const old = this.leaves.get(c.sha256) ?? { cert: c, first: h, last: h, accepted: false };
    this.leaves.set(c.sha256, { cert: old.cert, first: Math.min(old.first, h), last: Math.max(old.last, h), accepted: old.accepted || accepted });
  }

  /** @param {string} name @param {number} h */
  of(name, h) {
    return this.said.get(name)?.get(h);
  }
}

// ---------------------------------------------------------------- the hours of the month (R7, R8)

/** R7. @param {{bench: number, up: number, down: number, busy: number}} t */
function fleet(t) {
  const quorum = Math.floor(t.bench / 2) + 1;
  if (t.bench === 0) return "unknown";
  return t.up >= quorum ? "up" : t.down >= quorum ? "down" : t.up + t.busy >= quorum ? "busy" : "unknown";
}

/** @param {Testimony} all */
function countHours(all) {
  const { court } = all;
  const sums = { total: court.end - court.first, up: 0, down: 0, busy: 0, unknown: 0, not_enrolled: 0, remaining: 0 };
  const hours = [];
  for (let h = court.first; h < court.end; h++) {
    const out = { h, state: "unknown", busy: false, tally: /** @type {Json} */ ({ bench: 0, up: 0, down: 0, busy: 0 }) };
    hours.push(out);
    if (!enrolled(court.relay, h)) {
      out.state = "not enrolled";
      sums.not_enrolled++;
      continue;
    }
    if ((h + 1) * HOUR > all.asOf) {
      out.state = "remaining";
      sums.remaining++;
      continue;
    }
    const due = court.due(h), bench = court.bench(h).length;
    if (court.rules.monitors_due > 0 && bench > due.length) out.tally.of = bench;
    for (const m of due) {
      out.tally.bench++;
      const value = all.of(m.name, h)?.vote.value;
      if (value && value !== "unknown") out.tally[/** @type {"up"} */ (value)]++;
    }
    out.state = fleet(out.tally);
    if (out.state === "busy") {
      out.busy = true;
      sums.busy++;
      const refused = out.tally.busy + out.tally.down >= Math.floor(out.tally.bench / 2) + 1;
      out.state = sums.busy <= court.rules.busy_cap ? "up" : refused ? "down" : "unknown"; // R8
    }
    sums[/** @type {"up"} */ (out.state)]++;
  }
  return { sums, hours };
}

/** What the judged hours show. @param {Testimony} all @param {ReturnType<typeof countHours>} month */
function review(all, month) {
  const { court } = all;
  const out = {
    hourly: /** @type {Json[]} */ ([]), grades: /** @type {Record<string, number>} */ ({}), signed: 0, disputed: /** @type {number[]} */ ([]), otherRecord: /** @type {number[]} */ ([]),
    withoutWSS: /** @type {number[]} */ ([]), tight: /** @type {number[]} */ ([]), tightBytes: Infinity, agents: /** @type {Json[]} */ ([]), overruled: /** @type {number[]} */ ([]),
    undecided: /** @type {number[]} */ ([]), dissent: /** @type {Json[]} */ ([]), assured: { up: 0, assured: 0, operators: new Set(), noCommittee: 0, alone: 0, unwitnessed: 0 },
  };
  for (const hour of month.hours) {
    const { h, state } = hour;
    if (state === "not enrolled" || state === "remaining") continue;
    const bench = court.due(h).map((m) => ({ m, x: all.of(m.name, h) }));
    const spoke = bench.filter((b) => b.x);
    const voted = (/** @type {string} */ v) => spoke.filter((b) => b.x.vote.value === v);
    const signed = [...all.said.values()].some((log) => log.get(h)?.signed); // whoever shows it
    if (signed) out.signed++;
    if (spoke.some((b) => b.x.resolved)) out.otherRecord.push(h);
    const tight = spoke.filter((b) => b.x.tight).map((b) => b.x.tight);
    if (state === "down" && tight.length) {
      out.tight.push(h);
      out.tightBytes = Math.min(out.tightBytes, ...tight);
    }
    for (const { m, x } of spoke) {
      const v = x.vote.value;
      if ((v === "up" && state === "down") || (v === "down" && state !== "down")) dissents(out.dissent, m, v, state, h);
    }
    const overruled = voted("down").some((b) => b.m.committee);
    const causes = [...new Set([...voted("down"), ...voted("busy")].flatMap((b) => b.x.causes))].sort();
    /** @type {Json} */
    const report = { hour: hourText(h), state, tally: hour.tally };
    if (hour.busy) report.busy = true;
    if (bench.length) report.votes = Object.fromEntries(bench.map(({ m, x }) => [m.name, x ? voteText(x.vote) : "unknown: missing"]));
    if (causes.length) report.causes = causes;
    if (state === "up") {
      report.grade = grade(court, out.assured, hour.busy ? [] : voted("up"));
      out.grades[report.grade] = (out.grades[report.grade] ?? 0) + 1;
      if (![...voted("up"), ...voted("busy")].some((b) => b.x.wss)) out.withoutWSS.push(h);
      if (overruled) out.overruled.push(h);
      const agent = agreed(spoke.filter((b) => b.x.vote.value !== "unknown" && b.x.agent));
      if (agent) heard(out.agents, agent, h);
    }
    if (state === "unknown" && overruled) out.undecided.push(h);
    if (state === "down" && signed) {
      report.disputed = true;
      out.disputed.push(h);
    }
    out.hourly.push(report);
  }
  return out;
}

/** @param {Vote} v */
const voteText = (v) => (v.why ? `${v.value}: ${v.why}` : v.value);

/** R13: what most heard, else what the committee's heard. @param {Json[]} heardBy */
function agreed(heardBy) {
  const most = heardBy.find((b) => 2 * heardBy.filter((o) => o.x.agent === b.x.agent).length > heardBy.length);
  if (most) return most.x.agent;
  const committee = new Set(heardBy.filter((b) => b.m.committee).map((b) => b.x.agent));
  return committee.size === 1 ? [...committee][0] : "";
}

/** @param {Json[]} agents @param {string} agent @param {number} h */
function heard(agents, agent, h) {
  const last = agents[agents.length - 1];
  if (last?.agent === agent && last.until === h) last.until++;
  else agents.push({ agent, from: h, until: h + 1 });
}

/** Votes against what an hour counts as. @param {Json[]} list @param {Json} m @param {string} vote @param {string} against @param {number} h */
function dissents(list, m, vote, against, h) {
  let d = list.find((o) => o.monitor === m.name && o.operator === m.operator && o.vote === vote && o.against === against);
  if (!d) list.push((d = { monitor: m.name, operator: m.operator, committee: false, vote, against, hours: 0, list: [] }));
  d.committee ||= m.committee;
  d.hours++;
  d.list.push(h);
}

/** R19: what stands behind an hour that counts up. @param {Court} court @param {Json} sums @param {Json[]} voters */
function grade(court, sums, voters) {
  const asked = court.rules.assured_operators;
  const operators = (/** @type {Json[]} */ list) => new Set(list.map((b) => operatorOf(b.m)));
  const hasCommittee = (/** @type {Json[]} */ list) => list.some((b) => b.m.committee);
  const witnessed = voters.filter((b) => b.x.witnessed);
  sums.up++;
  if (hasCommittee(witnessed) && operators(witnessed).size >= asked) {
    sums.assured++;
    for (const o of operators(witnessed)) sums.operators.add(o);
    return "A";
  }
  if (!hasCommittee(voters)) sums.noCommittee++;
  else if (operators(voters).size < asked) sums.alone++;
  else sums.unwitnessed++;
  return operators(voters).size >= 2 ? "B" : "C";
}

/** Which logs are missing or short. @param {Testimony} all */
function absent(all) {
  const { court } = all, { relay } = court;
  const tail = Math.ceil(court.rules.seal_within / HOUR);
  const out = [];
  for (const who of all.monitors) {
    if (who.recused) continue;
    const m = who.entry;
    const need = Math.min(court.end + tail, hourOf(all.asOf) - tail, m.until, relay.until + tail);
    const first = Math.max(m.from, court.first, relay.enrolled);
    const end = Math.min(need, court.end, relay.until);
    if (end <= first) continue;
    const base = { monitor: m.name, operator: m.operator, committee: m.committee };
    if (!who.log) out.push({ ...base, hours: end - first });
    else if (who.ends < need) out.push({ ...base, ends: hourText(who.ends), hours: Math.max(0, end - Math.max(first, who.ends)) });
  }
  return out;
}

// ---------------------------------------------------------------- the findings

const WORSE = ["", "PASS", "WARN", "INCONCLUSIVE", "REVIEW", "FAIL"];

/** A finding that gets worse with each reason. @param {string} rule @param {string} subject */
function finding(rule, subject) {
  /** @type {Finding} */
  const f = { rule, subject, outcome: "", reasons: [] };
  return {
    /** @param {string} outcome @param {string} reason */
    say(outcome, reason) {
      f.reasons.push(reason);
      if (WORSE.indexOf(outcome) > WORSE.indexOf(f.outcome)) f.outcome = outcome;
    },
    /** @param {number[] | [number, number][]} hours */
    done(hours = []) {
      const spans = typeof hours[0] === "number" ? runs(/** @type {number[]} */ (hours)) : /** @type {[number, number][]} */ (hours);
      if (spans.length) f.hours = spansJson(spans);
      return f;
    },
    get outcome() {
      return f.outcome;
    },
    f,
  };
}

/** Whole hours as "72 h", all else as "1h30m0s". @param {number} ms */
function spanWords(ms) {
  if (ms % HOUR === 0) return `${ms / HOUR} h`;
  if (ms < 1000) return ms < 1 ? `${ms * 1000}µs` : `${ms}ms`;
  const h = Math.floor(ms / HOUR), m = Math.floor((ms % HOUR) / 60_000), s = (ms % 60_000) / 1000;
  return (h ? `${h}h` : "") + (h || m ? `${m}m` : "") + `${Number(s.toFixed(9))}s`;
}

/** R10. @param {Testimony} all @param {ReturnType<typeof countHours>} month @param {Json} seen */
function uptime(all, month, seen) {
  const { rules } = all.court, s = month.sums;
  const f = finding("R10", "uptime");
  const best = s.up + s.unknown + s.remaining;
  if (s.up >= rules.hours_required) f.say("PASS", `${s.up} hours up, ${rules.hours_required} are required (R10)`);
  else if (best < rules.hours_required) f.say("FAIL", `${s.up} hours up, ${s.unknown} unknown and ${s.remaining} to come make ${best}, fewer than the ${rules.hours_required} required (R10)`);
  else f.say("INCONCLUSIVE", `${s.up} hours up, ${rules.hours_required} required: the ${s.unknown} unknown and the ${s.remaining} to come decide (R10)`);
  const hoursOf = (/** @type {(c: Json) => boolean} */ test) => month.hours.filter(test).map((c) => c.h);
  for (const state of ["down", "unknown", "not enrolled"]) {
    const list = hoursOf((c) => c.state === state);
    if (list.length) f.say("", `${list.length} h ${state}: ${hoursText(list)}`);
  }
  if (s.busy) {
    f.say("", `${s.busy} h busy, of which the first ${Math.min(s.busy, rules.busy_cap)} of the month count as up, and later ones as down or unknown (R8): ${hoursText(hoursOf((c) => c.busy))}`);
  }
  const open = hoursOf((c) => c.busy && c.state === "unknown");
  if (open.length) f.say("", `${open.length} h of these unknown, since most monitors were not refused: ${hoursText(open)}`);
  const nobody = hoursOf((c) => c.state === "unknown" && c.tally.bench === 0);
  if (nobody.length) f.say("", `no monitor in force that may judge this relay (R7): ${hoursText(nobody)}`);
  const chosen = hoursOf((c) => c.tally.of > 0);
  if (chosen.length) f.say("", `in ${chosen.length} h ${rules.monitors_due} monitors were due of those that may judge this relay, chosen by the hour's drand round (R21)`);
  const everybody = hoursOf((c) => !c.tally.of && rules.monitors_due > 0 && c.tally.bench >= rules.due_from);
  if (everybody.length) f.say("", `in ${everybody.length} h all were due, since no log holds the hour's drand round (R21): ${hoursText(everybody)}`);
  if (coverage(s) < rules.coverage_flag) f.say("", `coverage ${coverage(s)} %, below ${rules.coverage_flag} %: much of the time nobody can tell (R10)`);
  if (seen.tight.length) {
    f.say("", `in ${seen.tight.length} h down the relay granted a reservation and connected a circuit (level 2), but limits each circuit to ${seen.tightBytes} bytes, fewer than the handshake of two peers needs: raise its data limit (helia-coord 2.0.2 has 256 by default)`);
  }
  return f.done(hoursOf((c) => c.state === "down"));
}

/** @param {Json} s */
function coverage(s) {
  const due = s.total - s.not_enrolled - s.remaining;
  return due <= 0 ? 100 : Math.floor((100 * (s.up + s.down)) / due);
}

/** Adds hours behind those that are there, as they come. @param {[number, number][]} spans @param {number} h */
function addHour(spans, h) {
  const last = spans[spans.length - 1];
  if (last && last[1] > h) return;
  if (last && last[1] === h) last[1]++;
  else spans.push([h, h + 1]);
}

/** R11. @param {Court} court @param {number[]} otherRecord */
function address(court, otherRecord) {
  const { relay, rules } = court;
  const f = finding("R11", "address");
  if (!isPublic(relay.ipv4)) f.say("REVIEW", `${relay.ipv4} is no public address`);
  const moves = relay.moves.filter((/** @type {Json} */ m) => court.first <= m.from && m.from < court.end);
  for (const m of moves) {
    const how = m.statement === "" ? "registered anew, not signed by the relay's key" :
      m.announced >= m.from ? "signed by the relay's key, but not announced before it took effect" : "announced before it took effect and signed by the relay's key";
    f.say("REVIEW", `moved to ${m.ipv4} at ${shortText(m.from)}: ${how}`);
  }
  if (moves.length > rules.address_changes) f.say("FAIL", `${moves.length} changes of the address in the month, at most ${rules.address_changes} can be reviewed`);
  if (otherRecord.length) f.say("WARN", `the domain's A record was not the registered address in ${otherRecord.length} h: ${hoursText(otherRecord)}`);
  if (!f.outcome) f.say("PASS", `${addressAt(relay, court.end - 1).ipv4} all month, the public address that was registered`);
  return f.done([...moves.map((/** @type {Json} */ m) => /** @type {[number, number]} */ ([m.from, m.from + 1])), ...runs(otherRecord)]);
}

/** R12. @param {Court} court @param {Json[]} leaves */
function certificate(court, leaves) {
  const f = finding("R12", "certificate");
  const until = (/** @type {Json} */ l) => instant(l.cert.not_after);
  const used = leaves.filter((l) => l.accepted).reduce((/** @type {Json} */ a, l) => (a && (a.last > l.last || (a.last === l.last && until(a) >= until(l))) ? a : l), null);
  if (!used) {
    f.say("REVIEW", "no monitor accepted a certificate of the relay in this month");
    return f.done();
  }
  const ends = timeText(until(used));
  if (until(used) < court.end * HOUR + court.rules.certificate_warn) {
    f.say("WARN", `the certificate in use expires at ${ends}, within ${spanWords(court.rules.certificate_warn)} of the month's end: see that it is renewed`);
  } else f.say("PASS", `the certificate in use is valid until ${ends}`);
  return f.done([[used.first, used.last + 1]]);
}

/** The release list. It has no unknown members, signed or not. @param {any} file parsed YAML, or its text */
export function readReleases(file) {
  const time = (/** @type {any} */ v) => (v === undefined || !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[-+]\d\d:\d\d)$/.test(String(v)) || !Date.parse(v) ? null : Date.parse(v));
  const listOf = (/** @type {Record<string, (v: any) => any>} */ fields, /** @type {string} */ where) =>
    (/** @type {any} */ v) => (v === undefined ? [] : read.list(v)?.map((e, i) => members(e, fields, `${where}[${i}]`, true)) ?? null);
  const map = typeof file === "string" ? parseYAML(file) : file;
  thisVersion(map, "releases");
  const l = members(map, {
    version: read.int, valid_until: (v) => (v === undefined ? 0 : time(v)),
    products: listOf({ name: read.text, agent: read.text, releases: listOf({ version: read.text, published: time }, "releases") }, "products"),
  }, "releases", true);
  const plain = (/** @type {string} */ s) => /^[ -~]{1,100}$/.test(s);
  const once = (/** @type {string[]} */ list) => new Set(list).size === list.length;
  want(once(l.products.map((/** @type {Json} */ p) => `${p.name}\n${p.agent}`)), "releases: a product stands twice");
  return l.products.map((/** @type {Json} */ p) => {
    const [before, after, more] = p.agent.split("*").map((/** @type {string} */ s) => s.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
    want(plain(p.name) && plain(p.agent) && after !== undefined && more === undefined, `releases: agent ${p.agent}: want one *`);
    const all = p.releases;
    want(all.length > 0 && all.every((/** @type {Json} */ r, /** @type {number} */ i) => plain(r.version) && (i === 0 || r.published >= all[i - 1].published)), `releases: ${p.name}: want versions, the oldest first`);
    want(once(all.map((/** @type {Json} */ r) => r.version)), `releases: ${p.name}: a version stands twice`);
    return { name: p.name, pattern: new RegExp(`^${before}v?([^/\\t\\n\\f\\r ]+)${after}$`), releases: all };
  });
}

/** R13. @param {Court} court @param {Json[] | null} products @param {Json[]} agents */
function software(court, products, agents) {
  const f = finding("R13", "software"), grace = court.rules.release_grace;
  if (!products) f.say("REVIEW", "no release list was given: what the relay should run is not known");
  else if (!agents.length) f.say("REVIEW", "no hour that counts up in which most monitors heard the relay name its software");
  if (!products || f.outcome) return f.done();
  const dueAt = (/** @type {Json} */ p, /** @type {number} */ t) => p.releases.findLastIndex((/** @type {Json} */ r) => r.published + grace <= t);
  const unknown = new Set(), behind = new Set();
  for (const a of agents) {
    const [p, ran] = releaseOf(products, a.agent);
    if (ran < 0) {
      unknown.add(`${goQuote(a.agent)} is not on the release list`);
      continue;
    }
    const need = dueAt(p, a.from * HOUR);
    if (ran >= need) {
      f.say("PASS", `${p.name} ${p.releases[ran].version} was the newest release that was due, or newer (self-reported)`);
      return f.done([[a.from, a.from + 1]]);
    }
    const said = `${p.name} ${p.releases[ran].version}, although ${p.releases[need].version} had been out for ${spanWords(grace)} (self-reported)`;
    behind.add(said);
    if (!p.releases.some((/** @type {Json} */ r) => r.published + grace > court.first * HOUR && r.published + grace < court.end * HOUR)) {
      f.say("WARN", `nothing to do: no release became due in the month; but it ran ${said}`);
      return f.done([[a.from, a.until]]);
    }
  }
  for (const why of unknown) f.say("REVIEW", /** @type {string} */ (why));
  if (unknown.size) return f.done();
  for (const why of behind) f.say("FAIL", /** @type {string} */ (why));
  return f.done(agents.map((a) => /** @type {[number, number]} */ ([a.from, a.until])));
}

/** The product and release of an agent string. @param {Json[]} products @param {string} agent @returns {[Json, number]} */
function releaseOf(products, agent) {
  for (const p of products) {
    const m = p.pattern.exec(agent);
    const i = m ? p.releases.findIndex((/** @type {Json} */ r) => r.version.replace(/^v/, "") === m[1]) : -1;
    if (i >= 0) return [p, i];
  }
  return [null, -1];
}

/** A text in quotes, as reports write it. @param {string} s */
function goQuote(s) {
  /** @type {Record<string, string>} */
  const short = { "\x07": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\", '"': '\\"' };
  return `"${[...s].map((c) => {
    if (short[c]) return short[c];
    const n = Number(c.codePointAt(0));
    if (c === " " || !/[\p{C}\p{Z}]/u.test(c)) return c;
    return n < 0x80 ? `\\x${n.toString(16).padStart(2, "0")}` : n < 0x10000 ? `\\u${n.toString(16).padStart(4, "0")}` : `\\U${n.toString(16).padStart(8, "0")}`;
  }).join("")}"`;
}

// ---- R14

/** @param {Testimony} all */
function disksOf(all) {
  const { rules } = all.court;
  const km = (/** @type {number} */ perMs, /** @type {number} */ us) => Math.trunc((perMs * us) / 1000) + 1;
  return all.monitors.filter((/** @type {Json} */ w) => w.log && w.ping > 0 && w.entry.place).map((/** @type {Json} */ w) => ({
    monitor: w.entry.name, operator: operatorOf(w.entry), committee: w.entry.committee, place: w.entry.place, ping_us: w.ping,
    cable_km: km(rules.cable_km_per_ms, w.ping), vacuum_km: km(rules.vacuum_km_per_ms, w.ping),
  }));
}

/** Can no relay be in both disks? @param {Json} a @param {Json} b */
const apart = (a, b) => kilometres(a.place, b.place) > a.vacuum_km + b.vacuum_km;

/** What some disks say alike. @param {{d: Json, words: string}[]} list @param {Json[]} all */
function claim(list, all) {
  const several = list.some((c) => c.d.operator !== list[0].d.operator);
  const fits = (/** @type {Json} */ d) => !all.some((o) => o.committee && apart(o, d));
  return {
    words: list.map((c) => c.words), several, raised: several || list.some((c) => c.d.committee),
    held: list.some((a) => list.some((b) => a.d.operator !== b.d.operator && !apart(a.d, b.d) && fits(a.d) && fits(b.d))),
    one: list.length > 1 ? `${list[0].words} (and ${list.length - 1} more monitors)` : (list[0]?.words ?? ""),
  };
}

/** @param {Court} court @param {import("./geo.mjs").Geo | null} geo @param {Json[]} disks */
function region(court, geo, disks) {
  const f = finding("R14", "region"), { rules, relay } = court;
  if (!geo) {
    f.say("REVIEW", "no data about the world's countries was given");
    return f.done();
  }
  const ipv4 = addressAt(relay, court.end - 1).ipv4;
  const eligible = (/** @type {string} */ c) => rules.countries.some((/** @type {any} */ e) => String(e) === c.toUpperCase());
  const [a, b] = geo.locate(ipv4);
  const ms = (/** @type {number} */ us) => `${Math.floor(us / 1000)}.${Math.floor((us % 1000) / 100)} ms`;
  const short = (/** @type {string[]} */ l) => l.slice(0, 8).join(" ") + (l.length > 8 ? ` and ${l.length - 8} more` : "");
  const strong = [], excluded = [], against = [];
  for (const d of disks) {
    if (!geo.within(d.place, d.vacuum_km).some(eligible)) {
      excluded.push({ d, words: `the relay answered ${d.monitor} in ${ms(d.ping_us)}: light in vacuum comes ${d.vacuum_km} km far in half of that, and no eligible country is so near` });
      continue;
    }
    const near = geo.within(d.place, d.cable_km);
    if (near.length && near.every(eligible)) {
      strong.push({ d, words: `the relay answered ${d.monitor} in ${ms(d.ping_us)}, so it is within ${d.cable_km} km of it, where all land is eligible (${short(near)})` });
    }
    if (a && !near.includes(a)) against.push({ d, words: `${a} is further than the ${d.cable_km} km from ${d.monitor} that a round trip of ${ms(d.ping_us)} allows` });
  }
  const yes = claim(strong, disks), no = claim(excluded, disks), odd = claim(against, disks);
  const sets = `the data sets place ${ipv4} in ${a || "no country"} and ${b || "no country"}` + (relay.region && relay.region !== a ? `; the operator claims ${relay.region}` : "");
  const say = (/** @type {string} */ outcome, /** @type {string[]} */ ...words) => words.forEach((w) => f.say(outcome, w));
  const agree = a !== "" && a === b;
  if (yes.raised && no.raised) say("REVIEW", "two round trips contradict each other", yes.one, no.one, sets);
  else if (no.held) say("FAIL", no.one, sets);
  else if (no.several) say("REVIEW", "round trips contradict: no relay is so near to all of these monitors, and to the committee's: " + no.words.join("; "), sets);
  else if (no.raised) say("REVIEW", "the committee's monitor alone excludes every eligible region: " + no.one, sets);
  else if (agree && !eligible(a)) say("REVIEW", sets + ", which is not eligible", ...(yes.one ? ["and yet " + yes.one] : []));
  else if (yes.held) say("PASS", "strong: " + yes.one, sets);
  else if (odd.raised) say("REVIEW", sets, odd.one);
  else if (agree && !disks.length) say("PASS", "weak: " + sets + ", which is eligible; no round trip tells more");
  else if (agree) say("PASS", "weak: " + sets + ", which is eligible, and no two operators' round trips contradict");
  else say("REVIEW", sets + ": not the same eligible country in both");
  for (const c of [yes, no, odd]) {
    if (!c.one) continue;
    if (c === yes && c.several && !c.held) say("", "round trips that contradict one another, or the committee's, and so decide nothing: " + c.one);
    else if (!c.raised) say("", "one operator's monitors alone, which decide nothing: " + c.one);
  }
  return f.done();
}

/** R15. @param {Court} court @param {Testimony["looks"]} looks @param {number[]} withoutWSS */
function browsers(court, looks, withoutWSS) {
  const f = finding("R15", "browsers"), span = court.rules.browser_repeat;
  /** @type {[number, number][]} */
  const hours = runs(withoutWSS);
  if (withoutWSS.length) f.say("REVIEW", `in ${withoutWSS.length} h that count up no monitor reached the relay as a browser does: ${hoursText(withoutWSS)}`);
  const failed = looks.filter((c) => !c.ok);
  const open = failed.filter((c) => !looks.some((o) => o.ok && (o.monitor.name === c.monitor.name || o.monitor.committee) && o.at > c.at && o.at <= c.at + span));
  const decides = open.some((c) => c.monitor.committee) || new Set(open.map((c) => operatorOf(c.monitor))).size > 1;
  for (const c of open) {
    const said = `the browser check of ${c.monitor.name} at ${timeText(c.at)} failed and was not repeated with success within ${spanWords(span)}`;
    f.say(decides ? "REVIEW" : "PASS", decides ? said : "one operator's monitors alone, which decide nothing: " + said);
    if (decides) addHour(hours, hourOf(c.at));
  }
  if (f.outcome !== "REVIEW") {
    const what = looks.length ? `${looks.length} checks by a real browser, ${failed.length} failed, of which ${failed.length - open.length} were repeated with success` : "no check by a real browser was recorded";
    f.f.reasons.unshift("every hour that counts up has a secure websocket connection as a browser makes it; " + what);
    f.f.outcome = "PASS";
  }
  return f.done(hours);
}

/** R19. @param {Court} court @param {Json} a */
function assurance(court, a) {
  const f = finding("R19", "assurance"), { rules } = court;
  if (a.assured < rules.hours_required) {
    f.say("REVIEW", `${a.assured} of the ${a.up} hours that count up are assured: monitors of ${rules.assured_operators} operators or more, the committee's among them, voted up in them by the relay's signature; ${rules.hours_required} are required`);
    if (a.noCommittee) f.say("REVIEW", `in ${a.noCommittee} h no monitor of the committee's voted up`);
    if (a.alone) f.say("REVIEW", `in ${a.alone} h too few other operators' monitors voted up`);
    if (a.unwitnessed) f.say("REVIEW", `in ${a.unwitnessed} h no witness of another operator cosigned in time, so nothing shows when they were written`);
  }
  if (!court.hasControls()) f.say("REVIEW", "no controls: failures could count nowhere, so an outage may have gone unseen");
  if (!f.outcome) {
    f.say("PASS", `${a.assured} hours up are assured: the relay signed in each for the committee's monitor and for one of another operator at least (${[...a.operators].sort().join(", ")}), witnessed and with controls`);
  }
  return f.done();
}

/** R20. @param {Court} court @param {number[]} overruled @param {number[]} undecided */
function dissent(court, overruled, undecided) {
  const f = finding("R20", "dissent"), most = court.rules.committee_dissent, n = overruled.length;
  if (n > most) f.say("REVIEW", `${n} h count up although the committee's monitor voted down, more than ${most}: ${hoursText(overruled)}`);
  else if (n) f.say("WARN", `${n} h count up although the committee's monitor voted down, no more than ${most}: ${hoursText(overruled)}`);
  else f.say("PASS", "in no hour that counts up did the committee's monitor vote down");
  if (undecided.length) f.say("", `${undecided.length} h are unknown although the committee's monitor voted down: ${hoursText(undecided)}`);
  return f.done(overruled);
}

// ---------------------------------------------------------------- the verdict (R16)

/** @param {Court} court @param {Testimony} all @param {Finding[]} findings @param {Json} sums @param {boolean} unsigned */
function verdict(court, all, findings, sums, unsigned) {
  const finalAt = court.end * HOUR + court.rules.final_after;
  let result = findings.some((f) => f.outcome === "FAIL") ? "NOT_ELIGIBLE" : findings.every((f) => f.outcome === "PASS" || f.outcome === "WARN") ? "ELIGIBLE" : "REVIEW";
  const reasons = findings.filter((f) => f.outcome !== "PASS").map((f) => `${f.subject} ${f.outcome}: ${f.reasons[0]}`);
  // A month that cannot be won any more is over; a lab's is never won.
  let final = all.asOf >= finalAt || (!court.lab && findings[0].outcome === "FAIL");
  let short = "";
  if (result === "ELIGIBLE" && all.committeeUntil > -Infinity && all.committeeUntil < finalAt) {
    if (final) short = `; the committee's own log reaches only to ${timeText(all.committeeUntil)}`;
    final = false;
  }
  if (result === "ELIGIBLE" && unsigned) {
    result = "REVIEW";
    reasons.push("unsigned: no committee vouches for the rules and the roster");
  }
  if (!final) {
    const none = sums.up + sums.down + sums.unknown === 0 ? "; no hour of the enrolment has closed yet" : "";
    reasons.unshift(`provisional: final from ${hourText(hourOf(finalAt))} on, ${spanWords(court.rules.final_after)} after the month's end (R16)${short}${none}`);
  }
  if (court.lab) {
    result = "LAB";
    reasons.unshift("lab: own hosts and private addresses are allowed here, so this decides about nothing");
  }
  if (!reasons.length) reasons.push("every rule passed");
  return { result, final, headline: result + (final ? "" : ", PROVISIONAL"), reasons };
}

/** @param {Court} court @param {boolean} unsigned */
function labels(court, unsigned) {
  const out = ["software: self-reported"];
  if (court.lab) out.push("lab");
  if (unsigned) out.push("unsigned");
  if (!court.hasControls()) out.push("no controls");
  let witnessed = false;
  for (let h = court.first; h < court.end && !witnessed; h++) witnessed = court.roster.monitors.some((/** @type {Json} */ m) => holds(m, h) && court.others(m, h).length > 0);
  if (!witnessed) out.push("unwitnessed");
  if (court.relay.statement === "") out.push("enrolment not signed by the relay's key");
  return out.sort();
}

/** @type {import("./geo.mjs").Geo | undefined} */
let world;

/**
 * @param {Json} facts see facts.md
 * @param {{geo?: import("./geo.mjs").Geo | null}} [options] other data about the world; null: none
 * @returns {Json} the members of report.json
 */
export function judge(facts, options = {}) {
  const signed = (/** @type {Json} */ input) => (input.signedBy ?? []).length > 0;
  const rules = readRules(facts.rules.file ?? facts.rules.text, signed(facts.rules));
  const roster = readRoster(facts.roster.file ?? facts.roster.text, signed(facts.roster));
  want(rules.network === roster.network, "rules and roster are for different networks: lab and real are never mixed");
  const relay = roster.relays.find((/** @type {Json} */ e) => e.peer_id === facts.relay);
  want(relay, `relay ${facts.relay} is not in the roster`);
  want(!facts.releases || facts.releases.sha256 === roster.releases, "the release list is not the one whose SHA-256 stands in the roster");
  const unsigned = !signed(facts.rules) || !signed(facts.roster);
  const court = new Court(rules, roster, relay, facts.month);
  const all = new Testimony(court);
  for (const log of facts.logs) all.hear(log);
  all.settle();
  all.looks.sort((a, b) => a.at - b.at);
  const geo = options.geo === undefined ? (world ??= openGeo()) : options.geo;

  const month = countHours(all), seen = review(all, month), disks = disksOf(all);
  const leaves = [...all.leaves].map(([sha256, l]) => ({ sha256, ...l })).sort((a, b) => a.first - b.first || (a.sha256 < b.sha256 ? -1 : 1));
  const findings = [
    uptime(all, month, seen), address(court, seen.otherRecord), certificate(court, leaves), software(court, facts.releases && readReleases(facts.releases.text), seen.agents),
    region(court, geo, disks), browsers(court, all.looks, seen.withoutWSS), assurance(court, seen.assured), dissent(court, seen.overruled, seen.undecided),
  ];
  const input = (/** @type {Json} */ i, /** @type {Json} */ read) => ({ sha256: i.sha256, ...(read.serial ? { serial: read.serial } : {}), signed_by: i.signedBy ?? [] });
  return {
    version: 1, network: rules.network, month: facts.month, as_of: timeText(all.asOf), ...verdict(court, all, findings, month.sums, unsigned),
    relay: relayReport(court), labels: labels(court, unsigned), hours: month.sums, coverage_percent: coverage(month.sums), grades: seen.grades, findings,
    notes: roster.notes.filter((/** @type {Json} */ n) => (n.relay === "" || n.relay === relay.peer_id) && overlap(n, { from: court.first, until: court.end }))
      .map((/** @type {Json} */ n) => ({ kind: n.kind, from: hourText(n.from), until: hourText(n.until), text: n.text })),
    monitors: all.monitors.map((/** @type {Json} */ who) => monitorReport(all, who)),
    dissent: dissentReport(seen.dissent), absent: absent(all), signed_hours: seen.signed, assured_hours: seen.assured.assured,
    hourly: seen.hourly, disputed: spansJson(runs(seen.disputed)),
    certificates: leaves.map((l) => ({
      sha256: l.sha256, issuer: l.cert.issuer, not_before: timeText(instant(l.cert.not_before)), not_after: timeText(instant(l.cert.not_after)),
      first: hourText(l.first), last: hourText(l.last), accepted: l.accepted,
    })),
    agents: seen.agents.map((a) => ({ agent: a.agent, from: hourText(a.from), until: hourText(a.until) })),
    latency: latency(all), disks,
    inputs: { rules: input(facts.rules, rules), roster: input(facts.roster, roster), releases_sha256: facts.releases?.sha256 ?? "", geo: geo?.sources ?? [] },
  };
}

/** @param {Court} court */
function relayReport({ relay, end }) {
  return {
    peer_id: relay.peer_id, operator: relay.operator, ...multiaddrs(addressAt(relay, end - 1), relay.peer_id), region: relay.region, payout: relay.payout,
    payout_signed: relay.payout !== "" && relay.statement !== "", enrolled: hourText(relay.enrolled), ...(relay.until < Infinity ? { until: hourText(relay.until) } : {}),
  };
}

/** @param {Testimony} all @param {Json} who */
function monitorReport(all, who) {
  const m = who.entry, log = who.log;
  /** @type {Json} */
  const votes = {};
  let vouchers = 0, notDue = 0;
  for (const [h, x] of all.said.get(m.name) ?? []) {
    if (!holds(m, h) || (h + 1) * HOUR > all.asOf) continue;
    if (x.signed) vouchers++;
    if (x.notDue) notDue++;
    else votes[x.vote.value] = (votes[x.vote.value] ?? 0) + 1;
  }
  /** @type {Json} */
  const out = { name: m.name, operator: m.operator, committee: m.committee, recused: who.recused, log: !!log, votes, attempts: who.attempts, vouchers };
  if (m.place) out.place = m.place;
  if (who.ping) out.ping_us = who.ping;
  if (notDue) out.not_due = notDue;
  if (Object.keys(who.voided).length) out.voided = who.voided;
  if (who.plan.checked || who.plan.unplanned) out.schedule = who.plan;
  if (log) for (const k of ["void", "origin", "size", "root", "digest"]) if (log[k]) out[k] = log[k];
  return out;
}

/** @param {Json[]} list */
function dissentReport(list) {
  const state = ["unknown", "up", "down"];
  return [...list]
    .sort((a, b) => Number(b.committee) - Number(a.committee) || b.hours - a.hours || (a.monitor < b.monitor ? -1 : a.monitor > b.monitor ? 1 : 0) || state.indexOf(a.against) - state.indexOf(b.against))
    .map(({ list: hours, ...d }) => ({ ...d, spans: spansJson(runs(hours)) }));
}

/** @param {Testimony} all */
function latency(all) {
  const median = (/** @type {number[]} */ v) => (v.length ? [...v].sort((a, b) => a - b)[Math.floor(v.length / 2)] : 0);
  return [...all.days].sort(([a], [b]) => (a < b ? -1 : 1)).map(([day, t]) => ({
    day, attempts: t.attempts, ping_us: median(t.ping), ladder_us: median(t.ladder), slow_us: Math.max(0, ...t.ladder),
  }));
}

// ---------------------------------------------------------------- comparing

/**
 * How a report differs from this one: paths and both values, for each member.
 * @param {Json} mine @param {Json} theirs @param {string} [where] @returns {string[]}
 */
export function compareReport(mine, theirs, where = "report") {
  const isMap = (/** @type {any} */ v) => v !== null && typeof v === "object";
  if (!isMap(mine) || !isMap(theirs) || Array.isArray(mine) !== Array.isArray(theirs)) {
    return mine === theirs ? [] : [`${where}: computed ${JSON.stringify(mine)}, there is ${JSON.stringify(theirs)}`];
  }
  const names = [...new Set([...Object.keys(mine), ...Object.keys(theirs)])];
  return names.flatMap((k) => compareReport(mine[k], theirs[k], Array.isArray(mine) ? `${where}[${k}]` : `${where}.${k}`));
}

async function main() {
  for await (const text of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    let out;
    try {
      out = { report: judge(JSON.parse(text)) };
    } catch (e) {
      out = { error: e instanceof Error ? (e instanceof Refusal || e.name === "YamlFault" ? e.message : String(e.stack)) : String(e) };
    }
    process.stdout.write(JSON.stringify(out) + "\n");
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.argv.includes("--facts")) await main();

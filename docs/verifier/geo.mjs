// What rule R14 must know of the world: which countries have land within a distance, and where two
// data sets place an address. The data are read from files (data is not code), whose hashes are pinned.

import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";

const LAND = "04342cdc1e3016bcd7db1630de95684d67b79fe3c8c460321e87aef469502394";
const DBIP = "b98568cef7cee1a588c9c78a9db02936c4a4d94f20aff7629da22c74563b0f5b";
const IPLOC = "v1.0.20260915";
const IPLOC_SUM = "h1:HzsDtAcr8leCM+3RcvXxKAJuq5kgOeAI6IF81QlS5oY="; // of the module; of its two files that are read:
const IPLOC_STARTS = "a7d95c0fbadd357b7863ac18ed3c37e4e5e5531c0f6a00a79a322842fe83ee5c";
const IPLOC_CODES = "aafea892d4f00ecbe8e956c68e5db26e77660c555338ee603916ae52c0d25ab5";

/** @typedef {{lat: number, lon: number}} Place */
/** @typedef {{within: (p: Place, km: number) => string[], locate: (ipv4: string) => [string, string], sources: object[]}} Geo */

/**
 * The data sets that the report names. `data` is the folder monitor/bundle/data, `iploc` that of the unpacked Go
 * module github.com/phuslu/iploc (where absent, it is looked for where Go keeps modules).
 * @param {{data?: string, iploc?: string}} [folders]
 * @returns {Geo}
 */
export function openGeo(folders = {}) {
  const data = folders.data ?? process.env.VERIFIER_GEO ?? fileURLToPath(new URL("../../monitor/bundle/data", import.meta.url));
  const land = readLand(JSON.parse(pinned(gunzipSync(readFileSync(join(data, "countries-50m.json.gz"))), LAND).toString()));
  const dbip = readMmdb(pinned(gunzipSync(readFileSync(join(data, "dbip-country-ipv4.mmdb.gz"))), DBIP));
  const dir = folders.iploc ?? moduleFolder();
  const iploc = readRanges(
    pinned(readFileSync(join(dir, "ipv4le.bin")), IPLOC_STARTS), pinned(readFileSync(join(dir, "ipv4.txt")), IPLOC_CODES));
  /** @type {Map<string, string[]>} what was asked for before */
  const known = new Map();
  /** @param {string} code */
  const country = (code) => (code.length === 2 && code !== "ZZ" ? code : "");
  return {
    within(p, km) {
      const key = `${p.lat} ${p.lon} ${km}`;
      const out = known.get(key) ?? countriesWithin(land, p, km);
      known.set(key, out);
      return out;
    },
    locate(ipv4) {
      const n = ipNumber(ipv4);
      if (n === null || isPrivate(n)) return ["", ""];
      return [country(dbip(n)), country(iploc(n))];
    },
    sources: [
      { name: "land: Natural Earth 1:50m (world-atlas 2.0.2)", sha256: LAND, licence: "public domain" },
      { name: "countries by address: IP Geolocation by DB-IP (https://db-ip.com), lite, 2026-06", sha256: DBIP, licence: "CC BY 4.0" },
      {
        name: `countries by address: phuslu/iploc ${IPLOC}, includes IP2Location LITE data (https://lite.ip2location.com)`,
        sha256: IPLOC_SUM, licence: "MIT, data CC BY-SA 4.0",
      },
    ],
  };
}

function moduleFolder() {
  const roots = [process.env.GOMODCACHE, process.env.GOPATH && join(process.env.GOPATH, "pkg/mod"), join(homedir(), "go/pkg/mod")];
  const own = process.env.VERIFIER_IPLOC;
  const tried = [own, ...roots.map((r) => r && join(r, `github.com/phuslu/iploc@${IPLOC}`))].filter((d) => !!d);
  const found = tried.find((d) => existsSync(join(String(d), "ipv4.txt")));
  if (!found) throw new Error(`the data of phuslu/iploc ${IPLOC} are in none of ${tried.join(", ")}: run "go mod download github.com/phuslu/iploc", or name the folder in VERIFIER_IPLOC`);
  return found;
}

/** @param {Buffer} file @param {string} sha256 */
function pinned(file, sha256) {
  const sum = createHash("sha256").update(file).digest("hex");
  if (sum !== sha256) throw new Error(`a data file has SHA-256 ${sum}, want ${sha256}`);
  return file;
}

/** @param {string} s @returns {number | null} */
export function ipNumber(s) {
  const m = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(s);
  if (!m) return null;
  let n = 0;
  for (const part of m.slice(1)) {
    if (String(Number(part)) !== part || Number(part) > 255) return null;
    n = n * 256 + Number(part);
  }
  return n;
}

/** @param {number} n @param {string} block such as 10.0.0.0/8 */
export function inBlock(n, block) {
  const [base, bits] = block.split("/");
  const size = 2 ** (32 - Number(bits));
  return Math.floor(n / size) === Math.floor(Number(ipNumber(base)) / size);
}

/** Addresses that no data set is asked for. @param {number} n */
const isPrivate = (n) => ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8"].some((b) => inBlock(n, b));

// ---- countries by address

/** Starts of ranges, ascending, and two letters for each. @param {Buffer} starts @param {Buffer} codes */
function readRanges(starts, codes) {
  return (/** @type {number} */ n) => {
    let low = -1, high = starts.length / 4; // the last start that is not above n
    while (high - low > 1) {
      const mid = Math.floor((low + high) / 2);
      if (starts.readUInt32LE(4 * mid) <= n) low = mid;
      else high = mid;
    }
    return low < 0 ? "" : codes.toString("latin1", 2 * low, 2 * low + 2);
  };
}

/** MaxMind DB file format 2.0, as far as a country_code needs it. @param {Buffer} file */
function readMmdb(file) {
  const mark = Buffer.from("\xab\xcd\xefMaxMind.com", "latin1");
  const at = file.lastIndexOf(mark) + mark.length;
  const meta = decoder(file.subarray(at)).value(0)[0];
  const size = Number(meta.record_size), nodes = Number(meta.node_count);
  const tree = (nodes * size) / 4;
  const values = decoder(file.subarray(tree + 16));
  const record = (/** @type {number} */ node, /** @type {number} */ bit) => {
    const o = (node * size) / 4;
    if (size === 24) return file.readUIntBE(o + 3 * bit, 3);
    if (size === 32) return file.readUInt32BE(o + 4 * bit);
    const middle = file[o + 3];
    return bit ? (middle & 15) * 2 ** 24 + file.readUIntBE(o + 4, 3) : (middle >> 4) * 2 ** 24 + file.readUIntBE(o, 3);
  };
  return (/** @type {number} */ ip) => {
    let node = 0;
    if (Number(meta.ip_version) === 6) for (let i = 0; i < 96 && node < nodes; i++) node = record(node, 0);
    for (let i = 31; i >= 0 && node < nodes; i--) node = record(node, Math.floor(ip / 2 ** i) % 2);
    if (node <= nodes) return "";
    const found = values.value(node - nodes - 16)[0];
    return typeof found?.country_code === "string" ? found.country_code : "";
  };
}

/** @param {Buffer} b */
function decoder(b) {
  /** @param {number} at @returns {[any, number]} the value, and where the next begins */
  function value(at) {
    let type = b[at] >> 5, size = b[at] & 31;
    at++;
    if (type === 1) { // a pointer
      const kind = size >> 3, more = kind + 1;
      const low = b.readUIntBE(at, more);
      const to = kind === 3 ? low : (size & 7) * 2 ** (8 * more) + low + [0, 2048, 526336][kind];
      return [value(to)[0], at + more];
    }
    if (type === 0) type = 7 + b[at++];
    if (size > 28) {
      const more = size - 28;
      size = [29, 285, 65821][more - 1] + b.readUIntBE(at, more);
      at += more;
    }
    const end = at + size;
    switch (type) {
      case 2: return [b.toString("utf8", at, end), end];
      case 5: case 6: case 8: case 9: case 10: {
        let n = 0;
        for (let i = at; i < end; i++) n = n * 256 + b[i];
        return [n, end];
      }
      case 7: case 11: {
        const map = Object.create(null), list = [];
        for (let i = 0; i < size; i++) {
          let k, v;
          if (type === 7) [k, at] = value(at);
          [v, at] = value(at);
          if (type === 7) map[k] = v;
          else list.push(v);
        }
        return [type === 7 ? map : list, at];
      }
      case 14: return [size !== 0, at];
      default: return [null, end];
    }
  }
  return { value };
}

// ---- land

const EARTH_KM = 6371.0088;
const MARGIN_KM = 50; // the lines are simplified: a coast missed by a few kilometres must decide nothing
const RAD = Math.PI / 180;

// ISO 3166-1: numbers and letters.
const M49 = `
  4AF 8AL 10AQ 12DZ 16AS 20AD 24AO 28AG 31AZ 32AR 36AU 40AT 44BS 48BH 50BD 51AM 52BB 56BE 60BM 64BT 68BO 70BA 72BW 74BV
  76BR 84BZ 86IO 90SB 92VG 96BN 100BG 104MM 108BI 112BY 116KH 120CM 124CA 132CV 136KY 140CF 144LK 148TD 152CL 156CN
  158TW 162CX 166CC 170CO 174KM 175YT 178CG 180CD 184CK 188CR 191HR 192CU 196CY 203CZ 204BJ 208DK 212DM 214DO 218EC
  222SV 226GQ 230ET 231ET 232ER 233EE 234FO 238FK 239GS 242FJ 246FI 248AX 249FX 250FR 254GF 258PF 260TF 262DJ 266GA
  268GE 270GM 275PS 276DE 278DD 280DE 288GH 292GI 296KI 300GR 304GL 308GD 312GP 316GU 320GT 324GN 328GY 332HT 334HM
  336VA 340HN 344HK 348HU 352IS 356IN 360ID 364IR 368IQ 372IE 376IL 380IT 384CI 388JM 392JP 398KZ 400JO 404KE 408KP
  410KR 414KW 417KG 418LA 422LB 426LS 428LV 430LR 434LY 438LI 440LT 442LU 446MO 450MG 454MW 458MY 462MV 466ML 470MT
  474MQ 478MR 480MU 484MX 492MC 496MN 498MD 499ME 500MS 504MA 508MZ 512OM 516NA 520NR 524NP 528NL 530AN 531CW 533AW
  534SX 535BQ 536NT 540NC 548VU 554NZ 558NI 562NE 566NG 570NU 574NF 578NO 580MP 581UM 583FM 584MH 585PW 586PK 591PA
  598PG 600PY 604PE 608PH 612PN 616PL 620PT 624GW 626TL 630PR 634QA 638RE 642RO 643RU 646RW 652BL 654SH 659KN 660AI
  662LC 663MF 666PM 670VC 674SM 678ST 682SA 686SN 688RS 690SC 694SL 702SG 703SK 704VN 705SI 706SO 710ZA 716ZW 720YD
  724ES 728SS 729SD 732EH 736SD 740SR 744SJ 748SZ 752SE 756CH 760SY 762TJ 764TH 768TG 772TK 776TO 780TT 784AE 788TN
  792TR 795TM 796TC 798TV 800UG 804UA 807MK 810SU 818EG 826GB 831GG 832JE 833IM 834TZ 840US 850VI 854BF 858UY 860UZ
  862VE 876WF 882WS 886YE 887YE 891CS 894ZM 983XK`;

// Areas that Natural Earth gives no number, and parts of France with codes of their own (west, south, east, north).
/** @type {Record<string, string>} */
const UNNUMBERED = { Somaliland: "SO", "N. Cyprus": "CY", Kosovo: "XK", "Indian Ocean Ter.": "AU" };
/** @type {[string, number, number, number, number][]} */
const OVERSEAS = [["GF", -55, 2, -51, 6], ["RE", 55, -22, 56, -20], ["YT", 45, -13.2, 45.4, -12.5]];

/** @typedef {{code: string, rings: Place[][], points: number[][][], box: [number, number]}} Area */

/** Countries of a TopoJSON file, one area for each polygon. @param {any} t @returns {Area[]} */
function readLand(t) {
  const codes = new Map(M49.trim().split(/\s+/).map((w) => [Number(w.slice(0, -2)), w.slice(-2)]));
  const { scale, translate } = t.transform;
  const arcs = t.arcs.map((/** @type {number[][]} */ arc) => {
    let x = 0, y = 0;
    return arc.map(([dx, dy]) => ({ lon: (x += dx) * scale[0] + translate[0], lat: (y += dy) * scale[1] + translate[1] }));
  });
  /** @param {number[]} indexes @returns {Place[]} */
  const ringOf = (indexes) => {
    /** @type {Place[]} */
    const out = [];
    indexes.forEach((n, i) => {
      const arc = n < 0 ? [...arcs[~n]].reverse() : arcs[n];
      out.push(...(i ? arc.slice(1) : arc));
    });
    return straightened(out);
  };
  /** @type {Area[]} */
  const out = [];
  for (const g of t.objects.countries.geometries) {
    const code = codes.get(/^\d+$/.test(g.id ?? "") ? Number(g.id) : -1) ?? UNNUMBERED[g.properties.name] ?? "XX";
    for (const polygon of g.type === "Polygon" ? [g.arcs] : g.arcs) {
      const rings = polygon.map(ringOf);
      const { lat, lon } = rings[0][0];
      const part = code === "FR" ? OVERSEAS.find(([, w, s, e, n]) => w <= lon && lon <= e && s <= lat && lat <= n) : undefined;
      const lats = rings.flat().map((/** @type {Place} */ p) => p.lat);
      out.push({ code: part ? part[0] : code, rings, points: rings.map((/** @type {Place[]} */ r) => r.map(onSphere)), box: [Math.min(...lats), Math.max(...lats)] });
    }
  }
  return out;
}

/** A ring across the date line goes on beyond 180 degrees; one around a pole is closed over it. @param {Place[]} ring */
function straightened(ring) {
  let turn = 0;
  const out = ring.map((p, i) => {
    const step = i ? p.lon - ring[i - 1].lon : 0;
    turn += step > 180 ? -360 : step < -180 ? 360 : 0;
    return { lat: p.lat, lon: p.lon + turn };
  });
  const first = out[0], last = out[out.length - 1];
  if (Math.abs(last.lon - first.lon) > 180) {
    const pole = first.lat < 0 ? -90 : 90;
    out.push({ lat: pole, lon: last.lon }, { lat: pole, lon: first.lon }, first);
  }
  return out;
}

/** @param {Area[]} land @param {Place} p @param {number} km @returns {string[]} */
function countriesWithin(land, p, km) {
  const reach = (km + MARGIN_KM) / EARTH_KM;
  const found = new Set();
  for (const area of land) {
    if (found.has(area.code)) continue;
    // Nothing is nearer than its difference in latitude.
    const north = Math.max(area.box[0] - p.lat, p.lat - area.box[1], 0) * RAD;
    if (north > reach + 1e-9) continue;
    if (isInside(area, p) || area.points.some((r) => isNear(r, p, reach))) found.add(area.code);
  }
  return [...found].sort();
}

/** A line to the east crosses the border an odd number of times. @param {Area} area @param {Place} p */
function isInside(area, p) {
  return [-360, 0, 360].some((turn) => {
    let odd = false;
    for (const ring of area.rings) {
      ring.forEach((a, i) => {
        const b = ring[(i + 1) % ring.length];
        if (a.lat > p.lat === b.lat > p.lat) return;
        if (p.lon + turn < a.lon + ((b.lon - a.lon) * (p.lat - a.lat)) / (b.lat - a.lat)) odd = !odd;
      });
    }
    return odd;
  });
}

/** @param {Place} p @returns {[number, number, number]} */
const onSphere = (p) => [Math.cos(p.lat * RAD) * Math.cos(p.lon * RAD), Math.cos(p.lat * RAD) * Math.sin(p.lon * RAD), Math.sin(p.lat * RAD)];
/** @param {number[]} a @param {number[]} b */
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
/** @param {number[]} a @param {number[]} b */
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
/** @param {number[]} a @param {number[]} b */
const angle = (a, b) => Math.atan2(Math.hypot(...cross(a, b)), dot(a, b));

/** Is some point of the great circle pieces between these points within the angle? @param {number[][]} points @param {Place} p @param {number} reach */
function isNear(points, p, reach) {
  const here = onSphere(p);
  for (let i = 0; i + 1 < points.length; i++) {
    const a = points[i], b = points[i + 1];
    if (angle(here, a) <= reach || angle(here, b) <= reach) return true;
    const normal = cross(a, b), length = Math.hypot(...normal);
    if (length < 1e-12) continue;
    // Between the planes that stand on the piece at its ends the nearest point is below here.
    if (dot(cross(normal, a), here) < 0 || dot(cross(b, normal), here) < 0) continue;
    if (Math.abs(Math.asin(Math.max(-1, Math.min(1, dot(normal, here) / length)))) <= reach) return true;
  }
  return false;
}

/** How far two places are from one another by rule R14, in km. @param {Place} a @param {Place} b */
export function kilometres(a, b) {
  const half = (/** @type {number} */ d) => Math.sin((d * RAD) / 2) ** 2;
  const h = half(a.lat - b.lat) + Math.cos(a.lat * RAD) * Math.cos(b.lat * RAD) * half(a.lon - b.lon);
  return 2 * 6371 * Math.asin(Math.min(1, Math.sqrt(h)));
}

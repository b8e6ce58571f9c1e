package secondverifier

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/bls"
	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

var (
	cases    = flag.Int("cases", 150, "random cases that are judged by both; with 1000 it is seen that they are of all kinds")
	firstOne = flag.Uint64("seed", 1, "seed of the first random case, or forged bundle")
)

// A dice makes up facts of a month: nothing of them needs to be possible, only readable.
type dice struct {
	*rand.Rand
	t       *testing.T
	lab     bool
	month   evidence.Month
	from    evidence.Hour // the enrolment
	relay   string
	key     crypto.PrivKey
	watch   []watcher
	cosign  []string // witness keys
	servers []string // names of controls
	ips     []string // registered, from the first address on
	moves   []evidence.Hour
	rough   float64 // how much goes wrong
}

type watcher struct {
	name, operator, key, cosigner string
	committee                     bool
	from                          evidence.Hour
	until                         *evidence.Hour
	place                         string
}

func newDice(t *testing.T, seed uint64) *dice {
	d := &dice{Rand: rand.New(rand.NewPCG(seed, 16)), t: t}
	d.month, _ = evidence.ParseMonth([]string{"2026-10", "2027-02", "2026-11"}[d.IntN(3)])
	d.from = d.month.End() - evidence.Hour(6+d.IntN(15))
	d.lab = d.one(8)
	d.rough = []float64{0, 0.05, 0.3}[d.IntN(3)]
	return d
}

// one is true once in n times.
func (d *dice) one(n int) bool { return d.IntN(n) == 0 }

// odd is true as often as things go wrong in this case.
func (d *dice) odd() bool { return d.Float64() < d.rough }

func pick[T any](d *dice, list ...T) T { return list[d.IntN(len(list))] }

// verifierKey is a key of signed notes of a type, made of the dice.
func (d *dice) verifierKey(name string, kind byte) string {
	seed := make([]byte, ed25519.SeedSize)
	for i := range seed {
		seed[i] = byte(d.Uint32())
	}
	pub := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	raw := append([]byte{kind}, pub...)
	sum := sha256.Sum256(append([]byte(name+"\n"), raw...))
	return name + "+" + hex.EncodeToString(sum[:4]) + "+" + base64.StdEncoding.EncodeToString(raw)
}

// planKeys are public keys for the monitors of a roster.
var planKeys = sync.OnceValue(func() (out []string) {
	for i := range 10 {
		key, err := bls.KeyGen(bytes.Repeat([]byte{byte(i)}, 32))
		if err != nil {
			panic(err) // a test of package bls fails as well
		}
		out = append(out, key.Public().String())
	}
	return out
})

func (d *dice) rules() string {
	over := fmt.Sprintf("network: %s\nhours_required: %d\ncoverage_flag: %d\n", d.network(), 1+d.IntN(20), pick(d, 0, 50, 90))
	add := func(field string, values ...string) {
		if d.one(4) {
			over += field + ": " + pick(d, values...) + "\n"
		}
	}
	add("attempt_close", "0", "5m", "30m0.5s")
	add("relay_level", "1", "2", "3")
	add("control_within", "30s", "1h")
	add("control_share", "1/3", "1/1")
	add("control_beside", "1s", "20s")
	add("line_loss", "0", "1", "20", "100")
	add("voucher_valid", "1h", "90m")
	add("down_attempts", "1", "3")
	add("down_spacing", "0", "6m", "10m")
	add("busy_cap", "0", "1", "3")
	add("witnesses_required", "0", "1", "2", "3")
	add("seal_within", "20m", "90m", "3h")
	add("clock_drift", "1ms", "500ms", "10s")
	add("clock_ahead", "0", "2m")
	add("address_changes", "0", "2")
	add("certificate_warn", "0", "700h30m")
	add("release_grace", "0", "240h")
	add("countries", "[SG]", "[DE, CH]", "[MY, SG, ID, AU]")
	add("cable_km_per_ms", "50", "99.5")
	add("browser_repeat", "1m", "2h")
	add("final_after", "0", "24h", "1h")
	add("assured_operators", "1", "3")
	add("committee_dissent", "0", "1")
	if d.one(2) { // no fewer than assured_operators at most
		over += pick(d, "monitors_due: 3\ndue_from: 4\n", "monitors_due: 4\ndue_from: 5\n")
	}
	return scene.RulesOver(d.t, over)
}

func (d *dice) network() string {
	if d.lab {
		return "lab"
	}
	return "psf"
}

// term is when somebody is in force: mostly all the month.
func (d *dice) term() (from evidence.Hour, until *evidence.Hour) {
	from = d.month.First() - 100
	if d.one(6) {
		from = d.from + evidence.Hour(d.IntN(12))
	}
	if d.one(6) {
		h := max(from, d.from) + 1 + evidence.Hour(d.IntN(20))
		until = &h
	}
	return from, until
}

func untilText(h *evidence.Hour) string {
	if h == nil {
		return "null"
	}
	return h.String()
}

func (d *dice) roster(releases string) string {
	serial := 1 + d.IntN(3)
	text := fmt.Sprintf("version: 1\nserial: %d\nnetwork: %s\n", serial, d.network())
	if serial > 1 {
		text += "previous: " + strings.Repeat("0123456789abcdef", 4) + "\n"
	}
	text += "monitors:\n"
	add := func(format string, args ...any) { text += fmt.Sprintf(format, args...) }
	operators := []string{"committee", "alpha", "beta", "gamma", "relay-operator"}
	for i := range 1 + d.IntN(5) {
		w := watcher{name: fmt.Sprintf("m%d", i+1), committee: i == 0 && !d.one(8) || d.one(15), operator: operators[i]}
		if d.one(6) {
			w.operator = pick(d, operators...)
		}
		w.from, w.until = d.term()
		w.place = "null"
		if !d.one(4) {
			w.place = pick(d, "{lat: 1.35, lon: 103.8}", "{lat: 1.35, lon: 103.8}", "{lat: 50.1, lon: 8.7}", "{lat: -33.9, lon: 151.2}", "{lat: 35.7, lon: 139.7}", "{lat: -90, lon: 180}")
		}
		add2 := func(w watcher) {
			w.key = d.verifierKey(fmt.Sprintf("%s/relaymon/%s", w.name, d.network()), 1)
			if !d.one(6) {
				w.cosigner = d.verifierKey(w.name+"-witness", pick(d, byte(4), 1))
				d.cosign = append(d.cosign, w.cosigner)
			}
			d.watch = append(d.watch, w)
			plan := ""
			if !d.lab || d.one(2) {
				plan = planKeys()[len(d.watch)]
			}
			add("- {name: %s, operator: %s, committee: %v, log_key: %q, plan_key: %q, witness_key: %q, place: %s, from: %s, until: %s}\n", w.name, w.operator, w.committee, w.key, plan, w.cosigner, w.place, w.from, untilText(w.until))
		}
		add2(w)
		if w.until != nil && d.one(2) { // a second term, with other keys
			w.from, w.until = *w.until+evidence.Hour(d.IntN(3)), nil
			if d.one(3) {
				w.operator = pick(d, operators...)
			}
			add2(w)
		}
	}
	if d.one(2) {
		add("witnesses:\n")
		for i := range 1 + d.IntN(2) {
			key := d.verifierKey(fmt.Sprintf("w%d", i), 4)
			d.cosign = append(d.cosign, key)
			from, until := d.term()
			add("- {name: w%d, operator: %s, key: %q, from: %s, until: %s}\n", i, pick(d, `""`, "alpha", "other"), key, from, untilText(until))
		}
	}
	d.relays(add)
	if !d.one(6) {
		add("controls:\n")
		for i := range 3 + d.IntN(3) {
			name := fmt.Sprintf("c%d", i)
			d.servers = append(d.servers, name)
			add("- {name: %s, operator: %q, tcp4: /ip4/192.5.5.241/tcp/4001, wss: /dns4/c%d.example.net/tcp/443/wss}\n", name, pick(d, "", name, name, name, "relay-operator"), i)
		}
	}
	if d.one(3) {
		add("notes:\n- {relay: %s, kind: maintenance, from: %s, until: %s, text: 'it''s the disk: \"new\"'}\n", d.relay, d.from+2, d.from+4)
		add("- {kind: incident, from: %s, until: %s, text: \"fibre\\tcut\"}\n", d.month.First()-5, d.month.First()-pick(d, evidence.Hour(0), 1))
	}
	if releases != "" {
		add("releases: %s\n", releases)
	}
	return text
}

func (d *dice) relays(add func(string, ...any)) {
	seed := sha256.Sum256([]byte("relay"))
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		d.t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		d.t.Fatal(err)
	}
	d.relay, d.key = id.String(), key
	signed := func(kind statement.Kind, ip, payout string, from evidence.Hour) string {
		s, err := statement.Sign(statement.Statement{Kind: kind, Network: d.network(), PeerID: d.relay, Operator: "relay-operator", IPv4: ip, TCPPort: 4001,
			Domain: "relay.example.org", WSSPort: 443, Payout: payout, From: from.Start(), Made: from.Start()}, d.key)
		if err != nil {
			d.t.Fatal(err)
		}
		return fmt.Sprintf(", statement: %q", statement.Text(s))
	}
	ip := pick(d, scene.RelayIP, scene.RelayIP, "8.8.8.8", "1.1.1.1")
	d.ips = []string{ip}
	said := ""
	if !d.one(4) {
		said = ", payout: \"bitcoincash:qexample\"" + signed(statement.Enrol, ip, "bitcoincash:qexample", d.from)
	}
	until := "null"
	if d.one(4) {
		until = (d.from + 3 + evidence.Hour(d.IntN(20))).String()
	}
	add("relays:\n- {peer_id: %s, operator: relay-operator, ipv4: %s, tcp_port: 4001, domain: relay.example.org, wss_port: %d, region: %s, enrolled: %s, until: %s%s",
		d.relay, ip, pick(d, 0, 443), pick(d, `""`, "SG", "US"), d.from, until, said)
	if d.one(3) {
		add(", moves: [")
		h := d.from
		for i := range 1 + d.IntN(2) {
			h += 1 + evidence.Hour(d.IntN(15))
			ip := fmt.Sprintf("165.21.83.%d", 90+i)
			d.ips, d.moves = append(d.ips, ip), append(d.moves, h)
			said := ""
			if d.one(2) {
				said = signed(statement.Move, ip, "", h)
			}
			add("{from: %s, announced: %s, ipv4: %s, tcp_port: 4001, domain: relay.example.org%s}, ", h, h-evidence.Hour(d.IntN(2)), ip, said)
		}
		add("]")
	}
	add("}\n")
}

func (d *dice) address(h evidence.Hour) string {
	ip := d.ips[0]
	for i, from := range d.moves {
		if from <= h {
			ip = d.ips[i+1]
		}
	}
	return ip
}

var outcomes = []evidence.Outcome{evidence.OK, evidence.Fail, evidence.Busy, evidence.Blind, evidence.Skipped}

// attempt is one of the hour: mostly up, or mostly a failure.
func (d *dice) attempt(h evidence.Hour, at time.Time, down bool) (evidence.Attempt, evidence.VoucherCheck) {
	a := evidence.Attempt{
		Started: evidence.TimeOf(at), PeerID: d.relay, Level: 4,
		TCP4Addr: fmt.Sprintf("/ip4/%s/tcp/4001/%s/%s", d.address(h), pick(d, "p2p", "p2p", "ipfs"), d.relay),
		WSSAddr:  "/dns4/relay.example.org/tcp/443/" + pick(d, "tls/ws", "wss") + "/p2p/" + d.relay,
		Results:  map[evidence.Component]evidence.Result{},
	}
	offset := int64(0)
	for _, c := range evidence.Components {
		r := evidence.Result{Outcome: evidence.OK}
		if down {
			r = evidence.Result{Outcome: evidence.Fail, Class: pick(d, evidence.Refused, evidence.ConnectTimeout, evidence.CertExpired, evidence.Class(""))}
			if c == evidence.Relay {
				r = evidence.Result{Outcome: evidence.Skipped, Class: evidence.BelowFailed}
				if d.one(3) {
					r = evidence.Result{Outcome: pick(d, evidence.Fail, evidence.Busy), Class: pick(d, evidence.ReserveRefused, evidence.VoucherInvalid)}
				}
			}
		}
		if d.odd() {
			r = evidence.Result{Outcome: pick(d, outcomes...), Class: pick(d, evidence.Refused, evidence.Class(""))}
		}
		a.Results[c] = r
		for range 1 + d.IntN(2) {
			took := int64(d.IntN(500_000))
			if d.one(12) {
				took = pick(d, int64(9_999_999), 10_000_000, 15_000_000, 0, 0)
			}
			a.Rungs = append(a.Rungs, evidence.Rung{Name: string(c), Component: c, Outcome: pick(d, r.Outcome, r.Outcome, evidence.Skipped), OffsetUS: offset, DurationUS: took})
			offset += took
		}
	}
	if down || d.odd() {
		a.Level = pick(d, evidence.Level(0), 0, 1, 2, 3, 4)
	}
	if d.odd() {
		a.Stepped = d.one(2)
	}
	if d.odd() && d.one(3) {
		a.TCP4Addr = pick(d, "", "/ip4/9.9.9.9/tcp/4001/p2p/"+d.relay, a.TCP4Addr+"/")
	}
	if d.odd() && d.one(3) {
		a.WSSAddr = pick(d, "", "/dns4/relay.example.org/tcp/8443/wss/p2p/"+d.relay)
	}
	if d.one(6) {
		a.Rungs = append(a.Rungs, evidence.Rung{Name: bounty.BrowserRung, Outcome: pick(d, evidence.OK, evidence.OK, evidence.Fail, evidence.Blind), OffsetUS: offset, DurationUS: int64(d.IntN(20_000_000))})
	}
	d.controls(&a, at, offset)
	d.facts(&a, h)
	return a, d.voucher(h, at.Add(time.Duration(offset)*time.Microsecond))
}

// controls are tried during the attempt and after it.
func (d *dice) controls(a *evidence.Attempt, at time.Time, length int64) {
	for _, name := range append([]string{bounty.LoopbackControl, "stranger"}, d.servers...) {
		for range d.IntN(3) + 1 {
			after := length + int64(d.IntN(20_000_000))
			if d.one(3) {
				after = pick(d, int64(d.IntN(int(length)+1)), length, 120_000_000, 120_001_000)
			}
			kinds := []evidence.Component{evidence.TCP4, evidence.WSS}
			if name == bounty.LoopbackControl {
				kinds = []evidence.Component{evidence.Relay}
			}
			for _, c := range kinds {
				r := evidence.Control{Name: name, Component: c, Outcome: evidence.OK, Started: evidence.TimeOf(at.Add(time.Duration(after) * time.Microsecond)), Sent: int64(d.IntN(200))}
				if d.odd() {
					r.Outcome = pick(d, outcomes...)
				}
				if d.odd() {
					r.Resent = int64(d.IntN(int(r.Sent)/10 + 1))
				}
				a.Controls = append(a.Controls, r)
			}
		}
	}
}

func (d *dice) facts(a *evidence.Attempt, h evidence.Hour) {
	a.Facts = evidence.Facts{AgentVersion: pick(d, "relayd/1.2.3", "relayd/v1.2.3", "relayd/1.1.0", "relayd/1.3.0", "", "other/\"9\u00a0"), PingUS: []int64{5_000, pick(d, int64(1_500), 2_345, 4_999, 9_000, 33_333, 77_000, 150_000)}}
	if d.odd() {
		a.Facts.PingUS = pick(d, nil, []int64{0}, []int64{pick(d, int64(200), 1_001, 400_000)})
	}
	a.Facts.ResolvedIPv4 = []string{d.address(h)}
	if d.odd() {
		a.Facts.ResolvedIPv4 = append(a.Facts.ResolvedIPv4, "9.9.9.9")
	}
	if a.Results[evidence.Relay].Outcome == evidence.Fail {
		a.Facts.Reservation = &evidence.Reservation{LimitBytes: pick(d, int64(0), 256, 1000, 2048), Expires: a.Started}
	}
	if d.one(2) {
		n, lie := d.IntN(3), time.Duration(d.IntN(2)) // another monitor may say something else of it
		a.Facts.Certificate = &evidence.Certificate{SHA256: strings.Repeat(fmt.Sprintf("%02x", n), 32), Issuer: fmt.Sprintf("CN=ca%d", lie),
			NotBefore: evidence.TimeOf(d.month.First().Start()), NotAfter: evidence.TimeOf(d.month.End().Start().Add((time.Duration(n) + lie) * 90 * time.Hour))}
	}
}

func (d *dice) voucher(h evidence.Hour, end time.Time) evidence.VoucherCheck {
	v := evidence.VoucherCheck{State: evidence.VoucherBound, Expires: evidence.TimeOf(end.Add(time.Hour)), Beacon: d.one(2)}
	if len(d.cosign) > 0 && d.one(2) {
		v.Witness = pick(d, d.cosign...)
	}
	if d.rough == 0 {
		v.Beacon = true
	}
	if d.odd() {
		v.State = pick(d, evidence.VoucherNone, evidence.VoucherBad)
	}
	if d.odd() {
		v.Expires = evidence.TimeOf(end.Add(pick(d, 3*time.Hour, 3*time.Hour+time.Millisecond, 90*time.Minute)))
	}
	return v
}

// hour is one of a monitor's log.
func (d *dice) hour(h evidence.Hour, down bool) evidence.VerifiedHour {
	sealed := h.End().Add(17 * time.Minute)
	vh := evidence.VerifiedHour{Header: evidence.Header{Hour: h, State: evidence.StateOK, SealedAt: evidence.TimeOf(sealed), Signed: true, Clock: evidence.Clock{Samples: 60, Synchronised: true}}}
	if !d.one(3) { // all monitors see the same round
		vh.Round = binary.BigEndian.AppendUint64(make([]byte, 48), uint64(h))
	}
	if d.odd() {
		vh.Header.State = evidence.StateGap
	}
	if d.odd() {
		vh.Header.Missed = int64(d.IntN(3))
	}
	if d.odd() {
		vh.Header.Clock = evidence.Clock{Samples: d.IntN(3), Synchronised: d.one(2), DriftMS: pick(d, int64(0), 1, 500, 1999, 2000, -2000, 9999)}
		for range pick(d, 0, 1, 15, 16) {
			vh.Header.Clock.Steps = append(vh.Header.Clock.Steps, evidence.ClockStep{At: evidence.TimeOf(sealed), ByMS: 1000})
		}
	}
	for _, key := range d.cosign {
		if d.rough > 0 && d.one(5) {
			continue
		}
		at := sealed.Add(time.Duration(1+d.IntN(120)) * time.Second)
		if d.odd() {
			at = pick(d, sealed.Add(-5*time.Second), sealed.Add(-6*time.Second), h.End().Add(time.Hour), h.End().Add(time.Hour+time.Second), sealed.Add(3*time.Hour))
		}
		vh.Cosigned = append(vh.Cosigned, evidence.Cosigned{Witness: key, At: at})
	}
	if d.odd() && d.one(2) {
		return vh // without a record
	}
	vh.Record = &evidence.Record{PeerID: d.relay, Hour: h}
	at := h.Start().Add(time.Duration(d.IntN(3600_000)) * time.Millisecond)
	if d.odd() && d.one(4) {
		at = at.Add(pick(d, -time.Hour, time.Hour, 30*time.Minute))
	}
	switch { // by rule R2
	case d.lab && d.one(2): // without a plan key nothing is said
	case d.odd():
		vh.PlanFault = pick(d, evidence.NoPlan, evidence.ForeignPlan)
	default:
		vh.Due = at.Truncate(time.Second)
		if d.odd() {
			vh.Due = at.Add(pick(d, 2*time.Second, 1999*time.Millisecond, 500*time.Millisecond, -16*time.Minute, -16*time.Minute-time.Millisecond, time.Hour))
		}
	}
	if d.odd() {
		down = d.one(2)
	}
	for range pick(d, 1, 2, 2, 3) {
		a, v := d.attempt(h, at, down)
		vh.Record.Attempts, vh.Vouchers = append(vh.Record.Attempts, a), append(vh.Vouchers, v)
		at = at.Add(pick(d, 5*time.Minute, 5*time.Minute-time.Millisecond, 6*time.Minute, 7*time.Minute))
		if d.odd() {
			down = !down
		}
	}
	return vh
}

// log is a monitor's month; nil: it is missing.
func (d *dice) log(w watcher) *bounty.Log {
	if d.odd() && d.one(3) {
		return nil
	}
	start, end := d.from-evidence.Hour(d.IntN(3)), d.month.End()
	if d.odd() {
		start = d.from + evidence.Hour(d.IntN(8))
	}
	if d.odd() || d.one(6) {
		end = max(start, end-evidence.Hour(d.IntN(18)))
	}
	m := evidence.VerifiedMonth{Origin: w.name + "/relaymon/" + d.network(), Network: evidence.Network(d.network()), Month: d.month, Relay: d.relay, Size: int64(end - start), Digest: strings.Repeat("ab", 32)}
	m.Root[0] = byte(d.Uint32())
	for h := start; h < end; h++ {
		bad := int(h-d.from)%7 == 3 || w.committee && int(h-d.from)%7 == 5
		m.Hours = append(m.Hours, d.hour(h, bad))
	}
	if start < end {
		m.Tip.End = end
		if end == d.month.End() {
			m.Tip.End += pick(d, evidence.Hour(0), 1, 2, 24, 80, 80)
		}
		for _, key := range d.cosign {
			if !d.one(4) {
				m.Tip.Cosigned = append(m.Tip.Cosigned, evidence.Cosigned{Witness: key, At: m.Tip.End.Start().Add(pick(d, 20*time.Minute, 20*time.Minute, -30*time.Minute, -26*time.Hour))})
			}
		}
	}
	log := &bounty.Log{Monitor: w.name, Key: w.key, Read: func(visit func(evidence.VerifiedHour) error) (evidence.VerifiedMonth, error) {
		for _, h := range m.Hours {
			if err := visit(h); err != nil {
				return m, err
			}
		}
		out := m
		out.Hours = nil
		return out, nil
	}}
	if d.one(15) {
		log.Void = "it signed two roots"
	}
	return log
}

// knownWorld is the built-in world, which is asked for the same disks again and again.
var knownWorld = sync.OnceValue(func() bounty.Geo {
	geo, err := bundle.DefaultGeo()
	if err != nil {
		panic(err) // a test of package bundle fails as well
	}
	return &memory{geo, map[string][]string{}}
})

type memory struct {
	bounty.Geo
	asked map[string][]string
}

func (m *memory) Within(p bounty.Place, km float64) []string {
	key := fmt.Sprint(p, km)
	if _, known := m.asked[key]; !known {
		m.asked[key] = m.Geo.Within(p, km)
	}
	return m.asked[key]
}

const releaseList = `products:
- name: "relayd"
  agent: "relayd/*"
  releases:
  - {version: v1.1.0, published: 2026-01-01T00:00:00Z}
  - {version: v1.2.3, published: %s}
  - {version: v1.3.0, published: %s}
`

func (d *dice) deal() (bounty.Case, []byte, []byte, []byte) {
	var releases []byte
	sum := ""
	if !d.one(4) {
		a, b := d.from.Start().Add(-time.Duration(d.IntN(900))*time.Hour), d.from.Start().Add(time.Duration(d.IntN(100)-90)*time.Hour)
		if b.Before(a) {
			b = a
		}
		releases = fmt.Appendf(nil, releaseList, a.Format(time.RFC3339), b.Format(time.RFC3339))
		sum = fmt.Sprintf("%x", sha256.Sum256(releases))
	}
	rules, roster := []byte(d.rules()), []byte(d.roster(sum))
	c := bounty.Case{Relay: d.relay, Month: d.month}
	var err error
	if c.Rules, err = bounty.ParseRules("rules", rules); err != nil {
		d.t.Fatal(err)
	}
	if c.Roster, err = bounty.ParseRoster("roster", roster); err != nil {
		d.t.Fatalf("%v\n%s", err, roster)
	}
	if releases != nil {
		if c.Releases, err = release.Parse("releases", releases); err != nil {
			d.t.Fatal(err)
		}
	}
	if !d.one(8) {
		c.RulesSignedBy, c.RosterSignedBy = []string{"committee+12345678"}, []string{"committee+12345678"}
	}
	c.Geo = knownWorld()
	for _, w := range d.watch {
		if w.from >= d.month.End() || w.until != nil && *w.until <= d.month.First() {
			continue
		}
		if log := d.log(w); log != nil {
			c.Logs = append(c.Logs, *log)
		}
	}
	return c, rules, roster, releases
}

// Both come to the same report of facts that are made up. What is counted at the end
// shows that the cases are of all kinds.
func TestRandomFacts(t *testing.T) {
	s := startSecond(t)
	tally := map[string]int{}
	n := *cases
	if testing.Short() {
		n = min(n, 50)
	}
	for i := range n {
		seed := *firstOne + uint64(i)
		d := newDice(t, seed)
		c, rules, roster, releases := d.deal()
		v, err := bounty.Judge(c)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		agree(t, s, fmt.Sprintf("seed %d", seed), v, factsOf(t, c, rules, roster, releases))
		tally[v.Headline]++
		for _, f := range v.Findings {
			tally[f.Rule+" "+string(f.Outcome)]++
		}
		for _, h := range v.Hourly {
			tally["hour "+h.State.String()]++
			for _, vote := range h.Votes {
				tally["vote "+vote]++
			}
			if h.Tally.Of > 0 {
				tally["hour chosen"]++
			}
		}
		if t.Failed() {
			t.Fatalf("run it again with -seed %d -cases 1", seed)
		}
	}
	t.Logf("%d cases: %v", n, tally)
	if n < 1000 {
		return
	}
	for _, kind := range []string{
		"ELIGIBLE", "ELIGIBLE, PROVISIONAL", "NOT_ELIGIBLE", "REVIEW", "REVIEW, PROVISIONAL", "LAB", "R10 INCONCLUSIVE", "R11 FAIL", "R11 WARN", "R12 WARN", "R12 REVIEW",
		"R13 FAIL", "R13 WARN", "R14 PASS", "R14 FAIL", "R14 REVIEW", "R15 REVIEW", "R19 PASS", "R20 WARN", "R20 REVIEW", "hour chosen",
		"vote up", "vote down", "vote busy", "vote unknown: missing", "vote unknown: missed", "vote unknown: blind", "vote unknown: no controls", "vote unknown: one failure",
		"vote unknown: other address", "vote unknown: not asked", "vote unknown: bad voucher", "vote unknown: late", "vote unknown: clock", "vote unknown: early", "vote unknown: void",
		"vote unknown: overloaded", "vote unknown: unsigned", "vote unknown: presigned", "vote unknown: not fresh", "vote unknown: unplanned",
	} {
		if tally[kind] == 0 {
			t.Errorf("no case of %q: the cases have become too much alike", kind)
		}
	}
}

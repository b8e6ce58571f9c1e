// Package sitetest has made-up months for tests of the committee's site.
package sitetest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/committee"
	"github.com/psf-relay/relay-appliance/monitor/decision"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Name is that of the made-up committee.
const Name = "committee.example.org"

// Hostile is what nobody should be called.
var Hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> \u202eevil\u2066\x00\t=1+1 " + strings.Repeat("very-long-", 400)

// Past is a month that is over, Running one that is not.
var (
	Past    = evidence.MonthOf(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
	Running = Past + 1
)

// Reader has verdicts in memory.
type Reader struct {
	Verdicts map[evidence.Month]map[string]*bounty.Verdict
	// Err is the answer to everything; nil: there is no fault.
	Err error
	// Tables counts how often a table was asked for.
	Tables int
}

// Months implements [committee.Reader].
func (r *Reader) Months(context.Context) ([]evidence.Month, error) {
	months := slices.Sorted(maps.Keys(r.Verdicts))
	slices.Reverse(months)
	return months, r.Err
}

// Table implements [committee.Reader].
func (r *Reader) Table(_ context.Context, m evidence.Month) (rows []committee.Row, err error) {
	r.Tables++
	for _, id := range slices.Sorted(maps.Keys(r.Verdicts[m])) {
		rows = append(rows, committee.RowOf(r.Verdicts[m][id], bounty.Defaults()))
	}
	return rows, r.Err
}

// Verdict implements [committee.Reader].
func (r *Reader) Verdict(_ context.Context, m evidence.Month, relay string) (*bounty.Verdict, error) {
	v := r.Verdicts[m][relay]
	if r.Err == nil && v == nil {
		return nil, fmt.Errorf("made up: %w", fs.ErrNotExist)
	}
	return v, r.Err
}

// Vantages implements [committee.Reader].
func (r *Reader) Vantages(_ context.Context, m evidence.Month) ([]committee.Vantage, error) {
	end := m.End()
	list := []committee.Vantage{
		{Monitor: "m1.example.org", Operator: "the committee", Committee: true, Place: &bounty.Place{Lat: 52.5, Lon: 13.4}, Key: "m1.example.org/relaymon/psf+0a0b0c0d+AQ", Reaches: &end},
		{Monitor: "m2.example.org", Operator: "bob", Place: &bounty.Place{Lat: 1.35, Lon: 103.8}, Key: "m2.example.org/relaymon/psf+0a0b0c0e+AQ", Reaches: &end},
		{Monitor: "m3.example.org", Operator: Hostile, Place: &bounty.Place{Lat: 37.8, Lon: -122.4}, Key: "m3.example.org/relaymon/psf+0a0b0c0f+AQ", Trouble: "its server answers 503"},
		{Monitor: "m4.example.org", Operator: "dora", Key: "m4.example.org/relaymon/psf+0a0b0c10+AQ", Void: "it signed two histories"},
	}
	return list, r.Err
}

// Key is that of the n-th relay, always the same, and ID its peer ID.
func Key(t testing.TB, n byte) crypto.PrivKey {
	t.Helper()
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)))
	must(t, err)
	return key
}

// ID is the n-th relay's.
func ID(t testing.TB, n byte) string {
	t.Helper()
	id, err := peer.IDFromPrivateKey(Key(t, n))
	must(t, err)
	return id.String()
}

// The relays of a made-up month, by their numbers.
const (
	Paid     = 1 // eligible, and paid
	Flaky    = 2 // not eligible, and refused
	Appealed = 3 // for review; it was refused, and the operator appealed
	Waiting  = 4 // eligible, and not decided
	Evil     = 5 // for review, with a hostile name
	Ahead    = 6 // of the running month: it does well
	Risky    = 7 // of the running month: it loses many hours
	Stray    = 8 // only the log of decisions knows it
)

// Made has relays of every kind.
func Made(t testing.TB) *Reader {
	t.Helper()
	r := &Reader{Verdicts: map[evidence.Month]map[string]*bounty.Verdict{Past: {}, Running: {}}}
	add := func(m evidence.Month, n byte, operator string, judged int, state func(h int) string) {
		id := ID(t, n)
		r.Verdicts[m][id] = Verdict(m, id, operator, judged, state)
	}
	steady := func(h int) string {
		if h == 100 || h == 101 {
			return "dissent"
		}
		return "up"
	}
	flaky := func(h int) string {
		if h%24 < 6 {
			return "down"
		}
		return "up"
	}
	busy := func(h int) string {
		switch {
		case h%10 == 0:
			return "busy"
		case h%50 == 1:
			return "unknown"
		}
		return "up"
	}
	add(Past, Paid, "Ada's relays", 720, steady)
	add(Past, Flaky, "Grace", 720, flaky)
	add(Past, Appealed, "Linus", 720, busy)
	add(Past, Waiting, "Barbara", 720, func(int) string { return "up" })
	add(Past, Evil, Hostile, 720, busy)
	add(Running, Paid, "Ada's relays", 240, steady)
	add(Running, Ahead, "Edsger", 240, func(int) string { return "up" })
	add(Running, Risky, "Grace", 240, flaky)
	for _, id := range []string{ID(t, Appealed), ID(t, Evil)} {
		v := r.Verdicts[Past][id]
		v.Result, v.Headline = bounty.ForReview, "REVIEW"
		v.Findings[1].Outcome, v.Findings[1].Reasons = bounty.Review, []string{"two data sets name different countries: DE and NL"}
		v.Reasons = []string{"region REVIEW: two data sets name different countries: DE and NL"}
	}
	evil := r.Verdicts[Past][ID(t, Evil)]
	evil.Relay.WSS = "/dns4/" + Hostile + "/tcp/443/wss"
	evil.Reasons = append(evil.Reasons, Hostile)
	evil.Findings[0].Reasons = append(evil.Findings[0].Reasons, Hostile)
	evil.Monitors[2].Name, evil.Monitors[2].Void = Hostile, Hostile
	evil.Hourly[5].Causes = []string{Hostile}
	return r
}

// Verdict is a made-up verdict on the first judged hours of a month; state says of each
// hour whether it is up, down, busy, unknown, or up with a dissent.
func Verdict(m evidence.Month, relay, operator string, judged int, state func(h int) string) *bounty.Verdict {
	v := &bounty.Verdict{
		Version: bounty.ReportVersion, Network: evidence.PSF, Month: m, Final: judged == m.Hours(),
		AsOf: evidence.TimeOf((m.First() + evidence.Hour(judged)).Start().Add(16 * time.Minute)),
		Relay: bounty.RelayReport{
			PeerID: relay, Operator: operator, TCP4: "/ip4/203.0.113.7/tcp/4001/p2p/" + relay, WSS: "/dns4/" + strings.ToLower(relay[len(relay)-6:]) + ".example.net/tcp/443/wss/p2p/" + relay,
			Region: "DE", Payout: "bitcoincash:qq" + relay[len(relay)-8:], PayoutSigned: true, Enrolled: m.First() - 1000,
		},
		Labels: []string{"software: self-reported"}, Grades: map[bounty.Grade]int{}, Notes: []bounty.Note{}, Disputed: []bounty.Span{},
		Certificates: []bounty.CertificateSeen{}, Agents: []bounty.AgentSeen{}, Latency: []bounty.DayLatency{}, Disks: []bounty.Disk{}, Dissent: []bounty.Dissent{}, Absent: []bounty.Absence{},
		Inputs: bounty.Inputs{
			Rules: bounty.Input{SHA256: strings.Repeat("b", 64), Serial: 1, SignedBy: []string{Name}}, Roster: bounty.Input{SHA256: strings.Repeat("c", 64), Serial: 7, SignedBy: []string{Name}}, Geo: []bounty.Source{},
		},
	}
	if v.Final {
		v.AsOf = evidence.TimeOf(m.End().Start().Add(73 * time.Hour))
	}
	for i, name := range []string{"m1.example.org", "m2.example.org", "m3.example.org", "m4.example.org"} {
		v.Monitors = append(v.Monitors, bounty.MonitorReport{
			Name: name, Operator: []string{"the committee", "bob", "carol", "dora"}[i], Committee: i == 0, Log: true, Origin: name + "/relaymon/psf",
			Size: int64(1000 + judged), Root: strings.Repeat(fmt.Sprint(i+1), 43) + "=", Votes: map[bounty.Value]int{},
		})
	}
	v.Hours.Total = m.Hours()
	v.Hours.Remaining = m.Hours() - judged
	var down []bounty.Span
	for i := range judged {
		h := bounty.HourReport{Hour: m.First() + evidence.Hour(i), State: bounty.StateUp, Grade: bounty.GradeA, Votes: map[string]string{}}
		vote := func(monitor int, value bounty.Value, why string) {
			r := &v.Monitors[monitor]
			r.Votes[value]++
			h.Tally.Bench++
			h.Tally.Add(value)
			h.Votes[r.Name] = value.String() + why
		}
		kind := state(i)
		for k := range v.Monitors {
			switch {
			case kind == "down":
				vote(k, bounty.Down, "")
			case kind == "busy":
				vote(k, bounty.Busy, "")
			case kind == "unknown":
				vote(k, bounty.Unknown, ": no controls")
			case kind == "dissent" && k == 2:
				vote(k, bounty.Down, "")
			default:
				vote(k, bounty.Up, "")
				v.Monitors[k].Vouchers++
			}
		}
		switch kind {
		case "down":
			h.State, h.Grade, h.Causes = bounty.StateDown, "", []string{"wss cert-expired"}
			v.Hours.Down++
			if n := len(down); n > 0 && down[n-1].Until == h.Hour {
				down[n-1].Until++
			} else {
				down = append(down, bounty.Span{From: h.Hour, Until: h.Hour + 1})
			}
		case "unknown":
			h.State, h.Grade = bounty.StateUnknown, ""
			v.Hours.Unknown++
		case "busy":
			h.Busy, h.Grade = true, bounty.GradeC
			v.Hours.Busy++
			v.Hours.Up++
		default:
			v.Hours.Up++
			v.Signed++
			v.Assured++
			if kind == "dissent" {
				v.Dissent = []bounty.Dissent{{Monitor: v.Monitors[2].Name, Operator: "carol", Vote: bounty.Down, Against: bounty.StateUp, Hours: 2, Spans: []bounty.Span{{From: m.First() + 100, Until: m.First() + 102}}}}
			}
		}
		if h.Grade != "" {
			v.Grades[h.Grade]++
		}
		v.Hourly = append(v.Hourly, h)
	}
	v.Coverage = v.Hours.Coverage()
	required := bounty.Defaults().HoursRequired
	uptime := bounty.Finding{Rule: "R10", Subject: "uptime", Outcome: bounty.Pass, Reasons: []string{fmt.Sprintf("%d hours up, %d required", v.Hours.Up, required)}, Hours: down}
	v.Result, v.Reasons = bounty.Eligible, []string{"every rule passed"}
	switch {
	case v.Hours.Up+v.Hours.Unknown+v.Hours.Remaining < required:
		uptime.Outcome, v.Result, v.Final = bounty.Fail, bounty.NotEligible, true
	case v.Hours.Up < required:
		uptime.Outcome, v.Result = bounty.Inconclusive, bounty.ForReview
	}
	if uptime.Outcome != bounty.Pass {
		v.Reasons = []string{fmt.Sprintf("uptime %s: %s", uptime.Outcome, uptime.Reasons[0])}
	}
	v.Findings = []bounty.Finding{uptime, {Rule: "R14", Subject: "region", Outcome: bounty.Pass, Reasons: []string{"the round trips allow DE"}}, {Rule: "R13", Subject: "software", Outcome: bounty.Warn, Reasons: []string{"the release list is old"}}}
	v.Headline = string(v.Result)
	if !v.Final {
		v.Headline += ", PROVISIONAL"
	}
	return v
}

// Decisions writes a log about the relays of [Made] into a folder of the test, and returns
// how to read it.
func Decisions(t testing.TB) func() (*decision.Log, error) {
	t.Helper()
	key, err := evidence.NewSigningKey(rand.Reader, Name, evidence.LogKeyType)
	must(t, err)
	dir := t.TempDir()
	w, err := decision.Open(decision.Where{Dir: filepath.Join(dir, "decisions"), Network: evidence.PSF, Key: key, Memory: filepath.Join(dir, "committee.key.decisions-psf"), First: true})
	must(t, err)
	at := evidence.TimeOf(time.Date(2026, 12, 10, 9, 30, 0, 0, time.UTC))
	enter := func(e decision.Entry) (hash string) {
		e.Version, e.Network, e.At = decision.Version, evidence.PSF, at
		_, hash, err := w.Enter(e)
		must(t, err)
		at = evidence.TimeOf(at.Add(24 * time.Hour))
		return hash
	}
	decided := func(n byte, verdict decision.Verdict) *decision.Decision {
		return &decision.Decision{
			Relay: ID(t, n), Month: Past, Bundle: strings.Repeat("a", 64), Rules: strings.Repeat("b", 64), Roster: strings.Repeat("c", 64), Verdict: verdict,
			AsOf: evidence.TimeOf(time.Date(2026, 12, 4, 0, 0, 0, 0, time.UTC)),
		}
	}
	pay := func(n byte) *decision.Payment {
		id := ID(t, n)
		return &decision.Payment{TxID: strings.Repeat("d", 64), Payout: "bitcoincash:qq" + id[len(id)-8:], Signed: true}
	}
	appeal := func(n byte, text string) decision.Appeal {
		envelope, err := statement.Sign(statement.Statement{Kind: statement.Appeal, Network: "psf", PeerID: ID(t, n), Operator: "Linus", Month: Past.String(), Text: text, Made: at.Truncate(time.Second)}, Key(t, n))
		must(t, err)
		return decision.Appeal{Statement: envelope}
	}
	paid := decided(Paid, decision.Eligible)
	paid.Pay = pay(Paid)
	enter(decision.Entry{Decision: paid})
	refused := decided(Flaky, decision.NotEligible)
	refused.Refuse = "180 hours were down, each night."
	enter(decision.Entry{Decision: refused})
	// Refused, appealed, paid in its place; and appealed again.
	first := decided(Appealed, decision.Review)
	first.Refuse = "The region is not clear."
	hash := enter(decision.Entry{Decision: first})
	said := appeal(Appealed, "The relay stands in Frankfurt.\nSee <b>the invoice</b> & ask: https://example.net/invoice")
	enter(decision.Entry{Appeal: &said})
	second := decided(Appealed, decision.Eligible)
	second.Pay, second.Replaces, second.Why, second.Answers = pay(Appealed), hash, "The operator showed where it stands.", []string{said.SHA256()}
	enter(decision.Entry{Decision: second})
	again := appeal(Appealed, "The payment has not arrived.")
	enter(decision.Entry{Appeal: &again})
	stray := decided(Stray, decision.Eligible)
	stray.Pay = pay(Stray)
	enter(decision.Entry{Decision: stray})
	must(t, w.Close())
	return func() (*decision.Log, error) {
		return decision.Read(filepath.Join(dir, "decisions"), key.VerifierKey())
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

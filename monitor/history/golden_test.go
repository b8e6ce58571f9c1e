package history

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

var update = flag.Bool("update", false, "write the stories in testdata anew")

// tale is an hour of a relay, as facts of which a story is told.
type tale struct {
	roster   *bounty.Roster
	relay    *bounty.Relay
	vouchers *evidence.Vouchers
	f        Facts
}

func newTale(t *testing.T) *tale {
	log, roster := newLog(t, 1, first)
	vouchers, err := New(log, bounty.Defaults(), roster, oneRound("round")).Vouchers(first.Month())
	must(t, err)
	roster.Network = evidence.PSF
	relay := &roster.Relays[0]
	relay.Domain = "relay.example.org"
	for _, name := range []string{"c1", "c2", "c3"} {
		roster.Controls = append(roster.Controls, bounty.ControlHost{Name: name, TCP4: "x", WSS: "x"})
	}
	roster.Monitors = []bounty.Monitor{{Name: "m1", Operator: "committee", Committee: true}, {Name: "m2", Operator: "somebody"}, {Name: "m3", Operator: "them"}}
	roster.Witnesses = []bounty.Witness{{Name: "w1", Key: "w1+00000000+x"}}
	hour := first + 400
	return &tale{roster, relay, vouchers, Facts{
		Monitor: "m1", Rules: bounty.Defaults(), Roster: roster, Relay: relay, Hour: hour, Now: hour.End().Add(2 * time.Hour), Cosigned: true,
		Verified: &evidence.VerifiedHour{
			Header: evidence.Header{
				Hour: hour, State: evidence.StateOK, Software: "relaymon/1.4.0", SealedAt: evidence.TimeOf(hour.End().Add(evidence.CloseAfter)),
				Clock: evidence.Clock{Samples: 12, Synchronised: true},
			},
			Cosigned: []evidence.Cosigned{{Witness: "w1+00000000+x", At: hour.End().Add(20 * time.Minute)}},
		},
		Month: &bounty.Hours{Total: 720, Up: 300, Down: 5, Unknown: 3, Busy: 2, Remaining: 412},
	}}
}

// good is an attempt that found the relay up.
func (x *tale) good(minutes int) evidence.Attempt {
	at := x.f.Hour.Start().Add(time.Duration(minutes) * time.Minute)
	a := up(x.relay, at)
	a.Facts.Reservation = reserve(x.relay.PeerID, at, []byte("round"))
	a.Facts.AgentVersion = "relayd/1.4.1"
	a.Rungs = nil
	for i, name := range []string{"tcp4", "identify", "wss", "reserve", "circuit"} {
		c := map[string]evidence.Component{"tcp4": evidence.TCP4, "identify": evidence.TCP4, "wss": evidence.WSS}[name]
		if c == "" {
			c = evidence.Relay
		}
		a.Rungs = append(a.Rungs, evidence.Rung{Name: name, Component: c, Outcome: evidence.OK, OffsetUS: int64(i) * 100_000, DurationUS: 100_000})
	}
	return a
}

// bad is one that failed at a rung; those behind it were skipped. The controls worked.
func (x *tale) bad(minutes int, rung string, outcome evidence.Outcome, class evidence.Class, detail string) evidence.Attempt {
	a := x.good(minutes)
	a.Level, a.Facts = 0, evidence.Facts{}
	failed := false
	for i := range a.Rungs {
		r := &a.Rungs[i]
		switch {
		case r.Name == rung:
			r.Outcome, r.Class, r.Detail, failed = outcome, class, detail, true
		case failed:
			*r = evidence.Rung{Name: r.Name, Component: r.Component, Outcome: evidence.Skipped, Class: evidence.BelowFailed}
		}
		if r.Outcome != evidence.OK {
			if a.Results[r.Component].Outcome == evidence.OK {
				a.Results[r.Component] = evidence.Result{Outcome: r.Outcome, Class: r.Class}
			}
		}
	}
	at := evidence.TimeOf(a.Started.Add(10 * time.Second))
	for _, name := range []string{"c1", "c2", "c3"} {
		for _, c := range []evidence.Component{evidence.TCP4, evidence.WSS} {
			a.Controls = append(a.Controls, evidence.Control{Name: name, Component: c, Outcome: evidence.OK, Started: at, Sent: 20})
		}
	}
	a.Controls = append(a.Controls, evidence.Control{Name: bounty.LoopbackControl, Component: evidence.Relay, Outcome: evidence.OK, Started: at})
	return a
}

func (x *tale) refused(minutes int) evidence.Attempt {
	return x.bad(minutes, "tcp4", evidence.Fail, evidence.Refused, "dial tcp4 127.0.0.2:4001: connection refused")
}

func (x *tale) expired(minutes int) evidence.Attempt {
	return x.bad(minutes, "wss", evidence.Fail, evidence.CertExpired, "it was valid until 2026-10-20")
}

func (x *tale) full(minutes int) evidence.Attempt {
	return x.bad(minutes, "reserve", evidence.Busy, evidence.ReserveRefused, "")
}

// record is what was seen in the hour.
func (x *tale) record(list ...evidence.Attempt) {
	x.f.Record = &evidence.Record{PeerID: x.relay.PeerID, Hour: x.f.Hour, Attempts: list}
	x.f.Vouchers = Judged(x.vouchers, x.f.Record)
}

// text is the story as a terminal shows it. The peer ID is another one in each run.
func (x *tale) text() (Story, string) {
	s := Tell(x.f)
	var b strings.Builder
	for _, p := range s.Parts() {
		fmt.Fprintf(&b, "%s\n", p.Title)
		for _, words := range p.Words {
			fmt.Fprintf(&b, "  %s\n", words)
		}
	}
	return s, strings.ReplaceAll(b.String(), x.relay.PeerID, "PEER")
}

// Each story is read by a person who has lost an hour, or fears it: the whole text of
// each kind of hour stands in testdata.
func TestStories(t *testing.T) {
	stepped := func(x *tale) *evidence.Clock {
		return &evidence.Clock{Samples: 12, Synchronised: true, DriftMS: 360_000,
			Steps: []evidence.ClockStep{{At: evidence.TimeOf(x.f.Hour.Start().Add(20 * time.Minute)), ByMS: 360_000}}}
	}
	for name, c := range map[string]struct {
		vote bounty.Value
		why  bounty.Why
		set  func(*tale)
	}{
		"up":          {bounty.Up, bounty.None, func(x *tale) { x.record(x.good(2)) }},
		"restart":     {bounty.Up, bounty.None, func(x *tale) { x.f.AgentBefore = "relayd/1.4.0"; x.record(x.refused(2), x.good(17)) }},
		"updated":     {bounty.Up, bounty.None, func(x *tale) { x.f.AgentBefore = "relayd/1.4.0"; x.record(x.good(2)) }},
		"certificate": {bounty.Down, bounty.None, func(x *tale) { x.record(x.expired(2), x.expired(8), x.expired(15)) }},
		"refused":     {bounty.Down, bounty.None, func(x *tale) { x.record(x.refused(50), x.refused(56), x.refused(63)) }},
		"two-reasons": {bounty.Down, bounty.None, func(x *tale) { x.record(x.refused(2), x.expired(8)) }},
		"one-failure": {bounty.Unknown, bounty.OneFailure, func(x *tale) { x.record(x.refused(58)) }},
		"alone-down": {bounty.Down, bounty.None, func(x *tale) {
			x.roster.Monitors = x.roster.Monitors[:1]
			x.f.Month = nil
			x.record(x.refused(2), x.refused(8))
		}},
		"blind": {bounty.Unknown, bounty.BlindLine, func(x *tale) {
			a, b := x.refused(2), x.refused(8)
			for i := range a.Controls {
				a.Controls[i].Outcome, b.Controls[i].Resent = evidence.Fail, 9
			}
			x.record(a, b)
		}},
		"resolver": {bounty.Unknown, bounty.BlindLine, func(x *tale) {
			a := x.bad(2, "wss", evidence.Blind, evidence.Resolver, "")
			a.Facts.Lookups = []evidence.Lookup{{Resolver: evidence.OwnResolver, IPv4: []string{"203.0.113.9"}}, {Resolver: "1.1.1.1#cloudflare-dns.com", Class: evidence.Resolver}}
			x.record(a)
		}},
		"no-controls": {bounty.Unknown, bounty.NoControls, func(x *tale) { x.roster.Controls = nil; x.record(x.refused(2), x.refused(8)) }},
		"gap":         {bounty.Unknown, bounty.Missing, func(x *tale) { x.f.Verified.Header.State, x.f.Verified.Header.Software = evidence.StateGap, "" }},
		"unsealed":    {bounty.Unknown, bounty.Missing, func(x *tale) { x.f.Verified = nil }},
		"under-way": {bounty.Unknown, bounty.OneFailure, func(x *tale) {
			x.f.Verified, x.f.Now = nil, x.f.Hour.Start().Add(5*time.Minute)
			x.record(x.refused(2))
		}},
		"not-yet":      {bounty.Unknown, bounty.Missing, func(x *tale) { x.f.Verified, x.f.Now = nil, x.f.Hour.Start().Add(5*time.Minute) }},
		"late":         {bounty.Unknown, bounty.Late, func(x *tale) { x.f.Verified.Cosigned = nil; x.record(x.good(2)) }},
		"busy":         {bounty.Busy, bounty.None, func(x *tale) { x.record(x.full(2), x.full(8), x.full(15)) }},
		"not-enrolled": {bounty.Up, bounty.None, func(x *tale) { x.relay.Enrolled = x.f.Hour + 1; x.record(x.good(2)) }},
		"recused":      {bounty.Down, bounty.None, func(x *tale) { x.roster.Monitors[0].Operator = x.relay.Operator; x.record(x.refused(2), x.refused(8)) }},
		"clock-set":    {bounty.Unknown, bounty.Clock, func(x *tale) { x.f.Verified.Header.Clock = *stepped(x); x.record(x.refused(2), x.refused(26)) }},
		"clock-set-within": {bounty.Unknown, bounty.Clock, func(x *tale) {
			x.f.Verified.Header.Clock = *stepped(x)
			a := x.good(20)
			a.Stepped = true
			x.record(a)
		}},
		"no-voucher": {bounty.Unknown, bounty.Unsigned, func(x *tale) {
			a := x.good(2)
			a.Facts.Reservation.Voucher = nil
			x.record(a)
		}},
		"lab": {bounty.Up, bounty.None, func(x *tale) { x.roster.Network = evidence.Lab; x.record(x.good(2)) }},
		"alone-gap": {bounty.Unknown, bounty.Missing, func(x *tale) {
			x.roster.Monitors = x.roster.Monitors[:1]
			x.f.Verified.Header.State, x.f.Verified.Header.Software = evidence.StateGap, ""
		}},
		"overloaded": {bounty.Unknown, bounty.Overloaded, func(x *tale) { x.f.Verified.Header.Missed = 12 }},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTale(t)
			c.set(x)
			s, got := x.text()
			if s.Vote != c.vote || s.Why != c.why {
				t.Errorf("the hour is %s (%s), want %s (%s)", s.Vote, s.Why, c.vote, c.why)
			}
			golden := filepath.Join("testdata", name+".txt")
			if *update {
				must(t, os.MkdirAll("testdata", 0o755))
				must(t, os.WriteFile(golden, []byte(got), 0o644))
				return
			}
			want, err := os.ReadFile(golden)
			must(t, err)
			if !bytes.Equal([]byte(got), want) {
				t.Errorf("the story is not that of %s (go test -update writes it anew). Got:\n%s\nwant:\n%s", golden, got, want)
			}
		})
	}
}

// An update restarts the relay while a monitor tries it. The next attempt of the hour is
// good: in the real log, by the real count, the hour is up, and nothing is lost.
func TestRestartCostsNothing(t *testing.T) {
	x := newTale(t)
	log, roster := newLog(t, 1, first)
	x.relay, x.roster, x.f.Hour = &roster.Relays[0], roster, first
	before := x.good(5)
	before.Facts.AgentVersion = "relayd/1.4.0"
	must(t, log.Begin(first, first.Start(), "relaymon/test"))
	must(t, log.Append(first, before))
	seal(t, log, first)
	x.f.Hour++
	must(t, log.Begin(x.f.Hour, x.f.Hour.Start(), "relaymon/test"))
	must(t, log.Append(x.f.Hour, x.refused(2)))
	must(t, log.Append(x.f.Hour, x.good(8)))
	seal(t, log, x.f.Hour)

	rules := bounty.Defaults()
	hist := New(log, rules, roster, nil)
	known, err := hist.Month(first.Month())
	must(t, err)
	votes := bounty.NewSheet(first.Month())
	for i, h := range known.Of(x.relay.PeerID).Hours {
		votes.Set("m1", first.Month().First()+evidence.Hour(i), bounty.Vote{Value: h.Vote, Why: h.Why})
	}
	roster.Monitors = []bounty.Monitor{{Name: "m1"}}
	month := bounty.CountUptime(rules, roster, x.relay, votes, x.f.Hour.End()).Hours
	if month.Up != 2 || month.Down != 0 || month.Unknown != 0 {
		t.Errorf("the month has %d up, %d down, %d unknown, want 2 up and nothing lost", month.Up, month.Down, month.Unknown)
	}

	vouchers, err := hist.Vouchers(first.Month())
	must(t, err)
	records, err := log.Records(x.f.Hour)
	must(t, err)
	s := Tell(Facts{
		Monitor: "m1", Rules: rules, Roster: roster, Relay: x.relay, Hour: x.f.Hour, Now: x.f.Hour.End().Add(time.Hour),
		Record: &records[0], Vouchers: Judged(vouchers, &records[0]), Month: &month, AgentBefore: "relayd/1.4.0",
	})
	all := strings.Join(s.Words, "\n")
	if s.Vote != bounty.Up {
		t.Errorf("the hour is %s (%s), want up", s.Vote, s.Why)
	}
	for _, want := range []string{
		"Before, attempt 1, at 23:02:00, failed: nobody listens on the port (refused).", "a restart costs nothing (R6)", "It costs nothing.",
		"ran relayd/1.4.0; in the good attempt it said relayd/1.4.1.",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("not said: %q\n%s", want, all)
		}
	}
}

// The rules have the titles that they have in the terms.
func TestRulesAreTheTerms(t *testing.T) {
	terms, err := os.ReadFile("../../BOUNTY.md")
	must(t, err)
	n := 0
	for _, term := range allTerms(newTale(t).f) {
		if !strings.HasPrefix(term.Word, "R") {
			continue
		}
		n++
		title := regexp.MustCompile(`^[^.?]+\??`).FindString(term.Means)
		if !regexp.MustCompile(`\*\*` + regexp.QuoteMeta(title) + ` \([^)]*\b` + term.Word + `\b[^)]*\)\.\*\*`).Match(terms) {
			t.Errorf("rule %s: BOUNTY.md has no rule %q of that number", term.Word, title)
		}
	}
	if n == 0 {
		t.Error("there are no rules among the words, want those that the stories name")
	}
	// What a story names is explained.
	files, err := filepath.Glob("testdata/*.txt")
	must(t, err)
	for _, name := range files {
		text, err := os.ReadFile(name)
		must(t, err)
		story, words, _ := strings.Cut(string(text), "\nWords and rules\n")
		for _, found := range Named.FindAllString(story, -1) {
			if word := TermOf(found); !strings.Contains("\n"+words, "\n  "+word+": ") {
				t.Errorf("%s: %q is not explained", name, word)
			}
		}
	}
}

package history

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

func TestTell(t *testing.T) {
	_, roster := newLog(t, 1, first)
	relay := &roster.Relays[0]
	roster.Controls = []bounty.ControlHost{{Name: "c1", TCP4: "x", WSS: "x"}}
	roster.Witnesses = []bounty.Witness{{Name: "w1", Key: "w1+00000000+x"}}
	roster.Monitors = []bounty.Monitor{{Name: "m1"}, {Name: "m2"}}
	fail := func(minutes int) evidence.Attempt {
		a := up(relay, first.Start().Add(time.Duration(minutes)*time.Minute))
		a.Level = 0
		a.Results[evidence.WSS] = evidence.Result{Outcome: evidence.Fail, Class: evidence.CertExpired}
		a.Results[evidence.Relay] = evidence.Result{Outcome: evidence.Skipped, Class: evidence.BelowFailed}
		a.Rungs = []evidence.Rung{{Name: "wss", Component: evidence.WSS, Outcome: evidence.Fail, Class: evidence.CertExpired, Detail: "since May"}}
		a.Controls = []evidence.Control{{Name: "c1", Component: evidence.WSS, Outcome: evidence.OK, Started: a.Started}}
		return a
	}
	lied := fail(10)
	lied.Results[evidence.WSS] = evidence.Result{Outcome: evidence.Blind, Class: evidence.Resolver}
	lied.Facts.Lookups = []evidence.Lookup{{Resolver: evidence.OwnResolver, IPv4: []string{"203.0.113.9"}}, {Resolver: "1.1.1.1#cloudflare-dns.com", Class: evidence.Resolver}}
	blind := fail(20)
	blind.Controls[0].Outcome = evidence.Fail
	sealed := func(clock evidence.Clock, by ...time.Time) *evidence.VerifiedHour {
		v := &evidence.VerifiedHour{Header: evidence.Header{
			Hour: first, State: evidence.StateOK, Software: "relaymon/1", SealedAt: evidence.TimeOf(first.End().Add(evidence.CloseAfter)), Clock: clock,
		}}
		for _, at := range by {
			v.Cosigned = append(v.Cosigned, evidence.Cosigned{Witness: "w1+00000000+x", At: at})
		}
		return v
	}
	good := evidence.Clock{Samples: 1, Synchronised: true}
	soon, late := first.End().Add(20*time.Minute), first.End().Add(2*time.Hour)
	record := func(a ...evidence.Attempt) *evidence.Record {
		return &evidence.Record{PeerID: relay.PeerID, Hour: first, Attempts: a}
	}
	overloaded := sealed(good, soon)
	overloaded.Header.Missed = 12
	for name, c := range map[string]struct {
		verified *evidence.VerifiedHour
		record   *evidence.Record
		now      time.Time
		vote     bounty.Value
		why      bounty.Why
		words    []string
	}{
		"up, under way": {nil, record(up(relay, first.Start())), first.Start().Add(time.Minute), bounty.Up, bounty.None, []string{"not sealed yet", "vote is up", "So far, this hour counts as UP"}},
		"to come":       {nil, nil, first.Start().Add(-time.Minute), bounty.Unknown, bounty.Missing, []string{"has not begun"}},
		"never sealed":  {nil, nil, late, bounty.Unknown, bounty.Missing, []string{"was not running"}},
		"down": {sealed(good, soon), record(fail(10), fail(16)), late, bounty.Down, bounty.None,
			[]string{"was watching", "2 attempts failed at the rung wss because the certificate has expired, while", "The detail: since May.", "What to do: renew it", "wss 1 of 1 ok", "at least 5 minutes apart", "The causes: wss cert-expired", "cosigned it before 2026-10-31 00:00:00: 1; required: 1"}},
		"one failure": {sealed(good, soon), record(fail(10)), late, bounty.Unknown, bounty.OneFailure, []string{"(one failure)", "far enough apart"}},
		"blind":       {sealed(good, soon), record(blind), late, bounty.Unknown, bounty.BlindLine, []string{"own line worked"}},
		"resolver": {sealed(good, soon), record(lied), late, bounty.Unknown, bounty.BlindLine,
			[]string{"own resolver: own: 203.0.113.9; 1.1.1.1#cloudflare-dns.com: no answer"}},
		"late":  {sealed(good, late), record(up(relay, first.Start())), late, bounty.Unknown, bounty.Late, []string{"vote is up", "too few witnesses"}},
		"clock": {sealed(evidence.Clock{Samples: 1}, soon), record(up(relay, first.Start())), late, bounty.Unknown, bounty.Clock, []string{"clock was set within the hour, or was not to be trusted"}},
		"set": {sealed(evidence.Clock{Samples: 2, Synchronised: true, DriftMS: 360_000, Steps: []evidence.ClockStep{{At: evidence.TimeOf(first.Start().Add(20 * time.Minute)), ByMS: 360_000}}}, soon),
			record(fail(10), fail(16)), late, bounty.Unknown, bounty.Clock, []string{"The monitor's clock was set by +360.0 s, to 22:20:00", "vote is down", "unknown (clock)"}},
		"set, one failure": {sealed(evidence.Clock{Samples: 2, Synchronised: true, DriftMS: 360_000, Steps: []evidence.ClockStep{{At: evidence.TimeOf(first.Start().Add(20 * time.Minute)), ByMS: 360_000}}}, soon),
			record(fail(10)), late, bounty.Unknown, bounty.Clock, []string{"vote is unknown (one failure)", "unknown (clock)"}},
		"missed":     {sealed(good, soon), nil, late, bounty.Unknown, bounty.Missed, []string{"made no attempt"}},
		"overloaded": {overloaded, nil, late, bounty.Unknown, bounty.Overloaded, []string{"12 attempts on all its relays", "no place"}},
		"overloaded, one failure": {overloaded, record(fail(10)), late, bounty.Unknown, bounty.Overloaded,
			[]string{"12 attempts on all its relays", "vote is unknown (overloaded)"}},
		"overloaded, down": {overloaded, record(fail(10), fail(16)), late, bounty.Down, bounty.None, []string{"12 attempts on all its relays"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := Tell(Facts{Monitor: "m1", Rules: bounty.Defaults(), Roster: roster, Relay: relay, Hour: first, Now: c.now, Verified: c.verified, Record: c.record, Cosigned: true})
			all := strings.Join(s.Words, "\n")
			if s.Vote != c.vote || s.Why != c.why {
				t.Errorf("%s (%s), want %s (%s)\n%s", s.Vote, s.Why, c.vote, c.why, all)
			}
			for _, w := range c.words {
				if !strings.Contains(all, w) {
					t.Errorf("not said: %q\n%s", w, all)
				}
			}
		})
	}
	before := Tell(Facts{Monitor: "m1", Rules: bounty.Defaults(), Roster: roster, Relay: relay, Hour: first - 1, Now: late})
	if before.Enrolled || !strings.Contains(strings.Join(before.Words, "\n"), "not enrolled") {
		t.Errorf("before the enrolment: %v", before.Words)
	}
}

// oneRound is a source of randomness with a single round.
type oneRound string

func (r oneRound) VerifyBeacon(beacon []byte, _ time.Time) error {
	if string(beacon) != string(r) {
		return errors.New("forged")
	}
	return nil
}

// Hours come out as in a verdict: what the relay did not sign, or could have signed
// beforehand, makes nothing up; the page says why, and what to do.
func TestSignatureDecides(t *testing.T) {
	for name, c := range map[string]struct {
		network evidence.Network
		change  func(*evidence.Attempt)
		vote    bounty.Value
		why     bounty.Why
		words   string
	}{
		"signed, in a lab": {evidence.Lab, nil, bounty.Up, bounty.None, "answered in this very hour"},
		"no voucher":       {evidence.Lab, func(a *evidence.Attempt) { a.Facts.Reservation.Voucher = nil }, bounty.Unknown, bounty.Unsigned, "signs a voucher for each reservation"},
		"no reservation":   {evidence.Lab, func(a *evidence.Attempt) { a.Facts.Reservation = nil }, bounty.Unknown, bounty.Unsigned, "signs a voucher for each reservation"},
		"of another hour": {evidence.Lab, func(a *evidence.Attempt) {
			a.Facts.Reservation = reserve(a.PeerID, a.Started.Add(-time.Hour), nil)
			a.Facts.Reservation.Expires = a.Started
		}, bounty.Unknown, bounty.BadVoucher, "not bound to this monitor, relay and hour"},
		"valid for a day": {evidence.Lab, func(a *evidence.Attempt) {
			*a.Facts.Reservation = *reserveFor(a.PeerID, a.Started.Time, nil, 23*time.Hour)
		},
			bounty.Unknown, bounty.Presigned, "lets reservations last for less time"},
		"nothing new": {evidence.PSF, nil, bounty.Unknown, bounty.NotFresh, "the monitor's operator checks the setting drand"},
		"a beacon":    {evidence.PSF, func(a *evidence.Attempt) { a.Facts.Reservation = reserve(a.PeerID, a.Started.Time, []byte("round")) }, bounty.Up, bounty.None, "answered in this very hour"},
		"a forged beacon": {evidence.PSF, func(a *evidence.Attempt) { a.Facts.Reservation = reserve(a.PeerID, a.Started.Time, []byte("lie")) },
			bounty.Unknown, bounty.BadVoucher, "beacon: forged"},
	} {
		log, roster := newLog(t, 1, first)
		relay := &roster.Relays[0]
		roster.Network = c.network
		a := up(relay, first.Start().Add(time.Minute))
		if c.change != nil {
			c.change(&a)
		}
		hist := New(log, bounty.Defaults(), roster, oneRound("round"))
		must(t, log.Begin(first, first.Start(), "test"))
		must(t, log.Append(first, a))
		for _, kind := range []Kind{Open, Sealed} {
			if kind == Sealed {
				seal(t, log, first)
			}
			if got, err := hourOf(hist, relay.PeerID, first); err != nil || got.Kind != kind || got.Vote != c.vote || got.Why != c.why {
				t.Errorf("%s: %+v, %v, want %s (%s)", name, got, err, c.vote, c.why)
			}
		}
		vouchers, err := hist.Vouchers(first.Month())
		must(t, err)
		rec := &evidence.Record{PeerID: relay.PeerID, Hour: first, Attempts: []evidence.Attempt{a}}
		s := Tell(Facts{Monitor: "m1", Rules: bounty.Defaults(), Roster: roster, Relay: relay, Hour: first, Now: first.End(), Record: rec, Vouchers: Judged(vouchers, rec)})
		all := strings.Join(s.Words, "\n")
		if s.Vote != c.vote || s.Why != c.why || !strings.Contains(all, c.words) || c.why != bounty.None && !strings.Contains(all, c.why.Meaning()) {
			t.Errorf("%s: %s (%s), want %s (%s) and %q in\n%s", name, s.Vote, s.Why, c.vote, c.why, c.words, all)
		}
	}
}

// What an auditor does not count is not told as a vote: an attempt before it was due, and
// one by a monitor of the relay's operator.
func TestTellWhatDoesNotCount(t *testing.T) {
	_, roster := newLog(t, 1, first)
	roster.Network = evidence.PSF
	relay := &roster.Relays[0]
	roster.Monitors = []bounty.Monitor{{Name: "m1", Operator: relay.Operator}}
	a := up(relay, first.Start().Add(time.Minute))
	rec := &evidence.Record{PeerID: relay.PeerID, Hour: first, Attempts: []evidence.Attempt{a}}
	vouchers := []evidence.VoucherCheck{{State: evidence.VoucherBound, Beacon: true, Expires: evidence.TimeOf(first.End())}}
	header := evidence.Header{Hour: first, State: evidence.StateOK, Clock: evidence.Clock{Samples: 1, Synchronised: true}}
	tell := func(due time.Time) Story {
		return Tell(Facts{Monitor: "m1", Rules: bounty.Defaults(), Roster: roster, Relay: relay, Hour: first, Now: first.End(),
			Verified: &evidence.VerifiedHour{Header: header, Record: rec, Due: due}, Record: rec, Vouchers: vouchers, Cosigned: true})
	}
	if s := tell(first.Start()); s.Vote != bounty.Up || !strings.Contains(strings.Join(s.Words, "\n"), "votes on this relay count nowhere (R7)") {
		t.Errorf("of a recused monitor: %v", s)
	}
	if s := tell(first.Start().Add(30 * time.Minute)); s.Vote != bounty.Unknown || s.Why != bounty.Early || !strings.Contains(strings.Join(s.Words, "\n"), "before it was due by the monitor's plan (R2).") {
		t.Errorf("made before it was due: %v", s)
	}
}

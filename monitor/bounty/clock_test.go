package bounty

import (
	"fmt"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// setClock is the clock of an hour in which it was set once.
func setClock(by time.Duration) evidence.Clock {
	c := evidence.Clock{Samples: 6, Synchronised: true, DriftMS: by.Abs().Milliseconds()}
	if by.Abs() >= evidence.MinStep {
		c.Steps = []evidence.ClockStep{{ByMS: by.Milliseconds()}}
	}
	return c
}

// In an hour in which the clock was set only an attempt that succeeded counts, in
// which it was not: with or without witnesses, in whatever direction.
func TestVoteOfAClockThatWasSet(t *testing.T) {
	rules, roster, relay, h := stage(t)
	const min = time.Minute
	climbed := func(after time.Duration, outcomes string, set bool) evidence.Attempt {
		level := evidence.Level(0)
		if outcomes == "ooo" {
			level = 4
		}
		a := climb(h.Start().Add(after), outcomes, level)
		a.Stepped = set
		return a
	}
	withClass := func(a evidence.Attempt, c evidence.Component, class evidence.Class) evidence.Attempt {
		a.Results[c] = evidence.Result{Outcome: evidence.Fail, Class: class}
		return a
	}
	expired := func(after time.Duration) evidence.Attempt {
		return withClass(climbed(after, "ofs", false), evidence.WSS, evidence.CertExpired)
	}
	good := evidence.Clock{Samples: 6, Synchronised: true}
	full := good
	for range evidence.MaxSteps {
		full.DriftMS, full.Steps = 1000, append(full.Steps, evidence.ClockStep{ByMS: 1000})
	}
	up, dead := climbed(5*min, "ooo", false), []evidence.Attempt{climbed(5*min, "ffs", false), climbed(11*min, "ffs", false)}
	for _, tc := range []struct {
		name     string
		clock    evidence.Clock
		attempts []evidence.Attempt
		want     Vote
	}{
		{"no step, dead", good, dead, Vote{Value: Down}},
		{"no step, one failure", good, dead[:1], Vote{Why: OneFailure}},
		{"forward an hour, one failure", setClock(time.Hour), dead[:1], Vote{Why: Clock}},
		{"no step, up", good, []evidence.Attempt{up}, Vote{Value: Up}},
		{"a drift of 1999 ms, dead", setClock(1999 * time.Millisecond), dead, Vote{Value: Down}},
		{"forward 2 s, dead", setClock(2 * time.Second), dead, Vote{Why: Clock}},
		{"back 3 s, dead", setClock(-3 * time.Second), dead, Vote{Why: Clock}},
		{"forward 6 minutes, dead", setClock(6 * min), dead, Vote{Why: Clock}},
		{"forward 6 minutes, up", setClock(6 * min), []evidence.Attempt{up}, Vote{Value: Up}},
		{"back 5 minutes, failed once, then up", setClock(-5 * min), []evidence.Attempt{dead[0], climbed(11*min, "ooo", false)}, Vote{Value: Up}},
		{"forward 6 minutes, up, but meanwhile", setClock(6 * min), []evidence.Attempt{climbed(5*min, "ooo", true)}, Vote{Why: Clock}},
		{"forward 6 minutes, up meanwhile, then again", setClock(6 * min), []evidence.Attempt{climbed(5*min, "ooo", true), climbed(11*min, "ooo", false)}, Vote{Value: Up}},
		{"forward 6 minutes, busy", setClock(6 * min), []evidence.Attempt{climbed(5*min, "oob", false)}, Vote{Why: Clock}},
		{"set during one of two failures", good, []evidence.Attempt{climbed(5*min, "ffs", true), dead[1]}, Vote{Why: Clock}},
		{"set during one of three failures", good, append(dead, climbed(18*min, "ffs", true)), Vote{Value: Down}},
		{"set more often than can be told, dead", full, dead, Vote{Why: Clock}},
		{"set more often than can be told, up", full, []evidence.Attempt{up}, Vote{Value: Up}},
		{"a certificate has expired", good, []evidence.Attempt{expired(5 * min), expired(11 * min)}, Vote{Value: Down}},
		{"by a clock that nobody keeps", evidence.Clock{Samples: 6}, []evidence.Attempt{expired(5 * min), expired(11 * min)}, Vote{Why: Clock}},
		{"by a clock that nobody looked at", evidence.Clock{}, []evidence.Attempt{expired(5 * min), expired(11 * min)}, Vote{Why: Clock}},
	} {
		for _, witnesses := range []int{0, 1} {
			if witnesses == 1 && !tc.clock.Synchronised {
				continue // see TestSealed: nothing of such an hour counts
			}
			t.Run(fmt.Sprintf("%s, %d witnesses", tc.name, witnesses), func(t *testing.T) {
				roster := *roster
				vh := &evidence.VerifiedHour{Header: evidence.Header{Hour: h, SealedAt: evidence.TimeOf(h.End().Add(17 * min)), Clock: tc.clock}}
				if witnesses == 1 {
					roster.Witnesses = []Witness{{Name: "w", Key: "key of w", Term: Term{From: h}}}
					vh.Cosigned = []evidence.Cosigned{{Witness: "key of w", At: h.End().Add(20 * min)}}
				}
				rec := &evidence.Record{PeerID: relayID, Hour: h, Attempts: tc.attempts}
				ballot := VoteOf(rules, &roster, nil, relay, rec, nil)
				got := Sealed(rules, &roster, &roster.Monitors[0], 1, vh).Of(rules, ballot)
				if got != tc.want {
					t.Errorf("got %s (%s), want %s (%s)", got.Value, got.Why, tc.want.Value, tc.want.Why)
				}
			})
		}
	}
}

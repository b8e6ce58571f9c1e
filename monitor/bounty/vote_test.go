package bounty

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// stage is a relay, a roster with three controls, and an hour.
func stage(t testing.TB) (*Rules, *Roster, *Relay, evidence.Hour) {
	roster := bench(1)
	roster.Relays[0].Address = Address{IPv4: "198.41.0.4", TCPPort: 4001, Domain: "relay.example.org"}
	roster.Relays[0].PeerID, roster.Relays[0].Operator = relayID, "alice"
	for _, name := range []string{"c1", "c2", "c3"} {
		roster.Controls = append(roster.Controls, ControlHost{Name: name, Operator: name, TCP4: "x", WSS: "y"})
	}
	return Defaults(), roster, &roster.Relays[0], hour(t, "2026-11-03T13:00:00Z")
}

const (
	relayID  = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
	tcp4Addr = "/ip4/198.41.0.4/tcp/4001/p2p/" + relayID
	wssAddr  = "/dns4/relay.example.org/tcp/443/wss/p2p/" + relayID
)

// climb is an attempt with these outcomes of tcp4, wss and relay: o ok, f fail,
// b busy, n blind, s skipped. All controls answered 30 s after its start.
func climb(at time.Time, outcomes string, level evidence.Level) evidence.Attempt {
	a := evidence.Attempt{Started: evidence.TimeOf(at), PeerID: relayID, TCP4Addr: tcp4Addr, WSSAddr: wssAddr, Level: level, Results: map[evidence.Component]evidence.Result{}}
	words := map[byte]evidence.Outcome{'o': evidence.OK, 'f': evidence.Fail, 'b': evidence.Busy, 'n': evidence.Blind, 's': evidence.Skipped}
	for i, c := range evidence.Components {
		o := words[outcomes[i]]
		a.Results[c] = evidence.Result{Outcome: o}
		if o == evidence.Fail || o == evidence.Busy {
			a.Results[c] = evidence.Result{Outcome: o, Class: "refused"}
		}
		a.Rungs = append(a.Rungs, evidence.Rung{Name: string(c), Component: c, Outcome: o, OffsetUS: int64(i) * 1e6, DurationUS: 1e6})
	}
	a.Controls = controlsAt(at.Add(30*time.Second), "c1", "c2", "c3")
	return a
}

func controlsAt(at time.Time, names ...string) []evidence.Control {
	var out []evidence.Control
	for _, name := range names {
		for _, c := range []evidence.Component{evidence.TCP4, evidence.WSS} {
			out = append(out, evidence.Control{Name: name, Component: c, Outcome: evidence.OK, Started: evidence.TimeOf(at)})
		}
	}
	return append(out, evidence.Control{Name: LoopbackControl, Component: evidence.Relay, Outcome: evidence.OK, Started: evidence.TimeOf(at)})
}

// lose gives the controls of tcp4, in order, these numbers of packets sent and sent again.
func lose(a *evidence.Attempt, packets ...int64) {
	i := 0
	for j := range a.Controls {
		if a.Controls[j].Component == evidence.TCP4 {
			a.Controls[j].Sent, a.Controls[j].Resent = packets[i], packets[i+1]
			i += 2
		}
	}
}

// Every reason of a vote has its words.
func TestWhyWords(t *testing.T) {
	for w := Missing; w <= NotFresh; w++ {
		if w.Meaning() == "" {
			t.Errorf("%s is not explained", w)
		}
	}
}

func TestVote(t *testing.T) {
	rules, roster, relay, h := stage(t)
	at := func(d time.Duration) time.Time { return h.Start().Add(d) }
	const min = time.Minute
	up, down := climb(at(5*min), "ooo", 4), climb(at(5*min), "ffs", 0)
	again := func(d time.Duration, outcomes string, level evidence.Level) evidence.Attempt {
		return climb(at(5*min+d), outcomes, level)
	}
	for _, tc := range []struct {
		name     string
		attempts []evidence.Attempt
		want     Vote
	}{
		{"ok at once", []evidence.Attempt{up}, Vote{Value: Up}},
		{"fail, then ok", []evidence.Attempt{down, again(6*min, "ooo", 4)}, Vote{Value: Up}},
		{"fail, fail, ok", []evidence.Attempt{down, again(6*min, "ffs", 0), again(13*min, "ooo", 4)}, Vote{Value: Up}},
		{"fail, then the monitor crashes", []evidence.Attempt{down}, Vote{Why: OneFailure}},
		{"two fails 6 minutes apart", []evidence.Attempt{down, again(6*min, "ffs", 0)}, Vote{Value: Down}},
		{"two fails 5 minutes apart", []evidence.Attempt{down, again(5*min, "ffs", 0)}, Vote{Value: Down}},
		{"two fails just less apart", []evidence.Attempt{down, again(5*min-time.Millisecond, "ffs", 0)}, Vote{Why: OneFailure}},
		{"three fails", []evidence.Attempt{down, again(6*min, "ffs", 0), again(13*min, "ffs", 0)}, Vote{Value: Down}},
		{"three fails, the last far enough", []evidence.Attempt{down, again(2*min, "ffs", 0), again(5*min, "ffs", 0)}, Vote{Value: Down}},
		{"wss alone fails twice (wrong SAN)", []evidence.Attempt{climb(at(5*min), "ofs", 0), again(6*min, "ofs", 0)}, Vote{Value: Down}},
		{"another component each time", []evidence.Attempt{climb(at(5*min), "fos", 0), again(6*min, "ofs", 0)}, Vote{Value: Down}},
		{"reserved, but circuits die", []evidence.Attempt{climb(at(5*min), "oof", 2), again(6*min, "oof", 2)}, Vote{Value: Down}},
		{"busy once", []evidence.Attempt{climb(at(5*min), "oob", 0)}, Vote{Value: Busy}},
		{"busy all three times", []evidence.Attempt{climb(at(5*min), "oob", 0), again(6*min, "oob", 0), again(13*min, "oob", 0)}, Vote{Value: Busy}},
		{"busy, then ok", []evidence.Attempt{climb(at(5*min), "oob", 0), again(6*min, "ooo", 4)}, Vote{Value: Up}},
		{"busy and one fail", []evidence.Attempt{climb(at(5*min), "oob", 0), again(6*min, "ffs", 0)}, Vote{Value: Busy}},
		{"busy and two fails", []evidence.Attempt{climb(at(5*min), "oob", 0), again(6*min, "ffs", 0), again(13*min, "ffs", 0)}, Vote{Value: Down}},
		{"busy and two fails too near", []evidence.Attempt{climb(at(5*min), "oob", 0), again(1*min, "ffs", 0), again(2*min, "ffs", 0)}, Vote{Why: OneFailure}},
		{"blind all the time", []evidence.Attempt{climb(at(5*min), "nns", 0), again(6*min, "nns", 0)}, Vote{Why: BlindLine}},
		{"one fail and two blind", []evidence.Attempt{down, again(6*min, "nns", 0), again(13*min, "nns", 0)}, Vote{Why: OneFailure}},
		{"no attempt", nil, Vote{Why: Missed}},
		{"ok, but the level says otherwise", []evidence.Attempt{climb(at(5*min), "ooo", 3)}, Vote{Why: NotAsked}},
		{"level 4 without wss", []evidence.Attempt{climb(at(5*min), "oso", 4)}, Vote{Why: NotAsked}},
		{"relay ok although tcp4 failed", []evidence.Attempt{climb(at(5*min), "foo", 4)}, Vote{Why: OneFailure}},
		{"starts in 13, ends in 14", []evidence.Attempt{climb(at(59*min+58*time.Second), "ooo", 4)}, Vote{Value: Up}},
		{"retries end in the next hour", []evidence.Attempt{climb(at(59*min), "ffs", 0), climb(at(72*min), "ffs", 0)}, Vote{Value: Down}},
		{"a retry after the hour has closed", []evidence.Attempt{climb(at(59*min), "ffs", 0), climb(at(76*min), "ffs", 0)}, Vote{Why: OneFailure}},
		{"a retry just before", []evidence.Attempt{climb(at(59*min), "ffs", 0), climb(at(76*min-time.Millisecond), "ffs", 0)}, Vote{Value: Down}},
		{"of the hour before", []evidence.Attempt{climb(at(-time.Millisecond), "ooo", 4)}, Vote{Why: Missed}},
		{"the first attempt belongs to the next hour", []evidence.Attempt{climb(at(60*min), "ooo", 4)}, Vote{Why: Missed}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rec := &evidence.Record{PeerID: relayID, Hour: h, Attempts: tc.attempts}
			got := VoteOf(rules, roster, nil, relay, rec, nil)
			if got.Vote != tc.want {
				t.Errorf("got %s (%s), want %s (%s)", got.Value, got.Why, tc.want.Value, tc.want.Why)
			}
			if (got.Value == Up) != (got.UpAttempt >= 0) {
				t.Errorf("up attempt %d", got.UpAttempt)
			}
		})
	}
}

func TestVoteNeedsControls(t *testing.T) {
	rules, _, _, h := stage(t)
	first, second := h.Start().Add(5*time.Minute), h.Start().Add(11*time.Minute)
	both := func(outcomes string, f func(a *evidence.Attempt, at time.Time)) []evidence.Attempt {
		a, b := climb(first, outcomes, 0), climb(second, outcomes, 0)
		f(&a, first)
		f(&b, second)
		return []evidence.Attempt{a, b}
	}
	failed := func(at time.Time) time.Time { return at.Add(time.Second) } // when tcp4's rung ended
	for _, tc := range []struct {
		name     string
		outcomes string
		change   func(a *evidence.Attempt, at time.Time)
		roster   func(r *Roster)
		want     Vote
	}{
		{"all passed", "fss", func(*evidence.Attempt, time.Time) {}, nil, Vote{Value: Down}},
		{"two of three", "fss", func(a *evidence.Attempt, at time.Time) { a.Controls = controlsAt(failed(at), "c1", "c3") }, nil, Vote{Value: Down}},
		{"one of three", "fss", func(a *evidence.Attempt, at time.Time) { a.Controls = controlsAt(failed(at), "c1") }, nil, Vote{Why: BlindLine}},
		{"one of three, thrice", "fss", func(a *evidence.Attempt, at time.Time) { a.Controls = controlsAt(failed(at), "c1", "c1", "c1") }, nil, Vote{Why: BlindLine}},
		{"none ran", "fss", func(a *evidence.Attempt, _ time.Time) { a.Controls = nil }, nil, Vote{Why: BlindLine}},
		{"strangers", "fss", func(a *evidence.Attempt, at time.Time) { a.Controls = controlsAt(failed(at), "x", "y", "z") }, nil, Vote{Why: BlindLine}},
		{"120 s after", "fss", func(a *evidence.Attempt, at time.Time) {
			a.Controls = controlsAt(failed(at).Add(120*time.Second), "c1", "c2")
		}, nil, Vote{Value: Down}},
		{"later than that", "fss", func(a *evidence.Attempt, at time.Time) {
			a.Controls = controlsAt(failed(at).Add(120*time.Second+time.Millisecond), "c1", "c2")
		}, nil, Vote{Why: BlindLine}},
		{"before", "fss", func(a *evidence.Attempt, at time.Time) {
			a.Controls = controlsAt(failed(at).Add(-time.Millisecond), "c1", "c2", "c3")
		}, nil, Vote{Why: BlindLine}},
		{"a long failure needs them beside it", "fss", func(a *evidence.Attempt, at time.Time) {
			a.Rungs[0].DurationUS = 10e6
		}, nil, Vote{Why: BlindLine}},
		{"beside it and after it", "fss", func(a *evidence.Attempt, at time.Time) {
			a.Rungs[0].DurationUS = 10e6
			a.Controls = append(controlsAt(at.Add(3*time.Second), "c1", "c2"), a.Controls...)
		}, nil, Vote{Value: Down}},
		{"beside it only", "fss", func(a *evidence.Attempt, at time.Time) {
			a.Rungs[0].DurationUS = 10e6
			a.Controls = controlsAt(at.Add(3*time.Second), "c1", "c2")
		}, nil, Vote{Why: BlindLine}},
		{"just not so long", "fss", func(a *evidence.Attempt, at time.Time) {
			a.Rungs[0].DurationUS = 10e6 - 1000
		}, nil, Vote{Value: Down}},
		{"one answered late, and not beside it", "fss", func(a *evidence.Attempt, at time.Time) {
			a.Rungs[0].DurationUS = 10e6
			beside := controlsAt(at.Add(3*time.Second), "c1", "c2")
			beside[0].Outcome = evidence.Fail
			a.Controls = append(beside, a.Controls...)
		}, nil, Vote{Why: BlindLine}},
		{"one answered, then not", "fss", func(a *evidence.Attempt, at time.Time) {
			again := controlsAt(at.Add(40*time.Second), "c1", "c2", "c3")
			again[0].Outcome, again[2].Outcome = evidence.Fail, evidence.Fail
			a.Controls = append(a.Controls, again...)
		}, nil, Vote{Why: BlindLine}},
		{"3 of 100 packets sent again", "fss", func(a *evidence.Attempt, at time.Time) {
			lose(a, 40, 1, 30, 1, 30, 1)
		}, nil, Vote{Value: Down}},
		{"4 of 100 packets sent again", "fss", func(a *evidence.Attempt, at time.Time) {
			lose(a, 40, 2, 30, 1, 30, 1)
		}, nil, Vote{Why: BlindLine}},
		{"a host that alone loses packets", "fss", func(a *evidence.Attempt, at time.Time) {
			lose(a, 30, 6, 100, 1, 25, 0)
		}, nil, Vote{Value: Down}},
		{"and the others lose some, too", "fss", func(a *evidence.Attempt, at time.Time) {
			lose(a, 30, 6, 100, 2, 25, 0)
		}, nil, Vote{Why: BlindLine}},
		{"two lose packets", "fss", func(a *evidence.Attempt, at time.Time) {
			lose(a, 30, 6, 30, 6, 30, 0)
		}, nil, Vote{Why: BlindLine}},
		{"one loses packets, and without it too few are left", "fss", func(a *evidence.Attempt, at time.Time) {
			lose(a, 30, 6, 30, 0, 30, 0)
			a.Controls[4].Outcome = evidence.Fail
		}, nil, Vote{Why: BlindLine}},
		{"half sent again to one host only", "fss", func(a *evidence.Attempt, at time.Time) {
			lose(a, 40, 20, 30, 0, 90, 1)
		}, nil, Vote{Value: Down}},
		{"half sent again to two hosts", "fss", func(a *evidence.Attempt, at time.Time) {
			lose(a, 40, 20, 30, 15, 30, 1)
		}, nil, Vote{Why: BlindLine}},
		{"lossy while it failed, and much more was sent after it", "fss", func(a *evidence.Attempt, at time.Time) {
			a.Rungs[0].DurationUS = 10e6
			lose(a, 1000, 0, 1000, 0, 1000, 0)
			after := a.Controls
			a.Controls = controlsAt(at.Add(3*time.Second), "c1", "c2", "c3")
			lose(a, 20, 3, 20, 3, 20, 3)
			a.Controls = append(a.Controls, after...)
		}, nil, Vote{Why: BlindLine}},
		{"all sent again to a host that is down", "fss", func(a *evidence.Attempt, at time.Time) {
			lose(a, 5, 4, 50, 1, 50, 0)
			a.Controls[0].Outcome = evidence.Fail
		}, nil, Vote{Value: Down}},
		{"packets of another component", "ofs", func(a *evidence.Attempt, at time.Time) {
			lose(a, 40, 4, 30, 0, 30, 0)
		}, nil, Vote{Value: Down}},
		{"the others' component", "fss", func(a *evidence.Attempt, _ time.Time) {
			a.Controls = slices.DeleteFunc(a.Controls, func(c evidence.Control) bool { return c.Component == evidence.TCP4 })
		}, nil, Vote{Why: BlindLine}},
		{"they failed as well", "fss", func(a *evidence.Attempt, _ time.Time) {
			for i := range a.Controls {
				a.Controls[i].Outcome = evidence.Fail
			}
		}, nil, Vote{Why: BlindLine}},
		{"wss needs wss", "ofs", func(a *evidence.Attempt, _ time.Time) {
			a.Controls = slices.DeleteFunc(a.Controls, func(c evidence.Control) bool { return c.Component == evidence.WSS })
		}, nil, Vote{Why: BlindLine}},
		{"no controls in the roster", "fss", func(*evidence.Attempt, time.Time) {}, func(r *Roster) { r.Controls = nil }, Vote{Why: NoControls}},
		{"all run by the target's operator", "fss", func(*evidence.Attempt, time.Time) {}, func(r *Roster) {
			for i := range r.Controls {
				r.Controls[i].Operator = "alice"
			}
		}, Vote{Why: NoControls}},
		{"one run by the target's operator: both others are needed", "fss", func(a *evidence.Attempt, at time.Time) { a.Controls = controlsAt(at, "c1", "c2") }, func(r *Roster) {
			r.Controls[0].Operator = "alice"
		}, Vote{Why: BlindLine}},
		{"relay, before it failed", "oof", func(a *evidence.Attempt, at time.Time) {
			a.Controls = controlsAt(at.Add(2*time.Second), "c1", "c2", "c3")
		}, nil, Vote{Why: BlindLine}},
		{"relay, after it failed", "oof", func(a *evidence.Attempt, at time.Time) {
			a.Controls = controlsAt(at.Add(4*time.Second), "c1", "c2")
		}, nil, Vote{Value: Down}},
		{"relay, over a lossy line", "oof", func(a *evidence.Attempt, at time.Time) {
			lose(a, 40, 2, 30, 1, 30, 1)
		}, nil, Vote{Why: BlindLine}},
		{"relay, and a control's circuit failed", "oof", func(a *evidence.Attempt, at time.Time) {
			a.Controls = append(controlsAt(at.Add(4*time.Second), "c1", "c2"), evidence.Control{
				Name: "c2", Component: evidence.Relay, Outcome: evidence.Fail, Started: evidence.TimeOf(at.Add(5 * time.Second))})
		}, nil, Vote{Why: BlindLine}},
		{"relay, and one control's of three", "oof", func(a *evidence.Attempt, at time.Time) {
			a.Controls = append(controlsAt(at.Add(4*time.Second), "c1", "c2", "c3"), evidence.Control{
				Name: "c2", Component: evidence.Relay, Outcome: evidence.Fail, Started: evidence.TimeOf(at.Add(5 * time.Second))})
		}, nil, Vote{Value: Down}},
		{"relay, and a control's relay was full", "oof", func(a *evidence.Attempt, at time.Time) {
			a.Controls = append(controlsAt(at.Add(4*time.Second), "c1", "c2"), evidence.Control{
				Name: "c2", Component: evidence.Relay, Outcome: evidence.Busy, Started: evidence.TimeOf(at.Add(5 * time.Second))})
		}, nil, Vote{Value: Down}},
		{"relay, without the loopback relay", "oof", func(a *evidence.Attempt, _ time.Time) {
			a.Controls = slices.DeleteFunc(a.Controls, func(c evidence.Control) bool { return c.Name == LoopbackControl })
		}, nil, Vote{Why: BlindLine}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, roster, relay, _ := stage(t)
			if tc.roster != nil {
				tc.roster(roster)
			}
			rec := &evidence.Record{PeerID: relayID, Hour: h, Attempts: both(tc.outcomes, tc.change)}
			if got := VoteOf(rules, roster, nil, relay, rec, nil); got.Vote != tc.want {
				t.Errorf("got %s (%s), want %s (%s)", got.Value, got.Why, tc.want.Value, tc.want.Why)
			}
		})
	}
}

func TestVoteLevels(t *testing.T) {
	rules, roster, relay, h := stage(t)
	for required := 1; required <= 4; required++ {
		for level := evidence.LevelNone; level <= evidence.LevelEchoed; level++ {
			rules.RelayLevel = required
			outcome := "oof"
			if level == evidence.LevelEchoed {
				outcome = "ooo"
			}
			rec := &evidence.Record{PeerID: relayID, Hour: h, Attempts: []evidence.Attempt{
				climb(h.Start(), outcome, level), climb(h.Start().Add(6*time.Minute), outcome, level),
			}}
			want := Down
			if int(level) >= required {
				want = Up
			}
			if got := VoteOf(rules, roster, nil, relay, rec, nil); got.Value != want {
				t.Errorf("level %d where %d is required: got %s (%s), want %s", level, required, got.Value, got.Why, want)
			}
		}
	}
}

func TestVoteIsAboutTheRegisteredAddress(t *testing.T) {
	rules, roster, relay, h := stage(t)
	relay.Moves = []Move{{From: h + 1, Address: Address{IPv4: "198.41.0.5", TCPPort: 4001, Domain: "relay.example.org", WSSPort: 8443}}}
	for _, tc := range []struct {
		name      string
		hour      evidence.Hour
		tcp4, wss string
		want      Vote
	}{
		{"as registered", h, tcp4Addr, wssAddr, Vote{Value: Up}},
		{"in another spelling", h, tcp4Addr, "/dns4/relay.example.org/tcp/443/tls/ws/p2p/" + relayID, Vote{Value: Up}},
		{"another host", h, "/ip4/198.41.0.5/tcp/4001/p2p/" + relayID, wssAddr, Vote{Why: OtherAddr}},
		{"another port", h, "/ip4/198.41.0.4/tcp/4002/p2p/" + relayID, wssAddr, Vote{Why: OtherAddr}},
		{"another domain", h, tcp4Addr, "/dns4/other.example.org/tcp/443/wss/p2p/" + relayID, Vote{Why: OtherAddr}},
		{"not over TLS", h, tcp4Addr, "/dns4/relay.example.org/tcp/443/ws/p2p/" + relayID, Vote{Why: OtherAddr}},
		{"tcp4 not asked for", h, "", wssAddr, Vote{Why: NotAsked}},
		{"wss not asked for", h, tcp4Addr, "", Vote{Why: NotAsked}},
		{"after the move", h + 1, tcp4Addr, wssAddr, Vote{Why: OtherAddr}},
		{"moved along", h + 1, "/ip4/198.41.0.5/tcp/4001/p2p/" + relayID, "/dns4/relay.example.org/tcp/8443/wss/p2p/" + relayID, Vote{Value: Up}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := climb(tc.hour.Start(), "ooo", 4)
			a.TCP4Addr, a.WSSAddr = tc.tcp4, tc.wss
			got := VoteOf(rules, roster, nil, relay, &evidence.Record{PeerID: relayID, Hour: tc.hour, Attempts: []evidence.Attempt{a}}, nil)
			if got.Vote != tc.want {
				t.Errorf("got %s (%s), want %s (%s)", got.Value, got.Why, tc.want.Value, tc.want.Why)
			}
		})
	}
	t.Run("both spellings of the peer's part", func(t *testing.T) {
		if !sameAddr("/ip4/1.2.3.4/tcp/1/ipfs/"+relayID, "/ip4/1.2.3.4/tcp/1/p2p/"+relayID) {
			t.Error("/ipfs/ is an old name of /p2p/")
		}
	})
}

// An hour is up by the relay's signature for it, made in it, and by nothing else.
func TestVoteNeedsTheRelaysSignature(t *testing.T) {
	rules, roster, relay, h := stage(t)
	roster.Monitors[0].Operator = "one"
	roster.Witnesses = []Witness{{Name: "own", Operator: "one", Key: "own"}, {Name: "w", Operator: "two", Key: "w"}}
	up, down := climb(h.Start(), "ooo", 4), func(i int) evidence.Attempt { return climb(h.Start().Add(time.Duration(6*i)*time.Minute), "ffs", 0) }
	later := climb(h.Start().Add(6*time.Minute), "ooo", 4)
	ends := evidence.TimeOf(h.Start().Add(3*time.Second + rules.VoucherValid)) // a climb takes 3 s
	check := func(state evidence.VoucherState, expires evidence.Time, beacon bool, witness string) evidence.VoucherCheck {
		return evidence.VoucherCheck{State: state, Expires: expires, Beacon: beacon, Witness: witness}
	}
	good := check(evidence.VoucherBound, ends, true, "")
	none := evidence.VoucherCheck{State: evidence.VoucherNone}
	for _, tc := range []struct {
		name     string
		network  evidence.Network
		attempts []evidence.Attempt
		vouchers []evidence.VoucherCheck
		want     Vote
	}{
		{"with the beacon", "", []evidence.Attempt{up}, []evidence.VoucherCheck{good}, Vote{Value: Up}},
		{"with another operator's cosignature", "", []evidence.Attempt{up}, []evidence.VoucherCheck{check(evidence.VoucherBound, ends, false, "w")}, Vote{Value: Up}},
		{"with its own operator's", "", []evidence.Attempt{up}, []evidence.VoucherCheck{check(evidence.VoucherBound, ends, false, "own")}, Vote{Why: NotFresh}},
		{"with a stranger's", "", []evidence.Attempt{up}, []evidence.VoucherCheck{check(evidence.VoucherBound, ends, false, "x")}, Vote{Why: NotFresh}},
		{"with neither", "", []evidence.Attempt{up}, []evidence.VoucherCheck{check(evidence.VoucherBound, ends, false, "")}, Vote{Why: NotFresh}},
		{"with neither, in a lab", evidence.Lab, []evidence.Attempt{up}, []evidence.VoucherCheck{check(evidence.VoucherBound, ends, false, "")}, Vote{Value: Up}},
		{"valid for a millisecond too long", "", []evidence.Attempt{up}, []evidence.VoucherCheck{check(evidence.VoucherBound, evidence.TimeOf(ends.Add(time.Millisecond)), true, "")}, Vote{Why: Presigned}},
		{"none", "", []evidence.Attempt{up}, []evidence.VoucherCheck{none}, Vote{Why: Unsigned}},
		{"none, in a lab", evidence.Lab, []evidence.Attempt{up}, []evidence.VoucherCheck{none}, Vote{Why: Unsigned}},
		{"nothing known of it", "", []evidence.Attempt{up}, []evidence.VoucherCheck{}, Vote{Why: Unsigned}},
		{"bad twice", "", []evidence.Attempt{up, later}, []evidence.VoucherCheck{{State: evidence.VoucherBad}, {State: evidence.VoucherBad}}, Vote{Why: BadVoucher}},
		{"bad, then good", "", []evidence.Attempt{up, later}, []evidence.VoucherCheck{{State: evidence.VoucherBad}, good}, Vote{Value: Up}},
		{"unsigned, then not there", "", []evidence.Attempt{up, down(1), down(2)}, []evidence.VoucherCheck{none, none, none}, Vote{Why: Unsigned}},
		{"never there", "", []evidence.Attempt{down(0), down(1)}, []evidence.VoucherCheck{none, none}, Vote{Value: Down}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := *roster
			if tc.network != "" {
				r.Network = tc.network
			}
			rec := &evidence.Record{PeerID: relayID, Hour: h, Attempts: tc.attempts}
			if got := VoteOf(rules, &r, &r.Monitors[0], relay, rec, tc.vouchers); got.Vote != tc.want {
				t.Errorf("got %s (%s), want %s (%s)", got.Value, got.Why, tc.want.Value, tc.want.Why)
			}
		})
	}
}

func TestCauses(t *testing.T) {
	rules, roster, relay, h := stage(t)
	rec := &evidence.Record{PeerID: relayID, Hour: h, Attempts: []evidence.Attempt{climb(h.Start(), "ffs", 0), climb(h.Start().Add(6*time.Minute), "ofs", 0)}}
	got := VoteOf(rules, roster, nil, relay, rec, nil)
	if s := strings.Join(got.Causes, ", "); s != "tcp4 refused, wss refused" || got.WSS {
		t.Errorf("causes %q, wss %v", s, got.WSS)
	}
}

func TestShare(t *testing.T) {
	two := Share{2, 3}
	for k, want := range map[int]int{1: 1, 2: 2, 3: 2, 4: 3, 5: 4, 6: 4, 7: 5, 8: 6, 9: 6} {
		if got := two.Of(k); got != want {
			t.Errorf("2/3 of %d: got %d, want %d", k, got, want)
		}
	}
}

// A witness shows that something is new only in its term: a key that the committee has
// ended may be anybody's.
func TestWitnessesOutsideTheirTerms(t *testing.T) {
	h := hour(t, "2026-11-03T13:00:00Z")
	r := bench(1)
	r.Monitors[0].Operator = "one"
	r.Witnesses = []Witness{{Name: "w", Operator: "two", Key: "w", Term: Term{From: h - 10, Until: ptr(h)}}}
	for at, want := range map[evidence.Hour]bool{h - 11: false, h - 10: true, h - 1: true, h: false, h + 5: false} {
		if got := r.foreign("w", &r.Monitors[0], at); got != want {
			t.Errorf("%s: got %v, want %v", at, got, want)
		}
	}
	if r.foreign("", &r.Monitors[0], h-1) || r.foreign("x", &r.Monitors[0], h-1) {
		t.Error("nobody's key is a witness's")
	}
}

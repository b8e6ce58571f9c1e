package monitor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/internal/wallclock"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// stepped is a monitor of a healthy and a dead relay on a machine whose clock is set,
// which sleeps, and which is started anew.
type stepped struct {
	t                  *testing.T
	f                  *fakeNet
	m                  *Monitor
	healthy, dead      string
	first              evidence.Hour
	real, sets, sleeps []time.Time // when each climb began, the clock was set, and the machine fell asleep, by a clock that is always right
	stop               func()
}

func newStepped(t *testing.T) *stepped {
	s := &stepped{t: t, first: evidence.HourOf(time.Now())}
	s.f = &fakeNet{took: 20 * time.Second, outcome: func(id string, _ time.Time) evidence.Outcome {
		if id == s.dead {
			return evidence.Fail
		}
		return evidence.OK
	}}
	m, ids := newTestMonitor(t, s.f, 2, 8)
	s.m, s.healthy, s.dead = m, ids[0], ids[1]
	m.basis().roster.Controls = []bounty.ControlHost{{Name: "c1", TCP4: "x", WSS: "x"}}
	m.climb = s.climb
	return s
}

// climb adds to what the fake network saw all that makes it count. The ping tells
// which climb it was.
func (s *stepped) climb(ctx context.Context, to probe.Target, look *lookout, key crypto.PrivKey) (evidence.Attempt, [][]byte) {
	s.f.mu.Lock()
	s.real = append(s.real, s.now())
	n := int64(len(s.real))
	s.f.mu.Unlock()
	a, certs := s.f.climb(ctx, to, look, key)
	a.TCP4Addr, a.WSSAddr = s.m.basis().roster.Relay(a.PeerID).Multiaddrs(a.PeerID)
	a.Facts.PingUS = []int64{n}
	if a.Results[evidence.TCP4].Outcome == evidence.OK {
		a.Level = evidence.LevelEchoed
	} else {
		for _, c := range []evidence.Component{evidence.TCP4, evidence.WSS} {
			a.Controls = append(a.Controls, evidence.Control{Name: "c1", Component: c, Outcome: evidence.OK, Started: a.Started})
		}
	}
	return a, certs
}

// now is the time of a clock that is always right.
func (s *stepped) now() time.Time { return time.Now().Add(s.f.slept) }

func (s *stepped) realOf(a evidence.Attempt) time.Time { return s.real[a.Facts.PingUS[0]-1] }

func (s *stepped) start() {
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error)
	go func() { done <- s.m.Run(ctx) }()
	s.stop = func() {
		s.t.Helper()
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
		must(s.t, s.m.store.Close())
	}
}

// again starts a new process, which knows only what the log holds; of another boot if
// the machine was started anew.
func (s *stepped) again(reboot bool) {
	s.t.Helper()
	store, err := store.Open(filepath.Join(s.m.cfg.DataDir, "log"))
	must(s.t, err)
	old := s.m
	s.m = &Monitor{
		cfg: old.cfg, log: old.log, store: store, climb: old.climb, machine: old.machine,
		seen: map[string]*evidence.Attempt{}, latest: map[string]*evidence.Attempt{},
	}
	goBy(s.m, old.basis().rules, old.basis().roster)
	if reboot {
		s.f.boots++
		s.m.machine = s.f.machine()
	}
	must(s.t, s.m.follow())
	s.m.planner = s.m.newPlanner()
	s.m.identities = schedule.NewIdentities(store.Key())
	must(s.t, s.m.recall(s.m.machine.Now()))
	s.start()
}

// set sets the clock.
func (s *stepped) set(by time.Duration) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.f.set += by
	if by != 0 {
		s.sets = append(s.sets, s.now())
	}
}

func (s *stepped) sleep(d time.Duration) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.sleeps = append(s.sleeps, s.now())
	s.f.slept += d
}

// month is what a verifier finds of a relay, in all that is sealed.
func (s *stepped) month(relay string) map[evidence.Hour]*evidence.VerifiedHour {
	s.t.Helper()
	m := s.first.Month()
	export, err := s.m.store.Month(m, relay, m.End().Start())
	must(s.t, err)
	v, err := evidence.VerifyMonth(export, evidence.Keys{Log: s.m.store.Key(), Plan: s.m.store.PlanKey()})
	must(s.t, err)
	out := map[evidence.Hour]*evidence.VerifiedHour{}
	for i := range v.Hours {
		out[v.Hours[i].Header.Hour] = &v.Hours[i]
	}
	return out
}

func (s *stepped) vote(relay string, vh *evidence.VerifiedHour) bounty.Vote {
	r := s.m.basis().roster
	if vh == nil || vh.Record == nil {
		return bounty.Vote{Why: bounty.Missing}
	}
	ballot := bounty.VoteOf(s.m.basis().rules, r, nil, r.Relay(relay), vh.Record, vh.Vouchers)
	return bounty.Sealed(s.m.basis().rules, r, &bounty.Monitor{Name: s.m.cfg.Name}, 1, vh).Of(s.m.basis().rules, ballot)
}

// check is what holds of every hour, whatever was done to the clock.
func (s *stepped) check() {
	s.t.Helper()
	for _, relay := range []string{s.healthy, s.dead} {
		for h, vh := range s.month(relay) {
			vote := s.vote(relay, vh)
			if relay == s.healthy && vote.Value == bounty.Down {
				s.t.Errorf("%s: the healthy relay is down", h)
			}
			if vh.Record == nil {
				continue
			}
			list := vh.Record.Attempts
			slices.SortFunc(list, func(a, b evidence.Attempt) int { return s.realOf(a).Compare(s.realOf(b)) })
			if len(list) > 3 || relay == s.healthy && len(list) > 1 && !list[0].Stepped {
				s.t.Errorf("%s: %d attempts on one relay, healthy: %v", h, len(list), relay == s.healthy)
			}
			for i, a := range list {
				// The monitor may learn of it a second later.
				began := s.realOf(a)
				meanwhile := slices.ContainsFunc(s.sets, func(at time.Time) bool { return !at.Before(began) && !at.After(began.Add(s.f.took)) })
				near := slices.ContainsFunc(slices.Concat(s.sets, s.sleeps), func(at time.Time) bool {
					return !at.Before(began.Add(-time.Second)) && !at.After(began.Add(s.f.took+time.Second))
				})
				if meanwhile && !a.Stepped || a.Stepped && !near {
					s.t.Errorf("%s: attempt %d is marked as one during which the clock was set: got %v, want %v", h, i+1, a.Stepped, meanwhile)
				}
			}
			for i := range list[1:] {
				// A tick is a second long, and an attempt begins a little later.
				if d := s.realOf(list[i+1]).Sub(s.realOf(list[i])); d < 6*time.Minute {
					s.t.Errorf("%s: attempts %d and %d began %v apart, vote %s", h, i+1, i+2, d, vote.Value)
				}
			}
			if d := s.realOf(list[len(list)-1]).Sub(s.realOf(list[0])); vote.Value == bounty.Down && d < s.m.basis().rules.DownSpacing {
				s.t.Errorf("%s: down by attempts %v apart", h, d)
			}
		}
	}
}

// shows says whether some header tells of a step.
func (s *stepped) shows(by time.Duration) bool {
	for _, vh := range s.month(s.dead) {
		for _, step := range vh.Header.Clock.Steps {
			if (time.Duration(step.ByMS)*time.Millisecond-by).Abs() < 50*time.Millisecond && vh.Header.Clock.DriftMS >= by.Abs().Milliseconds()-50 {
				return true
			}
		}
	}
	return false
}

// A step at any moment of an hour: the attempts keep their distance, the header tells
// of it, and the dead relay's hour is unknown. The hour after is as ever.
func TestStepInAnHour(t *testing.T) {
	const min = time.Minute
	moments := map[string]struct {
		after   time.Duration // the dead relay's first attempt in the second hour
		stopped bool
	}{
		"before the first attempt":   {-2 * min, false},
		"during the first attempt":   {5 * time.Second, false},
		"before the first retry":     {2 * min, false},
		"during the first retry":     {6*min + 5*time.Second, false},
		"before the second retry":    {8 * min, false},
		"after all":                  {15 * min, false},
		"while it is stopped":        {2 * min, true},
		"while it is stopped, later": {8 * min, true},
	}
	for name, at := range moments {
		for _, by := range []time.Duration{0, -3 * time.Second, -5 * min, 6 * min, -61 * min, 61 * min} {
			if testing.Short() && by != -5*min && by != 6*min {
				continue
			}
			t.Run(fmt.Sprintf("%s %v", name, by), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newStepped(t)
					h := s.first + 1
					s.start()
					due := h.Start().Add(s.m.store.Offset(s.dead, h))
					time.Sleep(time.Until(due.Add(at.after + 500*time.Millisecond)))
					if at.stopped {
						s.stop()
						s.set(by)
						time.Sleep(10 * time.Second)
						s.again(false)
					} else {
						s.set(by)
					}
					time.Sleep(2*time.Hour + 20*min + by.Abs())
					s.check()
					hours := s.month(s.dead)
					if by == 0 {
						if got := s.vote(s.dead, hours[h]); got.Value != bounty.Down || hours[h].Header.Clock.DriftMS != 0 {
							t.Errorf("without a step: got %s (%s), want down; clock %+v", got.Value, got.Why, hours[h].Header.Clock)
						}
					} else {
						if !s.shows(by) {
							t.Errorf("no header tells of the step: %+v", hours[h].Header.Clock)
						}
						if got := s.vote(s.dead, hours[h]); got.Value != bounty.Unknown || got.Why != bounty.Clock && got.Why != bounty.Missing {
							t.Errorf("the dead relay: got %s (%s), want unknown (clock)", got.Value, got.Why)
						}
						for _, vh := range hours {
							if vh.Record != nil && len(vh.Header.Clock.Steps) == 0 && vh.Record.Attempts[0].Stepped {
								t.Errorf("%s: an attempt is marked without a step", vh.Header.Hour)
							}
						}
					}
					if by.Abs() < time.Hour {
						for _, id := range []string{s.healthy, s.dead} {
							want := bounty.Up
							if id == s.dead {
								want = bounty.Down
							}
							if got := s.vote(id, s.month(id)[h+1]); got.Value != want {
								t.Errorf("the hour after: got %s (%s), want %s", got.Value, got.Why, want)
							}
						}
					}
					s.stop()
				})
			})
		}
	}
}

// A day of steps, sleeps and starts at random.
func TestADayOfSteps(t *testing.T) {
	seeds := 2
	if testing.Short() {
		seeds = 1
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 14))
				s := newStepped(t)
				s.start()
				type segment struct{ from, to time.Time } // of the wall clock, undisturbed
				var quiet []segment
				var steps []time.Duration
				wall := func() time.Time { return s.m.machine.Now().Wall }
				step := func() time.Duration {
					by := time.Duration(r.ExpFloat64() * float64(5*time.Minute))
					if r.IntN(8) == 0 {
						by *= 15
					}
					by = 2*time.Second + min(by, 3*time.Hour)
					if r.IntN(2) == 0 {
						by = -by
					}
					s.set(by)
					return by
				}
				// While the clock names an hour that is sealed nothing is watched, and there is
				// no hour to tell of a step.
				watching := func() bool {
					s.m.mu.Lock()
					defer s.m.mu.Unlock()
					return s.m.fault == nil
				}
				begin := s.now()
				for s.now().Sub(begin) < 24*time.Hour {
					from := wall()
					span := time.Duration(r.Int64N(int64(2 * time.Hour)))
					if r.IntN(3) == 0 {
						span = 5*time.Second + time.Duration(r.Int64N(int64(5*time.Minute)))
					}
					time.Sleep(span)
					quiet = append(quiet, segment{from, wall()})
					switch r.IntN(6) {
					case 0:
						s.sleep(time.Duration(r.Int64N(int64(30 * time.Minute))))
					case 1, 2: // a new process, and perhaps a clock that was set meanwhile
						reboot := r.IntN(3) == 0
						tells := watching() && !reboot
						s.stop()
						time.Sleep(time.Second)
						if r.IntN(2) == 0 {
							if by := step(); tells {
								steps = append(steps, by)
							}
						}
						time.Sleep(time.Duration(r.Int64N(int64(3 * time.Minute))))
						s.again(reboot)
					default:
						tells := watching()
						if by := step(); tells {
							steps = append(steps, by)
						}
					}
					time.Sleep(3 * time.Second)
				}
				from := wall()
				time.Sleep(8 * time.Hour) // no step goes further back
				quiet = append(quiet, segment{from, wall()})
				s.check()
				for _, by := range steps {
					if !s.shows(by) {
						t.Errorf("no header tells of the step of %v", by)
					}
				}
				up, down := 0, 0
				healthy := s.month(s.healthy)
				for h, vh := range s.month(s.dead) {
					undisturbed := slices.ContainsFunc(quiet, func(q segment) bool {
						return !q.from.After(h.Start()) && !q.to.Before(h.End().Add(evidence.CloseAfter))
					})
					if vote := s.vote(s.dead, vh); vote.Value == bounty.Down {
						down++
					} else if undisturbed && vh.Header.State == evidence.StateOK && len(vh.Header.Clock.Steps) == 0 {
						t.Errorf("%s: nobody touched the clock, and the dead relay is %s (%s)", h, vote.Value, vote.Why)
					}
					if s.vote(s.healthy, healthy[h]).Value == bounty.Up {
						up++
					}
				}
				t.Logf("%d steps; %d hours up, %d down of %d", len(steps), up, down, len(healthy))
				if up == 0 || down == 0 {
					t.Error("nothing of that was seen: this test proves nothing")
				}
				s.stop()
			})
		})
	}
}

// An attempt during which the clock was set counts for nothing: one on a relay that is
// up is made again while its hour lasts.
func TestStepDuringAnAttemptThatIsOK(t *testing.T) {
	for _, by := range []time.Duration{-3 * time.Second, 6 * time.Minute} {
		t.Run(by.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStepped(t)
				h := s.first + 1
				s.start()
				due := h.Start().Add(s.m.store.Offset(s.healthy, h))
				time.Sleep(time.Until(due.Add(5*time.Second + 500*time.Millisecond)))
				s.set(by)
				time.Sleep(2*time.Hour + 20*time.Minute)
				vh := s.month(s.healthy)[h]
				if len(vh.Record.Attempts) == 0 || !vh.Record.Attempts[0].Stepped {
					t.Fatalf("the clock was not set during the first attempt: %+v", vh.Record)
				}
				if got := s.vote(s.healthy, vh); got.Value != bounty.Up {
					t.Errorf("got %s (%s) from %d attempts, want up", got.Value, got.Why, len(vh.Record.Attempts))
				}
				s.stop()
			})
		})
	}
}

// A clock that names an hour that cannot be is set right again: both steps stand in the
// log, although nothing was tried in between.
func TestStepsToAnHourThatCannotBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStepped(t)
		machine := s.m.machine
		s.m.clock = &wallclock.Clock{Kept: machine.Kept, Uptime: func() time.Duration { return machine.Now().Steady }}
		s.start()
		h := s.first + 3
		time.Sleep(time.Until(h.Start().Add(30*time.Minute + 500*time.Millisecond)))
		s.set(-3 * time.Hour) // into an hour that is sealed
		time.Sleep(10 * time.Second)
		s.set(3 * time.Hour)
		time.Sleep(2 * time.Hour)
		if steps := s.month(s.dead)[h].Header.Clock.Steps; len(steps) != 2 {
			t.Errorf("got the steps %+v, want one back and one forward", steps)
		}
		s.stop()
	})
}

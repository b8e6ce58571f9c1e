package monitor

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
)

// deadTakes is how long an attempt on a relay lasts that drops every packet: 15 s for
// tcp4, 30 s for wss, and two rounds of slow controls.
const deadTakes = 65 * time.Second

// planned is the log of a monitor: when the attempts of each relay's hour ended, and
// how often else something was said.
type planned struct {
	slog.Handler
	mu   *sync.Mutex
	ends map[schedule.Job][]time.Time
	said map[string]int
}

func newPlanned() planned {
	return planned{slog.DiscardHandler, new(sync.Mutex), map[schedule.Job][]time.Time{}, map[string]int{}}
}

func (planned) Enabled(context.Context, slog.Level) bool { return true }

func (p planned) Handle(_ context.Context, r slog.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said[r.Message]++
	if r.Message != "attempt" {
		return nil
	}
	var j schedule.Job
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "relay":
			j.Relay = a.Value.String()
		case "hour":
			j.Hour = a.Value.Any().(evidence.Hour)
		}
		return true
	})
	p.ends[j] = append(p.ends[j], r.Time)
	return nil
}

// Of 1,000 relays, half of them dead, every one that works is tried within seconds of
// its time, in every hour, the first included, in which nothing is known of any; the
// dead ones are tried as often as it takes to call them down, and one that works again
// is seen in its next hour.
func TestHalfOfAThousandRelaysAreDead(t *testing.T) {
	const hours = 3
	relays := 1000
	if testing.Short() {
		relays = 200
	}
	synctest.Test(t, func(t *testing.T) {
		log := newPlanned()
		var dead, revived map[string]bool
		var revival time.Time
		down := func(relay string, at time.Time) bool {
			return dead[relay] && !(revived[relay] && !at.Before(revival))
		}
		f := &fakeNet{
			outcome: func(relay string, at time.Time) evidence.Outcome {
				if down(relay, at) {
					return evidence.Fail
				}
				return evidence.OK
			},
			takes: func(relay string, at time.Time) time.Duration {
				if down(relay, at) {
					return deadTakes
				}
				return time.Second
			},
		}
		c, err := ParseConfig("test", []byte("{name: m1, data_dir: x, roster: y}"))
		must(t, err)
		m, ids := newTestMonitor(t, f, relays, c.Concurrency)
		m.log = slog.New(log)
		// All are on the monitor's own host: they are watched, and nothing is written.
		m.cfg.Network = evidence.PSF
		dead, revived = map[string]bool{}, map[string]bool{}
		for i, id := range ids {
			dead[id] = i%2 == 0
			revived[id] = i%40 == 0
		}
		first := evidence.HourOf(time.Now())
		revival = (first + hours - 2).Start().Add(30 * time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), hours*time.Hour+evidence.CloseAfter)
		defer cancel()
		must(t, m.Run(ctx))

		var delays []time.Duration
		for h := first; h < first+hours; h++ {
			for _, id := range ids {
				due := h.Start().Add(m.store.Offset(id, h))
				at := log.ends[schedule.Job{Relay: id, Hour: h}]
				switch works := !down(id, due); {
				case works && len(at) == 0:
					t.Errorf("%s: relay %s works and was not tried", h, id)
				case works:
					delays = append(delays, at[0].Sub(due)-time.Second)
				case !revived[id] && (len(at) < 2 || at[1].Sub(at[0]) < 5*time.Minute || at[0].Sub(due)-deadTakes > schedule.LateAfter):
					t.Errorf("%s: dead relay %s was due at %s, and its attempts ended at %s, want two, 5 minutes apart", h, id, due, at)
				}
			}
		}
		slices.Sort(delays)
		p99, last := delays[len(delays)*99/100], delays[len(delays)-1]
		t.Logf("of %d attempts on relays that work 99 %% began within %s, the last %s after it was due; at most %d at the same time", len(delays), p99, last, f.most)
		if p99 > 5*time.Second || last > time.Minute {
			t.Errorf("attempts on relays that work began up to %s late, 1 %% of them more than %s; want 1m and 5s at most", last, p99)
		}
		if load, why := m.planner.Load(), m.planner.Overload(m.machine.Now()); load.Misses != 0 || load.Lates != 0 || why != "" {
			t.Errorf("%d missed, %d late: %s", load.Misses, load.Lates, why)
		}
	})
}

// With far too few places the relays that work go first, what is missed is unknown for
// that reason, and the monitor says so wherever somebody may look.
func TestTooFewPlaces(t *testing.T) {
	const relays, places, hours = 60, 2, 4
	synctest.Test(t, func(t *testing.T) {
		dead := map[string]bool{}
		f := &fakeNet{
			outcome: func(relay string, _ time.Time) evidence.Outcome {
				if dead[relay] {
					return evidence.Fail
				}
				return evidence.OK
			},
			takes: func(relay string, _ time.Time) time.Duration {
				if dead[relay] {
					return 200 * time.Second
				}
				return time.Second
			},
		}
		m, ids := newTestMonitor(t, f, relays, places)
		log := newPlanned()
		m.log = slog.New(log)
		for _, id := range ids[relays/4:] {
			dead[id] = true
		}
		first := evidence.HourOf(time.Now())
		ctx, cancel := context.WithTimeout(t.Context(), hours*time.Hour+evidence.CloseAfter+2*time.Minute)
		defer cancel()
		must(t, m.Run(ctx))

		for h := first; h < first+hours; h++ {
			head, err := m.store.Header(h)
			must(t, err)
			if head.Missed == 0 {
				t.Errorf("%s: no attempt was missed", h)
			}
			records, err := m.store.Records(h)
			must(t, err)
			tried := map[string]int{}
			for _, r := range records {
				tried[r.PeerID] = len(r.Attempts)
			}
			known, err := m.basis().history.Month(h.Month())
			must(t, err)
			missed, works := 0, 0
			for _, id := range ids {
				got := known.Of(id).Hours[h-h.Month().First()]
				switch {
				case !dead[id]:
					works += min(1, tried[id])
				case tried[id] == 0:
					missed++
					if got.Vote != bounty.Unknown || got.Why != bounty.Overloaded {
						t.Errorf("%s: no attempt, %s (%s), want unknown (overloaded)", h, got.Vote, got.Why)
					}
					story, err := m.story(id, h, time.Now())
					must(t, err)
					if story.Why != bounty.Overloaded || !strings.Contains(strings.Join(story.Words, "\n"), "The monitor was overloaded") {
						t.Errorf("%s: the story says %s\n%s", h, story.Why, strings.Join(story.Words, "\n"))
					}
				}
			}
			t.Logf("%s: %d relays work and were tried, %d of the others were not, %d attempts missed", h, works, missed, head.Missed)
			if h > first && works != relays/4 { // in the first hour nothing is known yet
				t.Errorf("%s: %d of the %d relays that work were tried", h, works, relays/4)
			}
			if missed == 0 {
				t.Errorf("%s: all relays were tried: this test proves nothing", h)
			}
		}
		const cannot = "this monitor cannot keep up with its roster"
		if log.said[cannot] != 1 {
			t.Errorf("the log says %d times that %s, want once", log.said[cannot], cannot)
		}
		now := time.Now()
		o, err := m.overview(now)
		must(t, err)
		if !strings.Contains(o.Overload, "one of the 2 places") {
			t.Errorf("the page says %q", o.Overload)
		}
		if list := m.monitorAlerts(&o, now); len(list) != 1 || list[0].Name != "MonitorOverloaded" {
			t.Errorf("alerts %+v", list)
		}
		registry := prometheus.NewRegistry()
		registry.MustRegister(numbers{m})
		families, err := registry.Gather()
		must(t, err)
		got := map[string]float64{}
		for _, f := range families {
			if metric := f.GetMetric()[0]; strings.HasPrefix(f.GetName(), "relaymon_") {
				got[f.GetName()] = metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
			}
		}
		if got["relaymon_overloaded"] != 1 || got["relaymon_places"] != places ||
			got["relaymon_attempts_waiting"] == 0 || got["relaymon_attempts_late_total"] == 0 || got["relaymon_attempts_missed_total"] == 0 {
			t.Errorf("metrics %v", got)
		}
	})
}

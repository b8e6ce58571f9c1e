package monitor

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/browser"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
	"github.com/psf-relay/relay-appliance/monitor/web"
)

// looks lists the browser's looks at a relay that the log holds.
func looks(t *testing.T, m *Monitor, relay string, from, to evidence.Hour) (at []evidence.Hour, outcomes []evidence.Outcome) {
	t.Helper()
	for h := from; h < to; h++ {
		records, err := m.store.Records(h)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			for _, a := range r.Attempts {
				for _, g := range a.Rungs {
					if g.Name == browser.RungName && r.PeerID == relay {
						at, outcomes = append(at, h), append(outcomes, g.Outcome)
					}
				}
			}
		}
	}
	return at, outcomes
}

// Each relay is looked at once a week, and again soon after a failure; never two
// at the same time, and what was seen is in the log.
func TestBrowseWeekly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{took: 5 * time.Second, outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
		m, ids := newTestMonitor(t, f, 3, 8)
		m.climb = func(ctx context.Context, target probe.Target, _ *lookout, key crypto.PrivKey) (evidence.Attempt, [][]byte) {
			a, certs := f.climb(ctx, target, nil, key)
			a.WSSAddr = a.PeerID
			return a, certs
		}
		running, failures := 0, 2
		m.browsing = browsingBy(func(ctx context.Context, wss string) evidence.Rung {
			if running++; running > 1 {
				t.Error("two browsers at the same time")
			}
			time.Sleep(20 * time.Second)
			running--
			if failures > 0 && wss == ids[0] {
				failures--
				return evidence.Rung{Name: browser.RungName, Outcome: evidence.Fail, Class: evidence.LimitTooSmall}
			}
			return evidence.Rung{Name: browser.RungName, Outcome: evidence.OK, Detail: "Chrome/1"}
		})
		first := evidence.HourOf(time.Now())
		const days = 9
		// Hour by hour, all relays at once; the schedule has tests of its own.
		for range days * 24 {
			now := time.Now()
			h := evidence.HourOf(now)
			m.mu.Lock()
			err := m.begin(h, now)
			m.mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for _, id := range ids {
				wg.Go(func() {
					if _, err := m.observe(t.Context(), schedule.Job{Relay: id, Hour: h}, m.browse); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			time.Sleep(time.Until(h.End()))
			if _, err := m.store.Seal(time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		last := first + days*24
		for _, id := range ids {
			want := []evidence.Outcome{evidence.OK, evidence.OK}
			if id == ids[0] {
				want = []evidence.Outcome{evidence.Fail, evidence.Fail, evidence.OK, evidence.OK}
			}
			at, got := looks(t, m, id, first, last)
			if len(got) != len(want) {
				t.Errorf("looks %v at %v, want %v", got, at, want)
				continue
			}
			for i := range got {
				if got[i] != want[i] {
					t.Errorf("look %d: %s, want %s", i, got[i], want[i])
				}
			}
			if week := at[len(at)-1] - at[len(at)-2]; week < 7*24 || week > 7*24+2 {
				t.Errorf("%d hours from one look to the next", week)
			}
		}
		// A monitor that starts anew goes on from the log.
		again := browsingBy(nil)
		if err := again.restore(m.basis(), m.store.Records, last.Start()); err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if at, next := m.browsing.next[id], again.next[id]; !at.Equal(next) || !next.After(last.Start()) {
				t.Errorf("next look %s before the restart, %s after it", at, next)
			}
		}
	})
}

// A look that the verdict does not count, since the controls failed with it or the clock
// was set during it, warns of nothing; nor does it end a warning. A restart changes nothing.
func TestBrowserWarnsOfWhatCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, ids := newTestMonitor(t, &fakeNet{}, 1, 8)
		m.basis().roster.Controls = []bounty.ControlHost{{Name: "c1", TCP4: "x", WSS: "x"}}
		var control, outcome evidence.Outcome
		m.climb = func(_ context.Context, target probe.Target, _ *lookout, _ crypto.PrivKey) (evidence.Attempt, [][]byte) {
			a := attempt(time.Now(), evidence.OK)
			a.PeerID, a.Rungs = target.PeerID.String(), []evidence.Rung{}
			a.TCP4Addr, a.WSSAddr = m.basis().roster.Relay(a.PeerID).Multiaddrs(a.PeerID)
			a.Controls = []evidence.Control{{Name: "c1", Component: evidence.WSS, Outcome: control, Started: a.Started}}
			return a, nil
		}
		step := false
		m.browsing = browsingBy(func(context.Context, string) evidence.Rung {
			if step {
				m.steps++
			}
			rung := evidence.Rung{Name: browser.RungName, Outcome: outcome}
			if outcome == evidence.Fail {
				rung.Class = evidence.ConnectFailed
			}
			return rung
		})
		for _, tc := range []struct {
			name             string
			outcome, control evidence.Outcome
			step, want       bool
		}{
			{"the controls failed, too", evidence.Fail, evidence.Fail, false, false},
			{"the clock was set", evidence.Fail, evidence.OK, true, false},
			{"it failed", evidence.Fail, evidence.OK, false, true},
			{"it was well while the clock was set", evidence.OK, evidence.OK, true, true},
			{"it is well", evidence.OK, evidence.OK, false, false},
		} {
			m.browsing.next = map[string]time.Time{} // it is due
			outcome, control, step = tc.outcome, tc.control, tc.step
			h := evidence.HourOf(time.Now())
			m.mu.Lock()
			err := m.begin(h, time.Now())
			m.mu.Unlock()
			must(t, err)
			_, err = m.observe(t.Context(), schedule.Job{Relay: ids[0], Hour: h}, m.browse)
			must(t, err)
			warned := func() bool {
				list := m.warnings(&web.Relay{PeerID: ids[0]}, time.Now())
				return slices.ContainsFunc(list, func(w web.Warning) bool { return w.Name == alert.BrowserCheckFailed })
			}
			if got := warned(); got != tc.want {
				t.Errorf("%s: warned %v, want %v", tc.name, got, tc.want)
			}
			live := m.browsing
			m.browsing = browsingBy(live.look)
			must(t, m.browsing.restore(m.basis(), m.store.Records, time.Now()))
			if got := warned(); got != tc.want {
				t.Errorf("%s, after a restart: warned %v, want %v", tc.name, got, tc.want)
			}
			m.browsing = live
			time.Sleep(time.Hour)
		}
	})
}

// A relay that no browser can reach, as the attempt already says, is not looked at.
func TestBrowseNeedsWSS(t *testing.T) {
	m := &Monitor{browsing: browsingBy(func(context.Context, string) evidence.Rung {
		t.Error("it was looked at")
		return evidence.Rung{}
	})}
	now := time.Now()
	for name, tc := range map[string]struct {
		outcome evidence.Outcome
		hour    evidence.Hour
	}{
		"no wss":         {evidence.Fail, evidence.HourOf(now)},
		"the hour ended": {evidence.OK, evidence.HourOf(now) - 1},
	} {
		a := attempt(now, tc.outcome)
		if m.browse(t.Context(), schedule.Job{Relay: "relay", Hour: tc.hour}, nil, &a); len(a.Rungs) > 0 {
			t.Errorf("%s: %v", name, a.Rungs)
		}
	}
}

func TestBrowserConfig(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	t.Setenv("PATH", t.TempDir())
	for _, quiet := range []string{"none", "auto"} {
		if b, err := newBrowsing(Config{Browser: quiet}, log); b != nil || err != nil {
			t.Errorf("%s without a browser: %v, %v", quiet, b, err)
		}
	}
	if _, err := newBrowsing(Config{Browser: "/opt/chromium"}, log); err == nil {
		t.Error("a browser that is not there is no fault")
	}
}

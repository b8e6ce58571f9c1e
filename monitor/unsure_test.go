package monitor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/internal/maintenance"
	"github.com/psf-relay/relay-appliance/internal/release/releasetest"
	"github.com/psf-relay/relay-appliance/internal/wallclock"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/history"
	"github.com/psf-relay/relay-appliance/monitor/web"
)

// holding is a monitor that was just started while these alerts of it held, of which those
// about relays are given by [Monitor.relayAlert].
func holding(t *testing.T, relays int, held func(m *Monitor, ids []string) []alert.Alert) (*Monitor, []string) {
	t.Helper()
	m, ids := newTestMonitor(t, &fakeNet{}, relays, 1)
	file := filepath.Join(t.TempDir(), "alerts.json")
	for range 2 { // before the restart and after it
		var err error
		m.alerts, err = alert.New(file, m.log, &pager{})
		must(t, err)
		if held != nil {
			m.alerts.Set(time.Now(), held(m, ids))
			held = nil
		}
	}
	m.recallWarned()
	m.begun = time.Now()
	return m, ids
}

// raised are the names of the alerts that hold after a look, each once, in order.
func (m *Monitor) raised(t *testing.T, now time.Time) (names []string) {
	t.Helper()
	m.raise(t.Context(), now)
	for _, a := range m.alerts.Holding() {
		if !slices.Contains(names, a.Name) {
			names = append(names, a.Name)
		}
	}
	slices.Sort(names)
	return names
}

// What the monitor does not know of itself ends no alert, and what it knows then does.
func TestUnknownEndsNoAlert(t *testing.T) {
	started := time.Now()
	for name, tc := range map[string]struct{ doubt, known func(m *Monitor) }{
		"MonitorBlind": { // nothing was tried
			func(*Monitor) {},
			func(m *Monitor) { m.basis().roster.Relays = nil; m.rows.known = nil },
		},
		"SecondResolversSilent": { // they are still to be asked
			func(m *Monitor) {
				var err error
				m.ladder, err = newLadder(Config{Network: evidence.Lab, Second: []string{"127.0.0.1:1#dns.test"}})
				must(t, err)
				t.Cleanup(func() { _ = m.ladder.close() })
			},
			func(m *Monitor) { m.heard = true },
		},
		"UpdatesNearExpiry": { // there is no list
			func(*Monitor) {},
			func(m *Monitor) {
				site := releasetest.New(t, "relaymon")
				site.Publish("v1.0.0", time.Now())
				m.cfg.Updates = site.File()
				must(t, m.follow())
				m.fetchReleases(t.Context())
			},
		},
		"UpdateTakenBack": { // the notice cannot be read
			func(m *Monitor) {
				m.cfg.Maintenance = filepath.Join(t.TempDir(), "maintenance.json")
				must(t, os.WriteFile(m.cfg.Maintenance, []byte("{"), 0o600))
			},
			func(m *Monitor) { must(t, maintenance.Write(m.cfg.Maintenance, maintenance.Notice{})) },
		},
		"CommitteeFilesRefused": { // one more look is to tell
			func(m *Monitor) { m.refuse("no roster") },
			func(m *Monitor) { m.refuse("") },
		},
		"MonitorOverloaded": { // it runs too short a time
			func(m *Monitor) { m.started, m.starts = started, 1 },
			func(m *Monitor) { m.started = started.Add(-time.Hour) },
		},
		"BucketBehind": { // no push has come to its end
			func(m *Monitor) { m.cfg.Publish.Bucket, m.pushing.whole = "gs://logs", started },
			func(m *Monitor) { m.pushing.tried = true },
		},
		"BucketNotThisLog": { // it cannot be asked
			func(m *Monitor) {
				m.cfg.Publish.Bucket, m.pushing.whole = "gs://logs", started
				m.pushing.tried, m.pushing.err = true, errors.New("no answer")
			},
			func(m *Monitor) { m.pushing.err = nil },
		},
		"RestartsOften": { // the file of the starts could not be read
			func(m *Monitor) { m.started = started },
			func(m *Monitor) { m.starts = 1 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := holding(t, 1, func(m *Monitor, _ []string) []alert.Alert {
				return []alert.Alert{m.newAlert(name, "critical", "it holds")}
			})
			tc.doubt(m)
			if got := m.raised(t, started); !slices.Equal(got, []string{name}) {
				t.Errorf("while it is not known: got %v, want %s", got, name)
			}
			tc.known(m)
			if got := m.raised(t, started); len(got) != 0 {
				t.Errorf("when it is known: got %v, want none", got)
			}
		})
	}
}

// After a restart a relay's alerts go on until something is known of it, one by one or many
// as one. Then they end.
func TestUnknownEndsNoAlertOfARelay(t *testing.T) {
	ofFacts := []string{alert.BrowserCheckFailed, alert.CertificateNearExpiry, alert.DomainLeadsElsewhere, alert.RelayOutdated}
	for _, n := range []int{2, 12} {
		t.Run(fmt.Sprint(n, " relays"), func(t *testing.T) {
			m, ids := holding(t, n, func(m *Monitor, ids []string) (list []alert.Alert) {
				for _, name := range ofFacts {
					for _, id := range ids {
						r := &web.Relay{PeerID: id, Operator: "another"}
						list = append(list, m.relayAlert(name, "warning", r, many[name], "does not do well"))
					}
				}
				return list
			})
			before := m.alerts.Holding()
			now := time.Now()
			for range 2 {
				if got := m.raised(t, now); !slices.Equal(got, ofFacts) {
					t.Fatalf("while nothing is known: got %v, want %v", got, ofFacts)
				}
			}
			same := func(a, b alert.Alert) bool { return a.Name == b.Name && a.Count == b.Count && a.Since.Equal(b.Since) }
			if after := m.alerts.Holding(); !slices.EqualFunc(before, after, same) {
				t.Errorf("got %v, want the same as before: %v", after, before)
			}
			if o, err := m.overview(now); err != nil || len(o.Relays[0].Warnings) != len(ofFacts) {
				t.Errorf("the page says %v, %v, want what held", o.Relays[0].Warnings, err)
			}
			site := releasetest.New(t, "relaymon")
			site.Publish("v1.0.0", now)
			m.cfg.Updates = site.File()
			must(t, m.follow())
			m.fetchReleases(t.Context())
			m.browsing = browsingBy(nil)
			h := evidence.HourOf(now)
			must(t, m.store.Begin(h, now, "relaymon/1"))
			well := func(ids []string) {
				for _, id := range ids {
					a := attempt(now, evidence.OK)
					a.PeerID, a.Rungs = id, []evidence.Rung{{Name: bounty.BrowserRung, Outcome: evidence.OK}}
					a.TCP4Addr, a.WSSAddr = m.basis().roster.Relay(id).Multiaddrs(id)
					leaf := []byte("a leaf")
					a.Facts.Certificate = &evidence.Certificate{SHA256: evidence.SHA256Hex(leaf), DNSNames: []string{}, NotBefore: evidence.TimeOf(now), NotAfter: evidence.TimeOf(now.AddDate(0, 0, 90))}
					a.Facts.ResolvedIPv4, a.Facts.AgentVersion = []string{"127.0.0.2"}, "relayd/1.0.0"
					must(t, m.store.Append(h, a, leaf))
					m.remember(a)
					m.browsing.note(m.basis(), h, &a)
				}
			}
			// Of some it is known: the others are what the alerts are about, all of them in one form.
			well(ids[n/2:])
			m.raised(t, now)
			for _, name := range ofFacts {
				about, since := 0, before[0].Since
				for _, a := range m.alerts.Holding() {
					if a.Name == name {
						about += max(a.Count, 1)
						since = a.Since
					}
				}
				if about != n/2 || !since.Equal(before[0].Since) {
					t.Errorf("%s: got alerts about %d relays since %s, want %d since %s", name, about, since, n/2, before[0].Since)
				}
			}
			well(ids[:n/2])
			if got := m.raised(t, now); len(got) != 0 {
				t.Errorf("when all is known: got %v, want none", got)
			}
		})
	}
}

// By a clock that cannot be right nothing is over.
func TestNoAlertEndsByAWrongClock(t *testing.T) {
	m, _ := holding(t, 1, func(m *Monitor, ids []string) []alert.Alert {
		return []alert.Alert{m.relayAlert(alert.MonthOutOfReach, "warning", &web.Relay{PeerID: ids[0], Operator: "another"}, many[alert.MonthOutOfReach], "is lost"),
			m.newAlert("HourUnsealed", "critical", "it is not sealed")}
	})
	m.clock = &wallclock.Clock{Kept: func() bool { return true }, Uptime: wallclock.Up}
	now := time.Now().AddDate(0, 0, -3)
	m.fault = m.misnamed(now)
	if got := m.raised(t, now); m.fault == nil || !slices.Equal(got, []string{"HourUnsealed", "MonitorNotJudging", alert.MonthOutOfReach}) {
		t.Errorf("fault %v: got %v, want those that held, and that nothing is judged", m.fault, got)
	}
	m.fault = nil
	if got := m.raised(t, time.Now()); len(got) != 0 {
		t.Errorf("by the right clock: got %v, want none", got)
	}
}

// What a wrong clock says of a warning is not remembered.
func TestWarningsOutliveAWrongClock(t *testing.T) {
	r, due := &web.Relay{PeerID: "x"}, []string{alert.UpdateDue}
	m := &Monitor{warned: map[string][]web.Warning{"x": {{Name: alert.UpdateDue}}}}
	for _, look := range []struct {
		unsure   []string
		misnamed bool
		want     int
	}{{nil, true, 1}, {due, false, 1}, {nil, false, 0}, {due, false, 0}} {
		if got := m.goOn(r, nil, look.unsure, look.misnamed); len(got) != look.want {
			t.Errorf("%+v: got %v", look, got)
		}
	}
}

// Hours of which nothing is known end no outage, however many they are.
func TestDownForLong(t *testing.T) {
	now := evidence.HourOf(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC))
	for _, tc := range []struct {
		name    string
		ago     evidence.Hour // so many hours are unknown
		vote    bounty.Value  // of those before
		begun   evidence.Hour // the log began so many hours ago
		first   evidence.Hour
		unknown bool
	}{
		{"down", 10, bounty.Down, 400, now - recallHours + 1, false},
		{"down before all that is looked at", recallHours, bounty.Down, 400, 0, true},
		{"one hour of it is left", recallHours - 1, bounty.Down, 400, 0, true},
		{"up", 10, bounty.Up, 400, 0, false},
		{"up before all that is looked at", recallHours, bounty.Up, 400, 0, true},
		{"nothing since the log began", 400, bounty.Unknown, 100, 0, false},
	} {
		made := &history.Relay{Hours: make([]history.Hour, now.Month().Hours())}
		for h := now.Month().First(); h <= now-tc.ago; h++ {
			made.Hours[h-now.Month().First()].Vote = tc.vote
		}
		r := row{hour: now, now: made, before: made}
		if first, unknown := r.downSince(now - tc.begun); first != tc.first || unknown != tc.unknown {
			t.Errorf("%s: got %d, unknown %v, want %d, %v", tc.name, first, unknown, tc.first, tc.unknown)
		}
	}
}

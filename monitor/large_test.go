package monitor

import (
	"crypto/rand"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/history"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
	"github.com/psf-relay/relay-appliance/monitor/store"
	"github.com/psf-relay/relay-appliance/monitor/web"
)

// readings counts how often each hour of the log is read.
type readings struct {
	*store.Log
	headers int
	hours   map[evidence.Hour]int
}

func (r *readings) Headers(m evidence.Month) ([]evidence.Header, error) {
	r.headers++
	return r.Log.Headers(m)
}

func (r *readings) Records(h evidence.Hour) ([]evidence.Record, error) {
	r.hours[h]++
	return r.Log.Records(h)
}

// However many relays there are, pages, metrics and alerts read an hour of the log
// once, and again only if something was written to it: that is seen at once.
func TestAllReadTheLogOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Minute) // into a month's first hour: two months are looked at
		m := largeMonitor(t, 40, 3)
		log := &readings{Log: m.store, hours: map[evidence.Hour]int{}}
		m.basis().history = history.New(log, m.basis().rules, m.basis().roster, nil)
		this := evidence.HourOf(time.Now())
		var err error
		m.alerts, err = alert.New(filepath.Join(t.TempDir(), "alerts.json"), m.log, &pager{})
		must(t, err)
		m.begun = time.Now()
		id := m.basis().roster.Relays[1].PeerID
		look := func() web.Overview {
			t.Helper()
			pages := m.local(m.public())
			for _, path := range []string{"/", "/status.json", "/healthz", "/metrics", "/relay/" + id, "/badge/" + id + ".svg"} {
				if code, body := fetch(pages, path); code != 200 {
					t.Fatalf("%s: status %d: %s", path, code, body)
				}
			}
			m.raise(t.Context(), time.Now())
			o, err := m.overview(time.Now())
			must(t, err)
			return o
		}
		before := look()
		for h := m.store.First(); h <= this; h++ {
			if log.hours[h] != 1 {
				t.Errorf("%s was read %d times, want once", h, log.hours[h])
			}
		}
		if log.headers > 2 { // of two months, in the first days of one
			t.Errorf("headers were read %d times", log.headers)
		}
		if got := before.Totals; got != (web.Totals{Relays: 40, Up: 20, Down: 20, Needy: 20}) {
			t.Errorf("got %+v, want half of 40 up", got)
		}

		// The retry of a relay that was up is its own affair.
		log.headers, log.hours = 0, map[evidence.Hour]int{}
		a := attempt(this.Start().Add(50*time.Minute), evidence.OK)
		a.PeerID, a.Rungs = id, []evidence.Rung{}
		must(t, m.store.Append(this, a))
		after := look()
		if len(log.hours) != 1 || log.hours[this] != 1 || log.headers != 0 {
			t.Errorf("read %v and headers %d times, want this hour once", log.hours, log.headers)
		}
		for i := range after.Relays {
			was, is := before.Relays[i].Hours[shownHours-1].Attempts, after.Relays[i].Hours[shownHours-1].Attempts
			if (is == was+1) != (after.Relays[i].PeerID == id) {
				t.Errorf("relay %d: %d attempts, before %d", i, is, was)
			}
		}
		// One alert tells of them all.
		if list := m.alerts.Holding(); len(list) == 0 || list[len(list)-1].Name != "RelayDown" || list[len(list)-1].Count != 20 {
			t.Errorf("got %.1000v, want one alert about 20 relays", list)
		}
	})
}

// What a large roster costs, half of it dead: the first page after a start, the page
// after each new attempt, and after an hour has been sealed, when everything is new.
func BenchmarkLarge(b *testing.B) {
	for _, n := range []int{100, 500, 1000} {
		m := largeMonitor(b, n, 26)
		// Another handler each time: its answers are kept for a moment.
		get := func(b *testing.B, path string) int {
			w := httptest.NewRecorder()
			m.pages().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
			if w.Code != 200 {
				b.Fatal(w.Code)
			}
			return w.Body.Len()
		}
		run := func(name, path string, before func()) {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					b.StopTimer()
					before()
					b.StartTimer()
					b.ReportMetric(float64(get(b, path)), "page-bytes")
				}
			})
		}
		nothing := func() {}
		run("start", "/", func() {
			m.basis().history, m.rows.known = history.New(m.store, m.basis().rules, m.basis().roster, nil), nil
		})
		run("page", "/", nothing)
		try := 0
		run("attempt", "/", func() {
			r := &m.basis().roster.Relays[try/20%n]
			a := attempt(time.Now(), evidence.Fail)
			a.PeerID, a.Rungs = r.PeerID, []evidence.Rung{}
			a.TCP4Addr, a.WSSAddr = r.Multiaddrs(r.PeerID)
			must(b, m.store.Append(evidence.HourOf(time.Now()), a))
			try++
		})
		run("all", "/", func() { m.rows.known = nil })
		run("status.json", "/status.json", nothing)
		run("healthz", "/healthz", nothing)
		var err error
		m.alerts, err = alert.New(filepath.Join(b.TempDir(), "alerts.json"), m.log, &pager{})
		must(b, err)
		m.begun = time.Now()
		b.Run(fmt.Sprintf("%d/alerts", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m.raise(b.Context(), time.Now())
			}
		})
	}
}

// largeMonitor watches n relays, every other one dead, since some hours.
func largeMonitor(t testing.TB, n, hours int) *Monitor {
	t.Helper()
	m, _ := newTestMonitor(t, &fakeNet{}, 1, 8)
	relay := m.basis().roster.Relays[0]
	m.basis().roster.Relays = make([]bounty.Relay, n)
	ids := make([]string, n)
	for i := range ids {
		ids[i] = newSigner(t, rand.Reader)
		m.basis().roster.Relays[i] = relay
		m.basis().roster.Relays[i].PeerID, m.basis().roster.Relays[i].Operator = ids[i], fmt.Sprint("operator ", i)
	}
	this := evidence.HourOf(time.Now())
	must(t, m.store.Close())
	var err error
	m.cfg.DataDir = t.TempDir()
	m.store, err = store.Create(m.cfg.DataDir+"/log", store.Options{Name: "m1", Network: evidence.Lab, First: this - evidence.Hour(hours)})
	must(t, err)
	t.Cleanup(func() { _ = m.store.Close() })
	m.identities = schedule.NewIdentities(m.store.Key())
	m.basis().roster.Controls = []bounty.ControlHost{{Name: "c1", TCP4: "x", WSS: "x"}, {Name: "c2", TCP4: "x", WSS: "x"}, {Name: "c3", TCP4: "x", WSS: "x"}}
	for i := range m.basis().roster.Relays {
		m.basis().roster.Relays[i].Enrolled = m.store.First()
	}
	for h := m.store.First(); h <= this; h++ {
		must(t, m.store.Begin(h, h.Start(), "test"))
		for i, id := range ids {
			outcome, tries := evidence.OK, 1
			if i%2 == 0 {
				outcome, tries = evidence.Fail, 3
			}
			for try := range tries {
				a := attempt(h.Start().Add(time.Duration(7*try)*time.Minute), outcome)
				a.PeerID = id
				a.TCP4Addr, a.WSSAddr = m.basis().roster.Relays[i].Multiaddrs(id)
				a.Rungs = []evidence.Rung{}
				for _, c := range evidence.Components {
					a.Rungs = append(a.Rungs, evidence.Rung{Name: string(c), Component: c, Outcome: outcome, DurationUS: 1000})
				}
				if outcome == evidence.OK {
					a.Level = evidence.LevelEchoed
					a.Facts.AgentVersion = "relayd/1.0.0"
					vouch(t, m, h, &a)
				} else {
					for _, c := range []evidence.Component{evidence.TCP4, evidence.WSS} {
						for _, name := range []string{"c1", "c2", "c3"} {
							a.Controls = append(a.Controls, evidence.Control{Name: name, Component: c, Outcome: evidence.OK, Started: evidence.TimeOf(a.Started.Add(time.Second))})
						}
					}
				}
				must(t, m.store.Append(h, a))
				m.latest[id] = &a
			}
		}
		if h < this-1 {
			_, err := m.store.Seal(h.End().Add(evidence.CloseAfter))
			must(t, err)
		}
	}
	m.basis().history = history.New(m.store, m.basis().rules, m.basis().roster, nil)
	return m
}

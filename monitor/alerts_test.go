package monitor

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/history"
	"github.com/psf-relay/relay-appliance/monitor/probe"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
	"github.com/psf-relay/relay-appliance/monitor/store"
	"github.com/psf-relay/relay-appliance/monitor/web"
)

// pager keeps what it was told, with the hour.
type pager struct {
	mu    sync.Mutex
	start time.Time
	got   []string // "RelayDown firing"
	hours []int
	hang  bool
}

func (p *pager) Name() string  { return "pager" }
func (p *pager) Repeats() bool { return false }
func (p *pager) Send(ctx context.Context, alerts []alert.Alert) error {
	if p.hang {
		<-ctx.Done()
		return errors.New("nobody home")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range alerts {
		word := " firing"
		if !a.Ended.IsZero() {
			word = " resolved"
		}
		p.got = append(p.got, a.Name+word)
		p.hours = append(p.hours, int(time.Since(p.start).Hours()))
	}
	return nil
}

// told says in which hours it was told so, and counts them.
func (p *pager) told(what string) (hours []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, g := range p.got {
		if g == what {
			hours = append(hours, p.hours[i])
		}
	}
	return hours
}

// fallible makes what a monitor probes go wrong by the hour: its attempts are whole,
// with addresses and controls.
func fallible(t *testing.T, m *Monitor, outcome func(hour int) (relay, control evidence.Outcome)) {
	t.Helper()
	m.basis().roster.Controls = []bounty.ControlHost{{Name: "c1", TCP4: "x", WSS: "x"}}
	start := time.Now()
	m.climb = func(_ context.Context, target probe.Target, _ *lookout, key crypto.PrivKey) (evidence.Attempt, [][]byte) {
		id := target.PeerID.String()
		now := time.Now()
		relay, control := outcome(int(now.Sub(start).Hours()))
		a := attempt(now, relay)
		a.PeerID, a.Rungs = id, []evidence.Rung{}
		a.TCP4Addr, a.WSSAddr = m.basis().roster.Relay(id).Multiaddrs(id)
		if relay == evidence.OK {
			a.Level = evidence.LevelEchoed
			a.Facts.Reservation = grant(id, key, now, time.Hour)
			return a, nil
		}
		for _, c := range []evidence.Component{evidence.TCP4, evidence.WSS} {
			a.Controls = append(a.Controls, evidence.Control{Name: "c1", Component: c, Outcome: control, Started: evidence.TimeOf(now)})
		}
		return a, nil
	}
}

// alerted runs a monitor of one relay for some hours.
func alerted(t *testing.T, p *pager, hours int, required int, outcome func(hour int) (relay, control evidence.Outcome)) *Monitor {
	t.Helper()
	m, _ := newTestMonitor(t, &fakeNet{}, 1, 8)
	m.basis().rules.HoursRequired = required
	fallible(t, m, outcome)
	p.start = time.Now()
	var err error
	if m.alerts, err = alert.New(filepath.Join(t.TempDir(), "alerts.json"), m.log, p); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(hours)*time.Hour)
	defer cancel()
	if err := m.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return m
}

// One hour down is nothing to get up for; two are. It is told once, and its end.
func TestAlertsRelayDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pager{}
		alerted(t, p, 9, 600, func(h int) (evidence.Outcome, evidence.Outcome) {
			if h == 1 || h >= 3 && h < 6 {
				return evidence.Fail, evidence.OK
			}
			return evidence.OK, evidence.OK
		})
		firing, resolved := p.told("RelayDown firing"), p.told("RelayDown resolved")
		// An attempt late in an hour is repeated in the next, where the relay may be well again.
		if len(firing) != 1 || firing[0] < 4 || firing[0] > 6 || len(resolved) != 1 || resolved[0] < 6 || resolved[0] > 7 {
			t.Errorf("down in hours 3 to 5: told in %v, its end in %v; all: %v", firing, resolved, p.got)
		}
		if i := slices.IndexFunc(p.got, func(s string) bool { return !strings.HasPrefix(s, "RelayDown") }); i >= 0 {
			t.Errorf("told of %s, too", p.got[i])
		}
	})
}

// A month that can no longer be won is told, and stays lost.
func TestAlertsMonthOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pager{}
		alerted(t, p, 8, 743, func(h int) (evidence.Outcome, evidence.Outcome) {
			if h == 1 || h == 2 || h == 3 {
				return evidence.Fail, evidence.OK
			}
			return evidence.OK, evidence.OK
		})
		if firing := p.told("MonthOutOfReach firing"); len(firing) != 1 || firing[0] < 2 || len(p.told("MonthOutOfReach resolved")) != 0 {
			t.Errorf("got %v", p.got)
		}
	})
}

// A relay that was enrolled too late to win the month has lost nothing: nobody is told,
// and no page calls it lost. One that was enrolled in time and is lost is told.
func TestAlertsLateEnrolment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(20 * 24 * time.Hour) // the bubble begins with a month of 31 days
		p := &pager{}
		m := alerted(t, p, 6, 600, func(h int) (evidence.Outcome, evidence.Outcome) {
			if h == 2 {
				return evidence.Fail, evidence.OK
			}
			return evidence.OK, evidence.OK
		})
		if len(p.got) > 0 {
			t.Errorf("told %v, want nothing", p.got)
		}
		r := overviewRelay(t, m, m.basis().roster.Relays[0].PeerID)
		if c := r.Count; c.Spare >= 0 || !c.Late() || c.Lost() {
			t.Errorf("got %+v, late %v, lost %v; want a month that is late and not lost", c, c.Late(), c.Lost())
		}
	})
}

// Of many relays some were tried before the line failed: the monitor is blind if it
// could judge only a few.
func TestAlertsBlindToMost(t *testing.T) {
	m := &Monitor{}
	for up, want := range map[int]bool{0: true, 2: true, 3: false} {
		var o web.Overview
		for i := range 5 {
			hours := make([]web.Hour, shownHours)
			hours[shownHours-2] = web.Hour{Attempts: 1, Vote: bounty.Unknown, Why: bounty.BlindLine.String()}
			if i < up {
				hours[shownHours-2] = web.Hour{Attempts: 1, Vote: bounty.Up}
			}
			o.Relays = append(o.Relays, web.Relay{Hours: hours})
		}
		if _, blind, tried := m.blind(&o); tried != 5 || blind != 5-up || (2*blind > tried) != want {
			t.Errorf("%d of 5 were up: %d tried, %d blind", up, tried, blind)
		}
	}
}

// A log that cannot be read tells nothing of the relays: what was told of them stays,
// and what is wrong with the monitor is told.
func TestAlertsOfAnUnreadableLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pager{}
		m := alerted(t, p, 6, 600, func(int) (evidence.Outcome, evidence.Outcome) { return evidence.Fail, evidence.OK })
		names := func() (list []string) {
			for _, a := range m.alerts.Holding() {
				list = append(list, a.Name)
			}
			return list
		}
		if got := names(); !slices.Equal(got, []string{"RelayDown"}) {
			t.Fatalf("got %v, want a relay that is down", got)
		}
		m.basis().history = history.New(unreadable{m.store}, m.basis().rules, m.basis().roster, nil)
		m.fault = errors.New("input/output error")
		m.raise(t.Context(), time.Now())
		if got := names(); !slices.Equal(got, []string{"MonitorNotJudging", "RelayDown"}) {
			t.Errorf("got %v, want that nothing is judged, too", got)
		}
	})
}

// unreadable is a log on a disk that fails.
type unreadable struct{ *store.Log }

func (unreadable) Headers(evidence.Month) ([]evidence.Header, error) {
	return nil, errors.New("input/output error")
}

// When its own line fails, the monitor is blind, and no relay is called down.
func TestAlertsBlind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pager{}
		alerted(t, p, 10, 600, func(h int) (evidence.Outcome, evidence.Outcome) {
			if h >= 2 && h < 6 {
				return evidence.Fail, evidence.Fail
			}
			return evidence.OK, evidence.OK
		})
		if firing, resolved := p.told("MonitorBlind firing"), p.told("MonitorBlind resolved"); len(firing) != 1 || len(resolved) != 1 || firing[0] < 3 || len(p.got) != 2 {
			t.Errorf("got %v in hours %v", p.got, p.hours)
		}
	})
}

// Nobody at the other end: the plan is kept to the second all the same.
func TestAlertsDelayNoProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pager{hang: true}
		m := alerted(t, p, 6, 744, func(int) (evidence.Outcome, evidence.Outcome) { return evidence.Fail, evidence.OK })
		if len(m.alerts.Holding()) == 0 || m.alerts.Waiting() == 0 {
			t.Error("there is nothing that could not be sent")
		}
		for h := m.store.First(); h < m.store.First()+5; h++ {
			records, err := m.store.Records(h)
			if err != nil || len(records) != 1 {
				t.Fatalf("%s: %d records, %v", h, len(records), err)
			}
			a := records[0].Attempts
			if a[0].Started.Sub(h.Start()) != m.store.Offset(records[0].PeerID, h) || len(a) != 3 || a[1].Started.Sub(a[0].Started.Time) != schedule.Retries[0] {
				t.Errorf("%s: attempts at %v, %v, %v", h, a[0].Started, a[1].Started, a[2].Started)
			}
		}
	})
}

func TestAlertsOfTheMonitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
		m, ids := newTestMonitor(t, f, 1, 8)
		var err error
		if m.alerts, err = alert.New(filepath.Join(t.TempDir(), "alerts.json"), m.log, &pager{}); err != nil {
			t.Fatal(err)
		}
		names := func(now time.Time) (list []string) {
			m.raise(t.Context(), now)
			for _, a := range m.alerts.Holding() {
				list = append(list, a.Name)
			}
			slices.Sort(list)
			return list
		}
		now := time.Now()
		if got := names(now.Add(24 * time.Hour)); len(got) > 0 {
			t.Errorf("before it has looked: %v", got)
		}
		m.begun = now
		if got := names(now.Add(89 * time.Minute)); len(got) > 0 {
			t.Errorf("half an hour after the first hour's end: %v", got)
		}
		if got := names(now.Add(91 * time.Minute)); !slices.Equal(got, []string{"HourUnsealed"}) {
			t.Errorf("an hour that is not sealed: %v", got)
		}
		m.fault = errors.New("disk full")
		if got := names(now.Add(91 * time.Minute)); !slices.Equal(got, []string{"HourUnsealed", "MonitorNotJudging"}) {
			t.Errorf("a log that cannot be written: %v", got)
		}
		m.fault = nil
		if _, err := m.store.Seal(now.Add(91 * time.Minute)); err != nil {
			t.Fatal(err)
		}
		if got := names(now.Add(91 * time.Minute)); len(got) > 0 {
			t.Errorf("sealed: %v", got)
		}
		// Of three monitors one other must have cosigned the hour (rule R9).
		for _, name := range []string{"m1", "m2", "m3"} {
			m.basis().roster.Monitors = append(m.basis().roster.Monitors, bounty.Monitor{Name: name, WitnessKey: "k", WitnessURL: "https://" + name})
		}
		m.witnessing = &witnessing{name: "m1", basis: m.basis}
		for size, want := range map[int64]int{0: 1, 1: 0} {
			o := &web.Overview{Witnesses: []web.Witness{{Name: "m2", Size: size}, {Name: "m3"}}}
			if list := m.monitorAlerts(o, now.Add(91*time.Minute)); len(list) != want || want > 0 && list[0].Name != "HourUnsealed" {
				t.Errorf("%d hours cosigned: %v", size, list)
			}
		}
		m.witnessing, m.basis().roster.Monitors = nil, nil
		// A certificate of ninety days with ten left was not renewed.
		cert := &evidence.Certificate{SHA256: strings.Repeat("ab", 32), NotBefore: evidence.TimeOf(now.Add(-80 * 24 * time.Hour)), NotAfter: evidence.TimeOf(now.Add(10 * 24 * time.Hour))}
		r := overviewRelay(t, m, ids[0])
		r.Last = &evidence.Attempt{Facts: evidence.Facts{Certificate: cert}}
		r.Certificate = &bounty.CertificateSeen{SHA256: cert.SHA256, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter}
		for left, want := range map[time.Duration]int{0: 1, -6 * 24 * time.Hour: 0} {
			r.Warnings = m.warnings(r, now.Add(left))
			list := m.relayAlerts(r)
			if len(list) != want || want > 0 && list[0].Name != "CertificateNearExpiry" {
				t.Errorf("%v before: %v", -left, list)
			}
		}
	})
}

func TestAlertsConfig(t *testing.T) {
	base := "name: m1\ndata_dir: d\nroster: r\n"
	if _, err := ParseConfig("x", []byte(base+"alerts: {webhooks: [\"https://a.example/T0\"], alertmanagers: [\"http://127.0.0.1:9093\"]}\n")); err != nil {
		t.Error(err)
	}
	_, err := ParseConfig("x", []byte(base+"alerts: {webhooks: [secret], alertmanagers: [\"ftp://x\"]}\n"))
	if err == nil || !strings.Contains(err.Error(), "x:4: alerts.webhooks[0]") || !strings.Contains(err.Error(), "alerts.alertmanagers[0]") || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}

func overviewRelay(t *testing.T, m *Monitor, id string) *web.Relay {
	t.Helper()
	o, err := m.overview(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(o.Relays, func(r web.Relay) bool { return r.PeerID == id })
	return &o.Relays[i]
}

// State of alerts that cannot be read keeps no monitor from watching, and the page says so.
func TestAlertsStateIsUnreadable(t *testing.T) {
	m, _, _ := published(t)
	cfg := m.cfg
	must(t, m.Close())
	cfg.Alerts.Webhooks = []alert.URL{"http://127.0.0.1:1/"}
	file := filepath.Join(cfg.DataDir, "alerts.json")
	must(t, os.Mkdir(file, 0o700)) // as root everything else is readable
	again, err := Open(cfg, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() { must(t, again.Close()) })
	if got := again.self(time.Now()).NotTold; !strings.Contains(got, "alerts are not sent: ") || !strings.Contains(got, file) {
		t.Errorf("got %q, want why nobody is told", got)
	}
}

// deaf is a receiver that takes no message.
type deaf struct{}

func (deaf) Name() string                              { return "ntfy ntfy.sh" }
func (deaf) Repeats() bool                             { return false }
func (deaf) Send(context.Context, []alert.Alert) error { return errors.New("it answers 500") }

// A receiver that refuses everything stands on the status page.
func TestAlertsThatDoNotArriveAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := newTestMonitor(t, &fakeNet{}, 1, 8)
		var err error
		if m.alerts, err = alert.New(filepath.Join(t.TempDir(), "alerts.json"), m.log, deaf{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		m.alerts.Set(time.Now(), []alert.Alert{{Name: "MonitorNotJudging", Summary: "it judges nothing"}})
		m.alerts.Run(ctx)
		if got := m.self(time.Now()).NotReached; len(got) != 1 || !strings.HasPrefix(got[0], "alerts do not reach ntfy ntfy.sh: ") {
			t.Errorf("got %q, want the receiver", got)
		}
	})
}

package monitor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/release/feed"
	"github.com/psf-relay/relay-appliance/internal/release/releasetest"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
	"github.com/psf-relay/relay-appliance/monitor/web"
)

// flaky is a relay with a bad month. Each night it cannot be reached, and nothing else is
// mended until its operator looks.
type flaky struct {
	nightly            int // hours down each night
	browser, elsewhere int // the days on which a browser fails, and the domain leads elsewhere
	certified, updated int // the days on which the operator renews the certificate, and updates
}

// climb is an attempt on it.
func (f flaky) climb(m *Monitor, start time.Time) func(context.Context, probe.Target, *lookout, crypto.PrivKey) (evidence.Attempt, [][]byte) {
	return func(_ context.Context, target probe.Target, _ *lookout, key crypto.PrivKey) (evidence.Attempt, [][]byte) {
		id, now := target.PeerID.String(), time.Now()
		day, hour := int(now.Sub(start).Hours())/24+1, now.UTC().Hour()
		a := attempt(now, evidence.OK)
		a.PeerID, a.Rungs = id, []evidence.Rung{}
		a.TCP4Addr, a.WSSAddr = m.basis().roster.Relay(id).Multiaddrs(id)
		a.Facts.AgentVersion = "relayd/0.9.0"
		if day >= f.updated {
			a.Facts.AgentVersion = "relayd/1.1.0"
		}
		a.Facts.ResolvedIPv4 = []string{"127.0.0.2"}
		// By this one a browser's failure counts.
		a.Controls = []evidence.Control{{Name: "c1", Component: evidence.WSS, Outcome: evidence.OK, Started: evidence.TimeOf(now)}}
		if day == f.elsewhere {
			a.Facts.ResolvedIPv4 = []string{"127.0.0.9"}
		}
		// A certificate of 90 days that is renewed five days before its end, on the day.
		issued := start.AddDate(0, 0, f.certified-1-85)
		if day >= f.certified {
			issued = start.AddDate(0, 0, f.certified-1)
		}
		leaf := []byte(issued.String()) // nobody reads it
		a.Facts.Certificate = &evidence.Certificate{SHA256: evidence.SHA256Hex(leaf), DNSNames: []string{}, NotBefore: evidence.TimeOf(issued), NotAfter: evidence.TimeOf(issued.AddDate(0, 0, 90))}
		if hour >= 2 && hour < 2+f.nightly {
			a.Results[evidence.TCP4] = evidence.Result{Outcome: evidence.Fail, Class: evidence.Refused}
			a.Controls = append(a.Controls, evidence.Control{Name: "c1", Component: evidence.TCP4, Outcome: evidence.OK, Started: evidence.TimeOf(now)})
			return a, [][]byte{leaf}
		}
		a.Level = evidence.LevelEchoed
		a.Facts.Reservation = grant(id, key, now, time.Hour)
		return a, [][]byte{leaf}
	}
}

// look is what a real browser finds: on one day nothing, until noon.
func (f flaky) look(start time.Time) looker {
	return func(context.Context, string) evidence.Rung {
		now := time.Now()
		if int(now.Sub(start).Hours())/24+1 == f.browser && now.UTC().Hour() < 12 {
			return evidence.Rung{Name: bounty.BrowserRung, Outcome: evidence.Fail, Class: evidence.ConnectFailed}
		}
		return evidence.Rung{Name: bounty.BrowserRung, Outcome: evidence.OK}
	}
}

// warned walks a relay through a month, hour by hour, and says when which alert was told.
func warned(t *testing.T, f flaky) (told []string, m *Monitor) {
	t.Helper()
	// Releases, the newest of the tenth, of which the relay runs an old one; the bubble's clock begins with the year 2000.
	begin := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	site := releasetest.New(t, "relaymon")
	site.Publish("v0.9.0", begin.AddDate(0, 0, -60))
	site.Publish("v1.0.0", begin.AddDate(0, 0, -30))
	site.Publish("v1.1.0", begin.AddDate(0, 0, 9))
	from, err := feed.Load(site.File())
	must(t, err)
	kept := t.TempDir()
	list, err := feed.Follow(from, kept, buildinfo.Agent("relaymon"), feed.Years)
	must(t, err)
	must(t, list.Fetch(t.Context())) // not in the bubble, whose clock would wait for the network
	synctest.Test(t, func(t *testing.T) {
		m, _ = newTestMonitor(t, &fakeNet{}, 1, 8)
		m.basis().roster.Controls = []bounty.ControlHost{{Name: "c1", TCP4: "x", WSS: "x"}}
		m.browsing = browsingBy(f.look(begin))
		m.climb = f.climb(m, begin)
		var err error
		m.updates, err = feed.Follow(from, kept, buildinfo.Agent("relaymon"), feed.Years)
		must(t, err)
		p := &pager{start: begin}
		m.alerts, err = alert.New(filepath.Join(t.TempDir(), "alerts.json"), m.log, p)
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer m.running.Wait()
		defer cancel()
		m.running.Go(func() { m.alerts.Run(ctx) })
		for time.Now().Before(begin.AddDate(0, 0, 31)) {
			for range 24 { // ten minutes, by what cron does
				m.tick(ctx, m.machine.Now())
				time.Sleep(25 * time.Second)
			}
			synctest.Wait()
			m.seal(time.Now())
			m.raise(ctx, time.Now())
		}
		synctest.Wait()
		for i, what := range p.got {
			told = append(told, fmt.Sprintf("day %2d %02d h  %s", p.hours[i]/24+1, p.hours[i]%24, what))
		}
	})
	return told, m
}

// Of a month that goes wrong each warning is told while it can still be mended. What is
// told, and when, stands in testdata/month.txt: "UPDATE=1 go test -run MonthWarned" writes
// it anew.
func TestMonthWarned(t *testing.T) {
	if testing.Short() {
		t.Skip("walks through a month")
	}
	told, m := warned(t, flaky{nightly: 6, certified: 15, browser: 8, elsewhere: 20, updated: 29})
	got := "A relay that cannot be reached from 02:00 to 08:00 each night, in a month of 31 days: 144 hours may be lost.\n\n"
	nights := 0
	for _, line := range told {
		if strings.Contains(line, "RelayDown") {
			nights++ // each night, the same
			continue
		}
		got += line + "\n"
	}
	got += fmt.Sprintf("\nRelayDown: told %d times, and its end.\n", nights/2)
	const golden = "testdata/month.txt"
	if os.Getenv("UPDATE") != "" {
		must(t, os.WriteFile(golden, []byte(got), 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if got != string(want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	// Each warning came before what it warns of.
	at := func(what string) int {
		i := slices.IndexFunc(told, func(s string) bool { return strings.HasSuffix(s, "  "+what) })
		if i < 0 {
			t.Fatalf("%s was not told", what)
		}
		return i
	}
	order := []string{"SlackPace firing", "SlackHalfUsed firing", "SlackNearlyUsed firing", "MonthOutOfReach firing"}
	for i := range order[1:] {
		if at(order[i]) >= at(order[i+1]) {
			t.Errorf("%s was told after %s", order[i], order[i+1])
		}
	}
	month, err := m.month(m.basis().roster.Relays[0].PeerID, evidence.MonthOf(time.Date(2000, 1, 31, 0, 0, 0, 0, time.UTC)), time.Date(2000, 1, 31, 23, 59, 0, 0, time.UTC))
	must(t, err)
	if f := month.Forecast; f.Left >= 0 || len(f.Costly) == 0 || f.Costly[0].Hours != 6 || f.Costly[0].Why != "tcp4 refused" || f.Causes[0].Hours != f.Used {
		t.Errorf("got %+v, want a lost month in which each night cost six hours, all by tcp4 refused", f)
	}
}

// A relay that is well has no warning, whatever the day; and one whose month is won, or
// can never be won, is not warned of hours.
func TestWarnings(t *testing.T) {
	m, _ := newTestMonitor(t, &fakeNet{}, 1, 1)
	now := time.Now()
	month := evidence.MonthOf(now)
	for _, c := range []struct {
		name  string
		hours bounty.Hours
		busy  int
		want  []string
	}{
		{"new month", bounty.Hours{Total: 720, Remaining: 720}, 0, nil},
		{"half of the slack", bounty.Hours{Total: 720, Down: 60, Up: 200, Remaining: 460}, 0, []string{alert.SlackHalfUsed}},
		{"an hour less", bounty.Hours{Total: 720, Down: 59, Up: 200, Remaining: 461}, 0, nil},
		{"nearly all of it", bounty.Hours{Total: 720, Down: 96, Up: 200, Remaining: 424}, 0, []string{alert.SlackNearlyUsed, alert.SlackHalfUsed}},
		{"all of it", bounty.Hours{Total: 720, Down: 120, Up: 200, Remaining: 400}, 0, []string{alert.SlackNearlyUsed, alert.SlackHalfUsed}},
		{"lost", bounty.Hours{Total: 720, Down: 121, Up: 200, Remaining: 399}, 0, []string{alert.MonthOutOfReach}},
		{"won, though with losses", bounty.Hours{Total: 720, Down: 110, Up: 600, Remaining: 10}, 0, nil},
		{"enrolled too late", bounty.Hours{Total: 720, NotEnrolled: 200, Down: 10, Remaining: 510}, 0, nil},
		{"enrolled in the last moment", bounty.Hours{Total: 720, NotEnrolled: 120, Remaining: 600}, 0, nil},
		{"full", bounty.Hours{Total: 720, Up: 100, Busy: 58, Remaining: 620}, 0, []string{alert.BusyHoursNearlyUsed}},
		{"unknown hours are no losses", bounty.Hours{Total: 720, Up: 100, Unknown: 110, Remaining: 510}, 0, nil},
	} {
		u := bounty.Uptime{Hours: c.hours}
		r := &web.Relay{Count: web.NewCount(month, c.hours, 600), Forecast: u.Forecast(m.basis().rules, evidence.HourOf(now), nil)}
		var got []string
		for _, w := range m.warnings(r, now) {
			got = append(got, w.Name)
			if !slices.Contains(alert.AboutRelays, w.Name) {
				t.Errorf("%s: a relay takes no warning %q from a monitor", c.name, w.Name)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

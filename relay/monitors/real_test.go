package monitors

import (
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/web"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// source is a monitor's log with one relay's month in it.
type source struct {
	web.Source
	month web.Month
}

func (s source) Now() time.Time { return s.month.Now.Time }

func (s source) Month(id string, m evidence.Month) (web.Month, error) {
	if id != s.month.PeerID || m != s.month.Count.Month {
		return web.Month{}, web.ErrNotFound
	}
	return s.month, nil
}

// said is what is known after one question to a real monitor's pages. Of the month, so many
// hours had passed, and those that are named were down.
func said(t *testing.T, enrolled, passed int, down ...int) status.Monitor {
	t.Helper()
	month, err := evidence.ParseMonth("2026-11")
	if err != nil {
		t.Fatal(err)
	}
	u := bounty.Uptime{Hours: bounty.Hours{Total: 720, NotEnrolled: enrolled, Up: passed - enrolled - len(down), Down: len(down), Remaining: 720 - passed}}
	for i := range passed {
		u.Counts = append(u.Counts, bounty.HourCount{Hour: month.First() + evidence.Hour(i), State: bounty.StateUp})
	}
	for _, i := range down {
		u.Counts[i].State = bounty.StateDown
	}
	now := month.First() + evidence.Hour(passed)
	m := web.Month{
		Monitor: "m2", Network: evidence.PSF, Now: evidence.TimeOf(now.Start()), PeerID: relay,
		Count:    web.NewCount(month, u.Hours, 600),
		Forecast: u.Forecast(&bounty.Rules{HoursRequired: 600}, now, func(evidence.Hour) string { return "wss cert-expired" }),
		Warnings: []web.Warning{{Name: "RelayDown", Severity: "critical", Words: "is down since 2026-11-20T08:00:00Z"}},
	}
	s := httptest.NewServer(web.Handler(source{month: m}, log(t)))
	defer s.Close()
	a := New(relay, 0, log(t))
	a.Use([]string{s.URL})
	a.ask(t.Context(), s.URL)
	got := a.Said(time.Now())[0]
	if got.Claim == nil {
		t.Fatalf("got no claim: %s", got.Error)
	}
	return got
}

// What a monitor's own pages answer is read whole. The test fails when one side gives
// something another name.
func TestRealMonitor(t *testing.T) {
	at := func(day, hour int) time.Time { return time.Date(2026, 11, day, hour, 0, 0, 0, time.UTC) }
	got := said(t, 0, 480, 24, 470, 471, 472, 473, 474, 475, 476, 477, 478, 479)
	want := &status.Claim{
		Name: "m2", Network: "psf", Month: "2026-11", Up: 469, Down: 11, Required: 600, Needed: 131, Possible: 709,
		Slack: 120, Used: 11, Left: 109, UsedPercent: 9,
		Costly:   []status.Costly{{From: at(20, 14), Until: at(21, 0), Hours: 10, Why: "wss cert-expired"}, {From: at(2, 0), Until: at(2, 1), Hours: 1, Why: "wss cert-expired"}},
		Warnings: []status.MonitorWarning{{Name: "RelayDown", Severity: "critical", Words: "is down since 2026-11-20T08:00:00Z"}},
	}
	if !reflect.DeepEqual(got.Claim, want) {
		t.Errorf("got %+v\nwant %+v", got.Claim, want)
	}
}

// The line for people, for each way in which a month can stand; and the date on which the
// slack runs out, at a pace of five hours a day.
func TestWordsOfRealMonitor(t *testing.T) {
	var often []int
	for i := range 96 {
		often = append(often, 5*i)
	}
	for _, c := range []struct {
		got   status.Monitor
		words string
		out   bool
	}{
		{said(t, 0, 480, often...), "384 of 600 hours up in 2026-11, 624 are still possible; 216 more are needed, 24 may still be lost", true},
		{said(t, 0, 600), "600 of 600 hours up in 2026-11: reached", false},
		{said(t, 200, 480, 300), "279 of 600 hours up in 2026-11; the relay was enrolled too late to reach them, 519 are still possible", false},
		{said(t, 100, 480, often[20:]...), "304 of 600 hours up in 2026-11; they cannot be reached any more, 56 too many are lost", false},
	} {
		if got := c.got.Words(); got != c.words {
			t.Errorf("got %q, want %q", got, c.words)
		}
		if got := c.got.RunsOut; got.IsZero() == c.out || c.out && got.Format("2006-01") != "2026-11" {
			t.Errorf("%s: got %v as the day on which the slack runs out, want one: %v", c.words, got, c.out)
		}
	}
	if w := said(t, 0, 480).Warnings[0].Words; !strings.HasPrefix(w, "is ") {
		t.Errorf("got %q, want words that go on after the relay's name, as the page writes it before them", w)
	}
}

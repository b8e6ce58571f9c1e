package monitor

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

func fetch(h http.Handler, path string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

// A month of scrapes every fifteen seconds is no load for a relay, and disturbs no
// planned attempt.
func TestScrapesDialSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{took: 2 * time.Second, outcome: func(_ string, at time.Time) evidence.Outcome {
			if at.Hour() == 3 {
				return evidence.Fail
			}
			return evidence.OK
		}}
		m, ids := newTestMonitor(t, f, 2, 8)
		pages := m.local(m.public())
		first := evidence.HourOf(time.Now())
		const hours = 6
		ctx, cancel := context.WithTimeout(t.Context(), hours*time.Hour)
		defer cancel()
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		answers := map[int]int{}
		for range hours*240 - 2 {
			code, body := fetch(pages, "/probe?target="+ids[0])
			answers[code]++
			if code == http.StatusOK && !strings.Contains(body, "\nprobe_success ") {
				t.Fatalf("no probe_success in %s", body)
			}
			time.Sleep(15 * time.Second)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		planned := 0
		for h := first; h < first+hours; h++ {
			records, err := m.store.Records(h)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				planned += len(r.Attempts)
				if r.Attempts[0].Started.Sub(h.Start()) != m.store.Offset(r.PeerID, h) {
					t.Errorf("%s: the first attempt was not made when it was planned, but at %s", h, r.Attempts[0].Started)
				}
			}
		}
		asked := f.climbs - planned
		if asked < hours || asked > hours*12 {
			t.Errorf("%d dials for those who asked, in %d hours", asked, hours)
		}
		// Only until the relay was tried for the first time there is nothing to say.
		if answers[http.StatusOK] < 240*(hours-1)-2 || answers[http.StatusOK]+answers[http.StatusServiceUnavailable] != hours*240-2 {
			t.Errorf("answers %v", answers)
		}
	})
}

func TestProbeIsForEnrolledTargetsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
		m, ids := newTestMonitor(t, f, 2, 8)
		gone := evidence.HourOf(time.Now())
		m.basis().roster.Relays[1].Enrolled, m.basis().roster.Relays[1].Until = gone-2, &gone
		pages := m.local(m.public())
		for _, target := range []string{"", "nobody", "127.0.0.1:22", ids[1]} {
			if code, body := fetch(pages, "/probe?target="+target); code != http.StatusBadRequest || !strings.Contains(body, "enrolled") {
				t.Errorf("target %q: %d %s", target, code, body)
			}
		}
		if code, _ := fetch(pages, "/probe?target="+ids[0]); code != http.StatusServiceUnavailable {
			t.Errorf("before the first attempt: %d", code)
		}
		// The public has neither.
		for _, path := range []string{"/metrics", "/probe?target=" + ids[0], "/monitor/metrics", "/monitor/probe?target=" + ids[0]} {
			if code, _ := fetch(m.public(), path); code != http.StatusNotFound {
				t.Errorf("public %s: %d", path, code)
			}
			if strings.HasPrefix(path, "/monitor/") {
				if code, _ := fetch(pages, path); code != http.StatusNotFound {
					t.Errorf("what relayd passes on, %s: %d", path, code)
				}
			}
		}
		if f.climbs > 0 {
			t.Errorf("%d dials", f.climbs)
		}
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{took: time.Second, outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
		m, ids := newTestMonitor(t, f, 1, 8)
		m.climb = f.climb
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
		defer cancel()
		if err := m.Run(ctx); err != nil {
			t.Fatal(err)
		}
		code, body := fetch(m.local(m.public()), "/metrics")
		labels := `{operator="another",relay="` + ids[0] + `"}`
		for _, want := range []string{
			"probe_success" + labels + " 1\n", "relaymon_judging 1\n", "relaymon_sealed_hours 2\n",
			"probe_component_success{component=\"wss\",operator=\"another\",relay=\"" + ids[0] + "\"} 1\n",
			"relaymon_month_needed_hours" + labels, "go_goroutines ",
		} {
			if !strings.Contains(body, want) {
				t.Errorf("%d: no %q in\n%s", code, want, body)
			}
		}
	})
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.1:1": true, "[::1]:1": true, "127.9.9.9:0": true, "0.0.0.0:1": false, "192.0.2.1:1": false, "[::]:1": false, ":1": false} {
		if loopback(addr) != want {
			t.Errorf("%s: %v", addr, !want)
		}
	}
}

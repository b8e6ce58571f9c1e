package schedule

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/beacon/beacontest"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// byHost reaches handlers without a network, which would keep the time of a bubble from
// going on. Other hosts refuse.
type byHost map[string]http.Handler

func (hosts byHost) RoundTrip(r *http.Request) (*http.Response, error) {
	handler := hosts[r.URL.Host]
	if handler == nil {
		return nil, errors.New("connection refused")
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w.Result(), nil
}

// Servers that hang or lie cost a moment, not the hour.
func TestBeaconFromTheServerThatWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(10 * time.Second)
		h := evidence.HourOf(time.Now())
		good := beacontest.New(t, time.Now().Add(-30*24*time.Hour))
		liar := good.Mirror()
		other := beacontest.New(t, time.Now())
		liar.Answer = func(n uint64, _ string) (int, string) { return 200, other.Round(n) }
		var hangs atomic.Int64
		transport := roundTripper(func(r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Host, "hangs") {
				hangs.Add(1)
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return byHost{"good": good, "liar": liar}.RoundTrip(r)
		})
		for name, c := range map[string]struct {
			servers []string
			hangs   int
			most    time.Duration
		}{
			"one that hangs":           {[]string{"hangs", "good"}, 1, time.Second},
			"two that hang":            {[]string{"hangs", "hangs2", "good"}, 2, 2 * time.Second},
			"one that lies":            {[]string{"liar", "good"}, 0, 0},
			"one that is dead":         {[]string{"dead", "good"}, 0, 0},
			"the first":                {[]string{"good", "hangs"}, 0, 0},
			"one that lies, one hangs": {[]string{"liar", "hangs", "dead", "good"}, 1, time.Second},
		} {
			var urls []string
			for _, s := range c.servers {
				urls = append(urls, "http://"+s+"/api")
			}
			hangs.Store(0)
			b := NewBeacons(good.Chain, urls, &http.Client{Transport: transport}, slog.New(slog.DiscardHandler))
			began := time.Now()
			b.Fetch(t.Context(), []evidence.Hour{h}, began)
			if err := good.VerifyBeacon(b.Of(h), h.Start()); err != nil || time.Since(began) > c.most || int(hangs.Load()) != c.hangs {
				t.Errorf("%s: %v, after %s; %d wait", name, err, time.Since(began), hangs.Load())
			}
			synctest.Wait() // those that hang were given up
		}
		// If none works, that is said, with what each of them did.
		b := NewBeacons(good.Chain, []string{"http://hangs/api", "http://liar/api", "http://dead/api"}, &http.Client{Transport: transport}, slog.New(slog.DiscardHandler))
		began := time.Now()
		b.Fetch(t.Context(), []evidence.Hour{h}, began)
		if why := b.Fault(h); b.Of(h) != nil || time.Since(began) > drandTimeout ||
			!strings.Contains(why, "hangs") || !strings.Contains(why, "not the chain's") || !strings.Contains(why, "refused") {
			t.Errorf("after %s: %s", time.Since(began), why)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What no server has, or what is not the chain's, is done without; tries become
// rarer, and the next server is asked.
func TestBeaconServers(t *testing.T) {
	now := time.Now()
	h := evidence.HourOf(now)
	d := beacontest.New(t, now.Add(-30*24*time.Hour))
	bad, good := httptest.NewServer(d), httptest.NewServer(d.Mirror())
	defer bad.Close()
	defer good.Close()
	other := beacontest.New(t, now)
	for name, answer := range map[string]func(uint64, string) (int, string){
		"not there": func(uint64, string) (int, string) { return 404, "" },
		"garbage":   func(uint64, string) (int, string) { return 200, "<html>" },
		"endless":   func(_ uint64, good string) (int, string) { return 200, strings.Repeat(" ", maxRoundAnswer) + good },
		"other round": func(n uint64, good string) (int, string) {
			return 200, strings.Replace(good, fmt.Sprint(n), fmt.Sprint(n+1), 1)
		},
		"forged": func(n uint64, _ string) (int, string) { return 200, other.Round(n) },
	} {
		d.Answer = answer
		b := NewBeacons(d.Chain, []string{bad.URL + "/api"}, bad.Client(), slog.New(slog.DiscardHandler))
		d.Asked.Store(0)
		for s := range 3600 {
			b.Fetch(t.Context(), []evidence.Hour{h}, now.Add(time.Duration(s)*time.Second))
		}
		if b.Of(h) != nil {
			t.Errorf("%s: it counts", name)
		}
		if d.Asked.Load() < 10 || d.Asked.Load() > 30 {
			t.Errorf("%s: asked %d times in an hour", name, d.Asked.Load())
		}
		b.urls = append(b.urls, "http://127.0.0.1:1", good.URL+"/api")
		b.Fetch(t.Context(), []evidence.Hour{h}, now.Add(2*time.Hour))
		if err := d.VerifyBeacon(b.Of(h), h.Start()); err != nil {
			t.Errorf("%s: the server after it was not heard: %v", name, err)
		}
		b.Fetch(t.Context(), []evidence.Hour{h + 100}, (h + 100).Start().Add(-time.Second))
		for later := h + 1; later < h+100; later++ {
			b.note(later, []byte{1}, nil, now)
		}
		if len(b.rounds) > 50 || b.Of(h) != nil {
			t.Errorf("%s: %d rounds are kept", name, len(b.rounds))
		}
	}
}

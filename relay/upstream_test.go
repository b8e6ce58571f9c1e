package relay

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/listen"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

func TestUpstream(t *testing.T) {
	monitor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("Content-Security-Policy", "the monitor's")
		_, _ = io.WriteString(w, strings.Join([]string{"monitor", r.Method, r.URL.RequestURI(), string(body), r.Header.Get("X-Forwarded-For")}, " "))
	}))
	defer monitor.Close()
	own := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "the relay's")
		_, _ = io.WriteString(w, "relay "+r.URL.Path)
	})
	relay := httptest.NewServer(upstream(monitor.URL, own, listen.NewRoom("upstream", upstreamBounds, relaytest.Log(t)), relaytest.Log(t)))
	defer relay.Close()
	client := relay.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	ask := func(method, path, body string) (int, string, http.Header) {
		t.Helper()
		req, err := http.NewRequest(method, relay.URL+path, strings.NewReader(body)) // sent as it is
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Forwarded-For", "192.0.2.1") // a lie
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b), resp.Header
	}
	for _, tc := range []struct{ method, path, body, want string }{
		{"GET", "/monitor/", "", "monitor GET /monitor/  127.0.0.1"},
		{"GET", "/monitor/relay/x?month=2026-11", "", "monitor GET /monitor/relay/x?month=2026-11  127.0.0.1"},
		{"GET", "/monitor/log/tile/0/x001/067.p/9", "", "monitor GET /monitor/log/tile/0/x001/067.p/9  127.0.0.1"},
		{"GET", "/monitor/log/records/00000007.jsonl", "", "monitor GET /monitor/log/records/00000007.jsonl  127.0.0.1"},
		{"POST", "/witness/add-checkpoint", "old 0", "monitor POST /witness/add-checkpoint old 0 127.0.0.1"},
		{"GET", "/", "", "relay /"},
		{"GET", "/probe?target=x", "", "relay /probe"},
		{"GET", "/metrics", "", "relay /metrics"},
		{"GET", "/monitors", "", "relay /monitors"},
	} {
		status, got, header := ask(tc.method, tc.path, tc.body)
		if status != 200 || got != tc.want {
			t.Errorf("%s %s: %d %q, want %q", tc.method, tc.path, status, got, tc.want)
		}
		owner, _, _ := strings.Cut(tc.want, " ")
		if csp := header.Values("Content-Security-Policy"); len(csp) != 1 || csp[0] != "the "+owner+"'s" {
			t.Errorf("%s: policy %q", tc.path, csp)
		}
	}
	// Nothing but these paths is reached, however they are spelt.
	for _, path := range []string{"/monitor/../probe", "/monitor/..%2fprobe", "/monitor/%2e%2e/metrics", "/monitor//../probe", "/witness/./../metrics", "/monitor/%2fprobe"} {
		if status, got, _ := ask("GET", path, ""); strings.HasPrefix(got, "monitor") {
			t.Errorf("%s is passed on: %d %q", path, status, got)
		}
	}
	if status, got, _ := ask("POST", "/witness/add-checkpoint", strings.Repeat("x", maxUpstreamBody+1)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a request that is too long: %d %q", status, got)
	}
	monitor.Close()
	if status, got, _ := ask("GET", "/monitor/", ""); status != http.StatusBadGateway {
		t.Errorf("without the monitor: %d %q", status, got)
	}
	if status, got, _ := ask("GET", "/", ""); status != 200 || got != "relay /" {
		t.Errorf("without the monitor the relay's own page: %d %q", status, got)
	}
}

// When all places are taken, even by a proxy on this machine, a newcomer is served
// in place of the request that has taken longest.
func TestUpstreamMakesRoom(t *testing.T) {
	begun := make(chan struct{}, 2)
	monitor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/monitor/held" {
			begun <- struct{}{}
			<-r.Context().Done()
		}
	}))
	defer monitor.Close()
	room := listen.NewRoom("upstream", listen.Bounds{All: 2, PerAddress: 1}, relaytest.Log(t))
	relay := httptest.NewServer(upstream(monitor.URL, http.NotFoundHandler(), room, relaytest.Log(t)))
	defer relay.Close()
	ctx, cancel := context.WithCancel(relaytest.Context(t))
	defer cancel()
	get := func(path string) (int, error) {
		req, err := http.NewRequestWithContext(ctx, "GET", relay.URL+path, nil)
		relaytest.Must(t, err)
		resp, err := relay.Client().Do(req)
		if err != nil {
			return 0, err
		}
		resp.Body.Close()
		return resp.StatusCode, nil
	}
	held := make(chan int, 2)
	for range 2 {
		go func() {
			status, _ := get("/monitor/held")
			held <- status
		}()
		<-begun
	}
	if status, err := get("/monitor/x"); status != http.StatusOK {
		t.Errorf("a newcomer: %d, %v", status, err)
	}
	if status := <-held; status != http.StatusServiceUnavailable {
		t.Errorf("the one who gave way: %d", status)
	}
	if n := room.Counts()[listen.Full]; n != 1 {
		t.Errorf("%d gave way", n)
	}
}

func TestUpstreamConfig(t *testing.T) {
	for v, ok := range map[string]bool{
		"": true, "http://127.0.0.1:8420": true, "http://[::1]:8420/": true, "http://monitor:8420": true,
		"127.0.0.1:8420": false, "https://127.0.0.1:8420": false, "http://": false, "http://a/monitor": false, "http://a?x": false, "::": false,
	} {
		c := relaytest.LabConfig(t)
		c.HTTPUpstream = v
		if err := c.Validate(); (err == nil) != ok {
			t.Errorf("http_upstream %q: %v", v, err)
		}
	}
}

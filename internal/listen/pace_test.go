package listen

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestClients(t *testing.T) {
	for from, want := range map[[2]string]string{
		{"203.0.113.9:1", "192.0.2.1"}:        "203.0.113.9/32", // only this machine is believed
		{"[2001:db8:1:2:3::4]:1", ""}:         "2001:db8:1:2::/64",
		{"[::ffff:203.0.113.9]:1", ""}:        "203.0.113.9/32",
		{"127.0.0.1:1", ""}:                   "127.0.0.1/32",
		{"127.0.0.1:1", "192.0.2.1"}:          "192.0.2.1/32",
		{"127.0.0.1:1", "x, y"}:               "127.0.0.1/32",
		{"[::1]:1", "fe80::1%eth0"}:           "fe80::/64",
		{"@", "192.0.2.1"}:                    "invalid Prefix",
		{net.JoinHostPort("host", "1"), "::"}: "invalid Prefix",
	} {
		r := &http.Request{RemoteAddr: from[0], Header: http.Header{"X-Forwarded-For": {from[1]}}}
		if got := clientOf(r).String(); got != want {
			t.Errorf("a request from %q is of %s, want %s", from, got, want)
		}
	}
	p := newPace(Rates{1, 1, 1, 1})
	for i := range maxClients + 10 {
		r := &http.Request{RemoteAddr: fmt.Sprintf("10.0.%d.%d:1", i/256, i%256)}
		p.client(clientOf(r))
	}
	if len(p.clients) > maxClients {
		t.Errorf("%d clients are remembered", len(p.clients))
	}
}

// One client that asks without end is refused; another is served meanwhile.
func TestPaced(t *testing.T) {
	h := Paced(Rates{PerClient: 1, Burst: 10, All: 1, AllBurst: 20}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	ask := func(from string) int {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	refused := 0
	for range 1000 {
		if ask("203.0.113.7:1") == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused == 0 {
		t.Error("one client is never refused")
	}
	if got := ask("203.0.113.8:1"); got != http.StatusOK {
		t.Errorf("another client gets %d beside it", got)
	}
}

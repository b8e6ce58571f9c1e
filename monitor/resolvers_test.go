package monitor

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/web"
)

func TestSecondResolvers(t *testing.T) {
	const base = "name: m1\ndata_dir: d\nroster: r\n"
	c, err := ParseConfig("x", []byte(base))
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.SecondResolvers()
	if err != nil || len(list) < 2 {
		t.Errorf("by default: got %v %v, want several", list, err)
	}
	for _, s := range list {
		if s.Name == "" || s.Addr.Port() != 853 {
			t.Errorf("by default: %s is not asked over TLS", s)
		}
	}
	if byHand, err := DefaultResolvers(); err != nil || len(byHand) != len(list) {
		t.Errorf("by hand: got %v %v, want %v", byHand, err, list)
	}
	for what, want := range map[string]int{
		"second_resolvers: [\"9.9.9.10:8853#dns10.quad9.net\"]\n":                                  1,
		"network: lab\nsecond_resolvers: []\n":                                                     0,
		"network: lab\nlab: {resolve: {relay.test: 127.0.0.2}}\n":                                  0,
		"network: lab\nlab: {ca: ca.pem}\nsecond_resolvers: [\"127.0.0.53:8853#dns.test\"]\n":      1,
		"network: lab\nlab: {resolve: {a.test: 127.0.0.2}}\nsecond_resolvers: [\"1.1.1.1#a.b\"]\n": 0,
	} {
		c, err := ParseConfig("x", []byte(base+what))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		l, err := newLadder(Config{Network: c.Network, Lab: LabConfig{Resolve: c.Lab.Resolve}, Second: c.Second})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if got := len(l.opts.Second); got != want {
			t.Errorf("%s: got %d second resolvers, want %d", what, got, want)
		}
		l.close()
	}
	_, err = ParseConfig("x", []byte(base+"second_resolvers: [1.1.1.1, \"dns.test\", \"9.9.9.9#a.b\", \"9.9.9.9#a.b\"]\n"))
	for _, want := range []string{"second_resolvers[0]", "second_resolvers[1]", "second_resolvers[3]: \"9.9.9.9#a.b\" stands there twice"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for what, list := range map[string]string{"one at least": "", "8 at most": strings.Repeat("\"1.1.1.1#a.b\",", 9)} {
		if _, err := ParseConfig("x", []byte(base+"second_resolvers: ["+list+"]\n")); err == nil || !strings.Contains(err.Error(), "second_resolvers: want "+what) {
			t.Errorf("got %v, want %s", err, what)
		}
	}
}

// A monitor without a second opinion says so, since all relays may be well for months.
func TestSilentSecondResolvers(t *testing.T) {
	closed := freePort(t)
	m, _ := newTestMonitor(t, &fakeNet{}, 1, 1)
	var said strings.Builder
	m.log = slog.New(slog.NewTextHandler(&said, nil))
	var err error
	m.ladder, err = newLadder(Config{Network: evidence.Lab, Second: []string{fmt.Sprintf("127.0.0.1:%d#dns.test", closed)}})
	must(t, err)
	t.Cleanup(func() { _ = m.ladder.close() })
	m.ladder.opts.Deadlines = map[string]time.Duration{"second": time.Second}
	alerts := func() (names []string) {
		for _, a := range m.monitorAlerts(&web.Overview{}, m.store.First().Start()) {
			names = append(names, a.Name+": "+a.Summary)
		}
		return names
	}
	m.hearSecond(t.Context())
	m.hearSecond(t.Context())
	if got := alerts(); len(got) != 1 || !strings.Contains(got[0], "SecondResolversSilent: monitor m1: no failure on the way by a relay's name counts") || !strings.Contains(got[0], "look up dns.test") {
		t.Errorf("got %q, want one alert that says why", got)
	}
	if n := strings.Count(said.String(), "second resolvers are silent"); n != 1 {
		t.Errorf("got it said %d times, want once:\n%s", n, said.String())
	}
	m.ladder.opts.Second = nil // as in a lab that pins names
	m.unheard = nil
	m.hearSecond(t.Context())
	if got := alerts(); len(got) != 0 {
		t.Errorf("got %q, want none", got)
	}
}

package doctor

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	coretest "github.com/libp2p/go-libp2p/core/test"

	"github.com/psf-relay/relay-appliance/internal/pebble"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

func TestClockIsCompared(t *testing.T) {
	for _, off := range []time.Duration{0, 90 * time.Second, -2 * time.Hour} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(-off).UTC().Format(http.TimeFormat))
		}))
		c := compareClock(relaytest.Context(t), s.Client(), s.URL)
		s.Close()
		if d := c.offset - off; c.err != nil || d.Abs() > 3*time.Second {
			t.Errorf("off by %s: measured %s, %v", off, c.offset, c.err)
		}
	}
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	if c := compareClock(relaytest.Context(t), s.Client(), s.URL); c.err == nil {
		t.Error("nobody answers: no error")
	}
}

func TestLookUp(t *testing.T) {
	ca, err := pebble.Start(t.Context(), pebble.Options{Names: map[string]netip.Addr{"relay.test": netip.MustParseAddr("127.0.0.5")}})
	if err != nil {
		t.Fatal(err)
	}
	defer ca.Close()
	if r := lookUp(relaytest.Context(t), ca.Resolver, "relay.test"); r.err != nil || len(r.a) != 1 || r.a[0] != netip.MustParseAddr("127.0.0.5") || len(r.aaaa) != 0 {
		t.Errorf("got %+v", r)
	}
	if r := lookUp(relaytest.Context(t), ca.Resolver, "nobody.test"); r.err != nil || len(r.a) != 0 {
		t.Errorf("a name that does not exist: %+v", r)
	}
	if r := lookUp(relaytest.Context(t), "127.0.0.2:1", "relay.test"); r.err == nil {
		t.Errorf("no server: %+v", r)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if r := lookUp(gone, ca.Resolver, "relay.test"); r.err == nil {
		t.Errorf("cancelled: %+v", r)
	}
}

// A stranger that answers in the relay's place is not taken for it.
func TestAskStatus(t *testing.T) {
	own, other := coretest.RandPeerIDFatal(t), coretest.RandPeerIDFatal(t)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"peer_id":%q}`, own)
	}))
	defer s.Close()
	cfg := config.Config{Metrics: config.Metrics{Listen: s.Listener.Addr().String()}}
	if got, err := askStatus(relaytest.Context(t), cfg, own); err != nil || got.PeerID != own.String() {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := askStatus(relaytest.Context(t), cfg, other); err == nil || !strings.Contains(err.Error(), "another relay answers") {
		t.Errorf("of another peer ID: got %v", err)
	}
}

package doctor

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// Peers behind Docker's proxy: all have one private address.
func TestProxyThatHidesPeers(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	cfg := config.DefaultConfig()
	cfg.Limits.Reservations, cfg.Limits.ReservationsPerIP = 64, proxiedPeers
	h := relaytest.NewPeer(t, nil, libp2p.ListenAddrStrings("/ip4/127.0.0.2/tcp/0"))
	of := &relayOf{id: h.ID(), cfg: cfg, held: proxiedPeers}
	c := NewCheckup(of, h.Addrs, slog.New(slog.NewTextHandler(&log, nil)))
	seen := func() status.Status {
		c.lookForProxy(h)
		s := status.Status{Healthy: true, Reservations: status.Reservations{Guests: proxiedPeers, Max: 64, GuestMax: 64}}
		c.AddTo(&s, cfg, time.Now())
		return s
	}
	for i := range proxiedPeers {
		if s := seen(); s.Proxied != nil {
			t.Fatalf("with %d peers: %v", i, s.Proxied)
		}
		relaytest.Must(t, relaytest.NewPeer(t, nil).Connect(relaytest.Context(t), *host.InfoFromHost(h)))
	}
	relaytest.Eventually(t, "all are connected", func() bool { return len(h.Network().Peers()) == proxiedPeers })
	seen()
	s := seen()
	for _, want := range []string{"all 8 peers come from 127.0.0.1: a proxy hides their addresses", "the reservations for this address are taken (8)"} {
		q := judge{cfg: cfg, s: &s, f: findings{at: time.Now()}}.service()
		if q.Outcome != status.NotMet || !strings.Contains(q.Found, want) || !strings.Contains(q.Cure, "network_mode: host") {
			t.Errorf("got %+v, want not met with %q", q, want)
		}
	}
	if n := strings.Count(log.String(), "a proxy hides their addresses"); n != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, &log)
	}
}

// relayOf is a relay as the checkup sees it.
type relayOf struct {
	id     peer.ID
	cfg    config.Config
	held   int
	status status.Status
}

func (r *relayOf) ID() peer.ID             { return r.id }
func (r *relayOf) Config() config.Config   { return r.cfg }
func (r *relayOf) Status() status.Status   { return r.status }
func (r *relayOf) Answered() uint64        { return 0 }
func (r *relayOf) HeldFrom(netip.Addr) int { return r.held }

package doctor

import (
	"bytes"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

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

// Only one private address with nearly all peers behind it is a sign; whether it is the
// gateway's decides what it is called, and how it is mended.
func TestWhoHidesPeers(t *testing.T) {
	t.Parallel()
	const gateway = "172.17.0.1"
	// conns are n of them, each of another peer; %d in from makes each address another one.
	conns := func(n int, from string) (out []network.Conn) {
		for i := range n {
			ip := strings.Replace(from, "%d", strconv.Itoa(i+2), 1)
			out = append(out, connFrom{ip: ip, peer: peer.ID(from + strconv.Itoa(i)), dir: network.DirInbound})
		}
		return out
	}
	dialled := conns(9, gateway)
	for i, c := range dialled {
		c := c.(connFrom)
		c.dir = network.DirOutbound
		dialled[i] = c
	}
	for name, tc := range map[string]struct {
		conns []network.Conn
		want  string // words of it; empty: nothing is hidden
	}{
		"Docker's gateway":           {conns(9, gateway), "all 9 peers come from 172.17.0.1: this network's gateway"},
		"a proxy in the same LAN":    {conns(9, "192.168.1.5"), "all 9 peers come from 192.168.1.5: a proxy hides"},
		"with a few of their own":    {append(conns(18, gateway), conns(2, "203.0.113.%d")...), "18 of 20 peers come from 172.17.0.1: this network's gateway"},
		"one peer by the gateway":    {conns(1, gateway), ""},
		"less than nine in ten":      {append(conns(8, gateway), conns(2, "203.0.113.%d")...), ""},
		"a LAN":                      {conns(20, "192.168.1.%d"), ""},
		"strangers":                  {conns(20, "203.0.113.%d"), ""},
		"an office behind one NAT":   {conns(20, "203.0.113.9"), ""},
		"one peer many times":        {slices.Repeat(conns(1, gateway), 20), ""},
		"those that the relay dials": {dialled, ""},
	} {
		found := proxied(tc.conns, func(ip netip.Addr) bool { return !ip.IsPrivate() }, func(ip netip.Addr) bool { return ip.String() == gateway })
		switch {
		case found == nil && tc.want == "":
		case found == nil || tc.want == "" || !strings.Contains(found.String(), tc.want):
			t.Errorf("%s: got %v, want %q", name, found, tc.want)
		case strings.Contains(proxiedCure(found), "the container") != found.Gateway:
			t.Errorf("%s: the cure is %q", name, proxiedCure(found))
		}
	}
}

// connFrom is a connection, as far as it matters who is at its other end.
type connFrom struct {
	network.Conn
	ip   string
	peer peer.ID
	dir  network.Direction
}

func (c connFrom) RemoteMultiaddr() ma.Multiaddr {
	return ma.StringCast("/ip4/" + c.ip + "/tcp/4001")
}
func (c connFrom) RemotePeer() peer.ID { return c.peer }
func (c connFrom) Stat() network.ConnStats {
	return network.ConnStats{Stats: network.Stats{Direction: c.dir}}
}

// relayOf is a relay as the checkup sees it.
type relayOf struct {
	id     peer.ID
	cfg    config.Config
	held   int
	status status.Status
	tried  int // how often it was told to try for a certificate
	// examined adds what the checkup found to the status.
	examined func(*status.Status)
}

func (r *relayOf) ID() peer.ID           { return r.id }
func (r *relayOf) Config() config.Config { return r.cfg }
func (r *relayOf) TryCertificate()       { r.tried++ }
func (r *relayOf) Status() status.Status {
	s := r.status
	if r.examined != nil {
		r.examined(&s)
	}
	return s
}
func (r *relayOf) Answered() uint64        { return 0 }
func (r *relayOf) HeldFrom(netip.Addr) int { return r.held }

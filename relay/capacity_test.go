package relay

import (
	"net/netip"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

func TestCapacity(t *testing.T) {
	const mib = 1 << 20
	for _, tc := range []struct {
		memory     int64
		files      int
		configured int
		want       int
	}{
		{512 * mib, 65536, 0, 1843}, // the smallest VPS: more than its reservations
		{512 * mib, 1024, 0, 1024 - ownFiles},
		{128 * mib, 65536, 0, minConns},
		{8 << 30, 1 << 20, 0, 38707},
		{1 << 40, 1 << 20, 0, maxConns},
		{512 * mib, 1024, 5000, 5000},
	} {
		c := capacity{memory: tc.memory, files: tc.files}.derive(Limits{Connections: tc.configured})
		if c.connections != tc.want {
			t.Errorf("%d MiB, %d files: %d connections, want %d", tc.memory/mib, tc.files, c.connections, tc.want)
		}
	}
	if c := measureCapacity(DefaultConfig().Limits); c.memory < 32*mib || c.files < 64 || c.connections < minConns {
		t.Errorf("this machine: %+v", c)
	}
}

// Each address has its share of unfinished connections, and gets it back.
func TestHalfOpenShare(t *testing.T) {
	l := DefaultConfig().Limits
	c := capacity{memory: 512 << 20, files: 4096}.derive(l)
	m, err := c.resourceManager(l, true)
	must(t, err)
	defer m.Close()
	open := func(ip string) (network.ConnManagementScope, error) {
		return m.OpenConnection(network.DirInbound, true, multiaddrs(t, "/ip4/"+ip+"/tcp/1")[0])
	}
	share := m.(*halfOpen).max
	var scopes []network.ConnManagementScope
	for range share {
		s, err := open("203.0.113.1")
		must(t, err)
		scopes = append(scopes, s)
	}
	if _, err := open("203.0.113.1"); err == nil {
		t.Errorf("more than %d unfinished connections from one address", share)
	}
	if _, err := open("203.0.113.2"); err != nil {
		t.Errorf("another address: %v", err)
	}
	must(t, scopes[0].SetPeer("peer")) // one is finished
	if _, err := open("203.0.113.1"); err != nil {
		t.Errorf("after one was finished: %v", err)
	}
	scopes[1].Done()
	scopes[1].Done() // as libp2p does now and then
	if _, err := open("203.0.113.1"); err != nil {
		t.Errorf("after one was closed: %v", err)
	}
	if _, err := open("203.0.113.1"); err == nil {
		t.Error("one that was closed twice gave room for two")
	}
	for _, s := range scopes {
		s.Done()
	}
	if n := m.(*halfOpen).count[netip.MustParsePrefix("203.0.113.1/32")]; n != 2 {
		t.Errorf("%d are counted, want the 2 that are open", n)
	}
}

func TestConnectionsPerAddress(t *testing.T) {
	c := limitConfig(t)
	c.Limits.ConnectionsPerIP, c.Limits.ConnectsPerSecond = 3, 0.001
	r := start(t, c)
	relay := dialable(t, r.Relay)["tcp"]
	connect := func(ip string) error { return newClientAt(t, ip).Connect(testContext(t), relay) }
	for n := range 3 {
		if err := connect("127.0.1.1"); err != nil {
			t.Fatalf("connection %d of 3: %v", n+1, err)
		}
	}
	if connect("127.0.1.1") == nil {
		t.Error("a fourth connection from one address")
	}
	must(t, connect("127.0.1.2"))

	// Who comes and goes is slowed down, however few it has at a time.
	h := newClientAt(t, "127.0.1.3")
	var err error
	n := 0
	for ; n < 20 && err == nil; n++ {
		if err = h.Connect(testContext(t), relay); err == nil {
			must(t, h.Network().ClosePeer(relay.ID))
			eventually(t, "the relay saw it go", func() bool { return r.host.Network().Connectedness(h.ID()) != network.Connected })
		}
	}
	if err == nil || n <= 3 {
		t.Errorf("connection %d of one that comes and goes: %v", n, err)
	}
}

func TestPrefixOf(t *testing.T) {
	for addr, want := range map[string]string{
		"/ip4/203.0.113.7/tcp/1":                 "203.0.113.7/32",
		"/ip6/2001:db8:1:2:3:4:5:6/udp/1":        "2001:db8:1:2::/64",
		"/ip6/::ffff:203.0.113.7/tcp/1":          "203.0.113.7/32",
		"/ip4/203.0.113.7/tcp/1/p2p-circuit":     "",
		"/dns4/relay.example/tcp/1":              "",
		"/ip4/203.0.113.7/udp/1/quic-v1":         "203.0.113.7/32",
		"/ip6/2001:db8:1:2::/tcp/443/tls/ws":     "2001:db8:1:2::/64",
		"/ip4/203.0.113.7/udp/1/webrtc-direct":   "203.0.113.7/32",
		"/ip6zone/eth0/ip6/fe80::1:2:3:4/tcp/80": "fe80::/64",
	} {
		got, err := prefixOf(multiaddrs(t, addr)[0])
		if want == "" != (err != nil) || err == nil && got.String() != want {
			t.Errorf("%s: %s, %v, want %s", addr, got, err, want)
		}
	}
	if _, err := prefixOf(ma.Multiaddr{}); err == nil {
		t.Error("nowhere has a prefix")
	}
}

package relay

import (
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
		{512 * mib, 65536, 0, 2949}, // the smallest VPS
		{456 * mib, 65536, 0, 2519}, // and what its kernel leaves of it: 2,000 places
		{512 * mib, 1024, 0, 1024 - ownFiles},
		{128 * mib, 65536, 0, minConns},
		{8 << 30, 1 << 20, 0, 61931},
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

// What stands for "worked out" is filled in, what the operator said stays.
func TestLimitsWorkedOut(t *testing.T) {
	const mib = 1 << 20
	small := capacity{memory: 456 * mib, files: 65536}
	l := DefaultConfig().Limits
	if got := small.derive(l).fill(l); got.Reservations < 2000 || got.Reservations >= got.Connections ||
		got.Circuits < 1000 || got.GuestReservations != l.GuestReservations || got.GuestCircuits != l.GuestCircuits {
		t.Errorf("a VPS of 512 MiB: %+v", got)
	}
	few := capacity{memory: 64 * mib, files: 200}
	if got := few.derive(l).fill(l); got.GuestReservations > got.Reservations || got.GuestCircuits > got.Circuits {
		t.Errorf("a very small machine: %+v", got)
	}
	l.Reservations, l.Circuits, l.Connections = 7, 8, 9
	l.GuestReservations, l.GuestCircuits = 1, 2
	if got := small.derive(l).fill(l); got != l {
		t.Errorf("got %+v, want what was given: %+v", got, l)
	}
	for memory, want := range map[int64]uint32{64 * mib: 1 << 20, 456 * mib: 1 << 20, 512 * mib: 2 << 20, 1000 * mib: 2 << 20, 64 << 30: 16 << 20} {
		if got := (capacity{memory: memory}).window(); got != want {
			t.Errorf("%d MiB: a window of %d, want %d", memory/mib, got, want)
		}
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

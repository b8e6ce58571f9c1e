package relay

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
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
	const limit = 16
	c := limitConfig(t)
	c.Limits.ConnectionsPerIP = limit
	r := start(t, c)
	relay := dialable(t, r.Relay)["tcp"]
	connect := func(ip string) error { return newClientAt(t, ip).Connect(testContext(t), relay) }
	for n := range limit {
		if err := connect("127.0.1.1"); err != nil {
			t.Fatalf("connection %d of %d: %v", n+1, limit, err)
		}
	}
	if connect("127.0.1.1") == nil {
		t.Error("one connection more than the limit from one address")
	}
	must(t, connect("127.0.1.2"))
	if r.tally.refusals()[refusedBy{"", "connections_per_ip"}] == 0 {
		t.Errorf("counted %v, want a refusal for connections_per_ip", r.tally.refusals())
	}
}

// Each connection that the resource manager does not take is counted by the limit that
// was reached, and each stream that it refuses.
func TestRefusedConnectionsAreCounted(t *testing.T) {
	log := &page{}
	l := DefaultConfig().Limits
	l.ConnectionsPerIP, l.ConnectsPerSecond, l.Connections = 48, 1e-6, 64
	m, err := capacity{memory: 512 << 20, files: 4096}.derive(l).resourceManager(l, true)
	must(t, err)
	defer m.Close()
	m.tally = newTally(slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	open := func(ip, p string) (network.ConnManagementScope, error) {
		s, err := m.OpenConnection(network.DirInbound, true, multiaddrs(t, "/ip4/"+ip+"/tcp/1")[0])
		if err == nil && p != "" {
			if err = s.SetPeer(peer.ID(p)); err != nil {
				s.Done()
			}
		}
		return s, err
	}
	want := func(word string, err error) {
		t.Helper()
		if err == nil || m.tally.refusals()[refusedBy{"", word}] != 1 || !strings.Contains(log.String(), "reason="+word+" ") {
			t.Errorf("%s: got %v, counted %v, log %s", word, err, m.tally.refusals(), log.String())
		}
	}
	var scopes []network.ConnManagementScope
	hold := func(ip, p string) {
		t.Helper()
		s, err := open(ip, p)
		must(t, err)
		scopes = append(scopes, s)
	}
	for n := range 8 {
		hold("203.0.113.1", "one peer")
		if n == 7 {
			_, err = open("203.0.113.1", "one peer")
			want("connections_per_peer", err)
		}
	}
	for range m.perIP {
		hold("203.0.113.2", "")
	}
	_, err = open("203.0.113.2", "")
	want("unfinished", err)
	for n := range 48 - 8 {
		hold("203.0.113.1", fmt.Sprint("peer ", n))
	}
	_, err = open("203.0.113.1", "")
	want("connections_per_ip", err)
	for n := range 64 - 48 - m.perIP {
		hold("203.0.113.3", fmt.Sprint("another ", n))
	}
	_, err = open("203.0.113.4", "")
	want("connections", err)

	// What comes and goes is slowed down, however few it has at a time.
	for _, s := range scopes {
		s.Done()
	}
	for range 2 * 48 {
		s, err := open("203.0.113.5", "")
		must(t, err)
		s.Done()
	}
	_, err = open("203.0.113.5", "")
	want("connects_per_second", err)

	for err = error(nil); err == nil; {
		_, err = m.OpenStream("a peer", network.DirInbound)
	}
	want("resources", err)
	for _, limit := range []string{"connections", "connections_per_ip", "connects_per_second"} {
		if !strings.Contains(log.String(), "level=WARN msg=\"requests or connections are refused: a limit is reached\" limit=limits."+limit+" ") {
			t.Errorf("no warning names limits.%s: %s", limit, log.String())
		}
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

package relay

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/refusal"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// A stream's window follows from the memory.
func TestWindow(t *testing.T) {
	const mib = 1 << 20
	for memory, want := range map[int64]uint32{64 * mib: 1 << 20, 456 * mib: 1 << 20, 512 * mib: 2 << 20, 1000 * mib: 2 << 20, 64 << 30: 16 << 20} {
		if got := window(config.Capacity{Memory: memory}); got != want {
			t.Errorf("%d MiB: a window of %d, want %d", memory/mib, got, want)
		}
	}
}

func TestConnectionsPerAddress(t *testing.T) {
	const limit = 16
	c := relaytest.LimitConfig(t)
	c.Limits.ConnectionsPerIP = limit
	r := start(t, c)
	relay := dialable(t, r.Relay)["tcp"]
	connect := func(ip string) error { return relaytest.NewPeerAt(t, ip).Connect(relaytest.Context(t), relay) }
	for n := range limit {
		if err := connect("127.0.1.1"); err != nil {
			t.Fatalf("connection %d of %d: %v", n+1, limit, err)
		}
	}
	if connect("127.0.1.1") == nil {
		t.Error("one connection more than the limit from one address")
	}
	relaytest.Must(t, connect("127.0.1.2"))
	if r.tally.Refusals()[refusal.Told{Status: "", Word: "connections_per_ip"}] == 0 {
		t.Errorf("counted %v, want a refusal for connections_per_ip", r.tally.Refusals())
	}
}

// Each connection that the resource manager does not take is counted by the limit that
// was reached, and each stream that it refuses.
func TestRefusedConnectionsAreCounted(t *testing.T) {
	log := &relaytest.LogPage{}
	l := config.DefaultConfig().Limits
	l.ConnectionsPerIP, l.ConnectsPerSecond, l.Connections = 48, 1e-6, 64
	m, err := resourceManager(config.Capacity{Memory: 512 << 20, Files: 4096}.Derive(l), l, true)
	relaytest.Must(t, err)
	defer m.Close()
	m.tally = refusal.NewTally(slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	open := func(ip, p string) (network.ConnManagementScope, error) {
		s, err := m.OpenConnection(network.DirInbound, true, relaytest.Multiaddrs(t, "/ip4/"+ip+"/tcp/1")[0])
		if err == nil && p != "" {
			if err = s.SetPeer(peer.ID(p)); err != nil {
				s.Done()
			}
		}
		return s, err
	}
	want := func(word string, err error) {
		t.Helper()
		if err == nil || m.tally.Refusals()[refusal.Told{Status: "", Word: word}] != 1 || !strings.Contains(log.String(), "reason="+word+" ") {
			t.Errorf("%s: got %v, counted %v, log %s", word, err, m.tally.Refusals(), log.String())
		}
	}
	var scopes []network.ConnManagementScope
	hold := func(ip, p string) {
		t.Helper()
		s, err := open(ip, p)
		relaytest.Must(t, err)
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
		relaytest.Must(t, err)
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

package relay

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/refusal"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// Peers at the ends of circuits stay when connections run short. Of the idle ones as
// many go as must, and the operator is told.
func TestTrimmingTakesIdleConnectionsOnly(t *testing.T) {
	c := relaytest.LimitConfig(t)
	c.Limits.Connections, c.Limits.Reservations, c.Limits.GuestReservations, c.Limits.CircuitsPerPeer = 100, 60, 60, 200
	c.Limits.GuestCircuitTime = time.Hour
	r, members, log := loggedAt(t, c, slog.LevelInfo)
	relay := dialable(t, r.Relay)["tcp"]
	n := 0
	next := func() host.Host {
		n++
		h := relaytest.NewPeerAt(t, fmt.Sprintf("127.0.1.%d", n))
		relaytest.Must(t, h.Connect(relaytest.Context(t), relay))
		return h
	}
	var busy, idle []host.Host
	var circuits []network.Stream
	for range 4 { // holders, and 19 others that have a circuit to each
		holder := next()
		_, err := relaytest.Reserve(t, holder, relay)
		relaytest.Must(t, err)
		relaytest.AcceptRaw(holder, relaytest.SendBack)
		busy = append(busy, holder)
		for range 19 {
			h := next()
			circuits = append(circuits, relaytest.MustOpenRaw(t, h, relay.ID, holder.ID()))
			busy = append(busy, h)
		}
	}
	for range 12 {
		idle = append(idle, next())
	}
	member := idle[0]
	members.Admit(member.ID())
	trimmer := r.host.ConnManager().(*trimmer)

	// Newcomers have a moment to become of use.
	if picked := trimmer.pick(r.host.Network().Conns(), r.service.Member, time.Now()); len(picked) > 0 {
		t.Errorf("picked %d newcomers, want none", len(picked))
	}
	// 92 connections are two more than nine tenths.
	picked := trimmer.pick(r.host.Network().Conns(), r.service.Member, time.Now().Add(time.Hour))
	if len(picked) != 2 {
		t.Fatalf("picked %d connections, want 2", len(picked))
	}
	closeIdle(picked, r.tally)
	connected := func(hosts []host.Host) (n int) {
		for _, h := range hosts {
			if r.host.Network().Connectedness(h.ID()) == network.Connected {
				n++
			}
		}
		return n
	}
	relaytest.Eventually(t, "two idle connections are closed", func() bool { return connected(idle) == 10 })
	if got := connected(busy); got != len(busy) {
		t.Errorf("of %d peers with circuits %d are connected", len(busy), got)
	}
	if connected([]host.Host{member}) != 1 {
		t.Error("a member went before the strangers")
	}
	for i, s := range circuits {
		if err := relaytest.Talk(s); err != nil {
			t.Errorf("circuit %d: %v", i, err)
		}
	}
	if got := r.service.Endings()[refusal.EndedIdle]; got != 2 {
		t.Errorf("the metric counts %d, want 2", got)
	}
	if !strings.Contains(log.String(), "idle connections are closed") || !strings.Contains(log.String(), "limits.connections ") {
		t.Errorf("the log does not tell: %s", log)
	}
	if picked := trimmer.pick(r.host.Network().Conns(), r.service.Member, time.Now().Add(time.Hour)); len(picked) > 0 {
		t.Errorf("picked %d more, want none", len(picked))
	}

	// With the circuits the protection ends.
	for _, s := range circuits {
		relaytest.Must(t, s.Reset())
	}
	relaytest.Eventually(t, "nobody is protected but the holders", func() bool {
		protected := 0
		for _, h := range busy {
			if trimmer.IsProtected(h.ID(), "") {
				protected++
			}
		}
		return protected == 4
	})
}

// One address that nearly has all its connections loses strangers' idle ones, so that
// somebody new behind it, such as a monitor, finds room.
func TestTrimmingOfOneAddress(t *testing.T) {
	c := relaytest.LimitConfig(t)
	c.Limits.ConnectionsPerIP = 16 // nine tenths are 14
	r, members, _ := loggedAt(t, c, slog.LevelInfo)
	relay := dialable(t, r.Relay)["tcp"]
	var hosts []host.Host
	for range 15 {
		h := relaytest.NewPeerAt(t, "127.0.1.1")
		relaytest.Must(t, h.Connect(relaytest.Context(t), relay))
		hosts = append(hosts, h)
	}
	for _, h := range hosts[:4] {
		_, err := relaytest.Reserve(t, h, relay)
		relaytest.Must(t, err)
	}
	members.Admit(hosts[4].ID(), hosts[5].ID())
	other := relaytest.NewPeerAt(t, "127.0.1.2")
	relaytest.Must(t, other.Connect(relaytest.Context(t), relay))
	trimmer := r.host.ConnManager().(*trimmer)
	relaytest.Eventually(t, "all are counted", func() bool { _, ofIP := trimmer.excess(); return len(ofIP) == 1 })
	if !trimmer.crowded() {
		t.Error("not crowded")
	}
	picked := trimmer.pick(r.host.Network().Conns(), r.service.Member, time.Now().Add(time.Hour))
	if len(picked) != 1 || picked[0].reason != refusal.EndedIdleForIP {
		t.Fatalf("picked %+v, want one for its address", picked)
	}
	for _, h := range append(hosts[:6:6], other) {
		if h.ID() == picked[0].conn.RemotePeer() {
			t.Errorf("picked a peer with a reservation, a member, or one of another address")
		}
	}
	closeIdle(picked, r.tally)
	relaytest.Eventually(t, "there is room again", func() bool { return !trimmer.crowded() })
	relaytest.Must(t, relaytest.NewPeerAt(t, "127.0.1.1").Connect(relaytest.Context(t), relay))
}

// loggedAt is a relay of which a test reads the log.
func loggedAt(t testing.TB, c config.Config, level slog.Level) (*running, *relaytest.Club, *relaytest.LogPage) {
	t.Helper()
	log := &relaytest.LogPage{}
	r := startLogging(t, c, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: level})))
	members := &relaytest.Club{}
	r.service.SetMembership(members)
	return r, members, log
}

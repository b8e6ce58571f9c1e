package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"

	"github.com/psf-relay/relay-appliance/relay/circuit"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

func TestRepeatedLinesAreBounded(t *testing.T) {
	var out bytes.Buffer
	h := &seldom{Handler: slog.NewTextHandler(&out, nil), seen: &repeats{count: map[string]int{}}}
	minute := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	say := func(message string, at time.Time) {
		relaytest.Must(t, h.WithAttrs([]slog.Attr{slog.Int("a", 1)}).Handle(context.Background(), slog.NewRecord(at, slog.LevelError, message, 0)))
	}
	for range 1000 {
		say("again", minute)
	}
	say("once", minute)
	say("again", minute.Add(time.Minute))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != repeatsPerMinute+2 || !strings.Contains(lines[len(lines)-1], "dropped_in_last_minute=995") {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
	// Nor do many messages, each a different one, fill memory or disk.
	out.Reset()
	for n := range 5000 {
		say(fmt.Sprint(n), minute.Add(time.Minute))
	}
	if n := strings.Count(out.String(), "\n"); n > 1100 {
		t.Errorf("%d lines", n)
	}
}

func TestAddressesAreHidden(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(&discreet{slog.NewTextHandler(&out, nil)})
	log.With("local", "/ip4/198.51.100.7/tcp/4001").Error("dial from 203.0.113.9:4001 failed",
		"remote", fmt.Errorf("dial [2001:db8::17]:443: %w", io.EOF),
		"stringer", relaytest.Multiaddrs(t, "/ip6/2001:db8::17/udp/1/quic-v1")[0],
		slog.Group("g", "x", "::ffff:203.0.113.9"), "n", 4, "peer", "12D3KooWEBzgK8a5TpMfLotuj7jJnEK41gbD9LZK6qCpxNrX43E9")
	log.Info("libp2p's information is for debugging")
	got := out.String()
	for _, secret := range []string{"203.0.113", "198.51", "2001:db8", "debugging"} {
		if strings.Contains(got, secret) {
			t.Errorf("%q is in %s", secret, got)
		}
	}
	for _, kept := range []string{"12D3KooWEBzgK8a5TpMfLotuj7jJnEK41gbD9LZK6qCpxNrX43E9", "n=4", "EOF", "/tcp/4001"} {
		if !strings.Contains(got, kept) {
			t.Errorf("%q is not in %s", kept, got)
		}
	}
}

// Whatever clients do, their addresses do not get into the log.
func TestNoClientAddressInTheLog(t *testing.T) {
	c := relaytest.LimitConfig(t)
	c.Limits.Reservations, c.Limits.GuestReservations, c.Limits.Month = 1, 1, 64<<10
	var out relaytest.LogPage
	r, err := New(c, slog.New(slog.NewTextHandler(&out, nil)))
	relaytest.Must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	<-r.Ready()
	relay := dialable(t, r)["tcp"]
	a, b := relaytest.NewPeerAt(t, "127.0.77.1"), relaytest.NewPeerAt(t, "127.0.77.2")
	_, err = relaytest.Reserve(t, a, relay)
	relaytest.Must(t, err)
	relaytest.Must(t, relaytest.Echo(t, b, a, relay, 4096))
	if _, err := relaytest.Reserve(t, b, relay); err == nil {
		t.Error("two reservations in one place")
	}
	relaytest.Must(t, b.Network().ClosePeer(a.ID()))
	_, err = relaytest.Reserve(t, relaytest.NewPeerAt(t, "127.0.77.3"), relay) // takes a's place, or not: it is in a circuit
	if err != nil {
		relaytest.WantStatus(t, err, 200)
	}
	if err := relaytest.Echo(t, b, a, relay, 1<<20); err == nil {
		t.Error("1 MiB came through a budget of 64 KiB")
	}
	relaytest.Must(t, b.Connect(relaytest.Context(t), relay))
	s, err := b.NewStream(network.WithAllowLimitedConn(relaytest.Context(t), "test"), relay.ID, proto.ProtoIDv2Hop)
	relaytest.Must(t, err)
	_, err = s.Write([]byte{3, 0xff, 0xff, 0xff})
	relaytest.Must(t, err)
	relaytest.Must(t, circuit.Ban(c.DataDir, "127.0.77.2"))
	relaytest.Eventually(t, "the ban is noticed", func() bool { return strings.Contains(out.String(), "ban list changed") })
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if strings.Contains(out.String(), "127.0.77.") {
		t.Errorf("a client's address is in the log:\n%s", out.String())
	}
}

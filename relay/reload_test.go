package relay

import (
	"strings"
	"testing"

	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"

	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

func TestReload(t *testing.T) {
	c := relaytest.LimitConfig(t)
	r := start(t, c)
	relay := dialable(t, r.Relay)["tcp"]

	next := c
	next.Name, next.AbuseContact = "another name", "abuse@relay.example"
	next.Limits.Reservations, next.Limits.GuestReservations, next.Limits.ReservationsPerIP = 1, 1, 1
	restart, err := r.Reload(next)
	if err != nil || len(restart) != 0 {
		t.Fatalf("reload: %q, %v", restart, err)
	}
	if s := r.Status(); s.Name != next.Name || s.AbuseContact != next.AbuseContact || s.Reservations.Max != 1 {
		t.Errorf("status %+v", s)
	}
	_, err = relaytest.Reserve(t, relaytest.NewPeerAt(t, "127.0.1.1"), relay)
	relaytest.Must(t, err)
	_, err = relaytest.Reserve(t, relaytest.NewPeerAt(t, "127.0.1.1"), relay)
	relaytest.WantStatus(t, err, pbv2.Status_RESERVATION_REFUSED)

	// What cannot change now is named, and stays.
	next.Limits.Buffer, next.Domain, next.Listen.HTTP = 64<<10, "relay.example", ":81"
	restart, err = r.Reload(next)
	if got := strings.Join(restart, " "); err != nil || got != "domain listen.http limits.buffer" {
		t.Errorf("needs a restart: %q, %v", got, err)
	}
	if got := r.config(); got.Domain != "" || got.Limits.Buffer != c.Limits.Buffer {
		t.Errorf("changed without a restart: %+v", got)
	}

	next.Limits.Reservations = -1
	if _, err := r.Reload(next); err == nil {
		t.Error("a faulty configuration was taken")
	}
	if got := r.config().Limits.Reservations; got != 1 {
		t.Errorf("%d reservations after a faulty configuration", got)
	}
}

package doctor

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// The records are looked up again, and often, only while a certificate waits for them.
func TestRecordsAreLookedUpAgain(t *testing.T) {
	for name, c := range map[string]struct {
		certificate *status.Certificate
		want        bool
	}{
		"waits":   {&status.Certificate{}, true},
		"there":   {&status.Certificate{NotAfter: time.Now().Add(time.Hour)}, false},
		"expired": {&status.Certificate{NotAfter: time.Now().Add(-time.Hour)}, true},
		"no need": {nil, false},
	} {
		checkup := NewCheckup(&relayOf{cfg: config.Config{Domain: "relay.test"}, status: status.Status{Certificate: c.certificate}}, nil, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // no server is asked: that there was no time for it is what is found
		checkup.lookUpAgain(ctx)
		if got := checkup.findings.records.err != nil; got != c.want {
			t.Errorf("%s: looked up %v, want %v", name, got, c.want)
		}
	}
}

// An operator who has set the A record right gets the certificate at once, and once.
func TestRecordsComeRight(t *testing.T) {
	const own = "93.184.215.14"
	addrs := func(list ...string) (out []netip.Addr) {
		for _, a := range list {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	relay := &relayOf{cfg: config.DefaultConfig()}
	relay.cfg.Domain = "relay.test"
	checkup := NewCheckup(relay, nil, slog.New(slog.DiscardHandler))
	checkup.findings.at, checkup.findings.looked = time.Now(), time.Now()
	relay.examined = func(s *status.Status) { checkup.AddTo(s, relay.cfg, time.Now()) }
	for _, c := range []struct {
		name  string
		a     []netip.Addr
		tried int
	}{
		{"no record", nil, 0},
		{"another machine's", addrs("93.184.215.15"), 0},
		{"right", addrs(own), 1},
		{"still right", addrs(own), 1},
		{"wrong again", addrs("93.184.215.15"), 1},
		{"right again", addrs(own), 2},
	} {
		checkup.found(func(f *findings) { f.records, f.interfaces = records{a: c.a}, addrs(own) })
		if relay.tried != c.tried {
			t.Errorf("%s: tried %d times, want %d; %+v", c.name, relay.tried, c.tried, relay.Status().Requirement("records"))
		}
	}
}

// A visitor who holds a reservation at the moment of the trial, and leaves after it, has
// shown that one can be had: the next trial is ten minutes away.
func TestHeldAtTheTrial(t *testing.T) {
	relay := &relayOf{cfg: config.DefaultConfig()}
	relay.status.Healthy = true
	relay.status.Reservations = status.Reservations{Max: 10, Guests: 1, GuestMax: 10}
	checkup := NewCheckup(relay, nil, slog.New(slog.DiscardHandler))
	checkup.findings.at, checkup.findings.looked = time.Now(), time.Now()
	relay.examined = func(s *status.Status) { checkup.AddTo(s, relay.cfg, time.Now()) }
	checkup.tryReserve(t.Context())
	relay.status.Reservations.Guests = 0
	got := relay.Status().Requirement("service")
	if got.Outcome != status.Met || !strings.Contains(got.Found, "0 of 10 reservations taken; one was held ") {
		t.Errorf("after the visitor has left: %+v, want met", got)
	}
}

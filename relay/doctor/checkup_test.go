package doctor

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
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

// The relay tries to reserve soon after nobody holds a reservation any more, and soon after
// a failure. After a success the next trial comes ten minutes later.
func TestTrialIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		relay := &relayOf{cfg: config.DefaultConfig()}
		relay.examined = func(s *status.Status) {
			if time.Since(began) < 45*time.Second {
				s.Reservations.Guests = 1
			}
		}
		checkup := NewCheckup(relay, nil, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
		defer cancel()
		var got []time.Duration
		checkup.tryReserve(ctx, func() trial {
			got = append(got, time.Since(began))
			if len(got) == 1 {
				return trial{time.Now(), errors.New("too slow")}
			}
			return trial{at: time.Now()}
		})
		want := []time.Duration{60 * time.Second, 90 * time.Second, 690 * time.Second} // held, failed, good
		if !slices.Equal(got, want) {
			t.Errorf("tried after %v, want %v", got, want)
		}
	})
}

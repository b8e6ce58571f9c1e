package monitor

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// ownAddress is an address of this machine: one that others see, if it has one.
func ownAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			return p.Addr().String()
		}
	}
	return "127.0.0.1"
}

// On the real network a monitor watches a relay on its own host as it does any
// other, and shows what it saw, but none of that is evidence. In a lab it is.
func TestOwnHostIsNeverEvidence(t *testing.T) {
	own := ownAddress(t)
	for _, network := range []evidence.Network{evidence.PSF, evidence.Lab} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeNet{took: time.Second, outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
			m, ids := newTestMonitor(t, f, 3, 8)
			m.cfg.Network = network
			m.basis().roster.Relays[0].IPv4 = own
			m.basis().roster.Relays[1].IPv4 = "127.0.0.1"
			m.basis().roster.Relays[2].IPv4 = "198.41.0.4"
			first := evidence.HourOf(time.Now())
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour+evidence.CloseAfter+5*time.Minute)
			defer cancel()
			if err := m.Run(ctx); err != nil {
				t.Fatal(err)
			}
			for i, id := range ids {
				if m.latest[id] == nil {
					t.Errorf("%s: relay %d was not watched", network, i)
				}
			}
			for h := first; h < first+2; h++ {
				records, err := m.store.Records(h)
				if err != nil {
					t.Fatal(err)
				}
				logged := map[string]int{}
				for _, r := range records {
					logged[r.PeerID] = len(r.Attempts)
				}
				for i, id := range ids {
					want := 1
					if network == evidence.PSF && i < 2 {
						want = 0
					}
					if logged[id] != want {
						t.Errorf("%s, %s: %d attempts at relay %d (%s) in the log, want %d", network, h, logged[id], i, m.basis().roster.Relays[i].IPv4, want)
					}
				}
			}
			// Watched as often as the others: the log alone leaves it out.
			if f.climbs < 2*len(ids) {
				t.Errorf("%s: %d attempts in two hours at %d relays", network, f.climbs, len(ids))
			}
		})
	}
}

package e2e

import (
	"io"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/psf-relay/relay-appliance/internal/bench/lab"
	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// A peer behind 10 Mbit/s, to which 50 full circuits of one peer lead and one of another
// peer. While that one carries its first MiB, the 50 carry about as much; without a
// scheduler it is 50 times as much.
func TestFairOnSlowLink(t *testing.T) {
	need.Tools(t, "ip", "tc")
	if !isolated(t) {
		return
	}
	s := newAuthority(t).standing(t, 120, "info", `guest_circuit_data: 1GB, guest_circuit_time: 1h, circuits: 200, guest_circuits: 200,
  circuits_per_peer: 100, circuits_per_ip: 100, peer_day: 10GB, ip_day: 10GB`)
	s.start()
	slow := netip.MustParseAddr("198.18.2.1")
	_, err := lab.Link{To: slow, Mbit: 10}.Shape() // as long as the namespace is there
	relaytest.Must(t, err)
	to, hog, one := relaytest.NewPeerAt(t, slow.String()), relaytest.NewPeerAt(t, "198.18.2.2"), relaytest.NewPeerAt(t, "198.18.2.3")
	_, err = relaytest.Reserve(t, to, s.relay)
	relaytest.Must(t, err)
	var hogs, ones atomic.Int64
	began, done := make(chan int64, 1), make(chan int64, 1)
	relaytest.AcceptRaw(to, func(c network.Stream) {
		of, buf := [1]byte{}, make([]byte, 16<<10)
		if _, err := io.ReadFull(c, of[:]); err != nil {
			return
		}
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			if of[0] == 'h' {
				hogs.Add(int64(n))
				continue
			}
			// Its first piece may have waited for what was queued before it came.
			switch before := ones.Add(int64(n)) - int64(n); {
			case before == 0:
				began <- hogs.Load()
			case before < 1<<20 && before+int64(n) >= 1<<20:
				done <- hogs.Load()
			}
		}
	})
	var circuits []network.Stream
	relaytest.Must(t, hog.Connect(t.Context(), s.relay))
	for range 50 {
		circuits = append(circuits, relaytest.MustOpenRaw(t, hog, s.relay.ID, to.ID()))
	}
	fill := func(c network.Stream, of byte) {
		_, _ = c.Write([]byte{of})
		_, _ = io.Copy(c, relaytest.Endless{}) // until the test is over
	}
	for _, c := range circuits {
		go fill(c, 'h')
	}
	s.until("the hog's data flow", func() bool { return hogs.Load() > 1<<20 })
	relaytest.Must(t, one.Connect(t.Context(), s.relay))
	go fill(relaytest.MustOpenRaw(t, one, s.relay.ID, to.ID()), '1')
	carried := <-done - <-began
	t.Logf("while one circuit carried 1 MiB, 50 of another peer carried %d KiB", carried>>10)
	if carried > 4<<20 {
		t.Error("that is more than four times as much")
	}
}

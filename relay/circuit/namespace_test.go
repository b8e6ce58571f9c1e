package circuit

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// A peer's path breaks: nothing arrives on it any more, and nobody is told. The peer comes
// back on another path and reserves. It is reached there at once; and when the relay notices
// that the old connection is dead, the reservation stays.
func TestReservationOutlivesADeadConnection(t *testing.T) {
	t.Parallel()
	need.Tools(t, "nft")
	if !relaytest.Isolated(t) {
		return
	}
	relaytest.Run(t, "nft", "add table inet test; add chain inet test in { type filter hook input priority 0; }")
	for n, kind := range []string{"tcp", "quic"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := relaytest.LimitConfig(t)
			c.Listen.QUIC = relaytest.Multiaddrs(t, "/ip4/127.0.0.2/udp/0/quic-v1")
			r := start(t, c)
			relay := r.byTransport()[kind]
			key, _, err := crypto.GenerateEd25519Key(nil)
			relaytest.Must(t, err)
			from := func(last int) host.Host {
				return relaytest.NewPeerAt(t, fmt.Sprintf("127.0.%d.%d", n+1, last), libp2p.Identity(key), libp2p.Transport(quic.NewTransport))
			}
			before := from(1)
			_, err = relaytest.Reserve(t, before, relay)
			relaytest.Must(t, err)
			dead := r.service.reservations.conn(before.ID(), time.Now())
			proto, hostPort, err := manet.DialArgs(dead.RemoteMultiaddr())
			relaytest.Must(t, err)
			_, port, err := net.SplitHostPort(hostPort)
			relaytest.Must(t, err)
			proto = proto[:3] // without the version of IP
			relaytest.Run(t, "nft", fmt.Sprintf("add rule inet test in %[1]s sport %[2]s drop; add rule inet test in %[1]s dport %[2]s drop", proto, port))

			after := from(2)
			came := make(chan struct{}, 2)
			relaytest.AcceptRaw(after, func(s network.Stream) { came <- struct{}{}; relaytest.SendBack(s) })
			_, err = relaytest.Reserve(t, after, relay)
			relaytest.Must(t, err)
			asker := relaytest.NewPeerAt(t, fmt.Sprintf("127.0.%d.3", n+1))
			relaytest.Must(t, asker.Connect(relaytest.Context(t), r.byTransport()["tcp"]))
			talk := func() {
				relaytest.Must(t, relaytest.Talk(relaytest.MustOpenRaw(t, asker, relay.ID, after.ID())))
				<-came
			}
			if dead.IsClosed() {
				t.Fatal("the relay was told of the broken path")
			}
			talk()
			relaytest.Eventually(t, "the relay notices the broken path", dead.IsClosed)
			relaytest.Eventually(t, "one connection is left", func() bool { return len(r.host.Network().ConnsToPeer(after.ID())) == 1 })
			talk()
		})
	}
}

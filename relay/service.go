package relay

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/prometheus/client_golang/prometheus"
)

// reservationTTL is how long a reservation lasts unless it is prolonged; clients
// do so shortly before its end. The relay signs its end: a monitor counts what lasts
// longer than 3 hours as signed beforehand (rule R6).
const reservationTTL = time.Hour

// newService offers Circuit Relay v2 through the gate, which has decided about
// admission before the library sees a request. The library keeps what only it
// can: who is banned is told PERMISSION_DENIED, and how many circuits a peer has.
func newService(g *gate, cfg Config, metrics prometheus.Registerer) (*relayv2.Relay, error) {
	s, err := relayv2.New(g,
		relayv2.WithResources(relayv2.Resources{
			Limit:          nil, // the gate's: members have none
			ReservationTTL: reservationTTL,
			// The gate's table decides. The library keeps entries of peers that left
			// in the middle of a request until they expire, and would count them.
			MaxReservations:       1 << 30,
			MaxReservationsPerIP:  1 << 30,
			MaxReservationsPerASN: 1 << 30,
			MaxCircuits:           cfg.Limits.CircuitsPerPeer,
			BufferSize:            int(cfg.Limits.Buffer),
		}),
		relayv2.WithACL(g),
		relayv2.WithMetricsTracer(relayv2.NewMetricsTracer(relayv2.WithRegisterer(metrics))),
		relayv2.WithReservationAddressFilter(func(a ma.Multiaddr) bool {
			// A domain of the relay's own is meant for others, even in a lab whose
			// names the library takes for private ones.
			return cfg.Network.AllowPrivate || isWSS(a) || manet.IsPublicAddr(a)
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("offer reservations: %w", err)
	}
	return s, nil
}

var (
	_ host.Host         = (*gate)(nil)
	_ relayv2.ACLFilter = (*gate)(nil)
)

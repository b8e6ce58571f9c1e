package relay

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// newService offers Circuit Relay v2 on h.
func newService(h host.Host, cfg Config) (*relayv2.Relay, error) {
	s, err := relayv2.New(h,
		relayv2.WithResources(relayv2.Resources{
			ReservationTTL:        time.Hour,
			MaxReservations:       cfg.Limits.Reservations,
			MaxReservationsPerIP:  cfg.Limits.ReservationsPerIP,
			MaxReservationsPerASN: cfg.Limits.Reservations,
			MaxCircuits:           cfg.Limits.CircuitsPerPeer,
			BufferSize:            int(cfg.Limits.Buffer),
		}),
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

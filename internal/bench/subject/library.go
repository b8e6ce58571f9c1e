package subject

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/netip"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
)

// smallMachine is the limits that the library works out on a machine of 512 MiB
// with 1024 open files: an eighth of the memory, half of the files.
func smallMachine() (network.ResourceManager, error) {
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.Scale(512<<20/8, 1024/2)))
}

// ServeLibrary is go-libp2p's relay as its defaults are, without the limits on
// what a circuit may carry, or nothing could be measured. Its other limits are
// those of a small machine if limits says so, else lifted.
func ServeLibrary(ctx context.Context, ip netip.Addr, cert string, limits bool, out io.Writer) error {
	pair, err := tls.LoadX509KeyPair(cert, cert)
	if err != nil {
		return err
	}
	opts := []libp2p.Option{
		libp2p.ListenAddrStrings(
			fmt.Sprintf("/ip4/%s/tcp/%d", ip, portTCP),
			fmt.Sprintf("/ip4/%s/udp/%d/quic-v1", ip, portQUIC),
			fmt.Sprintf("/ip4/%s/tcp/%d/tls/ws", ip, portWSS)),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(quic.NewTransport),
		libp2p.Transport(websocket.New, websocket.WithTLSConfig(&tls.Config{Certificates: []tls.Certificate{pair}})),
		libp2p.ForceReachabilityPublic(),
		libp2p.DisableRelay(),
	}
	resources := relayv2.DefaultResources()
	resources.Limit = nil
	if limits {
		m, err := smallMachine()
		if err != nil {
			return err
		}
		opts = append(opts, libp2p.ResourceManager(m))
	} else {
		opts = append(opts, libp2p.ResourceManager(&network.NullResourceManager{}))
		const many = 1 << 20
		resources.MaxReservations, resources.MaxReservationsPerIP, resources.MaxReservationsPerASN, resources.MaxCircuits = many, many, many, many
	}
	h, err := libp2p.New(opts...)
	if err != nil {
		return err
	}
	defer h.Close()
	r, err := relayv2.New(h, relayv2.WithResources(resources))
	if err != nil {
		return err
	}
	defer r.Close()
	up := Up{ID: h.ID(), Addrs: map[string]netip.AddrPort{
		"tcp": netip.AddrPortFrom(ip, portTCP), "quic": netip.AddrPortFrom(ip, portQUIC), "wss": netip.AddrPortFrom(ip, portWSS),
	}}
	if err := up.say(out); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

package relay

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/coord"
)

const (
	// announceEvery is a little less than the 122 s of helia-coord.
	announceEvery = 2 * time.Minute
	// announceGap is the least time between announcements to newcomers.
	announceGap = 10 * time.Second
)

// joinPSF goes on the coordination topic and announces the relay there until ctx
// ends. The relay must be dialable: peers try it on its first announcement only.
func (r *Relay) joinPSF(ctx context.Context, h host.Host, wg *sync.WaitGroup) error {
	ps, err := coord.NewPubSub(ctx, h)
	if err != nil {
		return fmt.Errorf("join the PSF network: %w", err)
	}
	topic, err := ps.Join(coord.Topic)
	if err != nil {
		return fmt.Errorf("join the PSF network: %w", err)
	}
	newcomers := make(chan struct{}, 1)
	events, err := topic.EventHandler()
	if err != nil {
		return fmt.Errorf("join the PSF network: %w", err)
	}
	stopRelaying, err := topic.Relay()
	if err != nil {
		return fmt.Errorf("join the PSF network: %w", err)
	}
	wg.Go(func() {
		defer events.Cancel()
		for {
			e, err := events.NextPeerEvent(ctx)
			if err != nil {
				return
			}
			if e.Type == pubsub.PeerJoin {
				select {
				case newcomers <- struct{}{}:
				default:
				}
			}
		}
	})
	wg.Go(func() {
		defer stopRelaying()
		r.announceLoop(ctx, topic, newcomers)
	})
	for _, a := range r.cfg.PSF.Bootstrap {
		info, err := peer.AddrInfoFromP2pAddr(a)
		if err != nil || info.ID == r.id {
			continue
		}
		wg.Go(func() { r.stayConnected(ctx, h, *info) })
	}
	return nil
}

func (r *Relay) announceLoop(ctx context.Context, topic *pubsub.Topic, newcomers <-chan struct{}) {
	for {
		data, err := r.announcement().Encode()
		if err == nil {
			err = topic.Publish(ctx, data)
		}
		if err != nil && ctx.Err() == nil {
			r.log.Error("could not announce the relay", "error", err)
		}
		select {
		case <-time.After(announceGap):
		case <-ctx.Done():
			return
		}
		select {
		case <-newcomers:
		case <-time.After(announceEvery - announceGap):
		case <-ctx.Done():
			return
		}
	}
}

// announcement is what the relay says about itself now.
func (r *Relay) announcement() coord.Announcement {
	addrs := r.Addrs()
	a := coord.Announcement{
		BroadcastedAt:  time.Now(),
		PeerID:         r.id,
		Type:           "node.js",
		ConnectPref:    "direct",
		IsCircuitRelay: true,
		JSONLD: coord.JSONLD{
			Name:        r.cfg.DisplayName(r.id),
			Version:     buildinfo.Version(),
			Protocol:    "circuit-relay",
			Description: "public circuit relay",
		},
	}
	if r.cfg.Domain != "" {
		a.APIInfo = "https://" + r.cfg.Domain + "/"
		a.CircuitRelayInfo.CRDomain = r.cfg.Domain
	}
	for _, addr := range addrs {
		a.Multiaddrs = append(a.Multiaddrs, addr.String())
		if ip, port, ok := tcp4(addr); ok && a.CircuitRelayInfo.IP4 == "" {
			a.CircuitRelayInfo.IP4, a.CircuitRelayInfo.TCPPort = ip.String(), port
		}
	}
	return a
}

// tcp4 is the address and port of /ip4/A/tcp/PORT/p2p/ID.
func tcp4(a ma.Multiaddr) (netip.Addr, int, bool) {
	if len(a) != 3 || a[0].Protocol().Code != ma.P_IP4 || a[1].Protocol().Code != ma.P_TCP {
		return netip.Addr{}, 0, false
	}
	na, err := manet.ToNetAddr(a[:2])
	if err != nil {
		return netip.Addr{}, 0, false
	}
	ap, err := netip.ParseAddrPort(na.String())
	return ap.Addr(), int(ap.Port()), err == nil
}

// stayConnected keeps a connection to a peer of the network.
func (r *Relay) stayConnected(ctx context.Context, h host.Host, info peer.AddrInfo) {
	wait := 5 * time.Second
	for {
		dial, cancel := context.WithTimeout(ctx, 20*time.Second)
		err := h.Connect(dial, info)
		cancel()
		if err == nil {
			wait = 30 * time.Second
		} else {
			r.log.Debug("bootstrap peer not reached", "peer", info.ID.String(), "error", err)
			wait = min(2*wait, 10*time.Minute)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

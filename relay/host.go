package relay

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/listen"
	"github.com/psf-relay/relay-appliance/relay/config"
)

// newHost opens the listeners. A listener that cannot be opened is an error:
// half a relay looks fine to its operator and is down for some of its users.
func (r *Relay) newHost(c config.Capacity, metrics prometheus.Registerer) (host.Host, error) {
	cfg := r.config()
	addrs, err := cfg.ListenAddrs(r.log)
	if err != nil {
		return nil, err
	}
	limits, err := resourceManager(c, cfg.Limits, cfg.Test.LoopbackCounts)
	if err != nil {
		return nil, err
	}
	limits.tally = r.tally
	trimmer := connectionManager(c, cfg.Limits, cfg.Test.LoopbackCounts)
	trimmer.stays = cmp.Or(cfg.Test.StrangerStays, strangerStays)
	book, err := newPeerbook()
	if err != nil {
		return nil, err
	}
	muxer := new(*yamux.DefaultTransport)
	muxer.MaxStreamWindowSize = window(c)
	muxer.AcceptBacklog = max(64, cfg.Limits.CircuitsPerPeer) // a queue for 256 takes 2 KiB per peer
	opts := []libp2p.Option{
		libp2p.Identity(r.key),
		libp2p.Peerstore(book),
		libp2p.UserAgent(buildinfo.Agent("relayd")),
		libp2p.ResourceManager(limits),
		libp2p.ConnectionGater(limits),
		libp2p.ConnectionManager(trimmer),
		libp2p.PrometheusRegisterer(metrics),
		libp2p.ListenAddrs(addrs...),
		libp2p.AddrsFactory(r.announced),
		// Nobody else can tell a relay that it is public early enough: without
		// this it would wait for AutoNAT before it offers anything.
		libp2p.ForceReachabilityPublic(),
		libp2p.DisableRelay(), // the client side: a relay is not reached through relays
		libp2p.NonPublicAddrPublishing(cfg.Network.AllowPrivate),
		libp2p.Muxer(yamux.ID, muxer),
		libp2p.Security(libp2ptls.ID, newRecordsTLS),
		libp2p.Security(noise.ID, noise.New),
	}
	// Naming one transport takes the defaults away, so all are named.
	for _, t := range config.Transports {
		switch {
		case !t.ByDomain:
			opts = append(opts, libp2p.Transport(t.New))
		case r.certs != nil:
			opts = append(opts, libp2p.Transport(t.New,
				websocket.WithTLSConfig(r.certs.TLSConfig()),
				websocket.WithHTTPHandler(r.web(r.publicStatus)),
				websocket.WithHTTPServerConfig(func(s *http.Server) {
					s.ReadTimeout, s.WriteTimeout = 30*time.Second, 30*time.Second // not a WebSocket's
					listen.Bound(s)
				}),
			))
		}
	}
	h, err := libp2p.New(opts...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the listeners: %w", err), limits.Close())
	}
	if err := r.checkListening(h, addrs); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// checkListening compares what is listened on with what was wanted, form by form:
// ports and unspecified addresses were filled in meanwhile.
func (r *Relay) checkListening(h host.Host, wanted []ma.Multiaddr) error {
	form := func(a ma.Multiaddr) string {
		var s string
		for _, c := range a {
			if c.Protocol().Code != ma.P_CERTHASH {
				s += "/" + c.Protocol().Name
			}
		}
		return s
	}
	open := map[string]int{}
	for _, a := range h.Network().ListenAddresses() {
		open[form(a)]++
	}
	var faults []error
	for _, a := range wanted {
		if open[form(a)]--; open[form(a)] < 0 {
			faults = append(faults, fmt.Errorf("could not listen on %s, though its port was free a moment before: start again, and see log level debug if it persists", a))
		}
	}
	return errors.Join(faults...)
}

// announced turns the addresses that the host has into those it tells others:
// the domain for WSS, the public address for a translated one, and none that
// strangers cannot reach.
func (r *Relay) announced(addrs []ma.Multiaddr) []ma.Multiaddr {
	cfg := r.config()
	var out []ma.Multiaddr
	for _, a := range addrs {
		if config.IsWSS(a) {
			if d := cfg.DomainAddr(a); d != nil {
				out = append(out, d)
			}
			continue
		}
		if a = cfg.Translated(a); cfg.Network.AllowPrivate || manet.IsPublicAddr(a) {
			out = append(out, a)
		}
	}
	return ma.Unique(append(out, cfg.Announce.Addrs...))
}

package relay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/coord"
	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/relay/circuit"
	"github.com/psf-relay/relay-appliance/relay/config"
)

// coordKeyFile is in the data folder: peers remember its public half.
const coordKeyFile = "coordination.key"

// joinPSF goes on the coordination topic, which tells the service who is a member.
// Nothing is announced before announce is called: peers try a relay on its first
// announcement only.
func (r *Relay) joinPSF(ctx context.Context, cfg config.Config, h host.Host, g *circuit.Service, wg *sync.WaitGroup) (leave, announce func(), err error) {
	if !cfg.PSF.Enabled {
		return func() {}, func() {}, nil
	}
	key, err := loadOrCreateCoordKey(cfg.DataDir, r.log)
	if err != nil {
		return nil, nil, err
	}
	// The network is left in good order before its pubsub ends.
	router, cancel := context.WithCancel(context.WithoutCancel(ctx))
	fail := func(err error) (func(), func(), error) {
		cancel()
		return nil, nil, fmt.Errorf("join the PSF network: %w", err)
	}
	ps, err := coord.NewPubSub(router, h)
	if err != nil {
		return fail(err)
	}
	m, err := coord.Join(coord.MemberConfig{
		PubSub: ps, ID: r.id, Key: key, OldTopic: cfg.PSF.IPFSCoord, Announcement: r.announcement, Log: r.log,
	})
	if err != nil {
		return fail(err)
	}
	var peers []peer.AddrInfo
	for _, a := range cfg.PSF.Bootstrap {
		if info, err := peer.AddrInfoFromP2pAddr(a); err == nil && info.ID != r.id {
			peers = append(peers, *info)
		}
	}
	b, err := coord.NewBootstrap(coord.BootstrapConfig{
		Host: h, Peers: peers,
		ListURL: cfg.PSF.BootstrapList, Cache: filepath.Join(cfg.DataDir, config.PeerListFile),
		AllowPrivate: cfg.Network.AllowPrivate, Log: r.log,
	})
	if err != nil {
		return fail(errors.Join(err, m.Close()))
	}
	g.SetMembership(m)
	r.mu.Lock()
	r.member = m
	r.mu.Unlock()
	wg.Go(func() { b.Run(ctx) })
	return func() {
		if err := within(closeTime/4, "leave the PSF network", m.Close); err != nil {
			r.log.Debug("not in good order", "error", err)
		}
		cancel()
	}, m.Ready, nil
}

// loadOrCreateCoordKey reads the key for private messages, made once.
func loadOrCreateCoordKey(dataDir string, log *slog.Logger) (*coord.Key, error) {
	path := filepath.Join(dataDir, coordKeyFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := coord.NewKey()
		if err == nil {
			err = durable.Create(path, key.Encode(), 0o600)
		}
		if err != nil {
			return nil, fmt.Errorf("make the coordination key: %w", err)
		}
		log.Info("made a new key for private messages in the PSF network")
		return key, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the coordination key: %w", err)
	}
	key, err := coord.ParseKey(data)
	if err != nil {
		return nil, fmt.Errorf("coordination key %s is damaged: restore it from a backup, or remove it, and PSF peers need some hours to learn the new one: %w", path, err)
	}
	return key, nil
}

// announcement is what the relay says about itself now.
func (r *Relay) announcement() coord.Announcement {
	cfg := r.config()
	a := coord.Announcement{
		Type:           "node.js",
		ConnectPref:    "direct",
		IsCircuitRelay: true,
		JSONLD: coord.JSONLD{
			Name:        cfg.DisplayName(r.id),
			Version:     buildinfo.Version(),
			Protocol:    "circuit-relay",
			Description: "public circuit relay",
		},
	}
	if cfg.Domain != "" {
		a.APIInfo = "https://" + cfg.Domain + "/"
		a.CircuitRelayInfo.CRDomain = cfg.Domain
	}
	for _, addr := range byUse(r.Addrs()) {
		a.Multiaddrs = append(a.Multiaddrs, addr.String())
		if ip, port, ok := tcp4(addr); ok && a.CircuitRelayInfo.IP4 == "" {
			a.CircuitRelayInfo.IP4, a.CircuitRelayInfo.TCPPort = ip.String(), port
		}
	}
	return a
}

// byUse puts those addresses first that every PSF peer can dial: they try them in
// order, and give each its time.
func byUse(addrs []ma.Multiaddr) []ma.Multiaddr {
	rank := func(a ma.Multiaddr) int {
		if i := config.TransportOf(a); i >= 0 {
			return i
		}
		return len(config.Transports)
	}
	return slices.SortedStableFunc(slices.Values(addrs), func(a, b ma.Multiaddr) int { return rank(a) - rank(b) })
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

package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/coord"
	"github.com/psf-relay/relay-appliance/relay/config"
)

// heard says whether the relay's announcement came back through the network.
type heard struct {
	reached bool // a peer of the network could be asked at all
	found   string
	addrs   []string // what it names
	err     error
}

// listenFor goes to the PSF network beside the relay, as another node, and waits
// for the relay's announcement. A second node calls on the relay itself, which
// makes it announce at once; that way nobody waits for two minutes.
func listenFor(ctx context.Context, cfg config.Config, id peer.ID, relayAt []ma.Multiaddr) *heard {
	fail := func(reached bool, err error) *heard { return &heard{reached: reached, err: err} }
	var known []peer.AddrInfo
	for _, a := range cfg.PSF.Bootstrap {
		if info, err := peer.AddrInfoFromP2pAddr(a); err == nil && info.ID != id {
			known = append(known, *info)
		}
	}
	// Of the relay's last list of further peers, a few: enough to listen at.
	if data, err := os.ReadFile(filepath.Join(cfg.DataDir, config.PeerListFile)); err == nil {
		if listed, err := coord.ParseList(data); err == nil {
			known = append(known, slices.DeleteFunc(listed, func(p peer.AddrInfo) bool { return p.ID == id })...)
		}
	}
	known = known[:min(len(known), 16)]
	if len(known) == 0 {
		return fail(false, errors.New("neither psf.bootstrap nor a list names anybody to listen at"))
	}
	ear, err := visitor()
	if err != nil {
		return fail(false, err)
	}
	defer ear.Close()
	if err := connectTo(ctx, ear, known); err != nil {
		return fail(false, fmt.Errorf("no PSF peer could be reached to listen at: %w", err))
	}
	pubsubCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	ps, err := coord.NewPubSub(pubsubCtx, ear)
	if err != nil {
		return fail(false, err)
	}
	type answer struct {
		coord.Heard
		err error
	}
	done := make(chan answer, 1)
	go func() {
		h, err := coord.Hear(ctx, ps, id)
		done <- answer{h, err}
	}()
	knock, err := visitor()
	if err != nil {
		return fail(false, err)
	}
	defer knock.Close()
	// The neighbours take the listener into their mesh with their next heartbeat.
	select {
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
	}
	neighbours := slices.DeleteFunc(ps.ListPeers(coord.Topic), func(p peer.ID) bool { return p == id })
	if len(neighbours) == 0 {
		return fail(false, errors.New("no peer that could be reached is on the coordination topic"))
	}
	if err := knock.Connect(ctx, peer.AddrInfo{ID: id, Addrs: relayAt}); err == nil {
		if other, err := coord.NewPubSub(pubsubCtx, knock); err == nil {
			if l, err := coord.Listen(other, func(coord.Heard) {}); err == nil {
				defer l.Close()
			}
		}
	}
	a := <-done
	if a.err != nil {
		return fail(true, fmt.Errorf("nothing arrived at a node beside it with %d neighbours on the coordination topic", len(neighbours)))
	}
	if a.Via == id {
		return fail(false, errors.New("it came straight from the relay, which shows nothing of the network"))
	}
	return &heard{reached: true, addrs: a.Multiaddrs, found: fmt.Sprintf("heard back through %s, with %d addresses", a.Via, len(a.Multiaddrs))}
}

// visitor is a node that only looks. A relay knows it by its agent, and does not
// take it for a stranger.
func visitor() (host.Host, error) {
	return libp2p.New(libp2p.NoListenAddrs, libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.UserAgent(visitorAgent()))
}

func visitorAgent() string { return buildinfo.Agent("relayd-doctor") }

// connectTo connects to as many as it can in a few seconds; none is an error.
func connectTo(ctx context.Context, h host.Host, to []peer.AddrInfo) error {
	ctx, cancel := context.WithTimeout(ctx, lookTime/2)
	defer cancel()
	errs := make([]error, len(to))
	var wg sync.WaitGroup
	for i, info := range to {
		wg.Go(func() { errs[i] = h.Connect(ctx, info) })
	}
	wg.Wait()
	if slices.Contains(errs, nil) {
		return nil
	}
	return errors.Join(errs...)
}

// dialLocally puts loopback in place of unspecified addresses among the listen
// addresses: that is how the relay's own machine reaches it.
func dialLocally(listen []ma.Multiaddr) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, a := range listen {
		ap, ok := config.AddrPort(a)
		if !ok || len(a) != 2 {
			continue
		}
		b := slices.Clone(a)
		if ap.Addr().IsUnspecified() {
			name, ip := "ip4", "127.0.0.1"
			if ap.Addr().Is6() {
				name, ip = "ip6", "::1"
			}
			if c, err := ma.NewComponent(name, ip); err == nil {
				b[0] = *c
			}
		}
		out = append(out, b)
	}
	return out
}

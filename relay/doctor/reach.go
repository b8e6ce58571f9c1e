package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/status"
)

const (
	// A server that was asked is left alone for two minutes by the library.
	askEvery = 2*time.Minute + 10*time.Second
	askTime  = 30 * time.Second
	// One that could not dial back may itself be at fault, or lie; a dial that came
	// back is proof.
	failuresThatCount = 2
)

// reach asks peers by AutoNAT v2 to dial this relay back, and does the same for
// others: relays are one another's best helpers in this, as no browser or NATed
// node can be one.
//
// For others it dials only the address they come from. The protocol also lets
// them pay for dials to anywhere else with data, which would make a relay a tool
// to knock at strangers' doors. A domain is anywhere else, too: for WSS other
// servers must be found.
//
// It does not influence what is announced, as the library's own use of AutoNAT
// would: a few peers that lie must not take a relay's addresses away.
type reach struct {
	nat    *autonatv2.AutoNAT
	dialer host.Host

	mu    sync.Mutex
	known map[string]*verdict
}

type verdict struct {
	reached  time.Time
	failed   time.Time
	failures int // since reached
	asked    time.Time
}

// newReach makes the two halves ready on h. It needs a host of its own to dial
// from: over a connection that exists already, nothing would be shown.
func newReach(h host.Host, cfg config.Config) (*reach, error) {
	const conns = 32
	limits := rcmgr.PartialLimitConfig{System: rcmgr.ResourceLimits{
		Conns: conns, ConnsOutbound: conns, ConnsInbound: rcmgr.BlockAllLimit, FD: conns, Streams: 4 * conns, Memory: 32 << 20,
	}}
	manager, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.Build(rcmgr.InfiniteLimits)))
	if err != nil {
		return nil, fmt.Errorf("limit dialling back: %w", err)
	}
	dialer, err := libp2p.New(
		libp2p.NoListenAddrs,
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
		libp2p.ResourceManager(manager),
		libp2p.ConnectionManager(connmgr.NullConnMgr{}), // there is nothing to trim
		libp2p.UserAgent(buildinfo.Agent("relayd")),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(quic.NewTransport),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make ready for dialling back: %w", err), manager.Close())
	}
	opts := []autonatv2.AutoNATOption{autonatv2.WithServerRateLimit(60, 12, 0, 2)}
	if cfg.Network.AllowPrivate {
		opts = append(opts, autonatv2.AllowPrivateAddrs)
	}
	nat, err := autonatv2.New(dialer, opts...)
	if err == nil {
		err = nat.Start(h)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make ready for dialling back: %w", err), dialer.Close())
	}
	return &reach{nat: nat, dialer: dialer, known: map[string]*verdict{}}, nil
}

func (r *reach) close() error {
	r.nat.Close()
	return r.dialer.Close()
}

// ask has one peer look at one address: the one that was asked about longest ago.
// It says whether there is any sense in asking about another at once.
func (r *reach) ask(ctx context.Context, addrs []ma.Multiaddr) bool {
	name, addr := r.next(addrs)
	if name == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	result, err := r.nat.GetReachability(ctx, []autonatv2.Request{{Addr: addr, SendDialData: true}})
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.known[name]
	if errors.Is(err, autonatv2.ErrNoPeers) {
		return false
	}
	v.asked = now
	if err != nil { // no answer, or no such service: nothing is known by that
		return ctx.Err() == nil
	}
	switch result.Reachability {
	case network.ReachabilityPublic:
		v.reached, v.failures = now, 0
	case network.ReachabilityPrivate:
		v.failed = now
		v.failures++
	}
	return true
}

func (r *reach) next(addrs []ma.Multiaddr) (name string, addr ma.Multiaddr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// Of addresses that nobody was asked about yet, the one first that every peer
	// can dial: a peer answers once in two minutes, and there may be few.
	kinds := []string{"tcp", "quic", "wss"}
	rank := func(a ma.Multiaddr) int { return slices.Index(kinds, config.KindOf(a)) }
	addrs = slices.SortedStableFunc(slices.Values(addrs), func(a, b ma.Multiaddr) int { return rank(a) - rank(b) })
	var oldest *verdict
	current := map[string]bool{}
	for _, a := range addrs {
		s := a.String()
		if rank(a) < 0 {
			continue // which those who are asked cannot dial
		}
		current[s] = true
		v := r.known[s]
		if v == nil {
			v = &verdict{}
			r.known[s] = v
		}
		if oldest == nil || v.asked.Before(oldest.asked) {
			oldest, name, addr = v, s, a
		}
	}
	for s := range r.known {
		if !current[s] {
			delete(r.known, s)
		}
	}
	return name, addr
}

func (r *reach) state(now time.Time) []status.Reach {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []status.Reach
	for s, v := range r.known {
		e := status.Reach{Addr: s, Outcome: status.Unknown, At: v.asked}
		switch {
		case v.failures >= failuresThatCount && now.Sub(v.failed) < evidenceFor:
			e.Outcome, e.At = status.NotMet, v.failed
		case !v.reached.IsZero() && now.Sub(v.reached) < evidenceFor:
			e.Outcome, e.At = status.Met, v.reached
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b status.Reach) int { return strings.Compare(a.Addr, b.Addr) })
	return out
}

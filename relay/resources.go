package relay

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"

	"github.com/psf-relay/relay-appliance/internal/listen"
	"github.com/psf-relay/relay-appliance/relay/config"
)

// Connections at the relay's own listeners, which libp2p's limits do not know.
var (
	httpBounds    = listen.Bounds{All: config.HttpConns, PerAddress: 16}
	metricsBounds = listen.Bounds{All: config.MetricsConns, PerAddress: 8}
)

// window is the most that one stream of yamux may have in flight: what it carries
// per round trip when all goes well, and what it costs here when its reader stalls.
// It is a power of two times yamux's first window: when a window grows by less than
// it doubles, go-yamux v5.1.0 may withhold more of it from the sender than it waits
// for, and the stream stands still.
func window(c config.Capacity) uint32 {
	w := int64(1 << 20)
	for w < 16<<20 && 2*w <= c.Memory/256 {
		w *= 2
	}
	return uint32(w)
}

// warn says what the operator should know about the machine and the limits.
func warnOfCapacity(c config.Capacity, l config.Limits, log *slog.Logger) {
	log.Info("capacity", "connections", c.Connections, "memory", config.Bytes(c.Memory>>20<<20).String(), "open_files", c.Files)
	if c.Files < c.Connections+config.OwnFiles {
		log.Warn("the limit of open files is low for so many connections: raise it (in a systemd unit: LimitNOFILE=65536)",
			"open_files", c.Files, "connections", c.Connections)
	}
	if c.Connections < l.Reservations {
		log.Warn("not every reservation can be taken: this machine has fewer connections than limits.reservations",
			"connections", c.Connections, "reservations", l.Reservations)
	}
}

// resourceManager bounds what the network may use. Its limits follow from how
// many connections and circuits there may be; per peer there is room for as many
// streams as circuits, and a share of memory.
func resourceManager(c config.Capacity, l config.Limits, loopbackCounts bool) (*halfOpen, error) {
	const charge = 256 << 10 // what yamux charges for a stream, whether used or not
	streams := 8*c.Connections + 4*l.Circuits
	perPeer := 2*l.CircuitsPerPeer + 64
	memory := int64(2*streams*charge) + c.Memory
	unfinished := c.Connections * 3 / 4
	bound := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: val(c.Connections), ConnsInbound: val(c.Connections), ConnsOutbound: val(c.Connections),
			Streams: val(streams), StreamsInbound: val(streams), StreamsOutbound: val(streams),
			FD: val(c.Connections), Memory: rcmgr.LimitVal64(memory),
		},
		// Connections that have not said who they are, streams that have not said
		// what for.
		Transient: rcmgr.ResourceLimits{
			Conns: val(unfinished), ConnsInbound: val(unfinished), ConnsOutbound: val(unfinished),
			Streams: val(streams / 2), StreamsInbound: val(streams / 2), StreamsOutbound: val(streams / 2),
			FD: val(unfinished), Memory: rcmgr.LimitVal64(memory / 4),
		},
		PeerDefault: rcmgr.ResourceLimits{
			Conns: 16, ConnsInbound: 8, ConnsOutbound: 8,
			Streams: val(2 * perPeer), StreamsInbound: val(perPeer), StreamsOutbound: val(perPeer),
			FD: 16, Memory: rcmgr.LimitVal64(2*2*perPeer*charge + 16<<20),
		},
		// QUIC's windows grow by as much as this allows.
		Conn:   rcmgr.ResourceLimits{Conns: 1, ConnsInbound: 1, ConnsOutbound: 1, FD: 1, Memory: rcmgr.LimitVal64(2 * window(c))},
		Stream: rcmgr.ResourceLimits{Streams: 1, StreamsInbound: 1, StreamsOutbound: 1, Memory: 32 << 20},
	}
	opts := []rcmgr.Option{
		// They cost 2 % of a connect. What is refused the relay counts itself.
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: l.ConnectionsPerIP}},
			[]rcmgr.ConnLimitPerSubnet{
				{PrefixLength: 64, ConnCount: l.ConnectionsPerIP},
				{PrefixLength: 48, ConnCount: 4 * l.ConnectionsPerIP},
			}),
	}
	// A burst of all the connections an address may have: after a restart the
	// whole office behind it comes back at once.
	limit := rate.Limit{RPS: l.ConnectsPerSecond, Burst: 2 * l.ConnectionsPerIP}
	limiter := &rate.Limiter{SubnetRateLimiter: rate.SubnetLimiter{
		IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: limit}},
		IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 64, Limit: limit}},
		GracePeriod:      time.Minute,
	}}
	if loopbackCounts {
		opts = append(opts, rcmgr.WithNetworkPrefixLimit([]rcmgr.NetworkPrefixLimit{}, []rcmgr.NetworkPrefixLimit{}))
	} else {
		limiter.NetworkPrefixLimits = []rate.PrefixLimit{
			{Prefix: netip.MustParsePrefix("127.0.0.0/8")}, {Prefix: netip.MustParsePrefix("::1/128")},
		}
	}
	opts = append(opts, rcmgr.WithConnRateLimiters(limiter))
	m, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(bound.Build(rcmgr.InfiniteLimits)), opts...)
	if err != nil {
		return nil, fmt.Errorf("set the limits: %w", err)
	}
	h := newHalfOpen(m, min(l.ConnectionsPerIP/4, unfinished/16), unfinished*7/8, unfinished)
	if !loopbackCounts {
		h.exempt = netip.Addr.IsLoopback
	}
	return h, nil
}

func val(n int) rcmgr.LimitVal { return rcmgr.LimitVal(n) }

// connectionManager makes the one that trims connections before the hard limits are
// reached.
func connectionManager(c config.Capacity, l config.Limits, loopbackCounts bool) *trimmer {
	exempt := netip.Addr.IsLoopback
	if loopbackCounts {
		exempt = nil
	}
	return newTrimmer(c.Connections, l.ConnectionsPerIP, exempt)
}

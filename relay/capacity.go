package relay

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"

	"github.com/psf-relay/relay-appliance/internal/listen"
)

// What things cost, as measured. README.md has the figures and the reasons.
const (
	perConnection = 100 << 10 // a reserved peer: 46 (tcp) to 73 KiB (quic), and room for its handshake
	perCircuit    = 112 << 10 // two copy buffers, two streams, four goroutines
	ownMemory     = 96 << 20  // the program itself, pubsub, the peerstore
	// Files that libp2p's connections leave alone: 128 for listeners, logs,
	// certificates and outgoing connections, and those that visitors may hold at the
	// other listeners.
	ownFiles     = 128 + httpConns + metricsConns
	httpConns    = 128
	metricsConns = 32
	minConns     = 128
	maxConns     = 1 << 16
	maxDerived   = 1 << 13 // places and circuits that nobody asked for: with more a RESERVE gets dear
)

// Connections at the relay's own listeners, which libp2p's limits do not know.
var (
	httpBounds    = listen.Bounds{All: httpConns, PerAddress: 16}
	metricsBounds = listen.Bounds{All: metricsConns, PerAddress: 8}
)

// capacity is how much this machine carries. The library's own scaling gives a
// machine of 512 MB 64 connections in all, each address 8 of them.
type capacity struct {
	memory      int64 // for the process; the smaller of the machine's and the cgroup's
	files       int
	connections int
}

func measureCapacity(l Limits) capacity {
	c := capacity{memory: availableMemory(), files: openFileLimit()}
	return c.derive(l)
}

func (c capacity) derive(l Limits) capacity {
	c.connections = l.Connections
	if c.connections == 0 {
		byMemory := (c.memory*3/4 - ownMemory) / perConnection
		byFiles := int64(c.files - ownFiles)
		c.connections = int(max(minConns, min(byMemory, byFiles, maxConns)))
	}
	return c
}

// fill puts what was worked out in the place of limits that say 0. Of the
// connections a fifth remains for those who hold no place.
func (c capacity) fill(l Limits) Limits {
	l.Connections = c.connections
	if l.Reservations == 0 {
		l.Reservations = min(c.connections*4/5, maxDerived)
		l.GuestReservations = min(l.GuestReservations, l.Reservations)
	}
	if l.Circuits == 0 {
		l.Circuits = int(max(minConns, min(c.memory/4/perCircuit, maxDerived)))
		l.GuestCircuits = min(l.GuestCircuits, l.Circuits)
	}
	return l
}

// window is the most that one stream of yamux may have in flight: what it carries
// per round trip when all goes well, and what it costs here when its reader stalls.
// It is a power of two times yamux's first window: when a window grows by less than
// it doubles, go-yamux v5.1.0 may withhold more of it from the sender than it waits
// for, and the stream stands still.
func (c capacity) window() uint32 {
	w := int64(1 << 20)
	for w < 16<<20 && 2*w <= c.memory/256 {
		w *= 2
	}
	return uint32(w)
}

// warn says what the operator should know about the machine and the limits.
func (c capacity) warn(l Limits, log *slog.Logger) {
	log.Info("capacity", "connections", c.connections, "memory", Bytes(c.memory>>20<<20).String(), "open_files", c.files)
	if c.files < c.connections+ownFiles {
		log.Warn("the limit of open files is low for so many connections: raise it (in a systemd unit: LimitNOFILE=65536)",
			"open_files", c.files, "connections", c.connections)
	}
	if c.connections < l.Reservations {
		log.Warn("not every reservation can be taken: this machine has fewer connections than limits.reservations",
			"connections", c.connections, "reservations", l.Reservations)
	}
}

// resourceManager bounds what the network may use. Its limits follow from how
// many connections and circuits there may be; per peer there is room for as many
// streams as circuits, and a share of memory.
func (c capacity) resourceManager(l Limits, loopbackCounts bool) (*halfOpen, error) {
	const window = 256 << 10 // what yamux charges for a stream, whether used or not
	streams := 8*c.connections + 4*l.Circuits
	perPeer := 2*l.CircuitsPerPeer + 64
	memory := int64(2*streams*window) + c.memory
	unfinished := c.connections * 3 / 4
	bound := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: val(c.connections), ConnsInbound: val(c.connections), ConnsOutbound: val(c.connections),
			Streams: val(streams), StreamsInbound: val(streams), StreamsOutbound: val(streams),
			FD: val(c.connections), Memory: rcmgr.LimitVal64(memory),
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
			FD: 16, Memory: rcmgr.LimitVal64(2*2*perPeer*window + 16<<20),
		},
		// QUIC's windows grow by as much as this allows.
		Conn:   rcmgr.ResourceLimits{Conns: 1, ConnsInbound: 1, ConnsOutbound: 1, FD: 1, Memory: rcmgr.LimitVal64(2 * c.window())},
		Stream: rcmgr.ResourceLimits{Streams: 1, StreamsInbound: 1, StreamsOutbound: 1, Memory: 32 << 20},
	}
	opts := []rcmgr.Option{
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
func (c capacity) connectionManager(l Limits, loopbackCounts bool) (*trimmer, error) {
	exempt := netip.Addr.IsLoopback
	if loopbackCounts {
		exempt = nil
	}
	return newTrimmer(c.connections, l.ConnectionsPerIP, exempt)
}

// LimitMemory has the garbage collector run at 40 % of Go's usual allowance, which
// saves 5 (tcp) to 12 KiB (quic) per peer and costs a relay, whose buffers are
// pooled, no CPU that could be measured; and it has it work harder before the
// machine's memory, or the cgroup's, runs out. GOGC and GOMEMLIMIT in the
// environment have precedence.
func LimitMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(40)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(availableMemory() * 4 / 5)
	}
}

// availableMemory is what the process may use, as far as can be told.
func availableMemory() int64 {
	var info syscall.Sysinfo_t
	memory := int64(1 << 29)
	if err := syscall.Sysinfo(&info); err == nil {
		memory = int64(info.Totalram) * int64(info.Unit)
	}
	for _, path := range cgroupLimits() {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(string(bytes.TrimSpace(data)), 10, 64); err == nil && n > 0 {
			memory = min(memory, n)
		}
	}
	return memory
}

// cgroupLimits are the files with the memory limits of the process's own cgroup,
// of version 2 and of version 1.
func cgroupLimits() (paths []string) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) { // such as 4:cpu,memory:/system.slice
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		switch {
		case controllers == "":
			dir := filepath.Join("/sys/fs/cgroup", path)
			paths = append(paths, filepath.Join(dir, "memory.max"), filepath.Join(dir, "memory.high"))
		case slices.Contains(strings.Split(controllers, ","), "memory"):
			paths = append(paths, filepath.Join("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"))
		}
	}
	return paths
}

// openFileLimit is the limit in force; the Go runtime has raised it to the hard one.
func openFileLimit() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 1024
	}
	return int(min(r.Cur, math.MaxInt32))
}

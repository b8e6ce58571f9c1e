package relay

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
)

// What a connection costs: measured 45 to 90 KiB for an idle peer, by transport,
// and the same again for its traffic.
const (
	perConnection = 160 << 10
	ownMemory     = 96 << 20 // the program itself, pubsub, the peerstore
	ownFiles      = 128      // listeners, logs, certificates, outgoing connections
	minConns      = 128
	maxConns      = 1 << 16
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
func (c capacity) resourceManager(l Limits, loopbackCounts bool) (network.ResourceManager, error) {
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
		Conn:   rcmgr.ResourceLimits{Conns: 1, ConnsInbound: 1, ConnsOutbound: 1, FD: 1, Memory: 32 << 20},
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
	// A dozen addresses together leave room for everybody else.
	h := &halfOpen{ResourceManager: m, max: max(8, min(l.ConnectionsPerIP/4, unfinished/16)), count: map[netip.Prefix]int{}}
	if !loopbackCounts {
		h.exempt = netip.Addr.IsLoopback
	}
	return h, nil
}

func val(n int) rcmgr.LimitVal { return rcmgr.LimitVal(n) }

// connectionManager trims connections that nobody needs before the hard limit is
// reached; peers with a reservation are protected from it.
func (c capacity) connectionManager() (*connmgr.BasicConnMgr, error) {
	return connmgr.NewConnManager(c.connections*3/4, c.connections*9/10, connmgr.WithGracePeriod(30*time.Second))
}

// LimitMemory has the garbage collector work harder before the machine's memory,
// or the cgroup's, runs out. GOMEMLIMIT in the environment has precedence.
func LimitMemory() {
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
	for _, path := range []string{cgroupFile("memory.max"), cgroupFile("memory.high")} {
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

// cgroupFile is a file of the process's own cgroup (version 2).
func cgroupFile(name string) string {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(data) {
		if path, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("0::")); ok {
			return "/sys/fs/cgroup" + string(path) + "/" + name
		}
	}
	return ""
}

// openFileLimit is the limit in force; the Go runtime has raised it to the hard one.
func openFileLimit() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 1024
	}
	return int(min(r.Cur, math.MaxInt32))
}

var errHalfOpen = errors.New("too many unfinished connections from this address")

// halfOpen keeps connections that never finish their handshake from filling the
// room that all newcomers share: of those, each address has only so many.
type halfOpen struct {
	network.ResourceManager
	max    int
	exempt func(netip.Addr) bool

	mu    sync.Mutex
	count map[netip.Prefix]int
}

// OpenConnection counts an incoming connection until it says who it is.
func (h *halfOpen) OpenConnection(dir network.Direction, usefd bool, endpoint ma.Multiaddr) (network.ConnManagementScope, error) {
	ip, err := prefixOf(endpoint)
	if dir != network.DirInbound || err != nil || h.exempt != nil && h.exempt(ip.Addr()) {
		return h.ResourceManager.OpenConnection(dir, usefd, endpoint)
	}
	h.mu.Lock()
	full := h.count[ip] >= h.max
	if !full {
		h.count[ip]++
	}
	h.mu.Unlock()
	if full {
		return nil, errHalfOpen
	}
	scope, err := h.ResourceManager.OpenConnection(dir, usefd, endpoint)
	if err != nil {
		h.settled(ip)
		return nil, err
	}
	return &halfOpenScope{ConnManagementScope: scope, settle: sync.OnceFunc(func() { h.settled(ip) })}, nil
}

func (h *halfOpen) settled(ip netip.Prefix) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count[ip]--; h.count[ip] <= 0 {
		delete(h.count, ip)
	}
}

type halfOpenScope struct {
	network.ConnManagementScope
	settle func()
}

func (s *halfOpenScope) SetPeer(p peer.ID) error {
	err := s.ConnManagementScope.SetPeer(p)
	if err == nil {
		s.settle()
	}
	return err
}

func (s *halfOpenScope) Done() {
	s.settle()
	s.ConnManagementScope.Done()
}

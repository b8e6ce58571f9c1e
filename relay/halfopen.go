package relay

import (
	"container/list"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/sys/unix"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/refusal"
)

// halfOpen keeps connections that never finish their handshake from filling the
// room that all newcomers share. Of those, each address has only so many; and when
// many addresses together have filled the room, the address that has most of them
// loses its oldest: a handshake takes a second, and who does nothing would be let
// alone for fifteen. A connection that was closed keeps its place until its goroutine has
// seen that. When newcomers come faster than the closed ones leave, each waits a moment
// for the one that was closed for it. Else the resource manager would refuse it.
//
// It is the connection gater, too, since that is who sees a connection before it
// is counted; and it counts what the resource manager refuses, since the library does
// not say which limit it was.
type halfOpen struct {
	network.ResourceManager
	perIP, all int
	crowded    int // above it a newcomer waits for the one that gives way to it
	exempt     func(netip.Addr) bool
	tally      *refusal.Tally

	mu    sync.Mutex
	n     int // unfinished connections
	addrs map[netip.Prefix]*newcomers
	seen  map[string]io.Closer // by address, as a multiaddr's bytes
}

// newcomers are the unfinished connections of one address.
type newcomers struct {
	ip     netip.Prefix
	n      int
	oldest list.List // of *unfinished: those that can be closed, and were not
}

// unfinished is a connection that can be closed.
type unfinished struct {
	io.Closer
	ended chan struct{} // closed when it is no longer counted
}

// leaveTime bounds the wait for a connection that was closed. With all the CPU taken, 99
// of 100 end within 65 ms. It is short since an attacker's may linger (HTTP/2 keeps one
// for a second after an error), and a listener that waits accepts nobody.
const leaveTime = 100 * time.Millisecond

// newHalfOpen makes a halfOpen: all is how many unfinished connections there may be;
// bound, somewhat more, is m's own limit.
func newHalfOpen(m network.ResourceManager, perIP, all, bound int) *halfOpen {
	return &halfOpen{
		ResourceManager: m, perIP: max(8, perIP), all: all, crowded: all + (bound-all)/2, tally: refusal.NewTally(slog.New(slog.DiscardHandler)),
		addrs: map[netip.Prefix]*newcomers{}, seen: map[string]io.Closer{},
	}
}

// InterceptAccept remembers the connection until, at once, it is counted.
func (h *halfOpen) InterceptAccept(c network.ConnMultiaddrs) bool {
	if conn, ok := c.(manet.Conn); ok { // not QUIC's
		h.mu.Lock()
		h.seen[string(c.RemoteMultiaddr().Bytes())] = conn
		h.mu.Unlock()
	}
	return true
}

// OpenConnection counts an incoming connection until it says who it is.
func (h *halfOpen) OpenConnection(dir network.Direction, usefd bool, endpoint ma.Multiaddr) (network.ConnManagementScope, error) {
	scope, err := h.openConnection(dir, usefd, endpoint)
	if err != nil && dir == network.DirInbound {
		why := refusal.Unfinished
		if err != error(refusal.Unfinished) {
			why = refusal.OfConnection(err)
		}
		h.tally.Refused("", why, slog.String("address", endpoint.String()))
	}
	return scope, err
}

// OpenStream counts the streams that are refused.
func (h *halfOpen) OpenStream(p peer.ID, dir network.Direction) (network.StreamManagementScope, error) {
	scope, err := h.ResourceManager.OpenStream(p, dir)
	if err != nil && dir == network.DirInbound {
		h.tally.Refused("", refusal.Resources, refusal.Peer(p))
	}
	return scope, err
}

func (h *halfOpen) openConnection(dir network.Direction, usefd bool, endpoint ma.Multiaddr) (network.ConnManagementScope, error) {
	ip, err := config.PrefixOf(endpoint)
	if dir != network.DirInbound || err != nil {
		return h.ResourceManager.OpenConnection(dir, usefd, endpoint)
	}
	h.mu.Lock()
	key := string(endpoint.Bytes())
	conn := h.seen[key]
	delete(h.seen, key)
	if h.exempt != nil && h.exempt(ip.Addr()) {
		h.mu.Unlock()
		scope, err := h.ResourceManager.OpenConnection(dir, usefd, endpoint)
		if err != nil {
			return nil, err
		}
		return &halfOpenScope{ConnManagementScope: scope, h: h, conn: conn}, nil
	}
	from := h.addrs[ip]
	if from == nil {
		from = &newcomers{ip: ip}
		h.addrs[ip] = from
	}
	if from.n >= h.perIP {
		h.mu.Unlock()
		return nil, refusal.Unfinished
	}
	h.n++
	from.n++
	mine := &halfOpenScope{h: h, conn: conn, from: from, ended: make(chan struct{})}
	if conn != nil {
		mine.place = from.oldest.PushBack(&unfinished{conn, mine.ended})
	}
	var leave *unfinished
	var of netip.Prefix
	if h.n > h.all {
		leave, of = h.pick()
	}
	crowded := h.n > h.crowded && conn != nil // QUIC asks where it may not be held up
	h.mu.Unlock()
	if leave != nil {
		h.tally.Ended(refusal.EndedUnfinished, slog.String("address", of.String()))
		_ = leave.Close() // its handshake fails, which settles it
		if crowded && leave.ended != mine.ended {
			within := time.NewTimer(leaveTime)
			select {
			case <-leave.ended:
			case <-within.C:
			}
			within.Stop()
		}
	}
	if mine.ConnManagementScope, err = h.ResourceManager.OpenConnection(dir, usefd, endpoint); err != nil {
		mine.settle()
		return nil, err
	}
	return mine, nil
}

// pick is the oldest connection of the address with most of them.
func (h *halfOpen) pick() (*unfinished, netip.Prefix) {
	var most *newcomers
	for _, a := range h.addrs {
		if most == nil || a.oldest.Len() > most.oldest.Len() {
			most = a
		}
	}
	if most == nil || most.oldest.Len() == 0 {
		return nil, netip.Prefix{}
	}
	return most.oldest.Remove(most.oldest.Front()).(*unfinished), most.ip
}

// The gater's other questions are not the relay's: who is banned may connect.
func (h *halfOpen) InterceptPeerDial(peer.ID) bool               { return true }
func (h *halfOpen) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }
func (h *halfOpen) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool {
	return true
}
func (h *halfOpen) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

// halfOpenScope is a connection from its first moment to its end. What it needs until it
// is settled it holds no longer, since most of its life comes after that.
type halfOpenScope struct {
	network.ConnManagementScope
	h    *halfOpen
	conn io.Closer // nil: QUIC's

	// Of the mutex of h; nil once it is settled.
	from  *newcomers
	place *list.Element // nil: it cannot be closed
	ended chan struct{}
}

// settle forgets the connection among the unfinished, whether it finished or ended.
func (s *halfOpenScope) settle() {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if s.from == nil {
		return
	}
	if s.place != nil {
		s.from.oldest.Remove(s.place)
	}
	s.h.n--
	if s.from.n--; s.from.n == 0 {
		delete(s.h.addrs, s.from.ip)
	}
	close(s.ended)
	s.from, s.place, s.ended = nil, nil, nil
}

func (s *halfOpenScope) SetPeer(p peer.ID) error {
	err := s.ConnManagementScope.SetPeer(p)
	if err != nil {
		s.h.tally.Refused("", refusal.PeerConns, refusal.Peer(p))
		return err
	}
	s.settle()
	return nil
}

func (s *halfOpenScope) Done() {
	s.ConnManagementScope.Done() // the place is free first: a newcomer may wait for it
	s.settle()
}

// BoundUnsent tells the kernel how much of the connection it may hold that it has not
// sent, for the scheduler of circuits.
func (s *halfOpenScope) BoundUnsent(bytes int) {
	socket, ok := s.conn.(syscall.Conn)
	if !ok {
		return // QUIC sends no sooner than it may
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return // it was closed
	}
	_ = raw.Control(func(fd uintptr) {
		// It fails where the kernel does not know it, and is a matter of quality.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, bytes)
	})
}

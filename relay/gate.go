package relay

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Membership is what is known of the PSF network's peers. It is a hint and proves
// nothing: anybody can announce itself.
type Membership interface {
	// IsMember says whether p is known as part of the network now. It is asked
	// while requests wait, and must not wait for the network.
	IsMember(p peer.ID) bool
}

// reservedTag protects peers that hold a reservation from being trimmed.
const reservedTag = "relayd-reservation"

// requestTime is how long a peer may take to say what it wants of the relay.
const requestTime = 15 * time.Second

// gate stands between the network and libp2p's relay service. It is the host
// that the service is given: requests pass through it on their way in, and the
// streams of circuits are metered by it. So it can do what the service cannot:
// give guests another limit than members, keep budgets, and refuse with the
// status that says what is so (an ACL can only deny permission).
type gate struct {
	host.Host
	log    *slog.Logger
	ledger *ledger
	banned *bans
	places *places
	turns  *turns
	lanes  *lanes

	mu       sync.Mutex
	limits   Limits
	members  Membership
	circuits map[*circuit]struct{}
	guests   int             // of the circuits
	perPeer  map[peer.ID]int // ends of circuits
	awaiting map[[2]peer.ID][]*circuit
	refused  map[pbv2.Status]uint64
}

func newGate(h host.Host, cfg Config, l *ledger, b *bans, log *slog.Logger) (*gate, error) {
	turns, err := newTurns()
	if err != nil {
		return nil, err
	}
	g := &gate{
		Host: h, log: log, ledger: l, banned: b, turns: turns, lanes: newLanes(turns.idle),
		limits:   cfg.Limits,
		circuits: map[*circuit]struct{}{},
		perPeer:  map[peer.ID]int{},
		awaiting: map[[2]peer.ID][]*circuit{},
		refused:  map[pbv2.Status]uint64{},
	}
	g.places = newPlaces(cfg.Limits, reservationTTL, g.member, g.inCircuit, func(p peer.ID, held bool) {
		if held {
			h.ConnManager().Protect(p, reservedTag)
		} else {
			h.ConnManager().Unprotect(p, reservedTag)
		}
	})
	h.Network().Notify(&network.NotifyBundle{DisconnectedF: func(n network.Network, c network.Conn) {
		if p := c.RemotePeer(); n.Connectedness(p) != network.Connected {
			g.places.free(p)
		}
	}})
	return g, nil
}

// know gives the gate its source of classes.
func (g *gate) know(m Membership) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.members = m
}

func (g *gate) member(p peer.ID) bool {
	g.mu.Lock()
	m := g.members
	g.mu.Unlock()
	return m != nil && m.IsMember(p)
}

func (g *gate) inCircuit(p peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.perPeer[p] > 0
}

// AllowReserve and AllowConnect are the service's ACL, for banned peers.
func (g *gate) AllowReserve(p peer.ID, a ma.Multiaddr) bool { return !g.banned.bans(p, a) }

// AllowConnect refuses banned peers at either end.
func (g *gate) AllowConnect(src peer.ID, a ma.Multiaddr, dest peer.ID) bool {
	return !g.banned.bans(src, a) && !g.banned.bans(dest, nil)
}

// SetStreamHandler puts the gate before the service's handler.
func (g *gate) SetStreamHandler(id protocol.ID, next network.StreamHandler) {
	if id == proto.ProtoIDv2Hop {
		service := next
		next = func(s network.Stream) { g.serveHop(s, service) }
	}
	g.Host.SetStreamHandler(id, next)
}

// NewStream is how the service reaches the other end of a circuit.
func (g *gate) NewStream(ctx context.Context, p peer.ID, ids ...protocol.ID) (network.Stream, error) {
	s, err := g.Host.NewStream(ctx, p, ids...)
	if err != nil || len(ids) != 1 || ids[0] != proto.ProtoIDv2Stop {
		return s, err
	}
	return &stopStream{Stream: s, gate: g, dest: p}, nil
}

// serveHop reads a request, decides, and hands those that are admitted to the
// service as if nobody had read them.
func (g *gate) serveHop(s network.Stream, service network.StreamHandler) {
	_ = s.SetReadDeadline(time.Now().Add(requestTime)) // a stream that cannot have one fails on read
	var msg pbv2.HopMessage
	raw, err := readFrame(s, &msg)
	if err != nil {
		g.refuse(s, pbv2.Status_MALFORMED_MESSAGE, err)
		return
	}
	hop := &hopStream{Stream: s, gate: g, replay: raw}
	peerID, addr := s.Conn().RemotePeer(), s.Conn().RemoteMultiaddr()
	if g.banned.bans(peerID, addr) {
		service(hop) // which denies permission
		return
	}
	ip, err := prefixOf(addr)
	if err != nil {
		g.refuse(s, pbv2.Status_PERMISSION_DENIED, err) // as circuit v2 wants it for relayed connections
		return
	}
	switch msg.GetType() {
	case pbv2.HopMessage_RESERVE:
		if status, err := g.reserve(hop, peerID, ip); err != nil {
			g.refuse(s, status, err)
			return
		}
	case pbv2.HopMessage_CONNECT:
		dest, err := peer.IDFromBytes(msg.GetPeer().GetId())
		if err != nil {
			g.refuse(s, pbv2.Status_MALFORMED_MESSAGE, err)
			return
		}
		if status, err := g.connect(hop, peerID, ip, dest); err != nil {
			g.refuse(s, status, err)
			return
		}
	}
	service(hop)
}

func (g *gate) reserve(s *hopStream, p peer.ID, ip netip.Prefix) (pbv2.Status, error) {
	now := time.Now()
	if err := g.ledger.admit(p, ip, now); err != nil {
		return pbv2.Status_RESERVATION_REFUSED, err
	}
	gone, fresh, err := g.places.take(p, ip, now)
	if gone != "" {
		g.log.Debug("a guest's reservation gave way", "peer", gone.String())
		go g.Host.Network().ClosePeer(gone)
	}
	if err != nil {
		return pbv2.Status_RESERVATION_REFUSED, err
	}
	s.hidden = true
	s.answer = func(m *pbv2.HopMessage) {
		if m.GetStatus() == pbv2.Status_OK {
			if !g.member(p) {
				m.Limit = g.guestLimits().message()
			}
		} else if fresh {
			g.places.free(p)
		}
		// It may have left before it had the place: then nobody took it back.
		if g.Host.Network().Connectedness(p) != network.Connected {
			g.places.free(p)
		}
	}
	return 0, nil
}

func (g *gate) connect(s *hopStream, src peer.ID, ip netip.Prefix, dest peer.ID) (pbv2.Status, error) {
	now := time.Now()
	if err := g.ledger.admit(src, ip, now); err != nil {
		return pbv2.Status_RESOURCE_LIMIT_EXCEEDED, err
	}
	if !g.places.has(dest) {
		return pbv2.Status_NO_RESERVATION, errors.New("no reservation")
	}
	guest := !g.member(src) && !g.member(dest)
	c, err := g.openCircuit(s, src, dest, ip, guest, now)
	if err != nil {
		return pbv2.Status_RESOURCE_LIMIT_EXCEEDED, err
	}
	s.circuit = c
	s.answer = func(m *pbv2.HopMessage) {
		if m.GetStatus() != pbv2.Status_OK {
			c.end()
			return
		}
		m.Limit = c.limit.message()
		c.begin()
	}
	return 0, nil
}

func (g *gate) guestLimits() *circuitLimit {
	g.mu.Lock()
	defer g.mu.Unlock()
	return &circuitLimit{data: int64(g.limits.GuestCircuitData), time: g.limits.GuestCircuitTime}
}

// change puts new limits into force; what is open stays open.
func (g *gate) change(l Limits) {
	g.mu.Lock()
	g.limits = l
	g.mu.Unlock()
	g.places.change(l)
}

// refuse answers a request that does not reach the service.
func (g *gate) refuse(s network.Stream, status pbv2.Status, why error) {
	g.mu.Lock()
	g.refused[status]++
	g.mu.Unlock()
	g.log.Debug("refused", "status", status.String(), "peer", s.Conn().RemotePeer().String(), "reason", why)
	_ = s.SetDeadline(time.Now().Add(requestTime)) // a stream that cannot have one fails on write
	answer, err := frame(&pbv2.HopMessage{Type: pbv2.HopMessage_STATUS.Enum(), Status: status.Enum()})
	if err == nil {
		_, err = s.Write(answer)
	}
	if err != nil {
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

// enforceBans ends what banned peers have: their circuits and connections.
func (g *gate) enforceBans() {
	for _, c := range g.Host.Network().Conns() {
		if g.banned.bans(c.RemotePeer(), c.RemoteMultiaddr()) {
			g.places.free(c.RemotePeer())
			_ = c.Close()
		}
	}
}

// prefixOf is what counts as one address: an IPv4 address, or the /64 that an
// IPv6 customer has at the least.
func prefixOf(a ma.Multiaddr) (netip.Prefix, error) {
	if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil {
		return netip.Prefix{}, errors.New("asked over a relayed connection")
	}
	ip, err := manet.ToIP(a)
	if err != nil {
		return netip.Prefix{}, err
	}
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.Prefix{}, errors.New("no IP address")
	}
	addr = addr.Unmap()
	if addr.Is4() {
		return addr.Prefix(32)
	}
	return addr.Prefix(64)
}

// count is how many circuits are open, of each class.
func (g *gate) count() (members, guests int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.circuits) - g.guests, g.guests
}

// refusals counts what was refused, by status.
func (g *gate) refusals() map[string]uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make(map[string]uint64, len(g.refused))
	for status, n := range g.refused {
		out[status.String()] = n
	}
	return out
}

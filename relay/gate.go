package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	msmux "github.com/multiformats/go-multistream"
)

// Membership is what is known of the PSF network's peers. It is a hint and proves
// nothing: anybody can announce itself.
type Membership interface {
	// IsMember says whether p is known as part of the network now. It is asked
	// while requests wait, and must not wait for the network.
	IsMember(p peer.ID) bool
}

// The tags that protect peers from being trimmed: they hold a reservation, or are at
// one end of a circuit.
const (
	reservedTag = "relayd-reservation"
	circuitTag  = "relayd-circuit"
)

const (
	// requestTime is how long a peer may take to say what it wants of the relay.
	requestTime = 15 * time.Second
	// newcomerTime is how long after its connection a peer may turn out to be a member.
	newcomerTime = 5 * time.Minute
	// memberWait is how long a newcomer's RESERVE waits for that when the guests' places
	// are taken. A js-libp2p client waits for 2 s in all.
	memberWait = time.Second
	// sayAgain is the least time between two log lines about one limit that is reached.
	sayAgain = 10 * time.Minute
)

// gate stands between the network and libp2p's relay service. It is the host
// that the service is given: requests pass through it on their way in, and the
// streams of circuits are metered by it. So it can do what the service cannot:
// give guests another limit than members, keep budgets, and refuse with the
// status that says what is so (an ACL can only deny permission).
type gate struct {
	host.Host
	*tally
	log    *slog.Logger
	ledger *ledger
	banned *bans
	places *places
	turns  *turns
	lanes  *lanes

	newcomerTime time.Duration

	mu        sync.Mutex
	limits    Limits
	members   Membership
	circuits  map[*circuit]struct{}
	guests    int               // of the circuits
	newcomers int               // of the guests' circuits: those without a limit
	perPeer   map[peer.ID]int   // ends of circuits
	awaiting  map[pair]*circuit // those whose other end is not reached yet
	pairings  map[pair]*pairing
}

func newGate(h host.Host, cfg Config, l *ledger, b *bans, t *tally, log *slog.Logger) (*gate, error) {
	turns, err := newTurns()
	if err != nil {
		return nil, err
	}
	g := &gate{
		Host: h, tally: t, log: log, ledger: l, banned: b, turns: turns, lanes: newLanes(turns.idle),
		newcomerTime: cmp.Or(cfg.newcomerTime, newcomerTime),
		limits:       cfg.Limits,
		circuits:     map[*circuit]struct{}{},
		perPeer:      map[peer.ID]int{},
		awaiting:     map[pair]*circuit{},
		pairings:     map[pair]*pairing{},
	}
	g.places = newPlaces(cfg.Limits, reservationTTL, g.member, g.inCircuit, func(p peer.ID, held bool) {
		if held {
			h.ConnManager().Protect(p, reservedTag)
		} else {
			h.ConnManager().Unprotect(p, reservedTag)
		}
	})
	h.Network().Notify(&network.NotifyBundle{DisconnectedF: func(_ network.Network, c network.Conn) {
		g.left(c)
	}})
	return g, nil
}

// left takes note that a connection has ended.
func (g *gate) left(c network.Conn) {
	for c != nil {
		other := latest(g.Host.Network().ConnsToPeer(c.RemotePeer()), c)
		g.places.left(c, other)
		if other == nil || !other.IsClosed() {
			return
		}
		c = other // its own end may have been noted before the place was on it
	}
}

// latest is the newest of the connections but one; nil: there is no other.
func latest(conns []network.Conn, but network.Conn) (newest network.Conn) {
	for _, c := range conns {
		if c != but && !c.IsClosed() && (newest == nil || c.Stat().Opened.After(newest.Stat().Opened)) {
			newest = c
		}
	}
	return newest
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

// newcomer says whether a peer connected so lately that it may still turn out to be a
// member: it is known as one only when it subscribes to the coordination topic or
// announces itself there, and that comes after the connection.
func (g *gate) newcomer(p peer.ID, now time.Time) bool {
	conns := g.Host.Network().ConnsToPeer(p)
	for _, c := range conns {
		if now.Sub(c.Stat().Opened) >= g.newcomerTime {
			return false
		}
	}
	return len(conns) > 0
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

// NewStream is how the service reaches the other end of a circuit: over the connection
// of its latest RESERVE. The library would take the one with most streams, which for a
// peer that lost its path and came back is the dead one.
func (g *gate) NewStream(ctx context.Context, p peer.ID, ids ...protocol.ID) (network.Stream, error) {
	if len(ids) != 1 || ids[0] != proto.ProtoIDv2Stop {
		return g.Host.NewStream(ctx, p, ids...)
	}
	conn := g.places.conn(p)
	if conn == nil {
		return nil, errNoHolder
	}
	s, err := conn.NewStream(ctx)
	if err != nil {
		return nil, fmt.Errorf("reach the peer with the reservation: %w", err)
	}
	if err := s.SetProtocol(proto.ProtoIDv2Stop); err != nil {
		_ = s.ResetWithError(network.StreamResourceLimitExceeded)
		return nil, fmt.Errorf("reach the peer with the reservation: %w", err)
	}
	return &stopStream{Stream: s, negotiated: msmux.NewMSSelect(s, proto.ProtoIDv2Stop), gate: g, dest: p}, nil
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
	hop.answer = func(m *pbv2.HopMessage) { g.answered(s, m.GetStatus()) }
	peerID, addr := s.Conn().RemotePeer(), s.Conn().RemoteMultiaddr()
	if g.banned.bans(peerID, addr) {
		service(hop) // which denies permission
		return
	}
	ip, err := prefixOf(addr)
	if err != nil {
		g.refuse(s, pbv2.Status_PERMISSION_DENIED, errRelayed) // as circuit v2 wants it for relayed connections
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
	if hop.hidden && hop.answer != nil {
		// The service reset the stream without an answer, such as one that ended meanwhile.
		hop.answer(&pbv2.HopMessage{Status: pbv2.Status_RESOURCE_LIMIT_EXCEEDED.Enum()})
	}
}

func (g *gate) reserve(s *hopStream, p peer.ID, ip netip.Prefix) (pbv2.Status, error) {
	now := time.Now()
	if err := g.ledger.admit(p, ip, now); err != nil {
		return pbv2.Status_RESERVATION_REFUSED, err
	}
	gone, fresh, err := g.takePlace(s.Stream.Conn(), ip, now)
	if err != nil {
		return pbv2.Status_RESERVATION_REFUSED, err
	}
	if gone != "" {
		g.giveWay(gone)
	}
	s.hidden = true
	s.answer = func(m *pbv2.HopMessage) {
		g.answered(s.Stream, m.GetStatus())
		if m.GetStatus() == pbv2.Status_OK {
			if !g.member(p) {
				m.Limit = g.guestLimit().message()
			}
		} else if fresh {
			g.places.free(p)
		}
		// It may have left before it had the place: then nobody took it back.
		if c := s.Stream.Conn(); c.IsClosed() {
			g.left(c)
		}
	}
	return 0, nil
}

// takePlace gives a peer its place. When the guests' places are taken, a newcomer's
// request waits a moment for the peer to be known as a member.
func (g *gate) takePlace(conn network.Conn, ip netip.Prefix, now time.Time) (gone peer.ID, fresh bool, err error) {
	p := conn.RemotePeer()
	gone, fresh, err = g.places.take(p, conn, ip, now)
	if err != errNoGuestPlace || !g.newcomer(p, now) {
		return gone, fresh, err
	}
	look := time.NewTicker(memberWait / 20)
	defer look.Stop()
	for range 20 {
		<-look.C
		if conn.IsClosed() {
			break
		}
		if g.member(p) {
			return g.places.take(p, conn, ip, time.Now())
		}
	}
	return "", false, err
}

// giveWay ends the connections of a guest whose place another one has now.
func (g *gate) giveWay(p peer.ID) {
	g.end(endedGuest, peerAttr(p))
	for _, c := range g.Host.Network().ConnsToPeer(p) {
		go c.CloseWithError(network.ConnResourceLimitExceeded)
	}
}

func (g *gate) connect(s *hopStream, src peer.ID, ip netip.Prefix, dest peer.ID) (pbv2.Status, error) {
	now := time.Now()
	if err := g.ledger.admit(src, ip, now); err != nil {
		return pbv2.Status_RESOURCE_LIMIT_EXCEEDED, err
	}
	if !g.places.has(dest) {
		return pbv2.Status_NO_RESERVATION, errNoHolder
	}
	paired, err := g.alone(pair{src, dest})
	switch {
	case errors.Is(err, errNotTaken):
		return pbv2.Status_CONNECTION_FAILED, err
	case err != nil:
		return pbv2.Status_RESOURCE_LIMIT_EXCEEDED, err
	}
	now = time.Now()
	c, err := g.openCircuit(s, src, dest, ip, g.classOf(src, dest, now), now)
	if err != nil {
		paired()
		return pbv2.Status_RESOURCE_LIMIT_EXCEEDED, err
	}
	c.paired = paired
	s.circuit = c
	s.answer = func(m *pbv2.HopMessage) {
		g.answered(s.Stream, m.GetStatus())
		if m.GetStatus() != pbv2.Status_OK {
			c.end()
			return
		}
		m.Limit = c.limit.message()
		c.begin()
	}
	return 0, nil
}

// guestLimit is the limit of a circuit between guests; nil: there is none.
func (g *gate) guestLimit() *circuitLimit {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limits.guestLimit()
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
	g.refusal(status.String(), why, peerAttr(s.Conn().RemotePeer()))
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

// answered counts what the service itself refuses.
func (g *gate) answered(s network.Stream, status pbv2.Status) {
	if status != pbv2.Status_OK {
		g.refusal(status.String(), because(status), peerAttr(s.Conn().RemotePeer()))
	}
}

// enforceBans ends what banned peers have: their circuits and connections.
func (g *gate) enforceBans() {
	for _, c := range g.Host.Network().Conns() {
		if g.banned.bans(c.RemotePeer(), c.RemoteMultiaddr()) {
			g.places.left(c, nil)
			g.end(endedBanned, peerAttr(c.RemotePeer()))
			_ = c.CloseWithError(network.ConnGated)
		}
	}
}

// prefixOf is what counts as one address: an IPv4 address, or the /64 that an
// IPv6 customer has at the least.
func prefixOf(a ma.Multiaddr) (netip.Prefix, error) {
	if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil {
		return netip.Prefix{}, errRelayed
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

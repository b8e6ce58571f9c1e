// Package circuit is the HOP service of Circuit Relay v2, by the specification:
// https://github.com/libp2p/specs/blob/master/relay/circuit-v2.md
//
// hop.go reads and answers requests. Whether one is served say bans.go, budget.go (how
// often, and how much) and reservations.go (who holds one; sites.go counts guests by
// where they come from). circuit.go opens circuits, carries what is said and ends them.
// scheduler.go shares a connection out among the payers whose circuits lead there, and
// stalled.go cuts circuits when memory is short.
package circuit

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/refusal"
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
	// newcomerTime is how long after its connection a peer may turn out to be a member.
	newcomerTime = 5 * time.Minute
	// memberWait is how long a newcomer's RESERVE waits for that when the guests' reservations
	// are taken. A js-libp2p client waits for 2 s in all.
	memberWait = time.Second
)

// Service decides who may reserve and open circuits, and keeps what they have.
type Service struct {
	*refusal.Tally
	host         host.Host
	key          crypto.PrivKey
	notifiee     network.Notifiee
	scope        network.ResourceScopeSpan // of the service, for the buffers of circuits
	metrics      relayv2.MetricsTracer
	self         *ma.Component           // /p2p/ID
	tells        func(ma.Multiaddr) bool // which of the relay's addresses a reservation lists
	log          *slog.Logger
	budget       *Budget
	banned       *Bans
	reservations *table
	scheduler    *scheduler

	buffer       int
	newcomerTime time.Duration

	told atomic.Pointer[told]

	mu        sync.Mutex
	limits    config.Limits
	members   Membership
	circuits  map[*circuit]struct{}
	guests    int             // of the circuits
	newcomers int             // of the guests' circuits: those without a limit
	perPeer   map[peer.ID]int // ends of circuits
	// How many circuits are open, how many of the guests', and to each peer, by who opened
	// them.
	bySite, guestsBySite siteCounts
	toPeer               map[peer.ID]siteCounts
}

// told are the relay's addresses, as reservations list them.
type told struct {
	at    time.Time // when they were looked up
	addrs [][]byte
}

// New offers Circuit Relay v2 on h.
func New(h host.Host, cfg config.Config, budget *Budget, bans *Bans, t *refusal.Tally, metrics relayv2.MetricsTracer, log *slog.Logger) (*Service, error) {
	self, err := ma.NewComponent("p2p", h.ID().String())
	if err != nil {
		return nil, fmt.Errorf("offer reservations: %w", err)
	}
	poll, err := newPoll()
	if err != nil {
		return nil, err
	}
	svc := &Service{
		host: h, self: self, key: h.Peerstore().PrivKey(h.ID()), metrics: metrics,
		tells: func(a ma.Multiaddr) bool {
			// A domain of the relay's own is meant for others, even in a lab whose
			// names look like private ones.
			return cfg.Network.AllowPrivate || config.IsWSS(a) || manet.IsPublicAddr(a)
		},
		Tally: t, log: log, budget: budget, banned: bans, scheduler: newScheduler(poll),
		buffer:       int(cfg.Limits.Buffer),
		newcomerTime: cmp.Or(cfg.Test.NewcomerTime, newcomerTime),
		limits:       cfg.Limits,
		circuits:     map[*circuit]struct{}{},
		perPeer:      map[peer.ID]int{},
		bySite:       siteCounts{}, guestsBySite: siteCounts{}, toPeer: map[peer.ID]siteCounts{},
	}
	svc.reservations = newTable(cfg.Limits, ReservationTTL, svc.Member, svc.inCircuit, func(p peer.ID, held bool) {
		if held {
			h.ConnManager().Protect(p, reservedTag)
			metrics.ReservationAllowed(false)
			return
		}
		h.ConnManager().Unprotect(p, reservedTag)
		metrics.ReservationClosed(1)
	})
	err = h.Network().ResourceManager().ViewService(relayv2.ServiceName, func(s network.ServiceScope) (err error) {
		svc.scope, err = s.BeginSpan()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("offer reservations: %w", err)
	}
	svc.notifiee = &network.NotifyBundle{DisconnectedF: func(_ network.Network, c network.Conn) { svc.left(c) }}
	h.Network().Notify(svc.notifiee)
	h.SetStreamHandler(proto.ProtoIDv2Hop, svc.serve)
	metrics.RelayStatus(true)
	return svc, nil
}

// Close takes no more requests. What is open ends with its connections.
func (svc *Service) Close() {
	svc.host.RemoveStreamHandler(proto.ProtoIDv2Hop)
	svc.host.Network().StopNotify(svc.notifiee)
	svc.metrics.RelayStatus(false)
	svc.scope.Done() // gives no more circuits
}

// left takes note that a connection has ended.
func (svc *Service) left(c network.Conn) {
	for c != nil {
		other := svc.latest(c.RemotePeer(), c)
		svc.reservations.left(c, other)
		if other == nil || !other.IsClosed() {
			return
		}
		c = other // its own end may have been noted before the reservation was on it
	}
}

// latest is the newest of a peer's connections but one, of those that are served; nil:
// there is no other.
func (svc *Service) latest(p peer.ID, but network.Conn) (newest network.Conn) {
	for _, c := range svc.host.Network().ConnsToPeer(p) {
		if c == but || c.IsClosed() || svc.banned.bans(p, c.RemoteMultiaddr()) {
			continue
		}
		if newest == nil || c.Stat().Opened.After(newest.Stat().Opened) {
			newest = c
		}
	}
	return newest
}

// SetMembership gives the service its source of classes.
func (svc *Service) SetMembership(m Membership) {
	svc.mu.Lock()
	defer svc.mu.Unlock()
	svc.members = m
}

func (svc *Service) Member(p peer.ID) bool {
	svc.mu.Lock()
	m := svc.members
	svc.mu.Unlock()
	return m != nil && m.IsMember(p)
}

// newcomer says whether a peer connected so lately that it may still turn out to be a
// member: it is known as one only when it subscribes to the coordination topic or
// announces itself there, and that comes after the connection.
func (svc *Service) newcomer(p peer.ID, now time.Time) bool {
	conns := svc.host.Network().ConnsToPeer(p)
	for _, c := range conns {
		if now.Sub(c.Stat().Opened) >= svc.newcomerTime {
			return false
		}
	}
	return len(conns) > 0
}

func (svc *Service) inCircuit(p peer.ID) bool {
	svc.mu.Lock()
	defer svc.mu.Unlock()
	return svc.perPeer[p] > 0
}

// reserve gives a peer its reservation. When the guests' reservations are taken, a newcomer's
// request waits a moment for the peer to be known as a member.
func (svc *Service) reserve(conn network.Conn, ip netip.Prefix, now time.Time) (taken, error) {
	p := conn.RemotePeer()
	got, err := svc.reservations.take(p, conn, ip, now)
	if err != refusal.NoGuestPlace || !svc.newcomer(p, now) {
		return got, err
	}
	look := time.NewTicker(memberWait / 20)
	defer look.Stop()
	for range 20 {
		<-look.C
		if conn.IsClosed() {
			break
		}
		if svc.Member(p) {
			return svc.reservations.take(p, conn, ip, time.Now())
		}
	}
	return taken{}, err
}

// giveWay ends the connections of a guest whose reservation another one has now.
func (svc *Service) giveWay(p peer.ID) {
	svc.Ended(refusal.EndedGuest, refusal.Peer(p))
	for _, c := range svc.host.Network().ConnsToPeer(p) {
		go c.CloseWithError(network.ConnResourceLimitExceeded)
	}
}

// guestLimit is the limit of a circuit between guests; nil: there is none.
func (svc *Service) guestLimit() *circuitLimit {
	svc.mu.Lock()
	defer svc.mu.Unlock()
	return guestLimit(svc.limits)
}

// Change puts new limits into force; what is open stays open.
func (svc *Service) Change(l config.Limits) {
	svc.mu.Lock()
	svc.limits = l
	svc.mu.Unlock()
	svc.reservations.change(l)
}

// EnforceBans ends what banned peers have: their circuits and connections.
func (svc *Service) EnforceBans() {
	for _, c := range svc.host.Network().Conns() {
		if svc.banned.bans(c.RemotePeer(), c.RemoteMultiaddr()) {
			svc.reservations.left(c, nil)
			svc.Ended(refusal.EndedBanned, refusal.Peer(c.RemotePeer()))
			go c.CloseWithError(network.ConnGated) // waits for a peer that does not read
		}
	}
}

// Count is how many circuits are open, of each class.
func (svc *Service) Count() (members, guests int) {
	svc.mu.Lock()
	defer svc.mu.Unlock()
	return len(svc.circuits) - svc.guests, svc.guests
}

// Reservations is how many members and guests hold, by their class now.
func (svc *Service) Reservations() (members, guests int) { return svc.reservations.count(time.Now()) }

// HeldFrom is how many reservations count for one address.
func (svc *Service) HeldFrom(ip netip.Addr) int { return svc.reservations.heldFrom(ip) }

// Tend takes back the reservations that were not prolonged.
func (svc *Service) Tend(now time.Time) { svc.reservations.sweep(now) }

package relay

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// places is the table of reservations: who holds one, and whether as a member or
// as a guest. Classes are hints that come late (a peer is known as a member only
// after it reserved), so they are looked at again whenever they decide something.
//
// A guest keeps its place for limits.guest_reservation_time. Then it gives way, when
// the guests' share is full and another one asks. Without that time, more askers than
// places would take them from one another without end: each that is cut comes back.
// It gives way earlier only to a site that has far fewer places than its own.
type places struct {
	ttl    time.Duration
	member func(peer.ID) bool
	busy   func(peer.ID) bool  // has a circuit open
	held   func(peer.ID, bool) // told of each place taken and given back

	mu      sync.Mutex
	limits  Limits
	all     map[peer.ID]*place
	byIP    map[netip.Prefix]int
	guests  *list.List // of *place, oldest first
	members *list.List
}

type place struct {
	peer    peer.ID
	conn    network.Conn // of the latest RESERVE: circuits to the peer go over it
	ip      netip.Prefix
	since   time.Time
	expires time.Time
	in      *list.List // guests or members
	at      *list.Element
}

func newPlaces(l Limits, ttl time.Duration, member, busy func(peer.ID) bool, held func(peer.ID, bool)) *places {
	return &places{
		limits: l,
		ttl:    ttl, member: member, busy: busy, held: held,
		all: map[peer.ID]*place{}, byIP: map[netip.Prefix]int{},
		guests: list.New(), members: list.New(),
	}
}

// take gives id a place, or prolongs the one it has. The guest that had to give
// way for it, if one had, must be told by closing its connections: the protocol
// knows no other way to end a reservation.
func (p *places) take(id peer.ID, conn network.Conn, ip netip.Prefix, now time.Time) (gone peer.ID, fresh bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pl := p.all[id]; pl != nil {
		pl.expires, pl.conn = now.Add(p.ttl), conn
		if pl.ip != ip {
			p.leaveIP(pl.ip)
			pl.ip = ip
			p.byIP[ip]++
		}
		return "", false, nil
	}
	if p.byIP[ip] >= p.limits.ReservationsPerIP {
		p.expire(now)
		if p.byIP[ip] >= p.limits.ReservationsPerIP {
			return "", false, errNoPlaceForIP
		}
	}
	in := p.guests
	if p.member(id) {
		in = p.members
	}
	if p.full(in) {
		p.expire(now)
		p.classify()
	}
	var leaves *place
	if p.full(in) {
		if in == p.members {
			return "", false, errNoPlace
		}
		if leaves = p.guestThatLeaves(now); leaves == nil {
			leaves = p.guestOfMost(siteOf(ip))
		}
		if leaves == nil {
			return "", false, errNoGuestPlace
		}
	}
	n := len(p.all)
	if leaves != nil {
		n--
	}
	if n >= p.limits.Reservations { // guests that became members since
		return "", false, errNoPlace
	}
	if leaves != nil {
		p.remove(leaves)
		gone = leaves.peer
	}
	pl := &place{peer: id, conn: conn, ip: ip, since: now, expires: now.Add(p.ttl)}
	p.enter(pl, in)
	p.all[id] = pl
	p.byIP[ip]++
	p.held(id, true)
	return gone, true, nil
}

func (p *places) full(l *list.List) bool {
	if l == p.guests {
		return l.Len() >= p.limits.GuestReservations
	}
	return l.Len() >= p.limits.Reservations-p.limits.GuestReservations
}

func (p *places) enter(pl *place, l *list.List) {
	pl.in, pl.at = l, l.PushBack(pl)
}

// classify puts each place with the class its holder has now. It runs only when
// a share is full.
func (p *places) classify() {
	for _, l := range []*list.List{p.guests, p.members} {
		for e := l.Front(); e != nil; {
			pl, next := e.Value.(*place), e.Next()
			if p.member(pl.peer) != (l == p.members) {
				l.Remove(e)
				if l == p.guests {
					p.enter(pl, p.members)
				} else {
					p.enter(pl, p.guests)
				}
			}
			// What was moved to the back of the members is looked at once more: harmless.
			e = next
		}
	}
}

// guestThatLeaves is the guest without a circuit that has its place for longest, if
// that is long enough.
func (p *places) guestThatLeaves(now time.Time) (leaves *place) {
	for e := p.guests.Front(); e != nil; e = e.Next() {
		pl := e.Value.(*place)
		if now.Sub(pl.since) >= p.limits.GuestReservationTime && (leaves == nil || pl.since.Before(leaves.since)) && !p.busy(pl.peer) {
			leaves = pl
		}
	}
	return leaves
}

// fairGap is how many guests' places a site must have above another one, before it
// gives one up to it. It is more than what a household has.
const fairGap = 8

// siteOf is what one operator has at little cost: an IPv4 address, or an IPv6 /48.
func siteOf(ip netip.Prefix) netip.Prefix {
	if ip.Addr().Is6() {
		ip, _ = ip.Addr().Prefix(48) // is none only if ip is none
	}
	return ip
}

// guestOfMost is the guest of the site with most of the guests' places that has had
// its place for longest, an idle one before one with a circuit; nil: that site has
// hardly more than the one that asks. Neither time nor a circuit protects it, or a
// few sites could hold all the places among them for good. It settles: a guest that was
// cut comes back from the site that has most, and is refused.
func (p *places) guestOfMost(asks netip.Prefix) (leaves *place) {
	count := map[netip.Prefix]int{}
	most := asks
	for e := p.guests.Front(); e != nil; e = e.Next() {
		site := siteOf(e.Value.(*place).ip)
		if count[site]++; count[site] > count[most] {
			most = site
		}
	}
	if count[most] < count[asks]+fairGap {
		return nil
	}
	idle := false
	for e := p.guests.Front(); e != nil; e = e.Next() {
		pl := e.Value.(*place)
		if siteOf(pl.ip) != most {
			continue
		}
		switch free := !p.busy(pl.peer); {
		case leaves == nil, free && !idle, free == idle && pl.since.Before(leaves.since):
			leaves, idle = pl, free
		}
	}
	return leaves
}

// free takes the place back; it says whether there was one.
func (p *places) free(id peer.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	pl := p.all[id]
	if pl != nil {
		p.remove(pl)
	}
	return pl != nil
}

// left takes note that a connection has ended. A reservation goes with the connection
// that it was made on, unless another one of the peer's is open: then it is reached
// over that one.
func (p *places) left(conn network.Conn, other network.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pl := p.all[conn.RemotePeer()]
	switch {
	case pl == nil || pl.conn != conn:
	case other != nil:
		pl.conn = other
	default:
		p.remove(pl)
	}
}

func (p *places) remove(pl *place) {
	pl.in.Remove(pl.at)
	delete(p.all, pl.peer)
	p.held(pl.peer, false)
	p.leaveIP(pl.ip)
}

func (p *places) leaveIP(ip netip.Prefix) {
	if p.byIP[ip]--; p.byIP[ip] <= 0 {
		delete(p.byIP, ip)
	}
}

// expire takes back the places that were not prolonged.
func (p *places) expire(now time.Time) {
	for _, pl := range p.all {
		if !pl.expires.After(now) {
			p.remove(pl)
		}
	}
}

// sweep is expire for those who do not hold the lock.
func (p *places) sweep(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire(now)
}

func (p *places) has(id peer.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[id] != nil
}

// conn is the connection over which a peer with a reservation is reached; nil: it
// has none.
func (p *places) conn(id peer.ID) network.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pl := p.all[id]; pl != nil {
		return pl.conn
	}
	return nil
}

// count is how many places members and guests hold, by their class now.
func (p *places) count() (members, guests int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.classify()
	return p.members.Len(), p.guests.Len()
}

// change sets new limits. Who holds a place keeps it.
func (p *places) change(l Limits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limits = l
}

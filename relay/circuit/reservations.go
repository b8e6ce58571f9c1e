package circuit

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/refusal"
)

// table is the table of reservations: who holds one, and whether as a member or
// as a guest. Classes are hints that come late (a peer is known as a member only
// after it reserved), so they are looked at again whenever they decide something.
//
// A guest keeps its reservation for limits.guest_reservation_time. Then it gives way, when
// the guests' share is full and another one asks. Without that time, more askers than
// reservations would take them from one another without end: each that is cut comes back.
// It gives way earlier only to a site that has far fewer reservations than its own.
type table struct {
	ttl    time.Duration
	member func(peer.ID) bool
	busy   func(peer.ID) bool  // has a circuit open
	held   func(peer.ID, bool) // told of each reservation taken and given back

	mu      sync.Mutex
	limits  config.Limits
	all     map[peer.ID]*reservation
	byIP    map[netip.Prefix]int
	guests  *list.List // of *reservation, oldest first
	members *list.List
}

type reservation struct {
	peer    peer.ID
	conn    network.Conn // of the latest RESERVE: circuits to the peer go over it
	ip      netip.Prefix
	since   time.Time
	expires time.Time
	in      *list.List // guests or members
	at      *list.Element
}

func newTable(l config.Limits, ttl time.Duration, member, busy func(peer.ID) bool, held func(peer.ID, bool)) *table {
	return &table{
		limits: l,
		ttl:    ttl, member: member, busy: busy, held: held,
		all: map[peer.ID]*reservation{}, byIP: map[netip.Prefix]int{},
		guests: list.New(), members: list.New(),
	}
}

// take gives id a reservation, or prolongs the one it has. The guest that had to give
// way for it, if one had, must be told by closing its connections: the protocol
// knows no other way to end a reservation.
func (t *table) take(id peer.ID, conn network.Conn, ip netip.Prefix, now time.Time) (gone peer.ID, fresh bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.all[id]; r != nil {
		r.expires, r.conn = now.Add(t.ttl), conn
		if r.ip != ip {
			t.leaveIP(r.ip)
			r.ip = ip
			t.byIP[ip]++
		}
		return "", false, nil
	}
	if t.byIP[ip] >= t.limits.ReservationsPerIP {
		t.expire(now)
		if t.byIP[ip] >= t.limits.ReservationsPerIP {
			return "", false, refusal.NoPlaceForIP
		}
	}
	in := t.guests
	if t.member(id) {
		in = t.members
	}
	if t.full(in) {
		t.expire(now)
		t.classify()
	}
	var leaves *reservation
	if t.full(in) {
		if in == t.members {
			return "", false, refusal.NoPlace
		}
		if leaves = t.guestThatLeaves(now); leaves == nil {
			leaves = t.guestOfMost(siteOf(ip))
		}
		if leaves == nil {
			return "", false, refusal.NoGuestPlace
		}
	}
	n := len(t.all)
	if leaves != nil {
		n--
	}
	if n >= t.limits.Reservations { // guests that became members since
		return "", false, refusal.NoPlace
	}
	if leaves != nil {
		t.remove(leaves)
		gone = leaves.peer
	}
	r := &reservation{peer: id, conn: conn, ip: ip, since: now, expires: now.Add(t.ttl)}
	t.enter(r, in)
	t.all[id] = r
	t.byIP[ip]++
	t.held(id, true)
	return gone, true, nil
}

func (t *table) full(l *list.List) bool {
	if l == t.guests {
		return l.Len() >= t.limits.GuestReservations
	}
	return l.Len() >= t.limits.Reservations-t.limits.GuestReservations
}

func (t *table) enter(r *reservation, l *list.List) {
	r.in, r.at = l, l.PushBack(r)
}

// classify puts each reservation with the class its holder has now. It runs only when
// a share is full.
func (t *table) classify() {
	for _, l := range []*list.List{t.guests, t.members} {
		for e := l.Front(); e != nil; {
			r, next := e.Value.(*reservation), e.Next()
			if t.member(r.peer) != (l == t.members) {
				l.Remove(e)
				if l == t.guests {
					t.enter(r, t.members)
				} else {
					t.enter(r, t.guests)
				}
			}
			// What was moved to the back of the members is looked at once more: harmless.
			e = next
		}
	}
}

// guestThatLeaves is the guest without a circuit that has its reservation for longest, if
// that is long enough.
func (t *table) guestThatLeaves(now time.Time) (leaves *reservation) {
	for e := t.guests.Front(); e != nil; e = e.Next() {
		r := e.Value.(*reservation)
		if now.Sub(r.since) >= t.limits.GuestReservationTime && (leaves == nil || r.since.Before(leaves.since)) && !t.busy(r.peer) {
			leaves = r
		}
	}
	return leaves
}

// fairGap is how many guests' reservations a site must have above another one, before it
// gives one up to it. It is more than what a household has.
const fairGap = 8

// siteOf is what one operator has at little cost: an IPv4 address, or an IPv6 /48.
func siteOf(ip netip.Prefix) netip.Prefix {
	if ip.Addr().Is6() {
		ip, _ = ip.Addr().Prefix(48) // is none only if ip is none
	}
	return ip
}

// guestOfMost is the guest of the site with most of the guests' reservations that has had
// its reservation for longest, an idle one before one with a circuit; nil: that site has
// hardly more than the one that asks. Neither time nor a circuit protects it, or a
// few sites could hold all the reservations among them for good. It settles: a guest that was
// cut comes back from the site that has most, and is refused.
func (t *table) guestOfMost(asks netip.Prefix) (leaves *reservation) {
	count := map[netip.Prefix]int{}
	most := asks
	for e := t.guests.Front(); e != nil; e = e.Next() {
		site := siteOf(e.Value.(*reservation).ip)
		if count[site]++; count[site] > count[most] {
			most = site
		}
	}
	if count[most] < count[asks]+fairGap {
		return nil
	}
	idle := false
	for e := t.guests.Front(); e != nil; e = e.Next() {
		r := e.Value.(*reservation)
		if siteOf(r.ip) != most {
			continue
		}
		switch free := !t.busy(r.peer); {
		case leaves == nil, free && !idle, free == idle && r.since.Before(leaves.since):
			leaves, idle = r, free
		}
	}
	return leaves
}

// free takes the reservation back; it says whether there was one.
func (t *table) free(id peer.ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.all[id]
	if r != nil {
		t.remove(r)
	}
	return r != nil
}

// left takes note that a connection has ended. A reservation goes with the connection
// that it was made on, unless another one of the peer's is open: then it is reached
// over that one.
func (t *table) left(conn network.Conn, other network.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.all[conn.RemotePeer()]
	switch {
	case r == nil || r.conn != conn:
	case other != nil:
		r.conn = other
	default:
		t.remove(r)
	}
}

func (t *table) remove(r *reservation) {
	r.in.Remove(r.at)
	delete(t.all, r.peer)
	t.held(r.peer, false)
	t.leaveIP(r.ip)
}

func (t *table) leaveIP(ip netip.Prefix) {
	if t.byIP[ip]--; t.byIP[ip] <= 0 {
		delete(t.byIP, ip)
	}
}

// expire takes back the reservations that were not prolonged.
func (t *table) expire(now time.Time) {
	for _, r := range t.all {
		if !r.expires.After(now) {
			t.remove(r)
		}
	}
}

// sweep is expire for those who do not hold the lock.
func (t *table) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(now)
}

func (t *table) has(id peer.ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all[id] != nil
}

// conn is the connection over which a peer with a reservation is reached; nil: it
// has none.
func (t *table) conn(id peer.ID) network.Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.all[id]; r != nil {
		return r.conn
	}
	return nil
}

// count is how many reservations members and guests hold, by their class now.
func (t *table) count() (members, guests int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.classify()
	return t.members.Len(), t.guests.Len()
}

// change sets new limits. Who holds a reservation keeps it.
func (t *table) change(l config.Limits) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limits = l
}

// heldFrom is how many reservations count for one address.
func (t *table) heldFrom(ip netip.Addr) int {
	network, err := config.NetworkOf(ip)
	if err != nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byIP[network]
}

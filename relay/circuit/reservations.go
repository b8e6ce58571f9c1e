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

// classifyEvery bounds how often the holders' classes are looked at, all of them at once.
const classifyEvery = time.Second

// table is the table of reservations: who holds one, and whether as a member or
// as a guest. Classes are hints that come late (a peer is known as a member only
// after it reserved), so they are looked at again when a share is full.
//
// A guest keeps its reservation for limits.guest_reservation_time. Then it gives way, when
// the guests' share is full and another one asks. Without that time, more askers than
// reservations would take them from one another without end: each that is cut comes back.
// It gives way earlier only to a site that has far fewer reservations than its own.
//
// A RESERVE must cost the same however many reservations there are, or strangers could
// make it dear for everybody. So nothing here looks at all reservations for one request;
// the guests that are looked at are those with a circuit, of which there are few.
type table struct {
	ttl    time.Duration
	member func(peer.ID) bool
	busy   func(peer.ID) bool  // has a circuit open
	held   func(peer.ID, bool) // told of each reservation taken and given back

	mu         sync.Mutex
	limits     config.Limits
	all        map[peer.ID]*reservation
	byEnd      *list.List // of *reservation, the one that ends first in front
	byIP       map[netip.Prefix]int
	guests     *list.List // of *reservation, oldest first
	sites      sites      // of the guests
	classified time.Time
}

type reservation struct {
	peer    peer.ID
	conn    network.Conn // of the latest RESERVE: circuits to the peer go over it
	ip      netip.Prefix
	expires time.Time
	end     *list.Element // in byEnd

	// Of a guest's only.
	since  time.Time
	guest  *list.Element // in guests
	site   *site
	ofSite *list.Element // in the site's
}

// taken is what came of a RESERVE.
type taken struct {
	until time.Time
	fresh bool    // it was not prolonged
	gone  peer.ID // the guest that had to give way; "": none had to
}

func newTable(l config.Limits, ttl time.Duration, member, busy func(peer.ID) bool, held func(peer.ID, bool)) *table {
	return &table{
		limits: l,
		ttl:    ttl, member: member, busy: busy, held: held,
		all: map[peer.ID]*reservation{}, byIP: map[netip.Prefix]int{}, sites: sites{by: map[netip.Prefix]*site{}},
		byEnd: list.New(), guests: list.New(),
	}
}

// take gives id a reservation, or prolongs the one it has. The guest that had to give
// way for it, if one had, must be told by closing its connections: the protocol
// knows no other way to end a reservation.
func (t *table) take(id peer.ID, conn network.Conn, ip netip.Prefix, now time.Time) (taken, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(now)
	got := taken{until: now.Add(t.ttl)}
	r := t.all[id]
	if (r == nil || r.ip != ip) && t.byIP[ip] >= t.limits.ReservationsPerIP {
		return taken{}, refusal.NoPlaceForIP
	}
	if r != nil {
		t.prolong(r, conn, ip, got.until)
		return got, nil
	}
	guest := !t.member(id)
	leaves, err := t.room(guest, ip, now)
	if err != nil {
		return taken{}, err
	}
	if leaves != nil {
		t.remove(leaves)
		got.gone = leaves.peer
	}
	r = &reservation{peer: id, conn: conn, ip: ip, expires: got.until}
	r.end = t.byEnd.PushBack(r)
	t.all[id] = r
	t.byIP[ip]++
	if guest {
		t.toGuests(r, now)
	}
	t.held(id, true)
	got.fresh = true
	return got, nil
}

func (t *table) prolong(r *reservation, conn network.Conn, ip netip.Prefix, until time.Time) {
	r.conn, r.expires = conn, until
	t.byEnd.MoveToBack(r.end)
	if r.ip == ip {
		return
	}
	t.leaveIP(r.ip)
	r.ip = ip
	t.byIP[ip]++
	if r.guest != nil {
		t.sites.leave(r)
		t.sites.enter(r)
	}
}

// room says which guest gives way for one more reservation, if one has to.
func (t *table) room(guest bool, ip netip.Prefix, now time.Time) (leaves *reservation, err error) {
	if t.full(guest) {
		t.classify(now)
	}
	n := len(t.all)
	if t.full(guest) {
		if !guest {
			return nil, refusal.NoPlace
		}
		if leaves = t.guestThatLeaves(now); leaves == nil {
			leaves = t.guestOfMost(ip)
		}
		if leaves == nil {
			return nil, refusal.NoGuestPlace
		}
		n--
	}
	if n >= t.limits.Reservations { // guests that became members since
		return nil, refusal.NoPlace
	}
	return leaves, nil
}

func (t *table) full(guest bool) bool {
	if guest {
		return t.guests.Len() >= t.limits.GuestReservations
	}
	return t.members() >= t.limits.Reservations-t.limits.GuestReservations
}

func (t *table) members() int { return len(t.all) - t.guests.Len() }

func (t *table) toGuests(r *reservation, now time.Time) {
	r.since = now
	r.guest = t.guests.PushBack(r)
	t.sites.enter(r)
}

func (t *table) fromGuests(r *reservation) {
	t.guests.Remove(r.guest)
	t.sites.leave(r)
	r.guest = nil
}

// classify gives each reservation the class that its holder has now, unless that was
// done a moment ago. Who was a member until now is a guest from now on.
func (t *table) classify(now time.Time) {
	if since := now.Sub(t.classified); since >= 0 && since < classifyEvery {
		return
	}
	t.classified = now
	for e := t.byEnd.Front(); e != nil; e = e.Next() {
		r := e.Value.(*reservation)
		switch guest := !t.member(r.peer); {
		case guest && r.guest == nil:
			t.toGuests(r, now)
		case !guest && r.guest != nil:
			t.fromGuests(r)
		}
	}
}

// guestThatLeaves is the guest without a circuit that has its reservation for longest, if
// that is long enough.
func (t *table) guestThatLeaves(now time.Time) *reservation {
	for e := t.guests.Front(); e != nil; e = e.Next() {
		r := e.Value.(*reservation)
		if now.Sub(r.since) < t.limits.GuestReservationTime {
			return nil
		}
		if !t.busy(r.peer) {
			return r
		}
	}
	return nil
}

// fairGap is how many guests' reservations a site must have above another one, before it
// gives one up to it. It is more than what a household has.
const fairGap = 8

// guestOfMost is the guest of the site with most of the guests' reservations that has had
// its reservation for longest, an idle one before one with a circuit; nil: that site has
// hardly more than the one that asks. Neither time nor a circuit protects it, or a
// few sites could hold all the reservations among them for good. It settles: a guest that was
// cut comes back from the site that has most, and is refused.
func (t *table) guestOfMost(asks netip.Prefix) *reservation {
	most := t.sites.most()
	if most == nil || most.guests.Len() < t.sites.count(asks)+fairGap {
		return nil
	}
	for e := most.guests.Front(); e != nil; e = e.Next() {
		if r := e.Value.(*reservation); !t.busy(r.peer) {
			return r
		}
	}
	return most.guests.Front().Value.(*reservation)
}

// free takes a reservation back of which its holder could not be told. If it was prolonged
// meanwhile, the holder knows of it.
func (t *table) free(id peer.ID, until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.all[id]; r != nil && r.expires.Equal(until) {
		t.remove(r)
	}
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
	if r.guest != nil {
		t.fromGuests(r)
	}
	t.byEnd.Remove(r.end)
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
	for e := t.byEnd.Front(); e != nil && !e.Value.(*reservation).expires.After(now); e = t.byEnd.Front() {
		t.remove(e.Value.(*reservation))
	}
}

// sweep is expire for those who do not hold the lock.
func (t *table) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(now)
}

// conn is the connection over which a peer with a reservation is reached; nil: it
// has none.
func (t *table) conn(id peer.ID, now time.Time) network.Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(now)
	if r := t.all[id]; r != nil {
		return r.conn
	}
	return nil
}

// count is how many reservations members and guests hold, by their class now.
func (t *table) count(now time.Time) (members, guests int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.classify(now)
	return t.members(), t.guests.Len()
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

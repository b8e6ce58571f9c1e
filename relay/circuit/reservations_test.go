package circuit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/refusal"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// tableOf is a table of which a test sees what the rest of the relay sees.
type tableOf struct {
	*table
	members, busy, held map[peer.ID]bool
}

func tableFor(l config.Limits) *tableOf {
	t := &tableOf{members: map[peer.ID]bool{}, busy: map[peer.ID]bool{}, held: map[peer.ID]bool{}}
	t.table = newTable(l, time.Hour,
		func(p peer.ID) bool { return t.members[p] },
		func(p peer.ID) bool { return t.busy[p] },
		func(p peer.ID, held bool) {
			if t.held[p] == held {
				panic("told twice")
			}
			t.held[p] = held
		})
	return t
}

func (t *tableOf) take(p peer.ID, ip netip.Prefix, now time.Time) (gone peer.ID, fresh bool, err error) {
	got, err := t.table.take(p, nil, ip, now)
	return got.gone, got.fresh, err
}

func ipOf(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 32)
}

func TestReservationsExpire(t *testing.T) {
	now := time.Now()
	table := tableFor(config.Limits{Reservations: 2, GuestReservations: 2, ReservationsPerIP: 2})
	for _, p := range []peer.ID{"a", "b"} {
		_, fresh, err := table.take(p, ipOf(1), now)
		if err != nil || !fresh {
			t.Fatalf("%s: %v, %v", p, fresh, err)
		}
	}
	if _, fresh, err := table.take("a", ipOf(1), now.Add(50*time.Minute)); err != nil || fresh {
		t.Errorf("prolonged: %v, %v", fresh, err)
	}
	// An hour on, b's reservation is free, without anybody having swept.
	if gone, _, err := table.take("c", ipOf(1), now.Add(61*time.Minute)); err != nil || gone != "" {
		t.Errorf("after b's hour: %q, %v", gone, err)
	}
	table.sweep(now.Add(3 * time.Hour))
	if members, guests := table.count(now.Add(3 * time.Hour)); members+guests != 0 || table.held["a"] || table.held["c"] {
		t.Errorf("left over: %d, %d, %v", members, guests, table.held)
	}
}

func TestReservationsPerAddress(t *testing.T) {
	now := time.Now()
	table := tableFor(config.Limits{Reservations: 10, GuestReservations: 10, ReservationsPerIP: 2})
	for _, p := range []peer.ID{"a", "b"} {
		_, _, err := table.take(p, ipOf(1), now)
		relaytest.Must(t, err)
	}
	if _, _, err := table.take("c", ipOf(1), now); !errors.Is(err, refusal.NoPlaceForIP) {
		t.Errorf("a third one: %v", err)
	}
	// Who moves to another address takes nothing along.
	_, _, err := table.take("a", ipOf(2), now)
	relaytest.Must(t, err)
	if _, _, err := table.take("c", ipOf(1), now); err != nil {
		t.Errorf("after one moved away: %v", err)
	}
	if _, _, err := table.take("a", ipOf(1), now); !errors.Is(err, refusal.NoPlaceForIP) || table.byIP[ipOf(2)] != 1 {
		t.Errorf("one that comes back when others have the address: %v, %v", err, table.byIP)
	}
	for _, p := range []peer.ID{"a", "b", "c"} {
		table.free(p, now.Add(table.ttl))
	}
	if len(table.byIP) != 0 {
		t.Errorf("left over: %v", table.byIP)
	}
}

// A peer reserves first and is known as a member later: it must not go on taking
// a guest's reservation.
func TestReservationsFollowTheClass(t *testing.T) {
	now := time.Now()
	table := tableFor(config.Limits{Reservations: 4, GuestReservations: 1, ReservationsPerIP: 10})
	for _, p := range []peer.ID{"a", "b", "c"} {
		if gone, _, err := table.take(p, ipOf(1), now); err != nil || gone != "" {
			t.Fatalf("%s: %q, %v", p, gone, err)
		}
		table.members[p] = true
		now = now.Add(classifyEvery)
	}
	if gone, _, err := table.take("guest", ipOf(1), now); err != nil || gone != "" {
		t.Fatalf("the guest: %q, %v", gone, err)
	}
	now = now.Add(classifyEvery)
	// A member's announcement was not heard again: it is a guest now, and the only one
	// without a circuit.
	table.members["a"] = false
	table.busy["guest"] = true
	gone, _, err := table.take("d", ipOf(1), now)
	if err != nil || gone != "a" {
		t.Errorf("gave way: %q, %v", gone, err)
	}
}

// A guest gives way only after its time, the one first that has had its reservation for
// longest; and nobody gives way where that would not help.
func TestGuestsKeepTheirTime(t *testing.T) {
	now := time.Now()
	table := tableFor(config.Limits{Reservations: 3, GuestReservations: 2, GuestReservationTime: 30 * time.Minute, ReservationsPerIP: 10})
	for i, p := range []peer.ID{"a", "b"} {
		_, _, err := table.take(p, ipOf(1), now.Add(time.Duration(i)*time.Minute))
		relaytest.Must(t, err)
	}
	for m := range 30 {
		at := now.Add(time.Duration(m) * time.Minute)
		if gone, _, err := table.take("c", ipOf(2), at); gone != "" || !errors.Is(err, refusal.NoGuestPlace) {
			t.Fatalf("after %d min: got %q, %v, want a refusal", m, gone, err)
		}
		_, _, err := table.take("a", ipOf(1), at) // a prolonged reservation is no new one
		relaytest.Must(t, err)
	}
	if gone, _, err := table.take("c", ipOf(2), now.Add(30*time.Minute)); gone != "a" || err != nil {
		t.Errorf("after 30 min: got %q, %v, want a to give way", gone, err)
	}
	if gone, _, err := table.take("d", ipOf(2), now.Add(30*time.Minute)); gone != "" || !errors.Is(err, refusal.NoGuestPlace) {
		t.Errorf("a minute before b's time: got %q, %v, want a refusal", gone, err)
	}

	// Three that reserved as guests are members now: the table is full, whatever the
	// guests' share says.
	table = tableFor(config.Limits{Reservations: 3, GuestReservations: 2, ReservationsPerIP: 10})
	for _, p := range []peer.ID{"a", "b"} {
		_, _, err := table.take(p, ipOf(1), now)
		relaytest.Must(t, err)
		table.members[p] = true
	}
	_, _, err := table.take("g", ipOf(1), now)
	relaytest.Must(t, err)
	table.change(config.Limits{Reservations: 2, GuestReservations: 1, ReservationsPerIP: 10})
	if gone, _, err := table.take("h", ipOf(1), now.Add(time.Hour/2)); gone != "" || !errors.Is(err, refusal.NoPlace) {
		t.Errorf("a full table: got %q, %v, want a refusal and nobody gone", gone, err)
	}
}

// Four addresses, or four networks of one IPv6 site, do not hold all the guests'
// reservations for good, though each of their peers has a circuit: others get theirs, and
// those that had to go do not get them back.
func TestGuestsOfLargeSitesGiveWay(t *testing.T) {
	for name, from := range map[string]func(n int) netip.Prefix{
		"four IPv4 addresses": func(n int) netip.Prefix { return ipOf(n % 4) },
		"an IPv6 /62": func(n int) netip.Prefix {
			return netip.MustParsePrefix(fmt.Sprintf("2001:db8:0:%d::/64", n%4))
		},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			table := tableFor(config.Limits{Reservations: 512, GuestReservations: 256, GuestReservationTime: time.Hour, ReservationsPerIP: 64})
			for n := range 256 {
				id := peer.ID(fmt.Sprint("attacker", n))
				table.busy[id] = true
				_, _, err := table.take(id, from(n), now.Add(time.Duration(n)*time.Second))
				relaytest.Must(t, err)
			}
			now = now.Add(10 * time.Minute)
			table.busy["attacker200"] = false
			for n := range 50 {
				gone, _, err := table.take(peer.ID(fmt.Sprint("monitor", n)), ipOf(1000+n), now)
				if err != nil || gone == "" {
					t.Fatalf("newcomer %d: got %q, %v, want a place", n, gone, err)
				}
				if n == 0 && name == "an IPv6 /62" && gone != "attacker200" {
					t.Errorf("got %q, want the idle one to go first", gone)
				}
				again, _, err := table.take(gone, from(n), now)
				if again != "" || !errors.Is(err, refusal.NoGuestPlace) && !errors.Is(err, refusal.NoPlaceForIP) {
					t.Fatalf("one that had to go: got %q, %v, want a refusal", again, err)
				}
			}
		})
	}

	// Where none has far more than the others, all stay.
	now := time.Now()
	table := tableFor(config.Limits{Reservations: 64, GuestReservations: 16, GuestReservationTime: time.Hour, ReservationsPerIP: 64})
	for n := range 16 {
		_, _, err := table.take(peer.ID(fmt.Sprint(n)), ipOf(n%3), now)
		relaytest.Must(t, err)
	}
	if gone, _, err := table.take("one more", ipOf(9), now); gone != "" || !errors.Is(err, refusal.NoGuestPlace) {
		t.Errorf("got %q, %v, want a refusal", gone, err)
	}
}

// Whatever comes in whatever order, the table adds up.
func TestReservationsAddUp(t *testing.T) {
	const peers = 60
	l := config.Limits{Reservations: 20, GuestReservations: 8, ReservationsPerIP: 5}
	table := tableFor(l)
	now := time.Now()
	rnd := rand.New(rand.NewPCG(1, 2))
	for step := range 50000 {
		p := peer.ID(fmt.Sprint(rnd.IntN(peers)))
		now = now.Add(time.Duration(rnd.IntN(2000)) * time.Millisecond)
		switch rnd.IntN(10) {
		case 0, 1, 2, 3, 4:
			member := table.members[p]
			before := len(table.all)
			gone, fresh, err := table.take(p, ipOf(rnd.IntN(12)), now)
			switch {
			case err != nil && fresh, gone != "" && member, gone != "" && table.busy[gone]:
				t.Fatalf("step %d: gone %q, fresh %v, member %v: %v", step, gone, fresh, member, err)
			case err == nil && table.all[p] == nil:
				t.Fatalf("step %d: no place", step)
			case err != nil && gone == "" && len(table.all) > before:
				t.Fatalf("step %d: refused, and one more", step)
			}
		case 5, 6:
			if r := table.all[p]; r != nil {
				table.free(p, r.expires)
			}
		case 7:
			table.members[p] = !table.members[p]
		case 8:
			table.busy[p] = !table.busy[p]
		case 9:
			now = now.Add(time.Minute)
			table.sweep(now)
		}
		held, onIP, atSites := 0, 0, 0
		for _, h := range table.held {
			if h {
				held++
			}
		}
		for _, n := range table.byIP {
			onIP += n
		}
		for i, of := range table.sites.heap {
			atSites += of.guests.Len()
			if of.at != i || table.sites.by[of.ip] != of || of.guests.Len() > table.sites.most().guests.Len() {
				t.Fatalf("step %d: site %d of the heap is %+v", step, i, of)
			}
		}
		if n := len(table.all); n > l.Reservations || n != held || n != onIP || n != table.byEnd.Len() || atSites != table.guests.Len() {
			t.Fatalf("step %d: %d reservations, %d held, %d by address, %d by end; %d guests, %d at their sites", step, n, held, onIP, table.byEnd.Len(), table.guests.Len(), atSites)
		}
	}
}

// fullOf is a table that is full of n guests from as many addresses.
func fullOf(t testing.TB, n int) *tableOf {
	table := tableFor(config.Limits{Reservations: n, GuestReservations: n, GuestReservationTime: time.Hour, ReservationsPerIP: 8})
	for i := range n {
		got, err := table.table.take(peer.ID(fmt.Sprint("holder", i)), nil, ipOf(i), beganAt)
		if err != nil || !got.fresh {
			t.Fatalf("reservation %d: %+v, %v", i, got, err)
		}
	}
	return table
}

var beganAt = time.Now()

// Twenty thousand hold reservations. Whether another one asks, or one of them prolongs,
// no more than a few of them are looked at for it.
func TestTwentyThousandReservations(t *testing.T) {
	const n, asks = 20000, 1000
	table := fullOf(t, n)
	if _, guests := table.count(beganAt); guests != n {
		t.Fatalf("%d hold a reservation, want %d", guests, n)
	}
	looks := 0
	of := table.table
	member, busy := of.member, of.busy
	of.member = func(p peer.ID) bool { looks++; return member(p) }
	of.busy = func(p peer.ID) bool { looks++; return busy(p) }
	for i := range asks {
		now := beganAt.Add(time.Duration(1+i) * time.Millisecond)
		if _, err := table.table.take(peer.ID(fmt.Sprint("asker", i)), nil, ipOf(n+i), now); !errors.Is(err, refusal.NoGuestPlace) {
			t.Fatalf("asker %d: %v", i, err)
		}
		if got, err := table.table.take(peer.ID(fmt.Sprint("holder", i)), nil, ipOf(i), now); err != nil || got.fresh {
			t.Fatalf("holder %d: %+v, %v", i, got, err)
		}
	}
	// One for each asker; and their classes are looked at once in a second.
	if want := asks + 2*n; looks > want {
		t.Errorf("%d reservations were looked at for %d requests, want %d at most", looks, 2*asks, want)
	}
	looks = 0
	now := beganAt.Add(time.Hour)
	for i := range asks {
		if gone, _, err := table.take(peer.ID(fmt.Sprint("asker", i)), ipOf(n+i), now); err != nil || gone != "" {
			t.Fatalf("asker %d, after an hour: %q, %v", i, gone, err)
		}
	}
	if looks > 2*asks {
		t.Errorf("%d reservations were looked at for %d requests after an hour", looks, asks)
	}
	if members, guests := table.count(now); members != 0 || guests != 2*asks {
		t.Errorf("%d members and %d guests are left, want those %d who prolonged and those who came", members, guests, 2*asks)
	}
}

func BenchmarkReserve(b *testing.B) {
	for _, n := range []int{160, 4000, 20000} {
		table := fullOf(b, n)
		b.Run(fmt.Sprintf("prolonged/%d", n), func(b *testing.B) {
			for i := range b.N {
				_, _ = table.table.take(peer.ID(fmt.Sprint("holder", i%n)), nil, ipOf(i%n), beganAt)
			}
		})
		b.Run(fmt.Sprintf("refused/%d", n), func(b *testing.B) {
			began := time.Now() // a second of the table's is one of the clock's
			for i := range b.N {
				_, _ = table.table.take(peer.ID(fmt.Sprint("asker", i)), nil, ipOf(n+i%1000), beganAt.Add(time.Since(began)))
			}
		})
	}
}

package schedule

import (
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// An identity that reserves is the nonce that the relay signs. Each hour has a new one:
// that of an earlier hour shows nothing for this one. But it takes a place, too, and a
// js-libp2p relay has 15 of them, keeps each for two hours and frees none when its peer
// leaves. Measuring must not fill the relay: see [Seat].

const (
	// freshTTL is the longest reservation of a relay where everybody reserves: the one
	// of the hour before has expired by then.
	freshTTL = time.Hour
	// HeldHours is of how many hours a monitor holds places at a js-libp2p relay at most,
	// see [Planner.Hold].
	HeldHours = 3
	// MostHolders is how many monitors reserve there in one hour, so that users find three
	// of its 15 places. They are a majority of 7 monitors at most: where more judge such
	// a relay, its hours cannot count up (rule R7).
	MostHolders = 4
)

// Seat is a monitor's place among those that may reserve at a relay.
type Seat struct {
	Bench  []*bounty.Monitor // that are due at the relay
	I      int               // its number among them, or -1
	All    int               // how many monitors there are with it, on the bench or not
	Frugal bool              // what kind of relay it is: see [Frugal]
}

// Reserves says whether the monitor reserves in hour h. At a frugal relay no
// more than four do in one hour: the committee's, up to three, and of the others as many
// as there is room for. Those who are more take turns, from hour to hour, and once the
// hour is over they do not reserve again: it would last into the third hour after, in
// which it is others' turn. Who is not on the bench reserves if all can.
func (s Seat) Reserves(h evidence.Hour, over bool) bool {
	switch {
	case !s.Frugal || s.I >= 0 && len(s.Bench) <= MostHolders:
		return true
	case s.I < 0:
		return s.All <= MostHolders
	case over:
		return false
	}
	own := s.Bench[s.I].Committee
	place, group := 0, 0 // among those of its kind
	for k, m := range s.Bench {
		if m.Committee == own {
			if k < s.I {
				place++
			}
			group++
		}
	}
	committee := group
	if !own {
		committee = len(s.Bench) - group
	}
	room := min(committee, MostHolders-1)
	if !own {
		room = MostHolders - room
	}
	turn := (place - int(h)*room) % group
	return (turn+group)%group < room
}

// Replaces says whether an identity with nothing new in it may be replaced within its
// hour, which takes a second place.
func (s Seat) Replaces() bool { return !s.Frugal || 2*s.All <= MostHolders }

// Frugal says whether a relay must be asked sparingly: one of js-libp2p, one
// with long reservations, and one that is not known yet.
func Frugal(last *evidence.Attempt) bool {
	if last == nil || last.Facts.Reservation == nil || strings.Contains(last.Facts.AgentVersion, "js-libp2p") {
		return true
	}
	return last.Facts.Reservation.Expires.Sub(last.Started.Time) > freshTTL+time.Minute
}

package relay

import (
	"errors"

	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
)

// refusal is the reason why a request is not served. The word is the same in the
// metric relayd_refused_total, in the log line and in README.md, which lists them all
// with the status that the peer is told.
type refusal struct{ word, text string }

func (r *refusal) Error() string { return r.text }

// The reasons. All but the first five pass with time.
var (
	errMalformed = &refusal{"malformed", "the request is malformed"}
	errRelayed   = &refusal{"relayed", "asked over a relayed connection"}
	errBanned    = &refusal{"banned", "the peer or its address is banned"}
	errNoHolder  = &refusal{"no_reservation", "the peer holds no reservation"}
	errNotTaken  = &refusal{"not_taken", "the peer with the reservation did not take the circuit"}

	errTooOften   = &refusal{"requests", "too many requests of this peer or address"}
	errMonthSpent = &refusal{"month_budget", "the month's transfer budget is spent"}
	errPeerSpent  = &refusal{"peer_budget", "the peer's daily budget is spent"}
	errIPSpent    = &refusal{"ip_budget", "the address's daily budget is spent"}

	errNoPlace      = &refusal{"reservations", "all places are taken"}
	errNoGuestPlace = &refusal{"guest_reservations", "the guests' places are taken"}
	errNoPlaceForIP = &refusal{"reservations_per_ip", "the places for this address are taken"}

	errTooManyCircuits = &refusal{"circuits", "too many circuits are open"}
	errGuestCircuits   = &refusal{"guest_circuits", "too many circuits between guests are open"}
	errPeerCircuits    = &refusal{"circuits_per_peer", "too many circuits of one of the two peers are open"}
	errIPCircuits      = &refusal{"circuits_per_ip", "too many circuits from this address are open"}
	errResources       = &refusal{"resources", "no memory or stream is left for it"}
)

// because names the reason behind an answer of the library's service, which decides
// about what the gate let through.
func because(status pbv2.Status) *refusal {
	switch status {
	case pbv2.Status_PERMISSION_DENIED:
		return errBanned
	case pbv2.Status_NO_RESERVATION:
		return errNoHolder
	case pbv2.Status_CONNECTION_FAILED:
		return errNotTaken
	case pbv2.Status_MALFORMED_MESSAGE, pbv2.Status_UNEXPECTED_MESSAGE:
		return errMalformed
	}
	return errResources
}

// wordOf is the word for an error; one without a reason of its own is a request that
// could not be read.
func wordOf(err error) string {
	var r *refusal
	if errors.As(err, &r) {
		return r.word
	}
	return errMalformed.word
}

// The reasons for which the relay ends what it had granted, as the metric
// relayd_ended_total and the log have them.
const (
	endedIdle      = "connections"        // an idle connection, as the relay has nearly all it may have
	endedIdleForIP = "connections_per_ip" // the same for one address
	endedGuest     = "guest_reservation_time"
	endedNewcomer  = "newcomer" // its circuit, when neither end turned out to be a member
	endedMemory    = "memory"   // a circuit whose reader had stopped
)

var endedReasons = []string{endedIdle, endedIdleForIP, endedGuest, endedNewcomer, endedMemory}

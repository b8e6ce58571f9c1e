package relay

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"golang.org/x/time/rate"
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

// The reasons why a connection is not taken. Its peer is told nothing: there is no
// protocol yet in which to say it.
var (
	errConnections = &refusal{"connections", "too many connections are open"}
	errIPConns     = &refusal{"connections_per_ip", "too many connections from this address are open"}
	errConnectRate = &refusal{"connects_per_second", "too many new connections from this address"}
	errUnfinished  = &refusal{"unfinished", "too many connections from this address have not finished their handshake"}
	errPeerConns   = &refusal{"connections_per_peer", "too many connections of this peer are open"}
)

// whyNotTaken names the limit behind an error of the library's resource manager, which
// tells them apart by their text only.
func whyNotTaken(err error) *refusal {
	switch text := err.Error(); {
	case errors.Is(err, network.ErrResourceLimitExceeded) && strings.HasPrefix(text, "transient:"):
		return errUnfinished
	case errors.Is(err, network.ErrResourceLimitExceeded):
		return errConnections
	case strings.Contains(text, "rate limit"):
		return errConnectRate
	case strings.Contains(text, "per ip limit"):
		return errIPConns
	}
	return errResources
}

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
	endedIdle       = "connections"        // an idle connection, as the relay has nearly all it may have
	endedIdleForIP  = "connections_per_ip" // the same for one address
	endedUnfinished = "unfinished"         // a connection without a handshake, as those fill the room for newcomers
	endedGuest      = "guest_reservations" // a reservation, for another guest's
	endedBanned     = "banned"             // a connection of a peer or an address that was banned meanwhile
	endedData       = "guest_circuit_data" // a circuit between guests
	endedTime       = "guest_circuit_time"
	endedNewcomer   = "newcomer" // its circuit, when neither end turned out to be a member
	endedMemory     = "memory"   // a circuit whose reader had stopped
)

// The budgets that end a circuit have the words by which they refuse one.
var endedReasons = []string{
	endedIdle, endedIdleForIP, endedUnfinished, endedGuest, endedBanned, endedData, endedTime, endedNewcomer, endedMemory,
	errMonthSpent.word, errPeerSpent.word, errIPSpent.word,
}

// tally counts what the relay refuses and what it ends by itself. Each has one word, in
// the metrics as in the log.
type tally struct {
	log *slog.Logger

	mu      sync.Mutex
	refused map[refusedBy]uint64
	ended   map[string]uint64
	said    map[string]*rate.Sometimes
}

// refusedBy is a status and the word for its reason.
type refusedBy struct{ status, reason string }

func newTally(log *slog.Logger) *tally {
	return &tally{log: log, refused: map[refusedBy]uint64{}, ended: map[string]uint64{}, said: map[string]*rate.Sometimes{}}
}

// refusal counts a refusal; status is empty where the peer is told none. A limit that is
// reached is said to the operator, too, but seldom.
func (t *tally) refusal(status string, why error, who slog.Attr) {
	word := wordOf(why)
	t.log.LogAttrs(context.Background(), slog.LevelDebug, "refused", slog.String("reason", word), slog.String("status", status), who, slog.Any("error", why))
	t.mu.Lock()
	key := refusedBy{status, word}
	t.refused[key]++
	n := t.refused[key]
	t.mu.Unlock()
	limit := ""
	switch why {
	case errNoPlace, errNoGuestPlace, errNoPlaceForIP, errTooManyCircuits, errGuestCircuits, errIPCircuits, errConnections, errIPConns, errConnectRate:
		limit = word
	case errUnfinished:
		limit = errIPConns.word
	case errMonthSpent:
		limit = "month"
	default:
		return
	}
	t.seldom(word).Do(func() {
		t.log.Warn("requests or connections are refused: a limit is reached", "limit", "limits."+limit, "reason", why.Error(), "refused", n)
	})
}

// end counts what the relay ended by itself.
func (t *tally) end(reason string, who slog.Attr) {
	t.log.LogAttrs(context.Background(), slog.LevelDebug, "ended", slog.String("reason", reason), who)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended[reason]++
}

// seldom is what paces the log lines about one thing.
func (t *tally) seldom(what string) *rate.Sometimes {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.said[what]
	if s == nil {
		s = &rate.Sometimes{First: 1, Interval: sayAgain}
		t.said[what] = s
	}
	return s
}

// refusals counts what was refused, by status and reason.
func (t *tally) refusals() map[refusedBy]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.refused)
}

// endings counts what the relay ended by itself, by reason.
func (t *tally) endings() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.ended)
}

func peerAttr(p peer.ID) slog.Attr { return slog.String("peer", p.String()) }

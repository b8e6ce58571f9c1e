// Package refusal has one reason for each request that the relay does not serve and for
// all that it ends by itself. The status that the peer is told, the label of the metric,
// the word in the log and the sentence for people follow from it.
package refusal

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"golang.org/x/time/rate"
)

// Reason is why a request or a connection is not taken. The word is the same in the
// metric relayd_refused_total, in the log line and in README.md, which lists them all
// with the status that the peer is told. The text is for people.
type Reason struct {
	Word, Text string
	told       pbv2.Status // 0: of a limit, see Status
	limit      string      // the setting below limits that the operator may raise; "": none
}

func (r *Reason) Error() string { return r.Text }

// Status is what the peer is told.
func (r *Reason) Status(request pbv2.HopMessage_Type) pbv2.Status {
	switch {
	case r.told != 0:
		return r.told
	case request == pbv2.HopMessage_RESERVE:
		return pbv2.Status_RESERVATION_REFUSED
	}
	return pbv2.Status_RESOURCE_LIMIT_EXCEEDED
}

// The reasons. All but the first five pass with time.
var (
	Malformed = &Reason{Word: "malformed", Text: "the request is malformed", told: pbv2.Status_MALFORMED_MESSAGE}
	Relayed   = &Reason{Word: "relayed", Text: "asked over a relayed connection", told: pbv2.Status_PERMISSION_DENIED}
	Banned    = &Reason{Word: "banned", Text: "the peer or its address is banned", told: pbv2.Status_PERMISSION_DENIED}
	NoHolder  = &Reason{Word: "no_reservation", Text: "the peer holds no reservation", told: pbv2.Status_NO_RESERVATION}
	NotTaken  = &Reason{Word: "not_taken", Text: "the peer with the reservation did not take the circuit", told: pbv2.Status_CONNECTION_FAILED}

	TooOften   = &Reason{Word: "requests", Text: "too many requests of this peer or address"}
	MonthSpent = &Reason{Word: "month_budget", Text: "the month's transfer budget is spent", limit: "month"}
	PeerSpent  = &Reason{Word: "peer_budget", Text: "the peer's daily budget is spent"}
	IPSpent    = &Reason{Word: "ip_budget", Text: "the address's daily budget is spent"}

	NoPlace      = &Reason{Word: "reservations", Text: "all reservations are taken", limit: "reservations"}
	NoGuestPlace = &Reason{Word: "guest_reservations", Text: "the guests' reservations are taken", limit: "guest_reservations"}
	NoPlaceForIP = &Reason{Word: "reservations_per_ip", Text: "the reservations for this address are taken", limit: "reservations_per_ip"}

	TooManyCircuits = &Reason{Word: "circuits", Text: "too many circuits are open", limit: "circuits"}
	GuestCircuits   = &Reason{Word: "guest_circuits", Text: "too many circuits between guests are open", limit: "guest_circuits"}
	PeerCircuits    = &Reason{Word: "circuits_per_peer", Text: "too many circuits of one of the two peers are open"}
	IPCircuits      = &Reason{Word: "circuits_per_ip", Text: "too many circuits from this address are open", limit: "circuits_per_ip"}
	Resources       = &Reason{Word: "resources", Text: "no memory or stream is left for it"}

	// It ends a circuit, and refuses none.
	GuestData = &Reason{Word: EndedData, Text: "the circuit's data limit is reached"}
)

// The reasons why a connection is not taken. Its peer is told nothing: there is no
// protocol yet in which to say it.
var (
	Connections = &Reason{Word: "connections", Text: "too many connections are open", limit: "connections"}
	IPConns     = &Reason{Word: "connections_per_ip", Text: "too many connections from this address are open", limit: "connections_per_ip"}
	ConnectRate = &Reason{Word: "connects_per_second", Text: "too many new connections from this address", limit: "connects_per_second"}
	Unfinished  = &Reason{Word: "unfinished", Text: "too many connections from this address have not finished their handshake", limit: "connections_per_ip"}
	PeerConns   = &Reason{Word: "connections_per_peer", Text: "too many connections of this peer are open"}
)

// All are the reasons for which something is refused.
var All = []*Reason{
	Malformed, Relayed, Banned, NoHolder, NotTaken, TooOften, MonthSpent, PeerSpent, IPSpent,
	NoPlace, NoGuestPlace, NoPlaceForIP, TooManyCircuits, GuestCircuits, PeerCircuits, IPCircuits, Resources,
	Connections, IPConns, ConnectRate, Unfinished, PeerConns,
}

// OfConnection names the limit behind an error of the library's resource manager, which
// tells them apart by their text only.
func OfConnection(err error) *Reason {
	switch text := err.Error(); {
	case errors.Is(err, network.ErrResourceLimitExceeded) && strings.HasPrefix(text, "transient:"):
		return Unfinished
	case errors.Is(err, network.ErrResourceLimitExceeded):
		return Connections
	case strings.Contains(text, "rate limit"):
		return ConnectRate
	case strings.Contains(text, "per ip limit"):
		return IPConns
	}
	return Resources
}

// Of is the reason in an error; one without is a request that could not be read.
func Of(err error) *Reason {
	var r *Reason
	if errors.As(err, &r) {
		return r
	}
	return Malformed
}

// The reasons for which the relay ends what it had granted, as the metric
// relayd_ended_total and the log have them.
const (
	EndedIdle          = "connections"        // an idle connection, as the relay has nearly all it may have
	EndedIdleForIP     = "connections_per_ip" // the same for one address
	EndedUnfinished    = "unfinished"         // a connection without a handshake, as those fill the room for newcomers
	EndedGuest         = "guest_reservations" // a reservation, for another guest's
	EndedBanned        = "banned"             // a connection of a peer or an address that was banned meanwhile
	EndedData          = "guest_circuit_data" // a circuit between guests
	EndedTime          = "guest_circuit_time"
	EndedCircuits      = "circuits"          // one of the address that opened most of them, for another address's
	EndedGuestCircuits = "guest_circuits"    // the same among the guests'
	EndedPeerCircuits  = "circuits_per_peer" // the same among those to one peer
	EndedNewcomer      = "newcomer"          // its circuit, when neither end turned out to be a member
	EndedMemory        = "memory"            // a circuit whose reader had stopped
)

// EndReasons are all of them: the budgets that end a circuit have the words by which they refuse one.
var EndReasons = []string{
	EndedIdle, EndedIdleForIP, EndedUnfinished, EndedGuest, EndedBanned, EndedData, EndedTime, EndedCircuits, EndedGuestCircuits, EndedPeerCircuits, EndedNewcomer, EndedMemory,
	MonthSpent.Word, PeerSpent.Word, IPSpent.Word,
}

// sayAgain is the least time between two log lines about one limit that is reached.
const sayAgain = 10 * time.Minute

// Tally counts what the relay refuses and what it ends by itself. Each has one word, in
// the metrics as in the log.
type Tally struct {
	Log *slog.Logger

	mu     sync.Mutex
	counts map[Told]uint64
	ends   map[string]uint64
	said   map[string]*rate.Sometimes
}

// Told is a status and the word for its reason.
type Told struct{ Status, Word string }

func NewTally(log *slog.Logger) *Tally {
	return &Tally{Log: log, counts: map[Told]uint64{}, ends: map[string]uint64{}, said: map[string]*rate.Sometimes{}}
}

// Refused counts a refusal; status is empty where the peer is told none. A limit that is
// reached is said to the operator, too, but seldom.
func (t *Tally) Refused(status string, why error, who slog.Attr) {
	reason := Of(why)
	word := reason.Word
	t.Log.LogAttrs(context.Background(), slog.LevelDebug, "refused", slog.String("reason", word), slog.String("status", status), who, slog.Any("error", why))
	t.mu.Lock()
	key := Told{status, word}
	t.counts[key]++
	n := t.counts[key]
	t.mu.Unlock()
	if reason.limit == "" {
		return
	}
	t.Seldom(word).Do(func() {
		t.Log.Warn("requests or connections are refused: a limit is reached", "limit", "limits."+reason.limit, "reason", reason.Text, "refused", n)
	})
}

// Ended counts what the relay ended by itself.
func (t *Tally) Ended(reason string, who slog.Attr) {
	t.Log.LogAttrs(context.Background(), slog.LevelDebug, "ended", slog.String("reason", reason), who)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ends[reason]++
}

// Seldom is what paces the log lines about one thing.
func (t *Tally) Seldom(what string) *rate.Sometimes {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.said[what]
	if s == nil {
		s = &rate.Sometimes{First: 1, Interval: sayAgain}
		t.said[what] = s
	}
	return s
}

// Refusals counts what was refused, by status and reason.
func (t *Tally) Refusals() map[Told]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.counts)
}

// Endings counts what the relay ended by itself, by reason.
func (t *Tally) Endings() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.ends)
}

// Peer is a peer in the log.
func Peer(p peer.ID) slog.Attr { return slog.Any("peer", who(p)) }

// who is spelled out only where it is written.
type who peer.ID

func (w who) LogValue() slog.Value { return slog.StringValue(peer.ID(w).String()) }

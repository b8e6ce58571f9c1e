package schedule

import (
	"crypto/rand"
	"fmt"
	"maps"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// News is what nobody could know before it went into an identity.
type News struct {
	Beacon   []byte // the hour's round of public randomness
	Cosigned string // what a witness of another operator signed since the hour before
}

// Fresh says whether there is any.
func (n News) Fresh() bool { return len(n.Beacon) > 0 || n.Cosigned != "" }

// Identity is a key to reserve with, and what proves how it was made.
type Identity struct {
	Key  crypto.PrivKey // nil: it is others' turn to reserve
	Salt []byte
	News
}

// Identities keeps the identities of hours that are not over yet. A restart finds
// them in the log, so that it takes no second place.
type Identities struct {
	monitor string // the log's verifier key
	known   map[Job]Identity
	// Salt makes that of a relay and an hour, 32 bytes; nil: a new one from the machine.
	Salt func(relay string, hour evidence.Hour) []byte
}

// NewIdentities is of a monitor with the log's verifier key.
func NewIdentities(monitor string) *Identities {
	return &Identities{monitor: monitor, known: map[Job]Identity{}}
}

// Of makes the identity of a relay and an hour, always the same one. Only if it has
// nothing new, and replace, it is made anew as soon as there is something.
func (s *Identities) Of(relay string, hour evidence.Hour, now News, replace bool) (Identity, error) {
	id, err := peer.Decode(relay)
	if err != nil {
		return Identity{}, fmt.Errorf("peer ID %s: %w", relay, err)
	}
	maps.DeleteFunc(s.known, func(old Job, _ Identity) bool { return old.Hour < hour-2 })
	j := Job{relay, hour}
	made, ok := s.known[j]
	if !ok || replace && !made.Fresh() && now.Fresh() {
		made = Identity{Salt: make([]byte, 32), News: now}
		if s.Salt != nil {
			made.Salt = s.Salt(relay, hour)
		} else if _, err := rand.Read(made.Salt); err != nil {
			return Identity{}, fmt.Errorf("make a salt: %w", err)
		}
		s.known[j] = made
	}
	made.Key, err = evidence.Challenge{Beacon: made.Beacon, Cosigned: made.Cosigned, MonitorKey: s.monitor, Relay: id, Hour: hour, Salt: made.Salt}.Key()
	return made, err
}

// Stale are those of an hour that have nothing new.
func (s *Identities) Stale(h evidence.Hour) (list []Job) {
	for j, made := range s.known {
		if j.Hour == h && !made.Fresh() {
			list = append(list, j)
		}
	}
	return list
}

// Restore takes over the identities of a record.
func (s *Identities) Restore(r evidence.Record) {
	for _, a := range r.Attempts {
		if res := a.Facts.Reservation; res != nil && len(res.Salt) > 0 {
			s.known[Job{r.PeerID, r.Hour}] = Identity{Salt: res.Salt, News: News{res.Beacon, res.Cosigned}}
		}
	}
}

// Sign adds to an attempt what proves how its identity was made.
func (id Identity) Sign(a *evidence.Attempt) {
	if r := a.Facts.Reservation; r != nil {
		r.Salt, r.Beacon, r.Cosigned = id.Salt, id.Beacon, id.Cosigned
	}
}

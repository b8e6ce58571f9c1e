package monitor

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// An identity that reserves is the nonce that the relay signs, so a new one
// every hour proves most. But it takes a place, too, and a js-libp2p relay has 15
// of them, keeps each for two hours and frees none when its peer leaves. Measuring
// must not fill the relay: see made.

// freshTTL is the longest reservation of a relay that gets a new identity every
// hour: the one before has expired by then.
const freshTTL = time.Hour

// made is the hour for which the identity is made that reserves in hour h. At a
// frugal relay monitor i of n makes a new one in every n-th hour, and else
// refreshes one that it makes once a day; the monitors change theirs in different
// hours, so that old and new ones do not pile up: n + 4 places at most are held. Of more than
// eight monitors each makes one a day only: see reserves.
func made(h evidence.Hour, i, n int, frugal bool) evidence.Hour {
	if !frugal || n <= mostHolders && int(h)%n == i {
		return h
	}
	return daily(h, i, n)
}

// daily is the hour of the last day, up to h, in which monitor i of n makes its
// daily identity.
func daily(h evidence.Hour, i, n int) evidence.Hour {
	const day = 24
	change := evidence.Hour(day * i / n)
	return h - ((h-change)%day+day)%day
}

// mostHolders is how many monitors reserve at a frugal relay on one day.
const mostHolders = 8

// reserves says whether monitor i of n reserves at a frugal relay in hour h. Of
// more than eight, eight take turns, another one each day. Each one's day begins when it would
// make its daily identity, so that they do not all change places at once.
func reserves(h evidence.Hour, i, n int, frugal bool) bool {
	if !frugal || n <= mostHolders {
		return true
	}
	day := int(daily(h, i, n) / 24)
	return (i+day)%n < mostHolders
}

// frugal says whether a relay must be asked sparingly: one of js-libp2p, one
// with long reservations, and one that is not known yet.
func frugal(last *evidence.Attempt) bool {
	if last == nil || last.Facts.Reservation == nil || strings.Contains(last.Facts.AgentVersion, "js-libp2p") {
		return true
	}
	return last.Facts.Reservation.Expires.Sub(last.Started.Time) > freshTTL+time.Minute
}

// identity is a key to reserve with, and what proves how it was made.
type identity struct {
	key    crypto.PrivKey // nil: it is others' turn to reserve
	salt   []byte
	beacon []byte        // the round of public randomness that went into it, if one did
	hour   evidence.Hour // for which it was made
}

// identities keeps the salts of identities that may be needed again. A restart
// finds them in the log, so that it takes no second place.
type identities struct {
	monitor string                     // the log's verifier key
	beacon  func(evidence.Hour) []byte // nil: there is none
	salts   map[job][]byte
	rounds  map[job][]byte // beacons, of those that have one
}

// of makes the identity of a relay and an hour, always the same one.
func (s *identities) of(relay string, hour evidence.Hour) (identity, error) {
	id, err := peer.Decode(relay)
	if err != nil {
		return identity{}, fmt.Errorf("peer ID %s: %w", relay, err)
	}
	for old := range s.salts {
		if old.hour < hour-48 {
			delete(s.salts, old)
			delete(s.rounds, old)
		}
	}
	j := job{relay, hour}
	if s.salts[j] == nil {
		salt := make([]byte, 32)
		if _, err := rand.Read(salt); err != nil {
			return identity{}, fmt.Errorf("make a salt: %w", err)
		}
		s.salts[j] = salt
		if s.beacon != nil {
			s.keepRound(j, s.beacon(hour))
		}
	}
	salt, round := bytes.Clone(s.salts[j]), s.rounds[j]
	key, err := evidence.Challenge{Beacon: round, MonitorKey: s.monitor, Relay: id, Hour: hour, Salt: salt}.Key()
	return identity{key, salt, round, hour}, err
}

func (s *identities) keepRound(j job, round []byte) {
	if len(round) == 0 {
		return
	}
	if s.rounds == nil {
		s.rounds = map[job][]byte{}
	}
	s.rounds[j] = bytes.Clone(round)
}

// restore takes over the salts of a record.
func (s *identities) restore(r evidence.Record) {
	for _, a := range r.Attempts {
		res := a.Facts.Reservation
		if res == nil || len(res.Salt) == 0 {
			continue
		}
		hour := r.Hour
		if res.Since != 0 {
			hour = res.Since
		}
		s.salts[job{r.PeerID, hour}] = bytes.Clone(res.Salt)
		s.keepRound(job{r.PeerID, hour}, res.Beacon)
	}
}

// identify chooses the identity for an attempt. The caller holds the lock.
func (m *Monitor) identify(roster *bounty.Roster, relay *bounty.Relay, h evidence.Hour) (identity, error) {
	i, n, frugal := m.seat(roster, relay, h)
	if !reserves(h, i, n, frugal) {
		return identity{}, nil
	}
	return m.identities.of(relay.PeerID, made(h, i, n, frugal))
}

// identityHour is the hour for which that identity is made. The caller holds the lock.
func (m *Monitor) identityHour(roster *bounty.Roster, relay *bounty.Relay, h evidence.Hour) evidence.Hour {
	i, n, frugal := m.seat(roster, relay, h)
	return made(h, i, n, frugal)
}

// seat is this monitor's number among those that judge the relay, their number,
// and what kind of relay it is. The caller holds the lock.
func (m *Monitor) seat(roster *bounty.Roster, relay *bounty.Relay, h evidence.Hour) (i, n int, careful bool) {
	bench := roster.Bench(relay, h)
	for k, other := range bench {
		if other.Name == m.cfg.Name {
			i = k
		}
	}
	return i, max(1, len(bench)), frugal(m.seen[relay.PeerID])
}

// sign adds to an attempt what proves how its identity was made.
func (id identity) sign(a *evidence.Attempt, hour evidence.Hour) {
	r := a.Facts.Reservation
	if r == nil {
		return
	}
	r.Salt, r.Beacon = id.salt, id.beacon
	if id.hour != hour {
		r.Since = id.hour
	}
}

// recall reads the last day of the log: what was tried in the hours that are
// still open, which relays failed of late, which identities hold a place, and what
// each relay is.
func (m *Monitor) recall(now moment) error {
	this := evidence.HourOf(now.wall)
	for h := this - 24; h <= this; h++ {
		records, err := m.store.Records(h)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, r := range records {
			m.identities.restore(r)
			for _, a := range r.Attempts {
				m.remember(a)
				m.planner.places.learn(r.PeerID, a)
			}
		}
	}
	return nil
}

// resume tells the planner what was tried in an hour and the one before, where it
// does not know. The caller holds the lock.
func (m *Monitor) resume(h evidence.Hour, now moment) error {
	sample := m.machine.sample(now)
	for _, h := range []evidence.Hour{h - 1, h} {
		records, err := m.store.Records(h)
		if err != nil {
			return err
		}
		even := m.store.Even(h, sample)
		for _, r := range records {
			m.planner.restore(r, now, even)
		}
	}
	return nil
}

// remember keeps the attempt that was made last, and the last that got a
// reservation: it tells what kind of relay it is. The caller holds the lock.
func (m *Monitor) remember(a evidence.Attempt) {
	m.latest[a.PeerID] = &a
	if a.Facts.Reservation != nil {
		m.seen[a.PeerID] = &a
	}
}

package monitor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// An identity that reserves is the nonce that the relay signs. Each hour has a new one:
// that of an earlier hour shows nothing for this one. But it takes a place, too, and a
// js-libp2p relay has 15 of them, keeps each for two hours and frees none when its peer
// leaves. Measuring must not fill the relay: see reserves.

const (
	// freshTTL is the longest reservation of a relay where everybody reserves: the one
	// of the hour before has expired by then.
	freshTTL = time.Hour
	// heldHours is of how many hours a monitor holds places at a js-libp2p relay at most,
	// see [planner.hold].
	heldHours = 3
	// mostHolders is how many monitors reserve there in one hour, so that users find three
	// of its 15 places. They are a majority of 7 monitors at most: where more judge such
	// a relay, its hours cannot count up (rule R7).
	mostHolders = 4
)

// seat is a monitor's place among those that may reserve at a relay.
type seat struct {
	bench  []*bounty.Monitor // that judge the relay
	i      int               // its number among them, or -1
	all    int               // how many monitors there are with it, on the bench or not
	frugal bool              // what kind of relay it is
}

// reserves says whether the monitor reserves in hour h. At a frugal relay no
// more than four do in one hour: the committee's, up to three, and of the others as many
// as there is room for. Those who are more take turns, from hour to hour, and once the
// hour is over they do not reserve again: it would last into the third hour after, in
// which it is others' turn. Who is not on the bench reserves if all can.
func (s seat) reserves(h evidence.Hour, over bool) bool {
	switch {
	case !s.frugal || s.i >= 0 && len(s.bench) <= mostHolders:
		return true
	case s.i < 0:
		return s.all <= mostHolders
	case over:
		return false
	}
	own := s.bench[s.i].Committee
	place, group := 0, 0 // among those of its kind
	for k, m := range s.bench {
		if m.Committee == own {
			if k < s.i {
				place++
			}
			group++
		}
	}
	committee := group
	if !own {
		committee = len(s.bench) - group
	}
	room := min(committee, mostHolders-1)
	if !own {
		room = mostHolders - room
	}
	turn := (place - int(h)*room) % group
	return (turn+group)%group < room
}

// replaces says whether an identity with nothing new in it may be replaced within its
// hour, which takes a second place.
func (s seat) replaces() bool { return !s.frugal || 2*s.all <= mostHolders }

// frugal says whether a relay must be asked sparingly: one of js-libp2p, one
// with long reservations, and one that is not known yet.
func frugal(last *evidence.Attempt) bool {
	if last == nil || last.Facts.Reservation == nil || strings.Contains(last.Facts.AgentVersion, "js-libp2p") {
		return true
	}
	return last.Facts.Reservation.Expires.Sub(last.Started.Time) > freshTTL+time.Minute
}

// news is what nobody could know before it went into an identity.
type news struct {
	beacon   []byte // the hour's round of public randomness
	cosigned string // what a witness of another operator signed since the hour before
}

// fresh says whether there is any.
func (n news) fresh() bool { return len(n.beacon) > 0 || n.cosigned != "" }

// identity is a key to reserve with, and what proves how it was made.
type identity struct {
	key  crypto.PrivKey // nil: it is others' turn to reserve
	salt []byte
	news
}

// identities keeps the identities of hours that are not over yet. A restart finds
// them in the log, so that it takes no second place.
type identities struct {
	monitor string // the log's verifier key
	known   map[job]identity
	salt    func(relay string, hour evidence.Hour) []byte // nil: a new one from the machine
}

// of makes the identity of a relay and an hour, always the same one. Only if it has
// nothing new, and replace, it is made anew as soon as there is something.
func (s *identities) of(relay string, hour evidence.Hour, now news, replace bool) (identity, error) {
	id, err := peer.Decode(relay)
	if err != nil {
		return identity{}, fmt.Errorf("peer ID %s: %w", relay, err)
	}
	maps.DeleteFunc(s.known, func(old job, _ identity) bool { return old.hour < hour-2 })
	j := job{relay, hour}
	made, ok := s.known[j]
	if !ok || replace && !made.fresh() && now.fresh() {
		made = identity{salt: make([]byte, 32), news: now}
		if s.salt != nil {
			made.salt = s.salt(relay, hour)
		} else if _, err := rand.Read(made.salt); err != nil {
			return identity{}, fmt.Errorf("make a salt: %w", err)
		}
		s.known[j] = made
	}
	made.key, err = evidence.Challenge{Beacon: made.beacon, Cosigned: made.cosigned, MonitorKey: s.monitor, Relay: id, Hour: hour, Salt: made.salt}.Key()
	return made, err
}

// stale are those of an hour that have nothing new.
func (s *identities) stale(h evidence.Hour) (list []job) {
	for j, made := range s.known {
		if j.hour == h && !made.fresh() {
			list = append(list, j)
		}
	}
	return list
}

// restore takes over the identities of a record.
func (s *identities) restore(r evidence.Record) {
	for _, a := range r.Attempts {
		if res := a.Facts.Reservation; res != nil && len(res.Salt) > 0 {
			s.known[job{r.PeerID, r.Hour}] = identity{salt: res.Salt, news: news{res.Beacon, res.Cosigned}}
		}
	}
}

// identify chooses the identity for an attempt. The caller holds the lock.
func (m *Monitor) identify(roster *bounty.Roster, relay *bounty.Relay, h evidence.Hour) (identity, error) {
	s := m.seat(roster, relay, h)
	now := m.machine.now().wall
	if !s.reserves(h, !now.Before(h.End())) {
		return identity{}, nil
	}
	return m.identities.of(relay.PeerID, h, m.news(roster, h, now), s.replaces())
}

// seat is this monitor's, in hour h. The caller holds the lock.
func (m *Monitor) seat(roster *bounty.Roster, relay *bounty.Relay, h evidence.Hour) seat {
	own := func(other *bounty.Monitor) bool { return other.Name == m.cfg.Name }
	s := seat{bench: roster.Bench(relay, h), all: 1, frugal: frugal(m.seen[relay.PeerID])}
	s.i = slices.IndexFunc(s.bench, own)
	for i := range roster.Monitors {
		if other := &roster.Monitors[i]; other.Holds(h) && !own(other) {
			s.all++
		}
	}
	return s
}

// news is what is at hand for an identity of hour h: the hour's beacon, or else a
// cosignature.
func (m *Monitor) news(roster *bounty.Roster, h evidence.Hour, now time.Time) news {
	if m.beacons != nil {
		if round := m.beacons.of(h); round != nil {
			return news{beacon: round}
		}
	}
	by := cosignedBy{h, roster, m.store.Size()}
	if old := m.cosignature.Load(); old != nil && old.cosignedBy == by {
		return news{cosigned: old.text}
	}
	cosigned, err := m.store.Cosigned(h, now, roster.Independent(roster.Monitor(m.cfg.Name, h), h)...)
	if err != nil {
		m.log.Error("look for a cosignature", "err", err)
	}
	if cosigned != "" {
		m.cosignature.Store(&cosignature{by, cosigned})
	}
	return news{cosigned: cosigned}
}

// cosignature is one that was found: all relays of an hour get the same, since looking
// for it takes several signatures to verify.
type cosignature struct {
	cosignedBy
	text string
}

// cosignedBy is what the one that is found depends on, but for its last minutes.
type cosignedBy struct {
	hour   evidence.Hour
	roster *bounty.Roster
	size   int64
}

// freshen gets what is new in this hour. Relays that were asked without it are asked
// once more, if that can still be done in their hour: on the real network nothing counts
// up without.
func (m *Monitor) freshen(ctx context.Context) {
	m.fetchBeacons(ctx)
	if m.cfg.Network == evidence.Lab || ctx.Err() != nil {
		return
	}
	now, roster := m.machine.now().wall, m.basis().roster
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range []evidence.Hour{evidence.HourOf(now) - 1, evidence.HourOf(now)} {
		stale := m.identities.stale(h)
		if len(stale) == 0 || !m.news(roster, h, now).fresh() {
			continue
		}
		m.planner.reopen(func(j job) bool {
			relay := roster.Relay(j.relay)
			if relay == nil || !slices.Contains(stale, j) {
				return false
			}
			return m.seat(roster, relay, h).replaces()
		})
	}
}

// notFreshAfter is how long into its hour nothing new is expected yet: so long what holds
// is said of the hour before.
const notFreshAfter = time.Minute

// notFresh says why votes of this hour will be unknown although relays are up; empty:
// they will not.
func (m *Monitor) notFresh(now time.Time) string {
	h := evidence.HourOf(now.Add(-notFreshAfter))
	if m.cfg.Network == evidence.Lab || m.news(m.basis().roster, h, now).fresh() {
		return ""
	}
	why := "no drand server is configured"
	if m.beacons != nil {
		why = m.beacons.fault(h)
	}
	return fmt.Sprintf("nothing new is at hand that relays could sign in %s, so that no relay counts up in it: %s, and since %s no witness of another operator has cosigned a checkpoint of this log; look at drand in the configuration, at this machine's way to the internet, and at the witnesses",
		h, why, evidence.TimeOf(evidence.CosignedFrom(h)))
}

// sign adds to an attempt what proves how its identity was made.
func (id identity) sign(a *evidence.Attempt) {
	if r := a.Facts.Reservation; r != nil {
		r.Salt, r.Beacon, r.Cosigned = id.salt, id.beacon, id.cosigned
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
				m.planner.hold(job{r.PeerID, h}, a)
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

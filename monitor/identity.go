package monitor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
)

// identify chooses the identity for an attempt. The caller holds the lock.
func (m *Monitor) identify(roster *bounty.Roster, relay *bounty.Relay, h evidence.Hour) (schedule.Identity, error) {
	s := m.seat(roster, relay, h)
	now := m.machine.Now().Wall
	if !s.Reserves(h, !now.Before(h.End())) {
		return schedule.Identity{}, nil
	}
	return m.identities.Of(relay.PeerID, h, m.news(roster, h, now), s.Replaces())
}

// seat is this monitor's, in hour h. The caller holds the lock.
func (m *Monitor) seat(roster *bounty.Roster, relay *bounty.Relay, h evidence.Hour) schedule.Seat {
	own := func(other *bounty.Monitor) bool { return other.Name == m.cfg.Name }
	s := schedule.Seat{Bench: m.basis().rulesOf(h.Month()).Due(roster, relay, h, m.round(h)), All: 1, Frugal: schedule.Frugal(m.seen[relay.PeerID])}
	s.I = slices.IndexFunc(s.Bench, own)
	for i := range roster.Monitors {
		if other := &roster.Monitors[i]; other.Holds(h) && !own(other) {
			s.All++
		}
	}
	return s
}

// news is what is at hand for an identity of hour h: the hour's beacon, or else a
// cosignature.
func (m *Monitor) news(roster *bounty.Roster, h evidence.Hour, now time.Time) schedule.News {
	if m.beacons != nil {
		if round := m.beacons.Of(h); round != nil {
			return schedule.News{Beacon: round}
		}
	}
	by := cosignedBy{h, roster, m.store.Size()}
	if old := m.cosignature.Load(); old != nil && old.cosignedBy == by {
		return schedule.News{Cosigned: old.text}
	}
	cosigned, err := m.store.Cosigned(h, now, roster.Independent(roster.Monitor(m.cfg.Name, h), h)...)
	if err != nil {
		m.log.Error("look for a cosignature", "err", err)
	}
	if cosigned != "" {
		m.cosignature.Store(&cosignature{by, cosigned})
	}
	return schedule.News{Cosigned: cosigned}
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
	now, roster := m.machine.Now().Wall, m.basis().roster
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range []evidence.Hour{evidence.HourOf(now) - 1, evidence.HourOf(now)} {
		stale := m.identities.Stale(h)
		if len(stale) == 0 || !m.news(roster, h, now).Fresh() {
			continue
		}
		m.planner.Reopen(func(j schedule.Job) bool {
			relay := roster.Relay(j.Relay)
			if relay == nil || !slices.Contains(stale, j) {
				return false
			}
			return m.seat(roster, relay, h).Replaces()
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
	if m.cfg.Network == evidence.Lab || m.news(m.basis().roster, h, now).Fresh() {
		return ""
	}
	why := "no drand server is configured"
	if m.beacons != nil {
		why = m.beacons.Fault(h)
	}
	return fmt.Sprintf("nothing new is at hand that relays could sign in %s, so that no relay counts up in it: %s, and since %s no witness of another operator has cosigned a checkpoint of this log; look at drand in the configuration, at this machine's way to the internet, and at the witnesses",
		h, why, evidence.TimeOf(evidence.CosignedFrom(h)))
}

// recall reads the last day of the log: what was tried in the hours that are
// still open, which relays failed of late, which identities hold a place, and what
// each relay is.
func (m *Monitor) recall(now schedule.Moment) error {
	this := evidence.HourOf(now.Wall)
	for h := this - 24; h <= this; h++ {
		records, err := m.store.Records(h)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, r := range records {
			m.identities.Restore(r)
			for _, a := range r.Attempts {
				m.remember(a)
				m.planner.Learn(r.PeerID, a)
				m.planner.Hold(schedule.Job{Relay: r.PeerID, Hour: h}, a)
			}
		}
	}
	return nil
}

// resume tells the planner what was tried in an hour and the one before, where it
// does not know. The caller holds the lock.
func (m *Monitor) resume(h evidence.Hour, now schedule.Moment) error {
	sample := m.machine.Sample(now)
	for _, h := range []evidence.Hour{h - 1, h} {
		records, err := m.store.Records(h)
		if err != nil {
			return err
		}
		even := m.store.Even(h, sample)
		for _, r := range records {
			m.planner.Restore(r, now, even)
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

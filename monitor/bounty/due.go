package bounty

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Due lists the monitors whose votes make hour h (rule R21), in the roster's order. A
// small bench is due as a whole. Of a large one the hour's beacon chooses: nobody knows
// before the hour who will be due, and everybody can tell afterwards.
//
// Each operator and each monitor of the bench has a ticket: SHA-256 over a domain, the
// beacon, the relay's peer ID and the name, each behind its length in 4 bytes, big-endian.
// An operator without a name has the name "monitor " and that of its monitor. The lower
// ticket comes first.
//
//  1. The first operator that has monitors of the committee's sends the first of those.
//  2. The first of the other operators send their first monitor each, until the places
//     are taken.
//
// Without a beacon the whole bench is due, since a monitor that does not know it probes.
func (r *Rules) Due(roster *Roster, relay *Relay, h evidence.Hour, beacon []byte) []*Monitor {
	bench := roster.Bench(relay, h)
	if !r.chooses(len(bench)) || len(beacon) == 0 {
		return bench
	}
	type candidate struct {
		*Monitor
		operator, own [sha256.Size]byte
	}
	list := make([]candidate, len(bench))
	for i, m := range bench {
		list[i] = candidate{m, ticket("relaymon/due-operator/v1", beacon, relay.PeerID, operatorOf(m)), ticket("relaymon/due-monitor/v1", beacon, relay.PeerID, m.Name)}
	}
	slices.SortFunc(list, func(a, b candidate) int {
		if c := bytes.Compare(a.operator[:], b.operator[:]); c != 0 {
			return c
		}
		return bytes.Compare(a.own[:], b.own[:])
	})
	chosen := map[string]*Monitor{} // by operator
	if i := slices.IndexFunc(list, func(c candidate) bool { return c.Committee }); i >= 0 {
		chosen[operatorOf(list[i].Monitor)] = list[i].Monitor
	}
	for _, c := range list {
		if o := operatorOf(c.Monitor); len(chosen) < r.MonitorsDue && chosen[o] == nil {
			chosen[o] = c.Monitor
		}
	}
	return slices.DeleteFunc(bench, func(m *Monitor) bool { return chosen[operatorOf(m)] != m })
}

// chooses says whether some of so many monitors are chosen.
func (r *Rules) chooses(bench int) bool { return r.MonitorsDue > 0 && bench >= r.DueFrom }

// Chooses says whether rule R21 may choose among the monitors in force at h.
func (r *Rules) Chooses(roster *Roster, h evidence.Hour) bool {
	n := 0
	for i := range roster.Monitors {
		if roster.Monitors[i].Holds(h) {
			n++
		}
	}
	return r.chooses(n)
}

// ticket is what a name has drawn in an hour.
func ticket(domain string, beacon []byte, relay, name string) [sha256.Size]byte {
	var b []byte
	for _, field := range [][]byte{[]byte(domain), beacon, []byte(relay), []byte(name)} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(field)))
		b = append(b, field...)
	}
	return sha256.Sum256(b)
}

// Spared says whether monitors were chosen, and the one of that name was not.
func (r *Rules) Spared(roster *Roster, relay *Relay, h evidence.Hour, beacon []byte, monitor string) bool {
	due := r.Due(roster, relay, h, beacon)
	return len(due) < len(roster.Bench(relay, h)) && !slices.ContainsFunc(due, func(m *Monitor) bool { return m.Name == monitor })
}

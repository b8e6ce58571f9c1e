// Package history keeps what a monitor's log says of its relays' hours in a form
// small enough for memory: pages, metrics and alerts ask for whole months, and a
// sealed hour never changes. Nothing here is evidence; it is made anew from the
// log whenever it is not at hand.
package history

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"slices"
	"sync"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Log is what is asked of an evidence log.
type Log interface {
	First() evidence.Hour
	// Headers are those of a month's sealed hours, in order.
	Headers(evidence.Month) ([]evidence.Header, error)
	// Records are those of an hour, sealed or not.
	Records(evidence.Hour) ([]evidence.Record, error)
}

// Kind says what the log holds of an hour.
type Kind uint8

// The kinds.
const (
	Absent Kind = iota // the log does not hold the hour, or not yet
	Open               // not sealed yet: more may come
	Sealed
	Gap // sealed, and not watched
)

// Hour is one relay's hour as this monitor saw it.
type Hour struct {
	Kind     Kind
	Vote     bounty.Value
	Why      bounty.Why
	Attempts uint8
	// PingUS is the shortest round trip, the others how long each component took
	// in the first attempt in which it was ok; 0: none.
	PingUS, TCP4US, WSSUS, RelayUS uint32
}

// Relay is a relay's month.
type Relay struct {
	// Hours has one entry for each hour of the month.
	Hours []Hour
	// Certificates are those that were shown, in the order of their first hour.
	Certificates []bounty.CertificateSeen
	// Agents are the versions that the relay reported, in order.
	Agents []bounty.AgentSeen
	// More says that there were more certificates or versions than are kept.
	More bool
}

const (
	// maxSeen bounds the certificates, and the versions, of a relay's month: a
	// relay chooses them.
	maxSeen = 64
	// maxHours bounds what is kept of all relays and months together, some 25 MB.
	maxHours = 1 << 20
	// maxMonths bounds the months, of which most may hold nothing.
	maxMonths = 64
)

// History answers from memory what it has read before. It is safe for use by
// several goroutines.
type History struct {
	log    Log
	rules  *bounty.Rules
	roster *bounty.Roster

	mu     sync.Mutex
	months map[evidence.Month]*month
	clock  int // of the last use of a month
	most   int // hours in memory
}

// month is what is known of all relays. Its own lock is held while it is read, so
// that one that is not in memory keeps nobody waiting for another.
type month struct {
	sync.Mutex
	kinds  []Kind // of the month's hours that were read and will not change
	relays map[string]*Relay

	used, hours int // under the history's lock: last use, hours of all relays
}

// New is an empty history of a log, judged by these rules.
func New(log Log, rules *bounty.Rules, roster *bounty.Roster) *History {
	return &History{log: log, rules: rules, roster: roster, months: map[evidence.Month]*month{}, most: maxHours}
}

// Month is one relay's month, with the hours that are still open.
func (h *History) Month(relay string, m evidence.Month) (Relay, error) {
	out := Relay{Hours: make([]Hour, m.Hours())}
	r := h.roster.Relay(relay)
	if r == nil || m < h.log.First().Month() {
		return out, nil
	}
	known := h.month(m)
	known.Lock()
	defer known.Unlock()
	if err := h.read(context.Background(), known, m); err != nil {
		return out, err
	}
	if kept := known.relays[relay]; kept != nil {
		out = Relay{slices.Clone(kept.Hours), slices.Clone(kept.Certificates), slices.Clone(kept.Agents), kept.More}
	}
	for i, kind := range known.kinds {
		if out.Hours[i].Kind != Absent || kind == Absent {
			continue
		}
		out.Hours[i].Kind = kind
		out.Hours[i].Why = bounty.Missed
		if kind == Gap {
			out.Hours[i].Why = bounty.Missing
		}
	}
	// Of the others only those hold something that are not sealed yet.
	for i := len(known.kinds); i < m.Hours(); i++ {
		records, err := h.records(m.First() + evidence.Hour(i))
		if err != nil {
			return out, err
		}
		for j := range records {
			if records[j].PeerID == relay {
				out.add(h.rules, h.roster, r, &records[j], evidence.Header{}, Open)
			}
		}
	}
	return out, nil
}

// Warm reads a month before anybody asks for it, until ctx ends.
func (h *History) Warm(ctx context.Context, m evidence.Month) error {
	known := h.month(m)
	known.Lock()
	defer known.Unlock()
	return h.read(ctx, known, m)
}

// records are those of an hour; an hour that is not there has none.
func (h *History) records(hour evidence.Hour) ([]evidence.Record, error) {
	records, err := h.log.Records(hour)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return records, err
}

// month is what is known of a month, which may be nothing.
func (h *History) month(m evidence.Month) *month {
	h.mu.Lock()
	defer h.mu.Unlock()
	known := h.months[m]
	if known == nil {
		known = &month{relays: map[string]*Relay{}}
		h.months[m] = known
	}
	h.clock++
	known.used = h.clock
	h.forget(m)
	return known
}

// read brings a month up to date with the sealed hours of the log. The caller
// holds the month's lock.
func (h *History) read(ctx context.Context, known *month, m evidence.Month) error {
	if len(known.kinds) == m.Hours() {
		return nil
	}
	headers, err := h.log.Headers(m)
	if err != nil || len(headers) == 0 {
		return err
	}
	before := int(max(m.First(), h.log.First()) - m.First()) // the log had not begun
	defer h.account(known, m)
	for i := len(known.kinds); i < before+len(headers); i++ {
		if err := ctx.Err(); err != nil {
			return err // what was read stays
		}
		kind := Absent
		if i >= before {
			hour := m.First() + evidence.Hour(i)
			head := headers[i-before]
			kind = Sealed
			if head.State == evidence.StateGap {
				kind = Gap
			}
			records, err := h.records(hour)
			if err != nil {
				return err
			}
			for j := range records {
				if r := h.roster.Relay(records[j].PeerID); r != nil {
					known.relay(r.PeerID, m).add(h.rules, h.roster, r, &records[j], head, kind)
				}
			}
		}
		known.kinds = append(known.kinds, kind)
	}
	return nil
}

// account notes how much of a month is in memory now.
func (h *History) account(known *month, m evidence.Month) {
	h.mu.Lock()
	defer h.mu.Unlock()
	known.hours = len(known.relays) * m.Hours()
	h.forget(m)
}

func (k *month) relay(id string, m evidence.Month) *Relay {
	r := k.relays[id]
	if r == nil {
		r = &Relay{Hours: make([]Hour, m.Hours())}
		k.relays[id] = r
	}
	return r
}

// forget drops the months that were not asked for the longest while there are
// too many; the one asked for stays. The caller holds the history's lock.
func (h *History) forget(but evidence.Month) {
	for {
		hours, oldest := 0, but
		for m, k := range h.months {
			hours += k.hours
			if m != but && (oldest == but || k.used < h.months[oldest].used) {
				oldest = m
			}
		}
		if hours <= h.most && len(h.months) <= maxMonths || oldest == but {
			return
		}
		delete(h.months, oldest)
	}
}

// add takes over what a record holds, of an hour with this header.
func (r *Relay) add(rules *bounty.Rules, roster *bounty.Roster, relay *bounty.Relay, rec *evidence.Record, head evidence.Header, kind Kind) {
	hour := &r.Hours[rec.Hour-rec.Hour.Month().First()]
	ballot := bounty.VoteOf(rules, roster, relay, rec, head.Controls, nil)
	vote := ballot.Vote
	if kind == Sealed {
		vote = rules.ByClock(head.Clock, ballot)
	}
	*hour = Hour{Kind: kind, Vote: vote.Value, Why: vote.Why, Attempts: uint8(len(rec.Attempts))}
	agent := ""
	for i := range rec.Attempts {
		a := &rec.Attempts[i]
		for _, c := range []struct {
			into *uint32
			of   evidence.Component
		}{{&hour.TCP4US, evidence.TCP4}, {&hour.WSSUS, evidence.WSS}, {&hour.RelayUS, evidence.Relay}} {
			if res := a.Results[c.of]; *c.into == 0 && res.Outcome == evidence.OK {
				*c.into = micros(res.DurationUS)
			}
		}
		for _, p := range a.Facts.PingUS {
			if us := micros(p); us > 0 && (hour.PingUS == 0 || us < hour.PingUS) {
				hour.PingUS = us
			}
		}
		if c := a.Facts.Certificate; c != nil {
			r.certificate(c, rec.Hour, a.Results[evidence.WSS].Outcome == evidence.OK)
		}
		if a.Facts.AgentVersion != "" {
			agent = a.Facts.AgentVersion
		}
	}
	if agent != "" {
		r.agent(agent, rec.Hour)
	}
}

func micros(us int64) uint32 { return uint32(min(max(us, 0), math.MaxUint32)) }

func (r *Relay) certificate(c *evidence.Certificate, h evidence.Hour, accepted bool) {
	i := slices.IndexFunc(r.Certificates, func(s bounty.CertificateSeen) bool { return s.SHA256 == c.SHA256 })
	if i < 0 {
		if len(r.Certificates) == maxSeen {
			r.More = true
			return
		}
		i = len(r.Certificates)
		r.Certificates = append(r.Certificates, bounty.CertificateSeen{
			SHA256: c.SHA256, Issuer: c.Issuer, NotBefore: c.NotBefore, NotAfter: c.NotAfter, First: h})
	}
	s := &r.Certificates[i]
	s.Last = h
	s.Accepted = s.Accepted || accepted
}

func (r *Relay) agent(agent string, h evidence.Hour) {
	if n := len(r.Agents); n > 0 && r.Agents[n-1].Agent == agent {
		r.Agents[n-1].Until = h + 1
		return
	}
	if len(r.Agents) == maxSeen {
		r.More = true
		return
	}
	r.Agents = append(r.Agents, bounty.AgentSeen{Agent: agent, Span: bounty.Span{From: h, Until: h + 1}})
}

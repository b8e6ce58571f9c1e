// Package history keeps what a monitor's log says of its relays' hours in a form
// small enough for memory: pages, metrics and alerts ask for whole months, and a
// sealed hour never changes. Nothing here is evidence; it is made anew from the
// log whenever it is not at hand.
package history

import (
	"context"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// Log is what is asked of an evidence log.
type Log interface {
	Origin() string
	// Key is the log's verifier key.
	Key() string
	First() evidence.Hour
	// Progress tells, at no cost, whether there is something new.
	Progress() store.Progress
	// Headers are those of a month's sealed hours, in order.
	Headers(evidence.Month) ([]evidence.Header, error)
	// Records are those of an hour, sealed or not.
	Records(evidence.Hour) ([]evidence.Record, error)
	// Clock is what the clock did in an hour that is not sealed.
	Clock(evidence.Hour, ...evidence.ClockSample) evidence.Clock
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
	// component and class are the first of the causes of a vote; see [Hour.Cause].
	component, class uint8
	// PingUS is the shortest round trip, the others how long each component took
	// in the first attempt in which it was ok; 0: none.
	PingUS, TCP4US, WSSUS, RelayUS uint32
}

// The places of components and classes, by which an hour keeps its cause: there are a
// million hours in memory, and few causes.
var (
	components = evidence.Components
	classes    = evidence.Classes()
)

// cause keeps what a ballot names first, such as "wss tls_expired".
func (h *Hour) cause(words string) {
	component, class, _ := strings.Cut(words, " ")
	h.component = uint8(1 + slices.Index(components, evidence.Component(component)))
	h.class = uint8(1 + slices.Index(classes, evidence.Class(class)))
}

// Cause is what made the hour down or busy, such as "wss tls_expired"; empty: nothing did.
func (h Hour) Cause() string {
	switch {
	case h.component == 0:
		return ""
	case h.class == 0:
		return string(components[h.component-1])
	}
	return string(components[h.component-1]) + " " + string(classes[h.class-1])
}

// Relay is a relay's month, as of a moment. Nobody may change it: when something new
// is known another one takes its place, so that two equal pointers mean that nothing
// has changed.
type Relay struct {
	// Hours has one entry for each hour of the month.
	Hours []Hour
	Seen
}

// Seen is what a relay showed in a month, besides being there.
type Seen struct {
	// Certificates are those that were shown, in the order of their first hour.
	Certificates []bounty.CertificateSeen
	// Agents are the versions that the relay reported, in order.
	Agents []bounty.AgentSeen
	// More says that there were more certificates or versions than are kept.
	More bool
}

func (s Seen) clone() Seen {
	return Seen{slices.Clone(s.Certificates), slices.Clone(s.Agents), s.More}
}

// Relays are the months of all relays.
type Relays struct {
	known  map[string]*Relay
	other  *Relay
	rounds map[evidence.Hour][]byte
}

// Round is the beacon in the header of a sealed hour, which says who was due (rule R21);
// nil: it holds none.
func (r Relays) Round(h evidence.Hour) []byte { return r.rounds[h] }

// Of is the month of one relay.
func (r Relays) Of(relay string) *Relay {
	if known := r.known[relay]; known != nil {
		return known
	}
	return r.other
}

const (
	// maxSeen bounds the certificates, and the versions, of a relay's month: a
	// relay chooses them.
	maxSeen = 64
	// maxHours bounds what is kept of all relays and months together, some 20 MB. A
	// large roster has as much as its relays need for three months: alerts look back a
	// week, so that there are two in the first days of a month, and one is for visitors.
	maxHours = 1 << 20
	// maxMonths bounds the months, of which most may hold nothing.
	maxMonths = 64
	// manyHours is how many hours make a month that takes long to read.
	manyHours = 24
)

// History answers from memory what it has read before. It is safe for use by
// several goroutines.
type History struct {
	log    Log
	name   string // the monitor's
	rules  *bounty.Rules
	before []*bounty.Rules // that were in force before those, the newest first
	roster *bounty.Roster
	beacon evidence.BeaconVerifier

	// reading is held while a month is read of which nothing is in memory, so that
	// visitors who ask for old months keep one processor busy, and no more.
	reading chan struct{}

	mu     sync.Mutex
	months map[evidence.Month]*month
	clock  int // of the last use of a month
	most   int // hours in memory
}

// month is what is known of all relays. Its own lock is held while it is read, so
// that one that is not in memory keeps nobody waiting for another.
type month struct {
	sync.Mutex
	vouchers *evidence.Vouchers
	kinds    []Kind // of the month's hours that were read and will not change
	rounds   map[evidence.Hour][]byte
	sealed   map[string]Seen // what each relay showed in them
	open     []*openHour     // the others that hold something, in order
	relays   map[string]*Relay
	other    *Relay // one of which nothing was recorded

	used, hours int // under the history's lock: last use, hours of all relays
}

// openHour is an hour that is not sealed.
type openHour struct {
	hour   evidence.Hour
	bytes  int64                // written of it when it was read
	clock  clockState           // then, too
	relays map[string]*recorded // by peer ID
}

// clockState is what rule R9 asks of an hour's clock.
type clockState struct{ moved, synchronised bool }

// recorded is what a record comes to.
type recorded struct {
	Hour
	agent        string
	certificates []certificate
}

type certificate struct {
	*evidence.Certificate
	accepted bool
}

// New is an empty history of a log, judged by these rules, and months before theirs by
// those before them, which come the newest first. Without a verifier for beacons they
// count as absent.
func New(log Log, rules *bounty.Rules, roster *bounty.Roster, beacon evidence.BeaconVerifier, before ...*bounty.Rules) *History {
	name, _, _ := evidence.ParseOrigin(log.Origin())
	return &History{
		log: log, name: name, beacon: beacon, rules: rules, before: before, roster: roster, reading: make(chan struct{}, 1), months: map[evidence.Month]*month{},
		most: max(maxHours, 3*31*24*len(roster.Relays)),
	}
}

// Month is what is known of a month, with the hours that are still open. What was
// known before is not read again: it takes no longer for many relays than for one.
func (h *History) Month(m evidence.Month) (Relays, error) { return h.month(context.Background(), m) }

// Warm reads a month before anybody asks for it, until ctx ends.
func (h *History) Warm(ctx context.Context, m evidence.Month) error {
	_, err := h.month(ctx, m)
	return err
}

func (h *History) month(ctx context.Context, m evidence.Month) (Relays, error) {
	if m < h.log.First().Month() {
		return Relays{other: &Relay{Hours: make([]Hour, m.Hours())}}, nil
	}
	known := h.use(m)
	known.Lock()
	defer known.Unlock()
	if known.vouchers == nil {
		v, err := h.Vouchers(m)
		if err != nil {
			return Relays{other: known.other}, err
		}
		known.vouchers = v
	}
	progress := h.log.Progress()
	changed, err := h.readSealed(ctx, known, m, progress.Next)
	if err == nil {
		var more map[string]bool
		more, err = h.readOpen(known, m, progress)
		maps.Copy(changed, more)
	}
	for id := range changed {
		known.put(id)
	}
	h.account(known, m)
	return Relays{maps.Clone(known.relays), known.other, maps.Clone(known.rounds)}, err
}

// Vouchers judges the vouchers of a month, as whoever verifies it does.
func (h *History) Vouchers(m evidence.Month) (*evidence.Vouchers, error) {
	return evidence.NewVouchers(evidence.Keys{Log: h.log.Key(), Witnesses: h.roster.WitnessKeys(m), Beacon: h.beacon})
}

// use is what is known of a month, which may be nothing.
func (h *History) use(m evidence.Month) *month {
	h.mu.Lock()
	defer h.mu.Unlock()
	known := h.months[m]
	if known == nil {
		known = &month{sealed: map[string]Seen{}, rounds: map[evidence.Hour][]byte{}, relays: map[string]*Relay{}, other: &Relay{Hours: make([]Hour, m.Hours())}}
		h.months[m] = known
	}
	h.clock++
	known.used = h.clock
	h.forget(m)
	return known
}

// readSealed takes in the hours that were sealed since, up to next, and names the
// relays that are to be put together anew. The caller holds the month's lock.
func (h *History) readSealed(ctx context.Context, known *month, m evidence.Month, next evidence.Hour) (changed map[string]bool, err error) {
	changed = map[string]bool{}
	until := int(min(next, m.End()) - m.First())
	if len(known.kinds) >= until {
		return changed, nil
	}
	if until-len(known.kinds) > manyHours {
		select {
		case h.reading <- struct{}{}:
			defer func() { <-h.reading }()
		case <-ctx.Done():
			return changed, ctx.Err()
		}
	}
	headers, err := h.log.Headers(m)
	if err != nil {
		return changed, err
	}
	before := int(max(m.First(), h.log.First()) - m.First()) // the log had not begun
	// Everybody's hours change. They are copied once, not once an hour.
	hours := map[string][]Hour{}
	for id, r := range known.relays {
		hours[id] = slices.Clone(r.Hours)
		changed[id] = true
	}
	other := slices.Clone(known.other.Hours)
	defer func() {
		for id, list := range hours {
			known.relays[id] = &Relay{Hours: list}
		}
		known.other = &Relay{Hours: other}
	}()
	for i := len(known.kinds); i < min(until, before+len(headers)); i++ {
		if err := ctx.Err(); err != nil {
			return changed, err // what was read stays
		}
		if i < before {
			known.kinds = append(known.kinds, Absent)
			continue
		}
		head := &headers[i-before]
		blank := Hour{Kind: Sealed, Why: bounty.Unrecorded(*head)}
		if head.State == evidence.StateGap {
			blank.Kind = Gap
		}
		records, err := h.log.Records(head.Hour)
		if err != nil {
			return changed, err
		}
		for id := range hours {
			hours[id][i] = blank
		}
		judged := make([]*recorded, len(records))
		each(len(records), func(j int) {
			if r := h.roster.Relay(records[j].PeerID); r != nil {
				judged[j] = h.judge(known.vouchers, r, &records[j], *head, blank.Kind)
			}
		})
		for j, made := range judged {
			if made == nil {
				continue
			}
			r := h.roster.Relay(records[j].PeerID)
			if hours[r.PeerID] == nil {
				hours[r.PeerID] = slices.Clone(other)
				changed[r.PeerID] = true
			}
			hours[r.PeerID][i] = made.Hour
			seen := known.sealed[r.PeerID]
			seen.add(made, head.Hour)
			known.sealed[r.PeerID] = seen
		}
		if head.Round != nil {
			known.rounds[head.Hour] = head.Round
		}
		other[i] = blank
		known.kinds = append(known.kinds, blank.Kind)
	}
	return changed, nil
}

// readOpen takes in what was written into the hours that are not sealed, and names
// the relays that are to be put together anew. The caller holds the month's lock.
func (h *History) readOpen(known *month, m evidence.Month, p store.Progress) (changed map[string]bool, err error) {
	changed = map[string]bool{}
	var open []*openHour
	for _, u := range p.Unsealed {
		if !m.Contains(u.Hour) || u.Hour < p.Next {
			continue
		}
		o := &openHour{hour: u.Hour, bytes: u.Bytes}
		old := &openHour{}
		if i := slices.IndexFunc(known.open, func(o *openHour) bool { return o.hour == u.Hour }); i >= 0 {
			old = known.open[i]
		}
		open = append(open, o)
		if old.bytes == o.bytes {
			o.relays, o.clock = old.relays, old.clock
			continue
		}
		records, err := h.log.Records(u.Hour)
		if err != nil {
			return changed, err
		}
		clock := h.log.Clock(u.Hour)
		o.clock = clockState{clock.Moved(bounty.RulesOf(m, h.rules, h.before).ClockDrift), clock.Synchronised}
		o.relays = make(map[string]*recorded, len(records))
		for j := range records {
			rec := &records[j]
			r := h.roster.Relay(rec.PeerID)
			if r == nil {
				continue
			}
			o.relays[r.PeerID] = old.relays[r.PeerID]
			if o.relays[r.PeerID] == nil || int(o.relays[r.PeerID].Attempts) != len(rec.Attempts) || o.clock != old.clock {
				o.relays[r.PeerID] = h.judge(known.vouchers, r, rec, evidence.Header{Clock: clock}, Open)
				changed[r.PeerID] = true
			}
		}
	}
	known.open = open
	return changed, nil
}

// put makes a relay's month of its sealed hours and of those that are open. The
// caller holds the month's lock.
func (k *month) put(id string) {
	base := k.relays[id]
	if base == nil {
		base = k.other
	}
	out := &Relay{slices.Clone(base.Hours), k.sealed[id].clone()}
	for _, o := range k.open {
		i := int(o.hour - o.hour.Month().First())
		if made := o.relays[id]; made != nil && i >= len(k.kinds) {
			out.Hours[i] = made.Hour
			out.add(made, o.hour)
		}
	}
	k.relays[id] = out
}

// account notes how much of a month is in memory now.
func (h *History) account(known *month, m evidence.Month) {
	h.mu.Lock()
	defer h.mu.Unlock()
	known.hours = len(known.relays) * m.Hours()
	h.forget(m)
}

// forget drops the months that were not asked for the longest while there are too
// many: the last two after all others, for they are asked for all the time. The one
// asked for now stays. The caller holds the history's lock.
func (h *History) forget(but evidence.Month) {
	last := but
	for m := range h.months {
		last = max(last, m)
	}
	for {
		hours, drop := 0, but
		for m, k := range h.months {
			hours += k.hours
			old, older := m < last-1, drop < last-1
			if m != but && (drop == but || old && !older || old == older && k.used < h.months[drop].used) {
				drop = m
			}
		}
		if hours <= h.most && len(h.months) <= maxMonths || drop == but {
			return
		}
		delete(h.months, drop)
	}
}

// judge says what a record comes to, of an hour with this header.
func (h *History) judge(vouchers *evidence.Vouchers, relay *bounty.Relay, rec *evidence.Record, head evidence.Header, kind Kind) *recorded {
	rules := bounty.RulesOf(rec.Hour.Month(), h.rules, h.before)
	ballot := bounty.VoteOf(rules, h.roster, h.roster.Monitor(h.name, rec.Hour), relay, rec, Judged(vouchers, rec))
	ballot.Vote = ballot.Vote.Overload(rules, head, len(rec.Attempts))
	vote := rules.ByClock(head.Clock, ballot)
	if rules.Spared(h.roster, relay, rec.Hour, head.Round, h.name) {
		vote = bounty.Vote{Why: bounty.NotDue}
	}
	out := &recorded{Hour: Hour{Kind: kind, Vote: vote.Value, Why: vote.Why, Attempts: uint8(len(rec.Attempts))}}
	if len(ballot.Causes) > 0 && (vote.Value == bounty.Down || vote.Value == bounty.Busy) {
		out.cause(ballot.Causes[0])
	}
	for i := range rec.Attempts {
		a := &rec.Attempts[i]
		for _, c := range []struct {
			into *uint32
			of   evidence.Component
		}{{&out.TCP4US, evidence.TCP4}, {&out.WSSUS, evidence.WSS}, {&out.RelayUS, evidence.Relay}} {
			if res := a.Results[c.of]; *c.into == 0 && res.Outcome == evidence.OK {
				*c.into = micros(res.DurationUS)
			}
		}
		for _, p := range a.Facts.PingUS {
			if us := micros(p); us > 0 && (out.PingUS == 0 || us < out.PingUS) {
				out.PingUS = us
			}
		}
		if c := a.Facts.Certificate; c != nil {
			out.certificates = append(out.certificates, certificate{c, a.Results[evidence.WSS].Outcome == evidence.OK})
		}
		if a.Facts.AgentVersion != "" {
			out.agent = a.Facts.AgentVersion
		}
	}
	return out
}

// Judged are the vouchers of a record's attempts.
func Judged(vouchers *evidence.Vouchers, rec *evidence.Record) []evidence.VoucherCheck {
	list := make([]evidence.VoucherCheck, len(rec.Attempts))
	for i, a := range rec.Attempts {
		list[i] = vouchers.Verify(a, rec.Hour)
	}
	return list
}

// each calls f for 0 to n-1, on all processors: most of the work is signatures.
func each(n int, f func(i int)) {
	var next atomic.Int64
	var g sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		g.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				f(int(i))
			}
		})
	}
	g.Wait()
}

func micros(us int64) uint32 { return uint32(min(max(us, 0), math.MaxUint32)) }

// add takes over what a relay showed in hour h. Hours come in order.
func (s *Seen) add(r *recorded, h evidence.Hour) {
	for _, c := range r.certificates {
		s.certificate(c, h)
	}
	if r.agent != "" {
		s.agent(r.agent, h)
	}
}

func (s *Seen) certificate(c certificate, h evidence.Hour) {
	i := slices.IndexFunc(s.Certificates, func(s bounty.CertificateSeen) bool { return s.SHA256 == c.SHA256 })
	if i < 0 {
		if len(s.Certificates) == maxSeen {
			s.More = true
			return
		}
		i = len(s.Certificates)
		s.Certificates = append(s.Certificates, bounty.CertificateSeen{
			SHA256: c.SHA256, Issuer: c.Issuer, NotBefore: c.NotBefore, NotAfter: c.NotAfter, First: h})
	}
	known := &s.Certificates[i]
	known.Last = h
	known.Accepted = known.Accepted || c.accepted
}

func (s *Seen) agent(agent string, h evidence.Hour) {
	if n := len(s.Agents); n > 0 && s.Agents[n-1].Agent == agent {
		s.Agents[n-1].Until = h + 1
		return
	}
	if len(s.Agents) == maxSeen {
		s.More = true
		return
	}
	s.Agents = append(s.Agents, bounty.AgentSeen{Agent: agent, Span: bounty.Span{From: h, Until: h + 1}})
}

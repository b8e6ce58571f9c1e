package monitor

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/checkpage"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/history"
	"github.com/psf-relay/relay-appliance/monitor/web"
)

const (
	// shownHours is how many hours the overview goes back.
	shownHours = 24
	// mostChecked is how many relays a visitor's browser is offered to check at first.
	mostChecked = 20
)

// pages are the status pages, and the page on which visitors check relays with
// their own browser: at first some of those under judgement.
func (m *Monitor) pages() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /check/", http.StripPrefix("/check", checkpage.Handler(func() (wss []string) {
		h, b := evidence.HourOf(m.now()), m.basis()
		for i := range b.roster.Relays {
			if r := &b.roster.Relays[i]; r.EnrolledAt(h) && len(wss) < mostChecked {
				_, addr := r.At(h).Multiaddrs(r.PeerID)
				wss = append(wss, addr)
			}
		}
		return wss
	})))
	mux.Handle("/", web.Handler(source{m}, m.log))
	return mux
}

// source answers the pages' questions, as of now.
type source struct{ m *Monitor }

func (s source) Now() time.Time { return s.m.now() }

func (s source) Overview() (web.Overview, error) { return s.m.overview(s.m.now()) }

func (s source) Health() (fault, held string) {
	o := s.m.self(s.m.now())
	return o.Fault, o.Held
}

func (s source) Month(relay string, month evidence.Month) (web.Month, error) {
	return s.m.month(relay, month, s.m.now())
}

func (s source) Hour(relay string, hour evidence.Hour) (history.Story, error) {
	return s.m.story(relay, hour, s.m.now())
}

// self is what there is to say of the monitor itself, relays left out.
func (m *Monitor) self(now time.Time) web.Overview {
	o := web.Overview{
		Monitor: m.cfg.Name,
		Origin:  m.store.Origin(),
		Network: m.cfg.Network,
		Version: buildinfo.Version(),
		LogKey:  m.store.Key(),
		Now:     evidence.TimeOf(now),
		First:   m.store.First(),
		Sealed:  m.store.Size(),
		Relays:  []web.Relay{},
	}
	m.mu.Lock()
	if m.fault != nil {
		o.Fault = m.fault.Error()
	}
	o.NotUsed = m.notUsed()
	o.Overload = m.planner.Overload(m.machine.Now())
	m.mu.Unlock()
	o.NotFresh = m.notFresh(now)
	o.NotTold = m.notTold
	if m.alerts != nil {
		o.NotReached = m.alerts.Failing()
	}
	m.addWitnesses(&o)
	m.addBucket(&o)
	return o
}

// overview is all relays at a glance. If the log cannot be read it tells of the
// monitor only.
func (m *Monitor) overview(now time.Time) (web.Overview, error) {
	o, misnamed := m.self(now), m.misnamedNow(now)
	relays, err := m.rows.list(m, evidence.HourOf(now))
	if err != nil {
		return o, err
	}
	o.Relays = relays
	m.addReleases(&o, now)
	for i := range o.Relays {
		m.complete(&o.Relays[i], now, misnamed)
	}
	o.Totals = web.Total(o.Relays)
	return o, nil
}

// complete adds what is known of a relay besides its hours. By a clock that names an hour
// which it cannot be, nothing is over.
func (m *Monitor) complete(r *web.Relay, now time.Time, misnamed bool) {
	r.Last = m.last(r.PeerID)
	r.Announced = m.announced(r.PeerID)
	list, _ := m.updates.Newest()
	r.Release = released(list, r.Agent, now)
	r.Warnings = m.goOn(r, m.warnings(r, now), m.unsure(r, now), misnamed)
	r.Needs = m.needs(r, now)
}

// rows keeps what the overview shows of each relay's hours: of most of a thousand
// relays nothing is new since somebody last looked.
type rows struct {
	mu    sync.Mutex
	known map[string]row
}

// row is a relay of the overview, and what it was made from.
type row struct {
	hour        evidence.Hour
	rules       *bounty.Rules
	roster      *bounty.Roster
	now, before *history.Relay
	relay       web.Relay
}

// still says whether a row made from the same would be the same.
func (r *row) still(o *row) bool {
	return r.hour == o.hour && r.rules == o.rules && r.roster == o.roster && r.now == o.now && r.before == o.before
}

// list are the relays under judgement in this hour, in the roster's order, for the
// caller to add to.
func (r *rows) list(m *Monitor, this evidence.Hour) ([]web.Relay, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := m.basis()
	now, err := b.history.Month(this.Month())
	if err != nil {
		return nil, err
	}
	before := now
	// Alerts look further back than pages.
	if from := this - recallHours + 1; !this.Month().Contains(from) {
		if before, err = b.history.Month(from.Month()); err != nil {
			return nil, err
		}
	}
	round := func(h evidence.Hour) []byte {
		if this.Month().Contains(h) {
			return now.Round(h)
		}
		return before.Round(h)
	}
	rules, roster := b.rules, b.roster
	known, list := map[string]row{}, []web.Relay{}
	for i := range roster.Relays {
		relay := &roster.Relays[i]
		if !relay.EnrolledAt(this) {
			continue
		}
		made := row{hour: this, rules: rules, roster: roster, now: now.Of(relay.PeerID), before: before.Of(relay.PeerID)}
		if kept, ok := r.known[relay.PeerID]; ok && kept.still(&made) {
			made = kept
		} else {
			made.fill(m, b, relay, round)
		}
		known[relay.PeerID] = made
		list = append(list, made.relay)
	}
	r.known = known
	return list, nil
}

// at is what is known of an hour of the two months.
func (r *row) at(h evidence.Hour) history.Hour {
	if r.hour.Month().Contains(h) {
		return r.now.Hours[h-h.Month().First()]
	}
	return r.before.Hours[h-h.Month().First()]
}

// fill says what the hours come to.
func (r *row) fill(m *Monitor, b *basis, relay *bounty.Relay, round func(evidence.Hour) []byte) {
	tcp4, wss := relay.At(r.hour).Multiaddrs(relay.PeerID)
	r.relay = web.Relay{PeerID: relay.PeerID, Operator: relay.Operator, Enrolled: relay.Enrolled, TCP4: tcp4, WSS: wss}
	r.relay.DownSince, r.relay.DownUnknown = r.downSince(m.store.First())
	for h := r.hour - shownHours + 1; h <= r.hour; h++ {
		r.relay.Hours = append(r.relay.Hours, m.hourShown(b, relay, h, r.at(h), round(h)))
	}
	month := r.hour.Month()
	up, rules := countAlone(m.cfg.Name, b, relay, month, r.now, r.hour.Start()), b.rulesOf(month)
	r.relay.Count = web.NewCount(month, up.Hours, rules.HoursRequired)
	r.relay.Forecast = up.Forecast(rules, r.hour, causeOf(month, r.now))
	r.relay.MonthAgents = r.now.Agents
	certificates, agents := r.now.Certificates, r.now.Agents
	if r.before != r.now {
		certificates, agents = slices.Concat(r.before.Certificates, certificates), slices.Concat(r.before.Agents, agents)
	}
	if len(certificates) > 0 {
		newest := slices.MaxFunc(certificates, func(a, b bounty.CertificateSeen) int { return int(a.Last - b.Last) })
		r.relay.Certificate = &newest
	}
	if len(agents) > 0 {
		r.relay.Agent = agents[len(agents)-1].Agent
	}
}

// warm reads the running month before the first visitor comes.
func (m *Monitor) warm(ctx context.Context, b *basis) {
	if err := b.history.Warm(ctx, evidence.MonthOf(m.now())); err != nil && ctx.Err() == nil {
		m.log.Error("read the running month", "err", err)
	}
}

// announced tells when the relay's last announcement was heard; empty: never.
func (m *Monitor) announced(id string) string {
	if m.ladder == nil {
		return "" // a test's own prober
	}
	return m.ladder.announced(id)
}

// last is the relay's last attempt of the last day; nil: there was none.
func (m *Monitor) last(id string) *evidence.Attempt {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.latest[id]
}

// hourShown is an hour of a relay; with a round, that of its header.
func (m *Monitor) hourShown(b *basis, relay *bounty.Relay, h evidence.Hour, known history.Hour, round []byte) web.Hour {
	out := web.Hour{Hour: h, Vote: known.Vote, Open: known.Kind == history.Open, Attempts: int(known.Attempts)}
	switch {
	case known.Why == bounty.Missed && b.rulesOf(h.Month()).Spared(b.roster, relay, h, round, m.cfg.Name):
		out.Why = bounty.NotDue.String()
	case known.Kind == history.Absent:
		out.Why = "nothing recorded"
	case known.Kind == history.Gap:
		out.Why = "the monitor was off"
	case known.Vote == bounty.Unknown:
		out.Why = known.Why.String()
	}
	return out
}

// countAlone counts a month as if the monitor of that name were the only one: others'
// votes are not known here.
func countAlone(name string, b *basis, relay *bounty.Relay, month evidence.Month, known *history.Relay, now time.Time) bounty.Uptime {
	// Without an operator nobody is recused, so that there is something to see.
	alone := &bounty.Roster{Network: b.roster.Network, Monitors: []bounty.Monitor{{Name: name}}}
	votes := bounty.NewSheet(month)
	for i, h := range known.Hours {
		votes.Set(name, month.First()+evidence.Hour(i), bounty.Vote{Value: h.Vote, Why: h.Why})
	}
	return bounty.CountUptime(b.rulesOf(month), alone, relay, votes, now)
}

// causeOf says what made an hour of the month down.
func causeOf(month evidence.Month, known *history.Relay) func(evidence.Hour) string {
	return func(h evidence.Hour) string {
		hour := known.Hours[h-month.First()]
		return cmp.Or(hour.Cause(), hour.Vote.String())
	}
}

// month is one relay's month for people and machines to look at.
func (m *Monitor) month(id string, month evidence.Month, now time.Time) (web.Month, error) {
	b, misnamed := m.basis(), m.misnamedNow(now)
	relay := b.roster.Relay(id)
	first, this := max(m.store.First(), relayFrom(relay)).Month(), evidence.MonthOf(now)
	if relay == nil || month < first || month > this {
		return web.Month{}, web.ErrNotFound
	}
	relays, err := b.history.Month(month)
	if err != nil {
		return web.Month{}, err
	}
	known := relays.Of(id)
	up := countAlone(m.cfg.Name, b, relay, month, known, now)
	out := web.Month{
		Monitor: m.cfg.Name, Network: m.cfg.Network, Now: evidence.TimeOf(now), PeerID: id, Operator: relay.Operator, Enrolled: relay.Enrolled,
		Count: web.NewCount(month, up.Hours, b.rulesOf(month).HoursRequired), Warnings: []web.Warning{},
		Forecast: up.Forecast(b.rulesOf(month), min(month.End(), evidence.HourOf(now)), causeOf(month, known)), Hours: make([]web.MonthHour, len(up.Counts)), Latency: latency(month, known),
		Certificates: nonNil(known.Certificates), Agents: nonNil(known.Agents), More: known.More,
	}
	out.Rules, out.Vantages = b.rulesOf(month), m.vantages(b.roster, min(month.End()-1, evidence.HourOf(now)), known)
	out.TCP4, out.WSS = relay.At(min(month.End()-1, evidence.HourOf(now))).Multiaddrs(id)
	if entry := b.roster.Monitor(m.cfg.Name, min(month.End()-1, evidence.HourOf(now))); entry != nil {
		out.Recused = entry.Recused(relay)
	}
	for i, c := range up.Counts {
		h := web.MonthHour{Hour: m.hourShown(b, relay, c.Hour, known.Hours[i], relays.Round(c.Hour)), State: c.State, Busy: c.Busy}
		if c.State == bounty.NotEnrolled || c.State == bounty.Remaining && h.Attempts == 0 {
			h.Why = ""
		}
		out.Hours[i] = h
	}
	if month > first {
		previous := month - 1
		out.Previous = &previous
	}
	if month < this {
		next := month + 1
		out.Next = &next
		return out, nil
	}
	list, err := m.rows.list(m, evidence.HourOf(now))
	if err != nil {
		return web.Month{}, err
	}
	if i := slices.IndexFunc(list, func(r web.Relay) bool { return r.PeerID == id }); i >= 0 {
		m.complete(&list[i], now, misnamed)
		out.Last, out.Release, out.Warnings = list[i].Last, list[i].Release, list[i].Warnings
	}
	return out, nil
}

// vantages are the monitors of the roster at an hour, this one first.
func (m *Monitor) vantages(roster *bounty.Roster, at evidence.Hour, known *history.Relay) []web.Vantage {
	own := web.Vantage{Monitor: m.cfg.Name, Own: true}
	for _, h := range known.Hours {
		if us := int64(h.PingUS); us > 0 && (own.PingUS == 0 || us < own.PingUS) {
			own.PingUS = us
		}
	}
	out := []web.Vantage{own}
	for i := range roster.Monitors {
		x := &roster.Monitors[i]
		switch {
		case !x.Holds(at):
		case x.Name == m.cfg.Name:
			out[0].Operator, out[0].Committee, out[0].Place = x.Operator, x.Committee, x.Place
		default:
			out = append(out, web.Vantage{Monitor: x.Name, Operator: x.Operator, Committee: x.Committee, Place: x.Place})
		}
	}
	return out
}

// relayFrom is the hour from which on something may be known of a relay.
func relayFrom(r *bounty.Relay) evidence.Hour {
	if r == nil {
		return 0
	}
	return r.Enrolled
}

func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// latency are the medians of each day.
func latency(month evidence.Month, known *history.Relay) []web.Latency {
	var out []web.Latency
	for d := 0; d < len(known.Hours); d += 24 {
		day := known.Hours[d:min(d+24, len(known.Hours))]
		median := func(of func(history.Hour) uint32) int64 {
			var values []int64
			for _, h := range day {
				values = append(values, int64(of(h)))
			}
			return web.Median(values)
		}
		out = append(out, web.Latency{
			Day:     (month.First() + evidence.Hour(d)).Start().Format(time.DateOnly),
			PingUS:  median(func(h history.Hour) uint32 { return h.PingUS }),
			TCP4US:  median(func(h history.Hour) uint32 { return h.TCP4US }),
			WSSUS:   median(func(h history.Hour) uint32 { return h.WSSUS }),
			RelayUS: median(func(h history.Hour) uint32 { return h.RelayUS }),
		})
	}
	return out
}

// story is one hour, told from what the running monitor has at hand. Cosignatures
// are left to "relaymon explain", which verifies the month for them.
func (m *Monitor) story(id string, hour evidence.Hour, now time.Time) (history.Story, error) {
	b := m.basis()
	relay := b.roster.Relay(id)
	if relay == nil || hour < m.store.First() || hour > evidence.HourOf(now) {
		return history.Story{}, web.ErrNotFound
	}
	f := history.Facts{Monitor: m.cfg.Name, Rules: b.rulesOf(hour.Month()), Roster: b.roster, Relay: relay, Hour: hour, Now: now}
	relays, err := b.history.Month(hour.Month())
	if err != nil {
		return history.Story{}, err
	}
	known := relays.Of(id)
	sums := countAlone(m.cfg.Name, b, relay, hour.Month(), known, now).Hours
	f.Month, f.AgentBefore = &sums, known.AgentBefore(hour)
	header, err := m.store.Header(hour)
	switch {
	case err == nil:
		f.Verified = &evidence.VerifiedHour{Header: header, Round: header.Round}
	case !errors.Is(err, fs.ErrNotExist):
		return history.Story{}, err
	default:
		clock := m.store.Clock(hour)
		f.Clock = &clock
	}
	records, err := m.store.Records(hour)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return history.Story{}, err
	}
	if i := slices.IndexFunc(records, func(r evidence.Record) bool { return r.PeerID == id }); i >= 0 {
		f.Record = &records[i]
		vouchers, err := b.history.Vouchers(hour.Month())
		if err != nil {
			return history.Story{}, err
		}
		f.Vouchers = history.Judged(vouchers, f.Record)
	}
	return history.Tell(f), nil
}

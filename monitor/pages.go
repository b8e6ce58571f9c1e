package monitor

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/checkpage"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/history"
	"github.com/psf-relay/relay-appliance/monitor/web"
)

// shownHours is how many hours the overview goes back.
const shownHours = 24

// pages are the status pages, and the page on which visitors check relays with
// their own browser: at first those under judgement.
func (m *Monitor) pages() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /check/", http.StripPrefix("/check", checkpage.Handler(func() (wss []string) {
		h, b := evidence.HourOf(time.Now()), m.basis()
		for _, id := range b.targets(h) {
			_, addr := b.roster.Relay(id).At(h).Multiaddrs(id)
			wss = append(wss, addr)
		}
		return wss
	})))
	mux.Handle("/", web.Handler(source{m}, m.log))
	return mux
}

// source answers the pages' questions, as of now.
type source struct{ m *Monitor }

func (s source) Overview() (web.Overview, error) { return s.m.overview(time.Now()) }

func (s source) Month(relay string, month evidence.Month) (web.Month, error) {
	return s.m.month(relay, month, time.Now())
}

func (s source) Hour(relay string, hour evidence.Hour) (history.Story, error) {
	return s.m.story(relay, hour, time.Now())
}

func (m *Monitor) overview(now time.Time) (web.Overview, error) {
	this, b := evidence.HourOf(now), m.basis()
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
	m.mu.Unlock()
	m.addWitnesses(&o)
	for _, id := range b.targets(this) {
		r := b.roster.Relay(id)
		tcp4, wss := r.At(this).Multiaddrs(id)
		relay := web.Relay{PeerID: id, Operator: r.Operator, TCP4: tcp4, WSS: wss, Announced: m.announced(id), Last: m.last(id)}
		known, err := b.history.Month(id, this.Month())
		if err != nil {
			return o, err
		}
		before := known
		if from := this - shownHours + 1; !this.Month().Contains(from) {
			if before, err = b.history.Month(id, from.Month()); err != nil {
				return o, err
			}
		}
		for h := this - shownHours + 1; h <= this; h++ {
			of := known
			if !this.Month().Contains(h) {
				of = before
			}
			relay.Hours = append(relay.Hours, hourShown(h, of.Hours[h-h.Month().First()]))
		}
		relay.Count = web.NewCount(this.Month(), m.count(b, r, this.Month(), known, now).Hours, b.rules.HoursRequired)
		if known := append(before.Certificates, known.Certificates...); len(known) > 0 {
			newest := slices.MaxFunc(known, func(a, b bounty.CertificateSeen) int { return int(a.Last - b.Last) })
			relay.Certificate = &newest
		}
		if known := append(before.Agents, known.Agents...); len(known) > 0 {
			relay.Agent = known[len(known)-1].Agent
		}
		o.Relays = append(o.Relays, relay)
	}
	m.addReleases(&o, now)
	return o, nil
}

// warm reads the running month before the first visitor comes.
func (m *Monitor) warm(ctx context.Context, b *basis) {
	if err := b.history.Warm(ctx, evidence.MonthOf(time.Now())); err != nil && ctx.Err() == nil {
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

func hourShown(h evidence.Hour, known history.Hour) web.Hour {
	out := web.Hour{Hour: h, Vote: known.Vote, Open: known.Kind == history.Open, Attempts: int(known.Attempts)}
	switch {
	case known.Kind == history.Absent:
		out.Why = "nothing recorded"
	case known.Kind == history.Gap:
		out.Why = "the monitor was off"
	case known.Vote == bounty.Unknown:
		out.Why = known.Why.String()
	}
	return out
}

// count counts a month as if this monitor were the only one: others' votes are
// not known here.
func (m *Monitor) count(b *basis, relay *bounty.Relay, month evidence.Month, known history.Relay, now time.Time) bounty.Uptime {
	// Without an operator nobody is recused, so that there is something to see.
	alone := &bounty.Roster{Network: b.roster.Network, Monitors: []bounty.Monitor{{Name: m.cfg.Name}}}
	votes := bounty.NewSheet(month)
	for i, h := range known.Hours {
		votes.Set(m.cfg.Name, month.First()+evidence.Hour(i), bounty.Vote{Value: h.Vote, Why: h.Why})
	}
	return bounty.CountUptime(b.rules, alone, relay, votes, now)
}

// month is one relay's month for people and machines to look at.
func (m *Monitor) month(id string, month evidence.Month, now time.Time) (web.Month, error) {
	b := m.basis()
	relay := b.roster.Relay(id)
	first, this := max(m.store.First(), relayFrom(relay)).Month(), evidence.MonthOf(now)
	if relay == nil || month < first || month > this {
		return web.Month{}, web.ErrNotFound
	}
	known, err := b.history.Month(id, month)
	if err != nil {
		return web.Month{}, err
	}
	up := m.count(b, relay, month, known, now)
	out := web.Month{
		Monitor: m.cfg.Name, Network: m.cfg.Network, Now: evidence.TimeOf(now), PeerID: id, Operator: relay.Operator, Enrolled: relay.Enrolled,
		Count: web.NewCount(month, up.Hours, b.rules.HoursRequired), Hours: make([]web.MonthHour, len(up.Counts)), Latency: latency(month, known),
		Certificates: nonNil(known.Certificates), Agents: nonNil(known.Agents), More: known.More,
	}
	out.TCP4, out.WSS = relay.At(min(month.End()-1, evidence.HourOf(now))).Multiaddrs(id)
	if entry := b.roster.Monitor(m.cfg.Name, min(month.End()-1, evidence.HourOf(now))); entry != nil {
		out.Recused = entry.Recused(relay)
	}
	for i, c := range up.Counts {
		h := web.MonthHour{Hour: hourShown(c.Hour, known.Hours[i]), State: c.State, Busy: c.Busy}
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
	out.Last = m.last(id)
	if n := len(known.Agents); n > 0 {
		list, _ := m.updates.Newest()
		out.Release = released(list, known.Agents[n-1].Agent, now)
	}
	return out, nil
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
func latency(month evidence.Month, known history.Relay) []web.Latency {
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
// and vouchers are left to "relaymon explain", which verifies the month for them.
func (m *Monitor) story(id string, hour evidence.Hour, now time.Time) (history.Story, error) {
	b := m.basis()
	relay := b.roster.Relay(id)
	if relay == nil || hour < m.store.First() || hour > evidence.HourOf(now) {
		return history.Story{}, web.ErrNotFound
	}
	f := history.Facts{Monitor: m.cfg.Name, Rules: b.rules, Roster: b.roster, Relay: relay, Hour: hour, Now: now}
	header, err := m.store.Header(hour)
	switch {
	case err == nil:
		f.Verified = &evidence.VerifiedHour{Header: header}
	case !errors.Is(err, fs.ErrNotExist):
		return history.Story{}, err
	}
	records, err := m.store.Records(hour)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return history.Story{}, err
	}
	if i := slices.IndexFunc(records, func(r evidence.Record) bool { return r.PeerID == id }); i >= 0 {
		f.Record = &records[i]
	}
	return history.Tell(f), nil
}

package monitor

import (
	"errors"
	"io/fs"
	"net/http"
	"time"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/checkpage"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/web"
)

// shownHours is how many hours the overview goes back.
const shownHours = 24

// pages are the status pages, and the page on which visitors check relays with
// their own browser: at first those under judgement.
func (m *Monitor) pages() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /check/", http.StripPrefix("/check", checkpage.Handler(func() (wss []string) {
		h := evidence.HourOf(time.Now())
		for _, id := range m.targets(h) {
			_, addr := m.roster.Relay(id).At(h).Multiaddrs(id)
			wss = append(wss, addr)
		}
		return wss
	})))
	mux.Handle("/", web.Handler(func() (web.Overview, error) { return m.overview(time.Now()) }, m.log))
	return mux
}

func (m *Monitor) overview(now time.Time) (web.Overview, error) {
	this := evidence.HourOf(now)
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
	index := map[string]int{}
	for _, id := range m.targets(this) {
		r := m.roster.Relay(id)
		tcp4, wss := r.At(this).Multiaddrs(id)
		index[id] = len(o.Relays)
		o.Relays = append(o.Relays, web.Relay{
			PeerID: id, Operator: r.Operator, TCP4: tcp4, WSS: wss, Announced: m.ladder.announced(id),
			Hours: make([]web.Hour, shownHours),
		})
	}
	for i := range shownHours {
		h := this - shownHours + 1 + evidence.Hour(i)
		if err := m.addHour(&o, index, i, h); err != nil {
			return o, err
		}
	}
	return o, nil
}

// addHour fills in what the log holds of one hour.
func (m *Monitor) addHour(o *web.Overview, index map[string]int, i int, h evidence.Hour) error {
	header, err := m.store.Header(h)
	open := errors.Is(err, fs.ErrNotExist)
	if err != nil && !open {
		return err
	}
	records, err := m.store.Records(h)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for n := range o.Relays {
		o.Relays[n].Hours[i] = web.Hour{Hour: h, Why: "nothing recorded", Open: open && h >= m.store.First()}
	}
	for _, rec := range records {
		n, ok := index[rec.PeerID]
		if !ok {
			continue
		}
		ballot := bounty.VoteOf(m.rules, m.roster, m.roster.Relay(rec.PeerID), &rec, header.Controls, nil)
		hour := &o.Relays[n].Hours[i]
		hour.Vote, hour.Why = ballot.Value, ""
		if ballot.Value == bounty.Unknown {
			hour.Why = ballot.Why.String()
		}
		if len(rec.Attempts) > 0 {
			o.Relays[n].Last = &rec.Attempts[len(rec.Attempts)-1]
		}
	}
	return nil
}

package monitor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
	"github.com/psf-relay/relay-appliance/monitor/web"
)

// Watch is the whole of a program that watches: it opens the monitor and runs it until ctx
// ends. The receivers of alerts are told if it is started again and again, or cannot start.
func Watch(ctx context.Context, cfg Config, log *slog.Logger) error {
	file, started := filepath.Join(cfg.DataDir, alert.StartsFile), time.Now()
	count, uncounted := alert.Starts(file, started)
	if uncounted != nil && !errors.Is(uncounted, fs.ErrNotExist) { // without the folder there is more to say
		log.Error("starts of the program cannot be counted", "err", uncounted)
	}
	m, err := Open(cfg, log)
	if err == nil {
		m.starts, m.started = count, started
		if uncounted != nil && count < alert.TooOften {
			m.starts = 0 // there may have been more
		}
		if m.alerts != nil {
			m.alerts.Add(started, m.restarts(started)) // also if it does not get as far as to look
		}
		err = errors.Join(m.Run(ctx), m.Close())
	} else {
		err = durable.Denied(cfg.DataDir, err)
	}
	if err != nil {
		cfg.Alerts.CannotStart(ctx, file, "relaymon", log, cfg.labels(), err)
	}
	return err
}

// restarts is the alert that the program was started too often.
func (m *Monitor) restarts(now time.Time) []alert.Alert {
	return alert.RestartsOften("relaymon", m.cfg.labels(), m.starts, m.started, now)
}

// labels are those of all alerts of this monitor.
func (c Config) labels() map[string]string {
	return map[string]string{"monitor": c.Name, "network": string(c.Network)}
}

// newAlerts is nil if nobody is to be told.
func (m *Monitor) newAlerts() (*alert.Keeper, error) {
	k, err := m.cfg.Alerts.Open(filepath.Join(m.cfg.DataDir, "alerts.json"), "relaymon", m.log)
	if k != nil {
		k.Digest(m.digest)
	}
	return k, err
}

// digested is how many relays the daily message tells of, those in need first.
const digested = 20

// digest is what the daily message says of the month.
func (m *Monitor) digest(now time.Time) []string {
	o, err := m.overview(now)
	if err != nil {
		return []string{"what the relays come to is not known: the log cannot be read"}
	}
	slices.SortStableFunc(o.Relays, func(a, b web.Relay) int { return a.Forecast.Left - b.Forecast.Left })
	var lines []string
	for i := range o.Relays {
		if i == digested {
			lines = append(lines, fmt.Sprintf("and %d relays more, which may lose more hours", len(o.Relays)-digested))
			break
		}
		r := &o.Relays[i]
		lines = append(lines, fmt.Sprintf("relay %s of %s: %s", r.PeerID, r.Operator, r.Words()))
	}
	return lines
}

// raise says which alerts hold now.
func (m *Monitor) raise(ctx context.Context, now time.Time) {
	if m.alerts == nil || ctx.Err() != nil {
		return
	}
	o, err := m.overview(now)
	m.mu.Lock()
	begun, misnamed := m.begun, m.misnamed(now)
	m.mu.Unlock()
	if begun.IsZero() && o.Fault == "" {
		return // just started: it has not looked yet
	}
	taken, unread := m.heldAlerts(now)
	list := slices.Concat(m.monitorAlerts(&o, now), taken, m.restarts(now))
	if err != nil {
		m.log.Error("look for alerts about relays", "err", err)
	}
	if err != nil || misnamed != nil {
		// What is known of the monitor is told all the same; of the relays nothing new is,
		// and by a clock that is wrong nothing is over.
		m.alerts.Add(now, list)
		return
	}
	unsure := m.unsureOfItself(&o, now)
	unsure["UpdateTakenBack"] = unread
	for _, h := range m.alerts.Holding() {
		if unsure[h.Name] && !slices.ContainsFunc(list, func(a alert.Alert) bool { return a.Name == h.Name }) {
			list = append(list, h)
		}
	}
	for i := range o.Relays {
		list = append(list, m.relayAlerts(&o.Relays[i])...)
	}
	m.alerts.Set(now, list)
}

// newAlert is an alert about this monitor itself.
func (m *Monitor) newAlert(name, severity, format string, args ...any) alert.Alert {
	labels := m.cfg.labels()
	labels["severity"] = severity
	return alert.Alert{Name: name, Labels: labels, Summary: fmt.Sprintf(format, args...)}
}

// aboutRelay is how an alert about a relay begins.
const aboutRelay = "relay %s of %s "

// relayAlert is an alert about a relay. Many of a kind become one: many says what is
// said of them all, such as "relays are down".
func (m *Monitor) relayAlert(name, severity string, r *web.Relay, many, format string, args ...any) alert.Alert {
	a := m.newAlert(name, severity, aboutRelay+format, append([]any{r.PeerID, r.Operator}, args...)...)
	a.Of, a.Many = map[string]string{"relay": r.PeerID, "operator": r.Operator}, many
	return a
}

// unsealedAfter is how long after its end an hour may be unsealed before somebody
// is told: it closes after 16 minutes, and votes expire after 60 (rule R9).
const unsealedAfter = 30 * time.Minute

// monitorAlerts are those about the monitor itself.
func (m *Monitor) monitorAlerts(o *web.Overview, now time.Time) []alert.Alert {
	var list []alert.Alert
	if o.Fault != "" {
		list = append(list, m.newAlert("MonitorNotJudging", "critical", "monitor %s judges nothing: %s", m.cfg.Name, o.Fault))
	}
	if o.NotUsed != "" {
		list = append(list, m.newAlert("CommitteeFilesRefused", "critical", "monitor %s goes on with the roster and rules that it read before, since it cannot use them as they are now: %s", m.cfg.Name, o.NotUsed))
	}
	if o.Overload != "" {
		list = append(list, m.newAlert("MonitorOverloaded", "critical", "monitor %s cannot keep up with its roster: %s", m.cfg.Name, o.Overload))
	}
	if o.NotFresh != "" {
		list = append(list, m.newAlert("NothingFresh", "critical", "monitor %s: %s", m.cfg.Name, o.NotFresh))
	}
	if h, blind, tried := m.blind(o); 2*blind > tried {
		list = append(list, m.newAlert("MonitorBlind", "critical", "monitor %s cannot tell whose fault it is (%s): of %d of the %d relays it tried it could tell nothing in %s, so look at its own line", m.cfg.Name, bounty.BlindLine, blind, tried, h))
	}
	m.mu.Lock()
	unheard := m.unheard
	m.mu.Unlock()
	if unheard != nil {
		list = append(list, m.newAlert("SecondResolversSilent", "warning", "monitor %s: %v", m.cfg.Name, unheard))
	}
	// The last hour that should be sealed by now.
	due := evidence.HourOf(now.Add(-time.Hour - unsealedAfter))
	if sealed := m.store.First() + evidence.Hour(m.store.Size()) - 1; due >= m.store.First() && sealed < due {
		list = append(list, m.newAlert("HourUnsealed", "critical", "monitor %s has not sealed %s: without a checkpoint in time its votes do not count (R9)", m.cfg.Name, sealed+1))
	} else if n := m.cosignedBy(o, due); n < m.required(due) {
		list = append(list, m.newAlert("HourUnsealed", "critical", "%d of the %d required witnesses have cosigned monitor %s's hour %s: its votes will not count (R9)", n, m.required(due), m.cfg.Name, due))
	}
	if refused, words := m.bucketProblem(now); refused {
		list = append(list, m.newAlert("BucketNotThisLog", "critical", "monitor %s: %s", m.cfg.Name, words))
	} else if words != "" {
		list = append(list, m.newAlert("BucketBehind", "warning", "monitor %s: %s", m.cfg.Name, words))
	}
	if releases, _ := m.updates.Newest(); releases != nil {
		if ends := releases.Ends(now); ends != "" {
			list = append(list, m.newAlert("UpdatesNearExpiry", "warning", "%s", ends))
		}
	}
	return list
}

// unsureOfItself are the names of the alerts about the monitor itself of which it cannot be
// told now whether they hold: those that held go on.
func (m *Monitor) unsureOfItself(o *web.Overview, now time.Time) map[string]bool {
	_, _, tried := m.blind(o)
	releases, _ := m.updates.Newest()
	refused, behind := m.bucketUnsure()
	m.mu.Lock()
	defer m.mu.Unlock()
	return map[string]bool{
		"MonitorNotJudging":     m.store.Held(), // until the witnesses were heard it is not known whether it may sign
		"CommitteeFilesRefused": m.refusedLooks == 1,
		"MonitorOverloaded":     now.Sub(m.started) < schedule.BehindFor,
		"MonitorBlind":          tried == 0 && len(o.Relays) > 0,
		"SecondResolversSilent": !m.heard && m.ladder != nil && len(m.ladder.opts.Second) > 0,
		"BucketNotThisLog":      refused,
		"BucketBehind":          behind,
		"UpdatesNearExpiry":     releases == nil,
		"RestartsOften":         m.starts == 0 && now.Sub(m.started) < time.Hour,
	}
}

// required are the witnesses that must cosign hour h; none if there is none (rule R9).
func (m *Monitor) required(h evidence.Hour) int {
	b := m.basis()
	if m.witnessing == nil || len(m.witnessing.inForce(b.roster, h)) == 0 {
		return 0
	}
	return b.required(h)
}

// cosignedBy counts the witnesses whose last cosignature covers hour h.
func (m *Monitor) cosignedBy(o *web.Overview, h evidence.Hour) int {
	n := 0
	for _, w := range o.Witnesses {
		if m.store.First()+evidence.Hour(w.Size) > h {
			n++
		}
	}
	return n
}

// blind looks at the last hour in which anything was tried: if most relays of it
// cannot be judged for want of controls that worked, the line is to blame.
func (m *Monitor) blind(o *web.Overview) (h evidence.Hour, blind, tried int) {
	for i := shownHours - 2; i >= 0 && tried == 0; i-- { // the last but one: the current hour is not over
		for _, r := range o.Relays {
			hour := r.Hours[i]
			h = hour.Hour
			if hour.Attempts > 0 {
				tried++
			}
			if hour.Vote == bounty.Unknown && hour.Why == bounty.BlindLine.String() {
				blind++
			}
		}
	}
	return h, blind, tried
}

// relayAlerts are those about one relay.
func (m *Monitor) relayAlerts(r *web.Relay) (list []alert.Alert) {
	for _, w := range r.Warnings {
		list = append(list, m.relayAlert(w.Name, w.Severity, r, many[w.Name], "%s", w.Words))
	}
	return list
}

// needs says why somebody should look at the relay, the most urgent first.
func (m *Monitor) needs(r *web.Relay, now time.Time) (list []web.Need) {
	last := evidence.HourOf(now) - 1
	switch v := r.Standing(); {
	case v == bounty.Down:
		list = append(list, web.NeedDown)
	case v == bounty.Unknown && last >= r.Enrolled && last >= m.store.First():
		list = append(list, web.NeedUnknown)
	}
	if expiring(r, now) {
		list = append(list, web.NeedCertificate)
	}
	if slices.ContainsFunc(r.Warnings, func(w web.Warning) bool { return ofTheMonth[w.Name] }) {
		list = append(list, web.NeedMonth)
	}
	if m.outdated(r, now) != nil {
		list = append(list, web.NeedUpdate)
	}
	return list
}

const (
	// downHours in a row make a relay down: one may be a restart.
	downHours = 2
	// recallHours is how far back hours without an answer are skipped over.
	recallHours = 7 * 24
)

// downSince is the first of the hours that are down up to now, if they are as many
// as make an alert; 0: they are not, or it is not known. Hours of which nothing is known
// neither begin nor end it.
func (r *row) downSince(begun evidence.Hour) (first evidence.Hour, unknown bool) {
	down := 0
	for h := r.hour; h > r.hour-recallHours && h >= begun; h-- {
		switch r.at(h).Vote {
		case bounty.Down:
			if down++; down >= downHours {
				first = h
			}
		case bounty.Unknown:
		default: // it was there: the end of the row
			return first, false
		}
	}
	return first, first == 0 && r.hour-recallHours >= begun
}

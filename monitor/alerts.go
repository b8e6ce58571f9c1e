package monitor

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/alert"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/history"
	"github.com/psf-relay/relay-appliance/monitor/web"
)

// AlertsConfig is who is told when something is wrong.
type AlertsConfig struct {
	Webhooks      []string `yaml:"webhooks"`
	Alertmanagers []string `yaml:"alertmanagers"`
}

// newAlerts is nil if nobody is to be told.
func (m *Monitor) newAlerts() (*alert.Keeper, error) {
	var to []alert.Receiver
	for _, u := range m.cfg.Alerts.Webhooks {
		to = append(to, alert.Webhook(u))
	}
	for _, u := range m.cfg.Alerts.Alertmanagers {
		to = append(to, alert.Alertmanager(u))
	}
	if len(to) == 0 {
		return nil, nil
	}
	return alert.New(filepath.Join(m.cfg.DataDir, "alerts.json"), m.log, to...)
}

// raise says which alerts hold now.
func (m *Monitor) raise(ctx context.Context, now time.Time) {
	if m.alerts == nil || ctx.Err() != nil {
		return
	}
	o, err := m.overview(now)
	if err != nil {
		m.log.Error("look for alerts", "err", err)
		return
	}
	m.mu.Lock()
	begun := m.begun
	m.mu.Unlock()
	if begun.IsZero() && o.Fault == "" {
		return // just started: it has not looked yet
	}
	list := append(m.monitorAlerts(&o, now), m.heldAlerts(now)...)
	for i := range o.Relays {
		more, err := m.relayAlerts(&o.Relays[i], now)
		if err != nil {
			m.log.Error("look for alerts", "err", err)
			return
		}
		list = append(list, more...)
	}
	m.alerts.Set(now, list)
}

// newAlert is an alert of this monitor, about a relay unless that is nil.
func (m *Monitor) newAlert(name, severity string, relay *web.Relay, format string, args ...any) alert.Alert {
	labels := map[string]string{"monitor": m.cfg.Name, "network": string(m.cfg.Network), "severity": severity}
	if relay != nil {
		labels["relay"], labels["operator"] = relay.PeerID, relay.Operator
	}
	return alert.Alert{Name: name, Labels: labels, Summary: fmt.Sprintf(format, args...)}
}

// unsealedAfter is how long after its end an hour may be unsealed before somebody
// is told: it closes after 16 minutes, and votes expire after 60 (rule R9).
const unsealedAfter = 30 * time.Minute

// monitorAlerts are those about the monitor itself.
func (m *Monitor) monitorAlerts(o *web.Overview, now time.Time) []alert.Alert {
	var list []alert.Alert
	if o.Fault != "" {
		list = append(list, m.newAlert("MonitorNotJudging", "critical", nil, "monitor %s judges nothing: %s", m.cfg.Name, o.Fault))
	}
	if h, why := m.blind(o); why != "" {
		list = append(list, m.newAlert("MonitorBlind", "critical", nil, "monitor %s cannot tell whose fault it is (%s): of no relay could it tell anything in %s, so look at its own line", m.cfg.Name, why, h))
	}
	// The last hour that should be sealed by now.
	due := evidence.HourOf(now.Add(-time.Hour - unsealedAfter))
	if sealed := m.store.First() + evidence.Hour(m.store.Size()) - 1; due >= m.store.First() && sealed < due {
		list = append(list, m.newAlert("HourUnsealed", "critical", nil, "monitor %s has not sealed %s: without a checkpoint in time its votes do not count (R9)", m.cfg.Name, sealed+1))
	} else if n := m.cosignedBy(o, due); n < m.required(due) {
		list = append(list, m.newAlert("HourUnsealed", "critical", nil, "%d of the %d required witnesses have cosigned monitor %s's hour %s: its votes will not count (R9)", n, m.required(due), m.cfg.Name, due))
	}
	if releases, _ := m.updates.Newest(); releases != nil {
		if ends := releases.Ends(now); ends != "" {
			list = append(list, m.newAlert("UpdatesNearExpiry", "warning", nil, "%s", ends))
		}
	}
	return list
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

// blind looks at the last hour in which anything was tried: if no relay of it can
// be judged for want of controls that worked, the line is to blame.
func (m *Monitor) blind(o *web.Overview) (evidence.Hour, string) {
	for i := shownHours - 2; i >= 0; i-- { // the last but one: the current hour is not over
		tried, blind := 0, 0
		var h evidence.Hour
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
		if tried > 0 {
			if blind == tried {
				return h, bounty.BlindLine.String()
			}
			return h, ""
		}
	}
	return 0, ""
}

// relayAlerts are those about one relay.
func (m *Monitor) relayAlerts(r *web.Relay, now time.Time) ([]alert.Alert, error) {
	var list []alert.Alert
	since, err := m.downSince(r.PeerID, evidence.HourOf(now))
	if err != nil {
		return nil, err
	}
	if since != 0 {
		list = append(list, m.newAlert("RelayDown", "critical", r, "relay %s of %s is down since %s", r.PeerID, r.Operator, since))
	}
	// The newest certificate, near its end: renewal is due when a third of its life
	// is left, so that something is wrong when half of that has passed.
	if c := r.Certificate; c != nil && r.Last != nil && r.Last.Facts.Certificate != nil && c.SHA256 == r.Last.Facts.Certificate.SHA256 &&
		c.NotAfter.Sub(now) < c.NotAfter.Sub(c.NotBefore.Time)/6 {
		list = append(list, m.newAlert("CertificateNearExpiry", "warning", r, "the certificate of relay %s of %s is valid until %s and was not renewed", r.PeerID, r.Operator, c.NotAfter))
	}
	if l := r.Release; l != nil && l.Installed != "" && l.Installed != l.Newest && now.Sub(l.Published.Time) >= m.basis().rules.ReleaseGrace {
		list = append(list, m.newAlert("RelayOutdated", "warning", r, "relay %s of %s runs %s, although %s is out for %d days (R13)", r.PeerID, r.Operator, l.Installed, l.Newest, l.Days))
	}
	if c := r.Count; c.Spare < 0 && c.Needed > 0 {
		list = append(list, m.newAlert("MonthOutOfReach", "warning", r, "relay %s of %s cannot reach %d hours in %s any more: %d are up, %d unknown, %d to come, as monitor %s counts",
			r.PeerID, r.Operator, c.Required, c.Month, c.Up, c.Unknown, c.Remaining, m.cfg.Name))
	}
	return list, nil
}

const (
	// downHours in a row make a relay down: one may be a restart.
	downHours = 2
	// recallHours is how far back hours without an answer are skipped over.
	recallHours = 7 * 24
)

// downSince is the first of the hours that are down up to now, if they are as many
// as make an alert; 0: they are not. Hours of which nothing is known neither begin
// nor end it.
func (m *Monitor) downSince(id string, this evidence.Hour) (evidence.Hour, error) {
	var first evidence.Hour
	var of history.Relay
	month := evidence.Month(-1)
	down := 0
	for h := this; h > this-recallHours && h >= m.store.First(); h-- {
		if h.Month() != month {
			month = h.Month()
			var err error
			if of, err = m.basis().history.Month(id, month); err != nil {
				return 0, err
			}
		}
		switch of.Hours[h-month.First()].Vote {
		case bounty.Down:
			down++
			first = h
		case bounty.Unknown:
		default:
			h = this - recallHours // it was there: the end of the row
		}
	}
	if down < downHours {
		return 0, nil
	}
	return first, nil
}

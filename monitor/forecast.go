package monitor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/internal/certs"
	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/web"
)

// many is what is said of several relays with one warning.
var many = map[string]string{
	alert.RelayDown:             "relays are down",
	alert.MonthOutOfReach:       "relays cannot reach the hours of this month any more",
	alert.SlackNearlyUsed:       "relays have used 80 % of the hours that they may lose this month",
	alert.SlackPace:             "relays lose hours so fast that the month will be lost",
	alert.SlackHalfUsed:         "relays have used half of the hours that they may lose this month",
	alert.BusyHoursNearlyUsed:   "relays have nearly used the busy hours that count as up (R8)",
	alert.UpdateDue:             "relays must be updated before the month ends (R13)",
	alert.RelayOutdated:         "relays run a version that is too old (R13)",
	alert.CertificateNearExpiry: "relays did not renew their certificates",
	alert.DomainLeadsElsewhere:  "relays have a domain that leads to another address (R11)",
	alert.BrowserCheckFailed:    "relays failed a check by a real browser that was not repeated with success (R15)",
}

// ofTheMonth are the warnings about the hours of a month.
var ofTheMonth = map[string]bool{alert.MonthOutOfReach: true, alert.SlackNearlyUsed: true, alert.SlackPace: true, alert.SlackHalfUsed: true, alert.BusyHoursNearlyUsed: true}

const (
	halfUsed, nearlyUsed = 50, 80 // percent of a month's slack
	busyNearly           = 80     // percent of the busy hours that count as up
	// updateDue is how long before the month's end rule R13 becomes urgent.
	updateDue = 5 * 24 * time.Hour
)

// warnings say what threatens a relay's month while it can still be mended, the most
// urgent first.
func (m *Monitor) warnings(r *web.Relay, now time.Time) []web.Warning {
	list := []web.Warning{}
	warn := func(name, severity, format string, args ...any) {
		list = append(list, web.Warning{Name: name, Severity: severity, Words: fmt.Sprintf(format, args...)})
	}
	if r.DownSince != 0 {
		warn(alert.RelayDown, "critical", "is down since %s", r.DownSince)
	}
	m.warnOfHours(r, warn)
	m.warnOfTerms(r, now, warn)
	return list
}

// unsure names the warnings of which it cannot be told now whether they hold, as when
// nothing was seen since a restart.
func (m *Monitor) unsure(r *web.Relay, now time.Time) (names []string) {
	list, _ := m.updates.Newest()
	noVersion := list == nil || r.Agent == ""
	for name, unknown := range map[string]bool{
		alert.RelayDown:             r.DownUnknown,
		alert.SlackPace:             r.Forecast.PaceUnknown && !r.Count.Late() && !r.Count.Lost() && r.Count.Needed > 0,
		alert.UpdateDue:             noVersion && r.Count.Month.End().Start().Sub(now) <= updateDue,
		alert.RelayOutdated:         noVersion,
		alert.CertificateNearExpiry: r.Certificate == nil || r.Last == nil || r.Last.Facts.Certificate == nil,
		alert.DomainLeadsElsewhere:  r.Last == nil || len(r.Last.Facts.ResolvedIPv4) == 0,
		alert.BrowserCheckFailed:    m.cfg.Browser != "none" && !m.browsing.knows(r.PeerID),
	} {
		if unknown {
			names = append(names, name)
		}
	}
	return names
}

// goOn adds to the warnings of a relay those that it had before and of which nothing new
// is known: what is unknown ends none, nor does a clock that is wrong.
func (m *Monitor) goOn(r *web.Relay, list []web.Warning, unsure []string, misnamed bool) []web.Warning {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.warned[r.PeerID] {
		same := func(o web.Warning) bool { return o.Name == w.Name }
		if (misnamed || slices.Contains(unsure, w.Name)) && !slices.ContainsFunc(list, same) {
			list = append(list, w)
		}
	}
	if misnamed {
		return list // what such a clock says is not remembered
	}
	if m.warned == nil {
		m.warned = map[string][]web.Warning{}
	}
	m.warned[r.PeerID] = list
	return list
}

// recallWarned takes over the warnings that were told before the program started, one by one
// or many as one.
func (m *Monitor) recallWarned() {
	m.warned = map[string][]web.Warning{}
	for _, h := range m.alerts.Holding() {
		if many[h.Name] == "" {
			continue // it is about the monitor
		}
		note := func(id, words string) {
			m.warned[id] = append(m.warned[id], web.Warning{Name: h.Name, Severity: h.Labels["severity"], Words: words})
		}
		if id := h.Labels["relay"]; id != "" {
			note(id, strings.TrimPrefix(h.Summary, fmt.Sprintf(aboutRelay, id, h.Labels["operator"])))
		}
		for _, of := range h.Parts {
			note(of["relay"], "was one of several before this monitor started again: "+many[h.Name])
		}
	}
}

// warner adds a warning.
type warner func(name, severity, format string, args ...any)

// warnOfHours tells of the hours of the running month (rules R8 and R10).
func (m *Monitor) warnOfHours(r *web.Relay, warn warner) {
	c, f := r.Count, r.Forecast
	if c.Late() || c.Needed == 0 {
		return // there is nothing to lose, or nothing that can be lost any more
	}
	if c.Lost() {
		warn(alert.MonthOutOfReach, "warning", "cannot reach %d hours in %s any more: %d are up, %d unknown, %d to come, as monitor %s counts%s",
			c.Required, c.Month, c.Up, c.Unknown, c.Remaining, m.cfg.Name, costWords(f))
		return
	}
	used := fmt.Sprintf("%d of the %d hours that it may lose in %s are used, %d are left%s", f.Used, f.Slack, c.Month, f.Left, costWords(f))
	if f.UsedPercent >= nearlyUsed {
		warn(alert.SlackNearlyUsed, "critical", "is near the loss of its month: %s", used)
	}
	if !f.RunsOut.IsZero() {
		warn(alert.SlackPace, "critical", "loses hours so fast that its month will be lost on %s: %s", f.RunsOut.UTC().Format(time.DateOnly), used)
	}
	if f.UsedPercent >= halfUsed {
		warn(alert.SlackHalfUsed, "warning", "has used half of its slack: %s", used)
	}
	if most := m.basis().rulesOf(c.Month).BusyCap; 100*c.Busy >= busyNearly*most && most > 0 {
		warn(alert.BusyHoursNearlyUsed, "warning", "was full in %d hours of %s, of which the first %d count as up: give it more places for guests (R8)", c.Busy, c.Month, most)
	}
}

// costWords say what cost most hours.
func costWords(f bounty.Forecast) string {
	if len(f.Causes) == 0 {
		return ""
	}
	words := f.Words(0)
	return ". " + strings.TrimSuffix(words[len(words)-1], ".")
}

// warnOfTerms tells of what a month needs besides hours (rules R11, R12, R13 and R15).
func (m *Monitor) warnOfTerms(r *web.Relay, now time.Time, warn warner) {
	if left, due := m.mustUpdate(r, now); due {
		warn(alert.UpdateDue, "critical", "must run %s for one hour before %s ends, in %d days, and runs %s (R13)", r.Release.Newest, r.Count.Month, left, r.Release.Installed)
	}
	if expiring(r, now) {
		warn(alert.CertificateNearExpiry, "warning", "has a certificate that is valid until %s and was not renewed", r.Certificate.NotAfter)
	}
	if due := m.outdated(r, now); due != nil {
		warn(alert.RelayOutdated, "warning", "runs %s, although %s is out for %d days (R13)", r.Release.Installed, due.Version, int(now.Sub(due.Published.Time).Hours()/24))
	}
	if ips := m.elsewhere(r, now); len(ips) > 0 {
		warn(alert.DomainLeadsElsewhere, "warning", "has a domain that leads to %s, not to the address in the roster: set the A record right, or announce the move with \"relayd move\" (R11)", strings.Join(ips, ", "))
	}
	if look, open := m.browsing.unrepeated(r.PeerID); open {
		until := look.at.Add(m.basis().rulesOf(r.Count.Month).BrowserRepeat)
		if now.Before(until) {
			warn(alert.BrowserCheckFailed, "warning", "could not be used by a real browser at %s (%s): a check that succeeds before %s makes up for it (R15)", look.at, look.class, evidence.TimeOf(until))
		} else {
			warn(alert.BrowserCheckFailed, "warning", "could not be used by a real browser at %s (%s), and no check succeeded within a day: the committee will look at it (R15)", look.at, look.class)
		}
	}
}

// mustUpdate says whether the month still lacks its hour with a release that is new enough
// although it ends soon, in left days.
func (m *Monitor) mustUpdate(r *web.Relay, now time.Time) (left int, due bool) {
	ends := r.Count.Month.End().Start()
	list, _ := m.updates.Newest()
	if list == nil || r.Release == nil || r.Release.Installed == "" || ends.Sub(now) > updateDue {
		return 0, false
	}
	f := bounty.Software(m.basis().rulesOf(r.Count.Month), list, r.Count.Month, r.MonthAgents)
	return int(ends.Sub(now).Hours() / 24), f.Outcome == bounty.Fail
}

// elsewhere is where the relay's domain led in its last attempt, if not to its address.
func (m *Monitor) elsewhere(r *web.Relay, now time.Time) []string {
	relay := m.basis().roster.Relay(r.PeerID)
	if r.Last == nil || relay == nil {
		return nil
	}
	ips, want := r.Last.Facts.ResolvedIPv4, relay.At(evidence.HourOf(now)).IPv4
	if !slices.ContainsFunc(ips, func(ip string) bool { return ip != want }) {
		return nil
	}
	return ips
}

// expiring says whether the newest certificate is near its end and should have been
// renewed by now.
func expiring(r *web.Relay, now time.Time) bool {
	c := r.Certificate
	return c != nil && r.Last != nil && r.Last.Facts.Certificate != nil && c.SHA256 == r.Last.Facts.Certificate.SHA256 &&
		certs.Overdue(c.NotBefore.Time, c.NotAfter.Time, now)
}

// outdated is the release that the relay should run at least by now; nil: it does, or
// nothing is known.
func (m *Monitor) outdated(r *web.Relay, now time.Time) *release.Release {
	list, _ := m.updates.Newest()
	if list == nil || r.Release == nil {
		return nil
	}
	p, runs := list.Find(r.Agent)
	if p == nil || runs < 0 {
		return nil
	}
	due := p.Due(now, m.basis().rulesOf(evidence.MonthOf(now)).ReleaseGrace)
	if runs >= due {
		return nil
	}
	return &p.Releases[due]
}

package relay

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/status"
)

const (
	alertsFile = "alerts.json"
	raiseEvery = time.Minute
	// patience is how long a requirement must be unmet: longer than the pause between two
	// looks of the checkup, and than a start takes.
	patience = 15 * time.Minute
	// steadyFor is how long an alert of monitors goes on after they last gave it.
	steadyFor = time.Hour
	// silentMonitors is how long no monitor may have answered.
	silentMonitors = 6 * time.Hour
)

const updateTakenBack = "UpdateTakenBack"

const (
	critical = "critical"
	warning  = "warning"
)

// unmetAlert is the alert of a requirement that is not met. monitoring/alerts.yaml has the
// same ones for Prometheus, a test compares them.
type unmetAlert struct {
	requirement, name, severity string
	says                        string // of the relay
	patience                    time.Duration
}

// unmetAlerts are those of all requirements but two, of which only monitors can tell.
var unmetAlerts = []unmetAlert{
	{"service", "RelayNotServing", critical, "does not serve", patience},
	{"ipv4", "AddressChanged", critical, "is not at the address that it announces", patience},
	{"records", "DomainLeadsElsewhere", critical, "is not where its domain leads", patience},
	{"tcp", "RelayNotReachable", critical, "is not reachable from outside by TCP", patience},
	{"wss", "RelayNotReachable", critical, "is not reachable from outside by WSS", patience},
	{"certificate", "CertificateNotRenewed", critical, "has no good certificate, or did not renew it", patience},
	{"announcement", "RelayNotHeard", critical, "is not heard in the PSF network", patience},
	{"names", "AddressIgnored", warning, "has an address that PSF peers ignore", patience},
	{"software", "RelayOutdated", warning, "runs a version that is too old", patience},
	{"clock", "ClockWrong", warning, "has a wrong clock", patience},
	{"disk", "DiskNearlyFull", warning, "has no room on its disk", patience},
	{"files", "OpenFilesShort", warning, "has too few open files", patience},
	{"budget", "BudgetSpent", critical, "has spent its transfer budget of the month", 0},
}

// alerter tells the operator what is wrong with the relay.
type alerter struct {
	file string
	log  *slog.Logger
	// starts is how often the program was started within the hour before started.
	starts  int
	started time.Time
	// unmet is since when each requirement is not met, as far as this process knows.
	unmet map[string]time.Time
	// said is when monitors last gave each alert of theirs.
	said map[string]time.Time

	mu      sync.Mutex
	keeper  *alert.Keeper // nil: nobody is to be told
	fault   string        // why alerts are not sent
	changed chan struct{} // the receivers did
}

func newAlerter(dataDir string, log *slog.Logger) *alerter {
	return &alerter{file: filepath.Join(dataDir, alertsFile), log: log, unmet: map[string]time.Time{}, said: map[string]time.Time{}, started: time.Now(), changed: make(chan struct{}, 1)}
}

// change says that there are other receivers.
func (a *alerter) change() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// run tells the receivers until ctx ends. A fault of its own is logged and shown, and
// never keeps the relay from its work.
func (a *alerter) run(ctx context.Context, cfg func() config.Config, state func() status.Status) {
	for ctx.Err() == nil {
		k, err := cfg().Alerts.Open(a.file, "relayd", a.log)
		a.mu.Lock()
		a.keeper, a.fault = k, ""
		if err != nil {
			a.fault = "alerts are not sent: " + err.Error()
			a.log.Error("alerts are not sent", "error", err)
		}
		a.mu.Unlock()
		a.serve(ctx, k, cmp.Or(cfg().Test.CheckupEvery, raiseEvery), state)
	}
}

// serve works until ctx ends or the receivers change. Then nobody uses the file.
func (a *alerter) serve(ctx context.Context, k *alert.Keeper, pause time.Duration, state func() status.Status) {
	ctx, end := context.WithCancel(ctx)
	var sending sync.WaitGroup
	defer sending.Wait()
	defer end()
	if k != nil {
		k.Digest(func(time.Time) []string { return monitorLines(state()) })
		k.Add(a.started, a.restarts(state(), a.started)) // also if it does not get as far as to look
		sending.Go(func() { k.Run(ctx) })
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.changed:
			return
		case now := <-tick.C:
			a.raise(k, state(), now)
		}
	}
}

// raise says which alerts hold now.
func (a *alerter) raise(k *alert.Keeper, s status.Status, now time.Time) {
	for _, q := range s.Requirements {
		if q.Outcome != status.NotMet {
			delete(a.unmet, q.Name)
		} else if a.unmet[q.Name].IsZero() {
			a.unmet[q.Name] = now
		}
	}
	if k != nil {
		held := k.Holding()
		list := a.steady(alertsOf(s, a.unmet, held, now), held, now)
		k.Set(now, append(list, a.restarts(s, now)...))
	}
}

// steady adds the alerts of monitors that they gave a short while ago: one that says another
// thing each time it is asked would else send a message each time.
func (a *alerter) steady(list, held []alert.Alert, now time.Time) []alert.Alert {
	for _, given := range list {
		if given.Labels["source"] == alert.ByMonitors && given.Since.IsZero() { // not merely gone on with
			a.said[given.Name] = now
		}
	}
	for _, h := range held {
		if _, ok := find(list, h); !ok && h.Labels["source"] == alert.ByMonitors && now.Sub(a.said[h.Name]) < steadyFor {
			list = append(list, h)
		}
	}
	return list
}

// restarts is the alert that the program was started too often.
func (a *alerter) restarts(s status.Status, now time.Time) []alert.Alert {
	return alert.RestartsOften("relayd", map[string]string{"relay": s.PeerID}, a.starts, a.started, now)
}

// monitorLines are what the daily message says of the month: what the monitors count.
func monitorLines(s status.Status) (lines []string) {
	for _, m := range s.Monitors {
		lines = append(lines, m.Host()+": "+m.Words())
	}
	return lines
}

// state is what metrics and status page tell.
func (a *alerter) state() (k *alert.Keeper, fault string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.keeper, a.fault
}

// warnings are what the status page says of alerts that do not arrive.
func (a *alerter) warnings() []string {
	k, fault := a.state()
	switch {
	case fault != "":
		return []string{fault}
	case k == nil:
		return nil
	}
	return k.Failing()
}

// alertsOf are the alerts that hold: what is wrong by the relay's state, with the time
// since when requirements are not met. What is not known begins no alert and ends none of
// those that were held before: so a restart ends none.
func alertsOf(s status.Status, unmet map[string]time.Time, held []alert.Alert, now time.Time) []alert.Alert {
	list := requirementAlerts(s, unmet, held, now)
	spent := newAlert(s, "BudgetNearlySpent", warning, nil, "relay %s has carried %d %% of its transfer budget of the month (limits.month). When it is spent, reservations and circuits are refused: raise it if the provider allows more.", s.Name, s.Traffic.Percent())
	switch known, was := find(held, spent); {
	case s.Traffic.Budget > 0 && s.Traffic.Percent() >= status.NearlySpent:
		list = append(list, spent)
	case s.Traffic.Budget > 0 && !s.Traffic.Lost.IsZero() && was: // what was carried before is not counted
		list = append(list, known)
	}
	switch {
	case s.MaintenanceUnknown:
		list = append(list, named(held, updateTakenBack)...)
	case s.Maintenance != nil:
		for _, h := range s.Maintenance.Held {
			list = append(list, newAlert(s, updateTakenBack, warning, map[string]string{"package": h.Package, "version": h.Version},
				"the update to %s %s on the machine of relay %s was taken back at %s: %s. relay-appliance updates says more.", h.Package, h.Version, s.Name, h.Since.UTC().Format("2006-01-02 15:04 MST"), h.Why))
		}
	}
	return append(list, monitorAlerts(s, held, now)...)
}

// newAlert is one about the relay. Of alerts about a relay relaymon has the same labels.
func newAlert(s status.Status, name, severity string, labels map[string]string, format string, args ...any) alert.Alert {
	all := map[string]string{"relay": s.PeerID, "severity": severity}
	maps.Copy(all, labels)
	return alert.Alert{Name: name, Labels: all, Summary: fmt.Sprintf(format, args...)}
}

// named are the alerts of a name among those that are held.
func named(held []alert.Alert, name string) []alert.Alert {
	return slices.DeleteFunc(slices.Clone(held), func(a alert.Alert) bool { return a.Name != name })
}

// find finds an alert among those that are held.
func find(held []alert.Alert, a alert.Alert) (alert.Alert, bool) {
	i := slices.IndexFunc(held, func(h alert.Alert) bool { return h.Name == a.Name && maps.Equal(h.Labels, a.Labels) })
	if i < 0 {
		return alert.Alert{}, false
	}
	return held[i], true
}

// requirementAlerts are those about requirements that are not met for long enough. Without
// a domain, or outside the PSF network, the relay is as its operator wants it.
func requirementAlerts(s status.Status, unmet map[string]time.Time, held []alert.Alert, now time.Time) (list []alert.Alert) {
	for _, u := range unmetAlerts {
		ofDomain := u.requirement == "records" || u.requirement == "wss" || u.requirement == "certificate"
		if ofDomain && s.Certificate == nil || u.requirement == "announcement" && s.PSF == nil && s.Ready {
			continue
		}
		// That it refuses everybody is then the other one's to say.
		if u.requirement == "service" && s.Requirement("budget").Outcome == status.NotMet {
			continue
		}
		q := s.Requirement(u.requirement)
		a := newAlert(s, u.name, u.severity, map[string]string{"requirement": u.requirement}, "relay %s %s: %s. %s", s.Name, u.says, q.Found, q.Cure)
		known, was := find(held, a)
		since := unmet[u.requirement]
		switch {
		case q.Outcome == status.NotMet && (was || !since.IsZero() && now.Sub(since) >= u.patience):
			list = append(list, a)
		case q.Outcome == status.Unknown && was:
			list = append(list, known)
		}
	}
	return list
}

// monitorAlerts are what monitors warn of, and that none answers.
func monitorAlerts(s status.Status, held []alert.Alert, now time.Time) []alert.Alert {
	if len(s.Monitors) == 0 {
		return nil
	}
	list := silentAlert(s, held, now)
	judging, unclear := 0, false
	given := map[string][]status.MonitorWarning{} // by name, each monitor once
	for _, m := range s.Monitors {
		unclear = unclear || m.Asked.IsZero()
		if m.Claim == nil {
			continue
		}
		judging++
		once := map[string]bool{}
		for _, w := range m.Warnings {
			if !once[w.Name] {
				once[w.Name] = true
				// Named by its address: the name is what it calls itself.
				w.Words = fmt.Sprintf("monitor %s says of relay %s: %s", m.Host(), s.Name, w.Words)
				given[w.Name] = append(given[w.Name], w)
			}
		}
	}
	if unclear || judging == 0 { // as after a start, while some are still to be asked
		for _, h := range held {
			if h.Labels["source"] == alert.ByMonitors {
				list = append(list, h)
			}
		}
		return list
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		by := given[name]
		if 2*len(by) < judging {
			continue
		}
		grave := slices.DeleteFunc(slices.Clone(by), func(w status.MonitorWarning) bool { return w.Severity != critical })
		severity, words := warning, by[0].Words
		if 2*len(grave) > judging {
			severity, words = critical, grave[0].Words
		}
		list = append(list, newAlert(s, name, severity, map[string]string{"source": alert.ByMonitors}, "%s", words))
	}
	return list
}

// silentAlert holds while no monitor has answered for too long.
func silentAlert(s status.Status, held []alert.Alert, now time.Time) []alert.Alert {
	a := newAlert(s, "MonitorsSilent", warning, nil, "none of the %d monitors of relay %s has answered for 6 hours. Look whether the relay's machine reaches them, and whether the addresses below monitors are right.", len(s.Monitors), s.Name)
	since := s.Started
	for _, m := range s.Monitors {
		if m.Answered.After(since) {
			since = m.Answered
		}
	}
	_, was := find(held, a)
	if s.Started.IsZero() || now.Sub(since) < silentMonitors && (!was || since.After(s.Started)) {
		return nil
	}
	return []alert.Alert{a}
}

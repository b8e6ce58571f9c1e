package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/internal/maintenance"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// names of alerts, with the requirement, in order.
func names(list []alert.Alert) string {
	var out []string
	for _, a := range list {
		out = append(out, strings.TrimSuffix(a.Name+" "+a.Labels["requirement"]+a.Labels["source"], " "))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// unmetStatus is the state of a relay with a domain and monitors, with such requirements.
func unmetStatus(started time.Time, outcome status.Outcome, requirements ...string) status.Status {
	s := status.Status{Name: "alice", PeerID: "12D3KooW", Ready: true, Started: started, Certificate: &status.Certificate{}, PSF: &status.PSFStatus{}}
	for _, name := range requirements {
		s.Requirements = append(s.Requirements, status.Requirement{Name: name, Outcome: outcome, Found: "found", Cure: "Mend it."})
	}
	return s
}

func TestAlertsOf(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		change func(*status.Status)
		want   string
	}{
		"all is well":    {func(*status.Status) {}, ""},
		"not looked yet": {func(s *status.Status) { s.Requirements = nil }, ""},
		"79 %":           {func(s *status.Status) { s.Traffic = status.Traffic{Bytes: 799, Budget: 1000} }, ""},
		"80 %":           {func(s *status.Status) { s.Traffic = status.Traffic{Bytes: 800, Budget: 1000} }, "BudgetNearlySpent"},
		"no budget":      {func(s *status.Status) { s.Traffic = status.Traffic{Bytes: 800} }, ""},
		"an update taken back": {func(s *status.Status) {
			s.Maintenance = &maintenance.Notice{Held: []maintenance.Held{{Package: "relayd", Version: "1.3.0", Since: now, Why: "it did not relay"}}}
		}, "UpdateTakenBack"},
		"a planned restart": {func(s *status.Status) { s.Maintenance = &maintenance.Notice{Planned: &maintenance.Planned{}} }, ""},
		"all that can be":   {func(s *status.Status) { *s = unmetStatus(now, status.NotMet, requirementNames()...) }, "AddressChanged ipv4, AddressIgnored names, BudgetSpent budget, CertificateNotRenewed certificate, ClockWrong clock, DiskNearlyFull disk, DomainLeadsElsewhere records, OpenFilesShort files, RelayNotHeard announcement, RelayNotReachable tcp, RelayNotReachable wss, RelayOutdated software"},
		"as its operator wants": {func(s *status.Status) {
			*s = unmetStatus(now, status.NotMet, "records", "wss", "certificate", "announcement")
			s.Certificate, s.PSF = nil, nil
		}, ""},
		"not known":   {func(s *status.Status) { *s = unmetStatus(now, status.Unknown, requirementNames()...) }, ""},
		"not serving": {func(s *status.Status) { *s = unmetStatus(now, status.NotMet, "service") }, "RelayNotServing service"},
	} {
		s := unmetStatus(now, status.Met, requirementNames()...)
		c.change(&s)
		unmet := map[string]time.Time{}
		for _, q := range s.Requirements {
			if q.Outcome == status.NotMet {
				unmet[q.Name] = now.Add(-patience)
			}
		}
		list := alertsOf(s, unmet, nil, now)
		if got := names(list); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
		for _, a := range list {
			if a.Labels["relay"] != s.PeerID || a.Labels["severity"] != critical && a.Labels["severity"] != warning || !strings.Contains(a.Summary, "alice") || strings.Contains(a.Summary, "%!") {
				t.Errorf("%s: got %+v", name, a)
			}
		}
	}
	a := alertsOf(unmetStatus(now, status.NotMet, "tcp"), map[string]time.Time{"tcp": now.Add(-patience)}, nil, now)[0]
	if want := "relay alice is not reachable from outside by TCP: found. Mend it."; a.Summary != want {
		t.Errorf("got %q, want %q", a.Summary, want)
	}
}

func requirementNames() (out []string) {
	for _, u := range unmetAlerts {
		out = append(out, u.requirement)
	}
	return out
}

// What is not met must be so for some time, what is spent need not.
func TestAlertsArePatient(t *testing.T) {
	now := time.Now()
	k, err := alert.New(filepath.Join(t.TempDir(), alertsFile), relaytest.Log(t))
	relaytest.Must(t, err)
	a := newAlerter(t.TempDir(), relaytest.Log(t))
	step := func(d time.Duration, outcome status.Outcome, want string) {
		t.Helper()
		now = now.Add(d)
		a.raise(k, unmetStatus(now, outcome, "tcp", "budget"), now)
		if got := names(k.Holding()); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	step(0, status.NotMet, "BudgetSpent budget")
	step(patience-time.Second, status.NotMet, "BudgetSpent budget")
	step(0, status.Met, "")
	step(2*time.Second, status.NotMet, "BudgetSpent budget") // it counts from here
	step(patience, status.NotMet, "BudgetSpent budget, RelayNotReachable tcp")
	step(time.Hour, status.Unknown, "BudgetSpent budget, RelayNotReachable tcp") // which ends nothing
	step(time.Minute, status.Met, "")
	step(time.Minute, status.Unknown, "")
}

// What cannot be read, or is not known, ends nothing either.
func TestUnknownEndsNoAlert(t *testing.T) {
	now := time.Now()
	whole := unmetStatus(now, status.Met)
	whole.Traffic = status.Traffic{Bytes: 800, Budget: 1000}
	whole.Maintenance = &maintenance.Notice{Held: []maintenance.Held{{Package: "relayd", Version: "1.3.0", Since: now, Why: "it did not relay"}}}
	held := alertsOf(whole, nil, nil, now)
	unknown := unmetStatus(now, status.Met)
	unknown.Traffic = status.Traffic{Bytes: 1, Budget: 1000, Lost: now}
	unknown.MaintenanceUnknown = true
	if got, want := names(alertsOf(unknown, nil, held, now)), "BudgetNearlySpent, UpdateTakenBack"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := names(alertsOf(unknown, nil, nil, now)); got != "" {
		t.Errorf("got %q begun by what is not known", got)
	}
	known := unknown
	known.Traffic.Lost, known.MaintenanceUnknown = time.Time{}, false
	if got := names(alertsOf(known, nil, held, now)); got != "" {
		t.Errorf("got %q, want all to be over", got)
	}
}

// A restart neither ends what holds nor tells it anew, and what has been mended meanwhile
// is over as soon as that was seen.
func TestAlertsOutliveARestart(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	file := filepath.Join(dir, alertsFile)
	warns := status.Monitor{URL: "https://m.example/", Asked: now, Answered: now, Claim: &status.Claim{Warnings: []status.MonitorWarning{{Name: "SlackHalfUsed", Severity: warning}}}}
	before, err := alert.New(file, relaytest.Log(t))
	relaytest.Must(t, err)
	a := newAlerter(dir, relaytest.Log(t))
	a.unmet["disk"], a.unmet["announcement"] = now.Add(-time.Hour), now.Add(-time.Hour)
	s := unmetStatus(now, status.NotMet, "disk", "announcement")
	s.Monitors = []status.Monitor{warns}
	a.raise(before, s, now)
	const all = "DiskNearlyFull disk, RelayNotHeard announcement, SlackHalfUsed monitors"
	if got := names(before.Holding()); got != all {
		t.Fatalf("got %s, want %s", got, all)
	}
	since := before.Holding()[0].Since

	now = now.Add(time.Minute)
	after, err := alert.New(file, relaytest.Log(t))
	relaytest.Must(t, err)
	a = newAlerter(dir, relaytest.Log(t))
	young := status.Status{Name: "alice", PeerID: "12D3KooW", Certificate: &status.Certificate{}, Monitors: []status.Monitor{{URL: warns.URL}}} // not looked yet, nobody asked
	a.raise(after, young, now)
	if got := names(after.Holding()); got != all || !after.Holding()[0].Since.Equal(since) {
		t.Errorf("after a restart: got %s since %s, want %s since %s", got, after.Holding()[0].Since, all, since)
	}
	s = unmetStatus(now, status.NotMet, "disk") // without patience
	s.Requirements = append(s.Requirements, status.Requirement{Name: "announcement", Outcome: status.Met})
	warns.Claim = &status.Claim{}
	s.Monitors = []status.Monitor{warns}
	a.raise(after, s, now.Add(time.Minute))
	if got, want := names(after.Holding()), "DiskNearlyFull disk"; got != want {
		t.Errorf("when it has looked: got %s, want %s", got, want)
	}
}

// One monitor of three is not enough, and a warning cannot pass for the relay's own alert.
func TestAlertsOfMonitors(t *testing.T) {
	now := time.Now()
	monitor := func(name string, warnings ...string) status.Monitor {
		c := &status.Claim{Name: name}
		for _, w := range warnings {
			c.Warnings = append(c.Warnings, status.MonitorWarning{Name: w, Severity: warning, Words: "words of " + name})
		}
		return status.Monitor{URL: "https://" + name + ".example/", Asked: now, Answered: now, Claim: c}
	}
	dumb := status.Monitor{URL: "https://dumb.example/", Asked: now, Error: "no answer"}
	unlisted := status.Monitor{URL: "https://other.example/", Asked: now, Answered: now, NotEnrolled: true, Error: "unknown"}
	newcomer := status.Monitor{URL: "https://new.example/"}
	for name, c := range map[string]struct {
		monitors []status.Monitor
		want     string
	}{
		"none":                  {nil, ""},
		"all well":              {[]status.Monitor{monitor("a"), monitor("b")}, ""},
		"one of one":            {[]status.Monitor{monitor("a", "SlackHalfUsed")}, "SlackHalfUsed monitors"},
		"one of two":            {[]status.Monitor{monitor("a", "SlackHalfUsed"), monitor("b")}, "SlackHalfUsed monitors"},
		"one of three":          {[]status.Monitor{monitor("a", "SlackHalfUsed"), monitor("b"), monitor("c")}, ""},
		"one of three, twice":   {[]status.Monitor{monitor("a", "SlackHalfUsed", "SlackHalfUsed"), monitor("b"), monitor("c")}, ""},
		"those that judge it":   {[]status.Monitor{monitor("a", "SlackHalfUsed"), monitor("b"), dumb, unlisted}, "SlackHalfUsed monitors"},
		"not all are asked yet": {[]status.Monitor{monitor("a", "SlackHalfUsed"), newcomer}, ""},
		"the relay's own name":  {[]status.Monitor{monitor("a", "RelayOutdated", "DomainLeadsElsewhere")}, "DomainLeadsElsewhere monitors, RelayOutdated monitors"},
	} {
		s := unmetStatus(now.Add(-time.Hour), status.Met, requirementNames()...)
		s.Monitors = c.monitors
		list := alertsOf(s, nil, nil, now)
		if got := names(list); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
		if name == "one of two" && (len(list) != 1 || list[0].Summary != "monitor a.example says of relay alice: words of a" || list[0].Labels["severity"] != warning) {
			t.Errorf("%s: got %+v", name, list)
		}
		// The words may change while the alert goes on: nothing ends by it.
		if again := names(alertsOf(s, nil, list, now)); again != c.want {
			t.Errorf("%s, again: got %s, want %s", name, again, c.want)
		}
	}
}

// What is critical must be so for more than half, and an alert that comes and goes with each
// answer is one alert.
func TestMonitorsDoNotFlood(t *testing.T) {
	now := time.Now()
	k, err := alert.New(filepath.Join(t.TempDir(), alertsFile), relaytest.Log(t))
	relaytest.Must(t, err)
	a := newAlerter(t.TempDir(), relaytest.Log(t))
	step := func(d time.Duration, severity, want string) {
		t.Helper()
		now = now.Add(d)
		s := unmetStatus(now, status.Met, requirementNames()...)
		for _, host := range []string{"evil", "good"} {
			s.Monitors = append(s.Monitors, status.Monitor{URL: "https://" + host + ".example/", Asked: now, Answered: now, Claim: &status.Claim{}})
		}
		if severity != "" {
			s.Monitors[0].Warnings = []status.MonitorWarning{{Name: "RelayDown", Severity: severity, Words: now.String()}}
		}
		a.raise(k, s, now)
		got := ""
		for _, h := range k.Holding() {
			got += h.Name + " " + h.Labels["severity"] + " since " + h.Since.Sub(now).Truncate(time.Minute).String()
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	step(0, critical, "RelayDown warning since 0s")
	step(10*time.Minute, "", "RelayDown warning since -10m0s")
	step(40*time.Minute, critical, "RelayDown warning since -50m0s")
	step(50*time.Minute, "", "RelayDown warning since -1h40m0s")
	step(10*time.Minute, "", "")
}

func TestAlertsMonitorsSilent(t *testing.T) {
	start := time.Now()
	silent := status.Monitor{URL: "https://a.example/", Asked: start}
	held := []alert.Alert{newAlert(status.Status{PeerID: "12D3KooW"}, "MonitorsSilent", warning, nil, "x")}
	for name, c := range map[string]struct {
		after    time.Duration // the start
		answered time.Time
		held     []alert.Alert
		want     string
	}{
		"for some hours":          {silentMonitors - time.Minute, time.Time{}, nil, ""},
		"since the start":         {silentMonitors, time.Time{}, nil, "MonitorsSilent"},
		"for some hours again":    {20 * time.Hour, start.Add(15 * time.Hour), nil, ""},
		"since it answered":       {20 * time.Hour, start.Add(14 * time.Hour), nil, "MonitorsSilent"},
		"held before the restart": {time.Minute, time.Time{}, held, "MonitorsSilent"},
		"it answers again":        {time.Minute, start.Add(time.Second), held, ""},
	} {
		s := unmetStatus(start, status.Met)
		silent.Answered = c.answered
		s.Monitors = []status.Monitor{silent}
		if got := names(alertsOf(s, nil, c.held, start.Add(c.after))); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// hook is a webhook that keeps what it is told.
type hook struct {
	mu  sync.Mutex
	got []string
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m struct {
		Alerts []struct {
			Status string
			Labels map[string]string
		}
	}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &m)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range m.Alerts {
		h.got = append(h.got, a.Labels["alertname"]+" "+a.Status)
	}
}

func (h *hook) told(what string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains(h.got, what)
}

// A relay that runs tells its operator, after a reload through the new receiver, and shows
// what its monitor says.
func TestOperatorIsTold(t *testing.T) {
	monitor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"monitor":"m2","peer_id":%q,"count":{"month":"2026-11","up":440,"required":600,"needed":160,"spare":104,"remaining":264}}`, filepath.Base(r.URL.Path))
	}))
	defer monitor.Close()
	first, second := &hook{}, &hook{}
	one, two := httptest.NewServer(first), httptest.NewServer(second)
	defer one.Close()
	defer two.Close()

	c := metricsPort(t, relaytest.LabConfig(t))
	c.PSF.Enabled = false
	c.Test.CheckupEvery = 50 * time.Millisecond
	c.Maintenance = filepath.Join(t.TempDir(), "maintenance.json")
	c.Alerts.Webhooks = []alert.URL{alert.URL(one.URL)}
	relaytest.Must(t, maintenance.Write(c.Maintenance, maintenance.Notice{Held: []maintenance.Held{{Package: "relayd", Version: "1.3.0", Since: time.Now(), Why: "it did not relay"}}}))
	r := start(t, c)
	relaytest.Eventually(t, "the first receiver is told", func() bool { return first.told("UpdateTakenBack firing") })
	if _, ok := metricsOf(t, c.Metrics.Listen)["relayd_alerts_holding"]; !ok {
		t.Error("relayd_alerts_holding is not served")
	}

	next := c
	next.Alerts.Webhooks = []alert.URL{alert.URL(two.URL)}
	next.Monitors = []string{monitor.URL + "/monitor/"}
	restart, err := r.Reload(next)
	if err != nil || len(restart) != 0 {
		t.Fatalf("reload: needs a restart for %q, %v", restart, err)
	}
	relaytest.Eventually(t, "the second receiver is told", func() bool { return second.told("UpdateTakenBack firing") })
	relaytest.Must(t, os.Remove(c.Maintenance))
	relaytest.Eventually(t, "and of its end", func() bool { return second.told("UpdateTakenBack resolved") })
	if first.told("UpdateTakenBack resolved") {
		t.Error("the receiver of before the reload was told, too")
	}
	relaytest.Eventually(t, "the monitor's claim is shown", func() bool {
		return strings.Contains(visit(t, r.Relay, "/").Body.String(), "m2, on this machine<p>440 of 600 hours up in 2026-11, 704 are still possible;")
	})
	w := httptest.NewRecorder()
	r.web(r.Status).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/status.json", nil))
	if !strings.Contains(w.Body.String(), next.Monitors[0]) {
		t.Errorf("got %s, want the operator to see the monitor's address", w.Body)
	}
	info, err := os.Stat(filepath.Join(c.DataDir, alertsFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want a file for the relay's user alone", info, err)
	}
}

// State that is damaged is set aside. State that cannot be read keeps no relay from its
// work, is not made anew, and is read by a reload when it is mended.
func TestAlertsStateIsDamaged(t *testing.T) {
	c := relaytest.LabConfig(t)
	c.PSF.Enabled = false
	c.Alerts.Webhooks = []alert.URL{"http://127.0.0.1:1/"}
	relaytest.Must(t, start(t, c).stop())
	file := filepath.Join(c.DataDir, alertsFile)
	relaytest.Must(t, os.WriteFile(file, []byte("{"), 0o600))
	r := start(t, c)
	opened := func() bool { k, _ := r.alerts.state(); return k != nil }
	relaytest.Eventually(t, "it is set aside", func() bool {
		data, err := os.ReadFile(file + ".damaged")
		return err == nil && string(data) == "{" && opened()
	})
	relaytest.Must(t, r.stop())

	relaytest.Must(t, os.RemoveAll(file))
	relaytest.Must(t, os.Mkdir(file, 0o700))
	r = start(t, c)
	relaytest.Eventually(t, "it says so", func() bool {
		return slices.ContainsFunc(r.Status().Warnings, func(s string) bool { return strings.Contains(s, "alerts are not sent: ") })
	})
	if info, err := os.Stat(file); err != nil || !info.IsDir() || opened() {
		t.Errorf("got %v, %v, want what is there left as it was", info, err)
	}
	relaytest.Must(t, os.Remove(file))
	_, err := r.Reload(c)
	relaytest.Must(t, err)
	relaytest.Eventually(t, "it is opened by a reload", func() bool { return opened() && len(r.Status().Warnings) == 0 })
}

// Prometheus's rules are the same alerts: names, severities, patience, thresholds.
func TestAlertsAreThoseOfPrometheus(t *testing.T) {
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	data, err := os.ReadFile("monitoring/alerts.yaml")
	relaytest.Must(t, err)
	relaytest.Must(t, yaml.Unmarshal(data, &rules))
	want := map[string]string{
		"BudgetNearlySpent": fmt.Sprintf(`warning 0s relayd_month_budget_bytes > 0 and relayd_month_bytes / relayd_month_budget_bytes >= 0.%d`, status.NearlySpent/10),
		"UpdateTakenBack":   `warning 0s relayd_update_taken_back_seconds`,
	}
	for _, u := range unmetAlerts {
		op, of := "=", u.requirement
		if u.name == "RelayNotReachable" {
			op, of = "=~", "tcp|wss"
		}
		want[u.name] = fmt.Sprintf(`%s %s relayd_requirement{requirement%s"%s",outcome="not met"} == 1`, u.severity, u.patience, op, of)
	}
	for _, r := range rules.Groups[0].Rules {
		if w, ok := want[r.Alert]; ok {
			d := time.Duration(0)
			if r.For != "" {
				d, err = time.ParseDuration(r.For)
				relaytest.Must(t, err)
			}
			if got := fmt.Sprintf("%s %s %s", r.Labels["severity"], d, r.Expr); got != w {
				t.Errorf("%s: got %s, want %s", r.Alert, got, w)
			}
			delete(want, r.Alert)
		}
	}
	for name := range want {
		t.Errorf("%s is no rule", name)
	}
	// And operators read of each.
	page, err := os.ReadFile("README.md")
	relaytest.Must(t, err)
	for _, name := range append([]string{"BudgetNearlySpent", "UpdateTakenBack", "MonitorsSilent"}, alertNames()...) {
		if !regexp.MustCompile("`" + name + "`").Match(page) {
			t.Errorf("README.md does not tell of %s", name)
		}
	}
}

func alertNames() (out []string) {
	for _, u := range unmetAlerts {
		out = append(out, u.name)
	}
	return out
}

// Each requirement that can be told from here has an alert.
func TestEveryRequirementHasAnAlert(t *testing.T) {
	c := relaytest.LabConfig(t)
	c.PSF.Enabled = false
	r := start(t, c)
	relaytest.Eventually(t, "looked around", func() bool { return len(r.Status().Requirements) > 0 })
	for _, q := range r.Status().Requirements {
		if q.Name != "uptime" && q.Name != "region" && !slices.Contains(requirementNames(), q.Name) {
			t.Errorf("%s has none", q.Name)
		}
	}
}

// deaf is a receiver that takes no message.
type deaf struct{}

func (deaf) Name() string                              { return "ntfy ntfy.sh" }
func (deaf) Repeats() bool                             { return false }
func (deaf) Send(context.Context, []alert.Alert) error { return errors.New("it answers 500") }

// A receiver that refuses everything stands among the warnings of the status page.
func TestAlertsThatDoNotArriveAreShown(t *testing.T) {
	var k *alert.Keeper
	file := filepath.Join(t.TempDir(), alertsFile)
	synctest.Test(t, func(t *testing.T) {
		var err error
		k, err = alert.New(file, slog.New(slog.DiscardHandler), deaf{})
		relaytest.Must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		k.Set(time.Now(), []alert.Alert{{Name: "RelayNotServing", Summary: "it does not serve"}})
		k.Run(ctx)
	})
	c := relaytest.LabConfig(t)
	c.PSF.Enabled = false
	r := start(t, c)
	relaytest.Eventually(t, "page and status show the receiver, and why", func() bool {
		r.alerts.mu.Lock()
		r.alerts.keeper = k // the relay's own, which tells nobody, takes its place once at the start
		r.alerts.mu.Unlock()
		return strings.Contains(visit(t, r.Relay, "/").Body.String(), "alerts do not reach ntfy ntfy.sh: ") &&
			slices.ContainsFunc(r.Status().Warnings, func(w string) bool { return strings.HasSuffix(w, ": it answers 500") })
	})
}

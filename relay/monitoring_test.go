package relay

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/internal/maintenance"
	"github.com/psf-relay/relay-appliance/internal/pebble"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// metricsOf reads /metrics: the labels of each metric that is there.
func metricsOf(t testing.TB, hostPort string) map[string]map[string]bool {
	t.Helper()
	resp, err := http.Get("http://" + hostPort + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	out := map[string]map[string]bool{}
	for line := range strings.Lines(string(body)) {
		m := regexp.MustCompile(`^([a-z_0-9]+)(\{.*\})? `).FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if out[m[1]] == nil {
			out[m[1]] = map[string]bool{}
		}
		for _, l := range regexp.MustCompile(`([a-z_]+)="((?:[^"\\]|\\.)*)"`).FindAllStringSubmatch(m[2], -1) {
			out[m[1]][l[1]] = true
		}
	}
	return out
}

// expressions are the PromQL in the dashboard and the alert rules, by where they
// stand.
func expressions(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	data, err := os.ReadFile("monitoring/dashboard.json")
	if err == nil {
		err = json.Unmarshal(data, &board)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			out["panel "+p.Title+" "+target.LegendFormat] = target.Expr
		}
	}
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	data, err = os.ReadFile("monitoring/alerts.yaml")
	if err == nil {
		err = yaml.UnmarshalWithOptions(data, &rules, yaml.Strict())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Expr == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
				t.Errorf("alert %s is not complete", r.Alert)
			}
			out["alert "+r.Alert] = r.Expr
		}
	}
	return out
}

// Every metric that the dashboard and the alert rules name is served by a relay
// that works, with the labels they use.
func TestMonitoringNamesWhatIsServed(t *testing.T) {
	c, ca := withDomain(t, relaytest.LabConfig(t), pebble.Options{})
	c = metricsPort(t, c)
	c.Limits.ReservationsPerIP = 1
	c.Alerts.Webhooks = []alert.URL{"http://127.0.0.1:1/"}
	c.Maintenance = filepath.Join(t.TempDir(), "maintenance.json")
	held := maintenance.Held{Package: "relayd", Version: "1.3.0", Since: time.Now()}
	if err := maintenance.Write(c.Maintenance, maintenance.Notice{Held: []maintenance.Held{held, held}}); err != nil {
		t.Fatal(err)
	}
	r := start(t, c)
	alice, bob := relaytest.NewPeer(t, ca.RootPEM), relaytest.NewPeer(t, ca.RootPEM)
	relay := dialable(t, r.Relay)["tcp"]
	if _, err := relaytest.Reserve(t, alice, relay); err != nil {
		t.Fatal(err)
	}
	if err := relaytest.Echo(t, bob, alice, relay, 1024); err != nil {
		t.Fatal(err)
	}
	if _, err := relaytest.Reserve(t, bob, relay); err == nil { // a second place for one address
		t.Fatal("nothing was refused")
	}
	relaytest.Eventually(t, "looked around", func() bool { return len(r.Status().Requirements) > 0 })

	served := metricsOf(t, c.Metrics.Listen)
	byPrometheus := map[string]bool{"instance": true, "job": true}
	exprs := expressions(t)
	if len(exprs) < 30 {
		t.Errorf("%d expressions: the files were not understood", len(exprs))
	}
	selector := regexp.MustCompile(`\b((?:relayd|libp2p|process|go)_[a-z0-9_]+)(\{[^}]*\})?`)
	by := regexp.MustCompile(`by \(([a-z_, ]+)\)`)
	legend := regexp.MustCompile(`\{\{([a-z_]+)\}\}`)
	for where, expr := range exprs {
		named := selector.FindAllStringSubmatch(expr, -1)
		if len(named) == 0 && !strings.HasPrefix(expr, "up{") {
			t.Errorf("%s names no metric: %s", where, expr)
		}
		for _, m := range named {
			labels, ok := served[m[1]]
			if !ok {
				t.Errorf("%s: %s is not served", where, m[1])
				continue
			}
			used := regexp.MustCompile(`([a-z_]+)=~?"`).FindAllStringSubmatch(m[2], -1)
			for _, b := range by.FindAllStringSubmatch(expr, -1) {
				for _, l := range strings.Split(b[1], ",") {
					used = append(used, []string{"", strings.TrimSpace(l)})
				}
			}
			used = append(used, legend.FindAllStringSubmatch(where, -1)...)
			for _, l := range used {
				if !labels[l[1]] && !byPrometheus[l[1]] {
					t.Errorf("%s: %s has no label %s", where, m[1], l[1])
				}
			}
		}
	}
	// And each of our own is described, and watched by somebody.
	all := ""
	for _, e := range exprs {
		all += e + "\n"
	}
	for name := range served {
		if strings.HasPrefix(name, "relayd_") && !regexp.MustCompile(`\b`+name+`\b`).MatchString(all) {
			t.Errorf("%s is served and stands on no panel", name)
		}
	}
}

// Metrics stay on the machine unless the operator says otherwise.
func TestMetricsAreLocal(t *testing.T) {
	if host, _, _ := strings.Cut(config.DefaultConfig().Metrics.Listen, ":"); host != "127.0.0.1" {
		t.Errorf("metrics.listen is %s by default", config.DefaultConfig().Metrics.Listen)
	}
	c := metricsPort(t, relaytest.LabConfig(t))
	c.PSF.Enabled = false
	start(t, c)
	for path, want := range map[string]int{"/metrics": 200, "/status.json": 200, "/healthz": 200, "/": 404, "/check/": 404, "/debug/pprof/": 404} {
		resp, err := http.Get("http://" + c.Metrics.Listen + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, resp.Status, want)
		}
	}
}

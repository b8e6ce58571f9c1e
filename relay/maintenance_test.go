package relay

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/maintenance"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// A visitor learns of a restart before it happens, and of an update taken back.
func TestStatusTellsOfMaintenance(t *testing.T) {
	file := filepath.Join(t.TempDir(), "maintenance.json")
	r := newRelay(t, func(c *config.Config) { c.Maintenance = file })
	if body := visit(t, r, "/status.json").Body.String(); strings.Contains(body, "maintenance") {
		t.Errorf("without a notice: %s", body)
	}
	from := time.Now().UTC().Add(time.Hour).Truncate(time.Minute)
	n := maintenance.Notice{
		Planned: &maintenance.Planned{From: from, To: from.Add(time.Hour), Why: "the machine restarts"},
		Held:    []maintenance.Held{{Package: "relayd", Version: "1.3.0", Since: from.Add(-24 * time.Hour), Why: "<b>bad"}},
	}
	if err := maintenance.Write(file, n); err != nil {
		t.Fatal(err)
	}
	var s status.Status
	if err := json.Unmarshal(visit(t, r, "/status.json").Body.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if s.Maintenance == nil || !s.Maintenance.Planned.From.Equal(from) || s.Maintenance.Held[0].Version != "1.3.0" {
		t.Errorf("status.json says %+v", s.Maintenance)
	}
	body := visit(t, r, "/").Body.String()
	for _, want := range []string{"Planned between " + from.Format("2006-01-02 15:04 MST"), "the machine restarts", "The update to relayd 1.3.0 was taken back"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if err := os.WriteFile(file, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if body := visit(t, r, "/").Body.String(); !strings.Contains(body, "maintenance notice "+file) {
		t.Error("a bad notice is passed over in silence")
	}
	if s := r.Status(); !s.MaintenanceUnknown {
		t.Error("a bad notice counts as none")
	}
}

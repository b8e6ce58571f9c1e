package doctor

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/release/releasetest"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// The list is fetched from where the file says, and believed only when it is signed.
func TestReadUpdates(t *testing.T) {
	at := time.Now().UTC().Truncate(time.Second)
	site := releasetest.New(t, "relayd")
	file := site.Publish("v1.2.3", at.AddDate(0, 0, -4))
	cfg := config.Config{DataDir: t.TempDir(), Updates: filepath.Join(t.TempDir(), "updates.yaml")}
	if u := readUpdates(t.Context(), cfg, true); u.known || u.err != nil || u.list != nil {
		t.Errorf("without a file: %+v", u)
	}
	cfg.Updates = site.File()
	u := readUpdates(t.Context(), cfg, false)
	if !u.known || u.err != nil || u.list == nil {
		t.Fatalf("with a list: %+v", u)
	}
	s := judge{s: &status.Status{Version: "v1.2.2", VersionSince: at}, f: findings{at: at, updates: u}}.installed()
	if s.Version != "v1.2.2" || s.Newest != "v1.2.3" || !s.Published.Equal(at.AddDate(0, 0, -4)) || s.Fault != "" {
		t.Errorf("software: %+v", s)
	}
	site.Serve(append([]byte("x"), file...))
	if u := readUpdates(t.Context(), cfg, true); !u.known || u.err == nil || u.list != nil {
		t.Errorf("with a changed list: %+v", u)
	}
	if err := os.WriteFile(cfg.Updates, []byte("site: x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if u := readUpdates(t.Context(), cfg, true); !u.known || u.err == nil {
		t.Errorf("with a file that is no good: %+v", u)
	}
}

// Whoever serves the list cannot put the relay back to an older one, although that was
// signed too and is still within its time; nor has anybody to be asked again for what
// is known.
func TestReleasesAreNotTakenBack(t *testing.T) {
	at := time.Now().UTC().Truncate(time.Second)
	site := releasetest.New(t, "relayd")
	old := site.Publish("v1.2.3", at.AddDate(0, 0, -10))
	good := site.Publish("v1.2.4", at.AddDate(0, 0, -4))
	cfg := relaytest.LabConfig(t)
	cfg.Updates, cfg.ACME.Directory = site.File(), "https://127.0.0.2:1/"
	c := NewCheckup(&relayOf{cfg: cfg}, nil, relaytest.Log(t))
	dir := filepath.Join(cfg.DataDir, releasesDir)
	software := func() status.Requirement {
		t.Helper()
		c.lookAround(t.Context())
		f := c.findings
		if d := look(t.Context(), cfg, "", false).updates; (d.err == nil) != (f.updates.err == nil) || (d.list == nil) != (f.updates.list == nil) {
			t.Errorf("the doctor says otherwise: %+v, the relay %+v", d, f.updates)
		}
		return judge{cfg: cfg, s: &status.Status{Version: "v1.2.3"}, f: f}.software()
	}
	if q := software(); q.Outcome != status.NotMet || !strings.Contains(q.Found, "v1.2.4 is out for 4 days") {
		t.Errorf("with the newest list: %+v", q)
	}
	for fault, served := range map[string][]byte{"does not follow": old, "signature": bytes.ToUpper(good), "410": nil} {
		site.Serve(served)
		if q := software(); q.Outcome != status.NotMet || !strings.Contains(q.Found, "v1.2.4 is out for 4 days") || !strings.Contains(q.Found, fault) {
			t.Errorf("%s: %+v", fault, q)
		}
	}
	site.Serve(good)
	kept, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("kept: %v, %v", kept, err)
	}
	// Damage is told, with what to do about it; it stops nothing.
	if err := os.WriteFile(kept[0], good[:len(good)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	if q := software(); q.Outcome == status.Met || !strings.Contains(q.Found, "remove the file") {
		t.Errorf("damaged: %+v", q)
	}
	if err := os.Remove(kept[0]); err != nil {
		t.Fatal(err)
	}
	if q := software(); q.Outcome != status.NotMet || strings.Contains(q.Found, "remove") {
		t.Errorf("removed, as was said: %+v", q)
	}
}

package monitor

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// A monitor that cannot start says why after some tries, once; and when it starts at last,
// that this took many.
func TestWatchTellsOfALoopOfRestarts(t *testing.T) {
	got := make(chan string, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct {
			Alerts []struct{ Labels, Annotations map[string]string }
		}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		for _, a := range m.Alerts {
			got <- strings.Join([]string{a.Labels["alertname"], a.Labels["severity"], a.Labels["monitor"], a.Annotations["summary"]}, " ")
		}
	}))
	defer srv.Close()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	file("rules.yaml", "network: lab\n")
	cfg, err := LoadConfig(file("relaymon.yaml", fmt.Sprintf("name: m1\nnetwork: lab\ndata_dir: data\nrules: rules.yaml\nroster: roster.yaml\nlisten: 127.0.0.1:0\nbrowser: none\nalerts: {webhooks: [%q]}\n", srv.URL)))
	must(t, err)
	must(t, Init(cfg))
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	for range 6 {
		if err := Watch(t.Context(), cfg, log); err == nil || !strings.Contains(err.Error(), "roster.yaml") {
			t.Fatalf("got %v, want that there is no roster", err)
		}
	}
	keys, err := Keys(cfg)
	must(t, err)
	file("roster.yaml", fmt.Sprintf("network: lab\nmonitors:\n- {name: m1, operator: us, log_key: %q, from: %q}\nrelays: []\n", keys.LogKey, evidence.HourOf(time.Now())))
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- Watch(ctx, cfg, log) }()
	for _, want := range []string{"CannotStart critical m1 relaymon cannot start; it was tried 5 times within an hour: ", "RestartsOften critical m1 relaymon was started 7 times within an hour"} {
		select {
		case text := <-got:
			if !strings.HasPrefix(text, want) {
				t.Errorf("got %q, want %q", text, want)
			}
		case err := <-over:
			t.Fatalf("it ended: %v", err)
		case <-time.After(5 * time.Minute):
			t.Fatalf("there was no alert %q", want)
		}
	}
	cancel()
	must(t, <-over)
	m := &Monitor{cfg: cfg, starts: 7, started: time.Now().Add(-time.Hour)}
	if list := m.restarts(time.Now()); list != nil {
		t.Errorf("got %v after an hour, want none", list)
	}
}

package monitor

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/mirror"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

// Anybody can follow a monitor's log: on its own listener, and behind a relay's.
func TestLogCanBeFollowed(t *testing.T) {
	m, _ := newTestMonitor(t, &fakeNet{}, 1, 1)
	_, err := m.store.Seal(time.Now().Add(4 * time.Hour))
	must(t, err)
	web := httptest.NewServer(m.public())
	defer web.Close()
	var checkpoints []string
	for _, path := range []string{"/log/", "/monitor/log/"} {
		dir := t.TempDir()
		mir, err := mirror.New(mirror.Options{From: web.URL + path, Dir: dir, Key: m.store.Key(), PerSecond: 1000})
		must(t, err)
		r, err := mir.Sync(t.Context())
		must(t, err)
		must(t, mir.Close())
		if r.Size != m.store.Size() || r.Size < 2 {
			t.Errorf("%s: %d blocks were mirrored of %d", path, r.Size, m.store.Size())
		}
		b, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
		must(t, err)
		checkpoints = append(checkpoints, string(b))
		// What leads a person there.
		if code, page := fetch(m.public(), strings.TrimSuffix(path, "log/")); code != http.StatusOK || !strings.Contains(page, `href="log/"`) && !strings.Contains(page, `href="./log/"`) {
			t.Errorf("%s: the monitor's page (%d) has no link to its log", path, code)
		}
	}
	if checkpoints[0] != checkpoints[1] {
		t.Errorf("behind a relay it is another log: %q", checkpoints)
	}
	for path, want := range map[string]string{"/log/log.key": "", "/monitor/log/../log.key": "", "/robots.txt": "Disallow: /log/\nDisallow: /monitor/log/\n", "/log/": m.store.Origin()} {
		code, body := fetch(m.public(), path)
		if want == "" && code == http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q, want %q", path, code, body, want)
		}
	}
}

// A mirror, or an export, gives a bundle the same as the log's own folder, byte for byte.
func TestOtherLogsFromMirror(t *testing.T) {
	w := scene.New(t, evidence.Lab, 3)
	w.Watch(nil)
	roster, _, err := bounty.OpenRoster("roster.yaml", w.Signed(w.RosterYAML()), w.CommitteeKey)
	must(t, err)
	q := BundleRequest{Relay: w.RelayID, Month: w.First.Month(), AsOf: w.AsOf}
	for _, m := range w.Monitors {
		dir, copied := t.TempDir(), t.TempDir()
		_, err := tiles.Export(t.Context(), m.Log, dir, nil)
		must(t, err)
		mir, err := mirror.New(mirror.Options{From: dir, Dir: copied, Key: m.Log.Key()})
		must(t, err)
		_, err = mir.Sync(t.Context())
		must(t, err)
		must(t, mir.Close())
		want, _, err := otherLogs(t.Context(), roster, q, m.Dir)
		must(t, err)
		for _, from := range []string{dir, copied} {
			got, forks, err := otherLogs(t.Context(), roster, q, from)
			must(t, err)
			if diff := cmp.Diff(filesOf(t, want), filesOf(t, got)); diff != "" || len(forks) != 0 {
				t.Errorf("%s from %s: %d forks: %s", m.Name, from, len(forks), diff)
			}
		}
	}
	stranger, dir := scene.New(t, evidence.Lab, 1), t.TempDir()
	stranger.Watch(nil)
	_, err = tiles.Export(t.Context(), stranger.Monitors[0].Log, dir, nil)
	must(t, err)
	if _, _, err := otherLogs(t.Context(), roster, q, dir); err == nil {
		t.Error("a log whose key is not in the roster was taken")
	}
}

// filesOf are the files of exported months.
func filesOf(t *testing.T, months []evidence.MonitorMonth) (all []map[string][]byte) {
	t.Helper()
	for _, m := range months {
		files, err := m.Files()
		must(t, err)
		all = append(all, files)
	}
	return all
}

package tiles

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// watched is a real log of 304 hours: six of them watched, then the monitor was off, and
// then it watched three more. It is cosigned.
func watched(t *testing.T) (*scene.Scene, *scene.Watcher) {
	t.Helper()
	w := scene.New(t, evidence.Lab, 2)
	w.Watch(nil)
	m := w.Monitors[0]
	w.Seal(m, w.First.End().Add(300*time.Hour+17*time.Minute))
	for range 3 {
		more(t, w, m)
	}
	if got := m.Log.Size(); got != 304 {
		t.Fatalf("the log has %d blocks, want 304", got)
	}
	return w, m
}

// more is an hour more.
func more(t *testing.T, w *scene.Scene, m *scene.Watcher) {
	t.Helper()
	h := m.Log.First() + evidence.Hour(m.Log.Size())
	w.Observe(m, h, []evidence.Attempt{w.Attempt(m, h, 10*time.Minute)})
	w.Seal(m, h.End().Add(17*time.Minute))
}

// exported are the files of a folder, without the lock.
func exported(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == lockFile {
			return err
		}
		b, err := os.ReadFile(path)
		name, rel := filepath.Rel(dir, path)
		out[filepath.ToSlash(name)] = string(b)
		return errors.Join(err, rel)
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

package monitor

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What is in the file, if it is damaged, does not end the monitor.
func TestDamagedQuota(t *testing.T) {
	for _, content := range []string{"null\n", "{\"w\":null}\n", "{\"w\":{\"size\":5,\"asked\":7}}\n", "{\"w\":{\"size\":-5}}\n", ""} {
		path := filepath.Join(t.TempDir(), "witnesses.json")
		must(t, os.WriteFile(path, []byte(content), 0o600))
		q := readQuota(path, slog.New(slog.DiscardHandler))
		if size := q.size("w"); size != 0 {
			t.Errorf("%q: it cosigned %d blocks last", content, size)
		}
		must(t, q.begin("w", time.Now()))
	}
}

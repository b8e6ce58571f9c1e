package monitor

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A clock that is set back gives no requests: those of before count as of now.
func TestQuotaAfterClockSetBack(t *testing.T) {
	q := readQuota(filepath.Join(t.TempDir(), "witnesses.json"), slog.New(slog.DiscardHandler))
	now := time.Now().Round(time.Second)
	for i := range maxRequests {
		must(t, q.begin("w", now.Add(time.Duration(i)*time.Minute)))
	}
	back := now.Add(-48 * time.Hour)
	var spent *spentError
	if err := q.begin("w", back); !errors.As(err, &spent) || !spent.until.Equal(back.Add(quotaSpan)) {
		t.Errorf("two days back: %v", err)
	}
	if err := q.begin("w", back.Add(quotaSpan-time.Second)); !errors.As(err, &spent) {
		t.Errorf("a day later, but for a second: %v", err)
	}
	must(t, q.begin("w", back.Add(quotaSpan)))
}

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

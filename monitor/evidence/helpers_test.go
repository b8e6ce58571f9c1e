package evidence_test

import (
	"path/filepath"
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// testLog is a real log, with its folder.
type testLog struct {
	*store.Log
	dir string
}

func newLog(t testing.TB) (testLog, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	l, err := store.Create(dir, store.Options{Name: "monitor.example.org", Network: evidence.PSF, First: evidencetest.FirstHour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return testLog{l, dir}, dir
}

// smallMonth is a log with everything in it.
type smallMonth struct {
	evidencetest.SmallMonth
	log testLog
}

func newSmallMonth(t testing.TB) smallMonth {
	t.Helper()
	l, _ := newLog(t)
	return smallMonth{evidencetest.NewSmallMonth(t, l), l}
}

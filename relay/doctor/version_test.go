package doctor

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// The note since when a version runs is not left to a wrong clock.
func TestVersionNotedByAWrongClock(t *testing.T) {
	dir, built := t.TempDir(), relaytest.Day("2026-10-05 09:00")
	for i, s := range []struct {
		now  string
		kept bool
		want string
	}{
		{"1970-01-01 00:00", false, "0001-01-01 00:00"}, // not noted
		{"2027-05-01 12:00", false, "2027-05-01 12:00"}, // nobody can tell
		{"2026-11-20 12:00", false, "2027-05-01 12:00"}, // nor which of the two is right
		{"2026-11-20 12:01", true, "2026-11-20 12:01"},
		{"2026-11-25 12:00", true, "2026-11-20 12:01"},
		{"2026-10-20 12:00", false, "2026-11-20 12:01"},
		{"1970-01-01 00:00", false, "2026-11-20 12:01"},
	} {
		got, err := noteVersionBy(dir, "v1.0.0", relaytest.Day(s.now), built, s.kept)
		if err != nil || !got.Equal(relaytest.Day(s.want)) {
			t.Errorf("step %d: got %s, %v, want %s", i, got, err, s.want)
		}
	}
	relaytest.Must(t, os.WriteFile(filepath.Join(dir, versionFile), []byte(`{"version":"v1.0.0","since":"1970-01-01T00:00:00Z"}`), 0o600))
	if got, err := noteVersionBy(dir, "v1.0.0", relaytest.Day("2026-11-20 12:00"), built, false); err != nil || !got.Equal(relaytest.Day("2026-11-20 12:00")) {
		t.Errorf("after one of 1970: %s, %v", got, err)
	}
}

// A version that is older than the process stays as old as it is.
func TestVersionNoted(t *testing.T) {
	dir, first := t.TempDir(), time.Now().Add(-time.Hour)
	for _, s := range []struct {
		version string
		at      time.Duration
		want    time.Duration
	}{{"v1.0.0", 0, 0}, {"v1.0.0", time.Minute, 0}, {"v1.0.1", 2 * time.Minute, 2 * time.Minute}} {
		got, err := noteVersion(dir, s.version, first.Add(s.at))
		if d := first.Add(s.want).Sub(got); err != nil || d.Abs() > time.Second {
			t.Errorf("%s: noted since %s, %v, want %s", s.version, got, err, first.Add(s.want))
		}
	}
	if !versionSince(dir, "v1.0.0").IsZero() {
		t.Error("the version before is noted still")
	}
}

package buildinfo

import (
	"testing"
	"time"
)

// What a release build links in counts; what nobody can read does not.
func TestCommitted(t *testing.T) {
	defer func(old string) { committed = old }(committed)
	committed = "1791190800"
	if got, want := Committed(), time.Date(2026, 10, 5, 9, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("got %s, want %s", got, want)
	}
	committed = "x"
	if got := Committed(); got.After(time.Now()) {
		t.Errorf("got %s", got)
	}
}

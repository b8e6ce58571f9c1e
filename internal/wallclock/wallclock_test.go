package wallclock

import (
	"strings"
	"testing"
	"time"
)

func TestDoubt(t *testing.T) {
	built := time.Date(2026, 10, 5, 9, 0, 0, 0, time.UTC)
	now, up, kept := built.AddDate(0, 1, 0), time.Duration(0), false
	c := &Clock{Built: built, Kept: func() bool { return kept }, Uptime: func() time.Duration { return up }}
	for i, s := range []struct {
		run, set time.Duration // how long the clock ran on, and how far it was set then
		kept     bool
		want     string // a part of the doubt; empty: it is believed
	}{
		{0, 0, false, "less than an hour ago"},
		{30 * time.Minute, 0, false, "less than an hour ago"},
		{30 * time.Minute, 0, false, ""},
		{time.Hour, 30 * time.Second, false, ""}, // nobody has set it, it runs unevenly
		{time.Second, 24 * time.Hour, false, "less than an hour ago"},
		{time.Second, 0, true, ""},
		{59 * time.Minute, 0, false, "less than an hour ago"},
		{time.Minute, 0, false, ""},
		{time.Second, -2 * time.Hour, false, "less than an hour ago"},
		{time.Hour, 0, false, ""},
		{0, -50 * 365 * 24 * time.Hour, false, "made on 2026-10-05"},
		{100 * time.Hour, 0, false, "made on 2026-10-05"},
		{0, 0, true, ""}, // whoever made the program had a wrong clock
	} {
		now, up, kept = now.Add(s.run+s.set), up+s.run, s.kept
		if got := c.Doubt(now); (got == "") != (s.want == "") || !strings.Contains(got, s.want) {
			t.Errorf("step %d: got %q, want %q", i, got, s.want)
		}
	}
}

// The machine's own clock is asked without an error, whatever it answers.
func TestThisMachine(t *testing.T) {
	c := New()
	if got := c.Doubt(time.Now()); (got == "") != Kept() {
		t.Errorf("kept: %v, in doubt: %q", Kept(), got)
	}
}

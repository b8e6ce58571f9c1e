package monitor

import (
	"errors"
	"testing"
	"time"
)

func TestWatchdogHearsOfAPlannerThatSleeps(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name   string
		lastly time.Time
		fault  error
		want   bool
	}{
		{"awake", now.Add(-time.Second), nil, true},
		{"asleep", now.Add(-asleep - time.Second), nil, false},
		{"never awake", time.Time{}, nil, false},
		{"waits for the disk", now.Add(-time.Hour), errors.New("no space left on device"), true},
	} {
		m := &Monitor{lastly: c.lastly, fault: c.fault}
		if got := m.works(now); got != c.want {
			t.Errorf("%s: works = %t, want %t", c.name, got, c.want)
		}
	}
}

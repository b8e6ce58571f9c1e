package store

import (
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// smallMonth is a log with everything in it.
type smallMonth struct {
	evidencetest.SmallMonth
	log *Log
}

func newSmallMonth(t testing.TB) smallMonth {
	t.Helper()
	l, _ := newLog(t)
	return smallMonth{evidencetest.NewSmallMonth(t, l), l}
}

package evidence_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// A monitor that blows its log up takes nothing back by that: the month ends with the last
// signed block for which there is room, and verifies.
func TestExportEndsWhereThereIsNoRoom(t *testing.T) {
	s := newSmallMonth(t)
	whole := s.Month
	defer evidence.SetMonthRoom(evidence.SetMonthRoom(0))
	sizes, last := map[int]bool{}, -1
	for room := 0; last < len(whole.Headers); room += 500 {
		if room > 1<<20 {
			t.Fatalf("%d bytes, and there is room for %d of %d blocks only", room, last, len(whole.Headers))
		}
		evidence.SetMonthRoom(room)
		m, err := evidence.Export(s.log, whole.Month, whole.Relay, whole.AsOf.Time, s.Keys.Witnesses...)
		evidencetest.Must(t, err)
		v, err := evidence.VerifyMonth(m, s.Keys)
		if err != nil {
			t.Fatalf("%d bytes, %d blocks: %v", room, len(m.Headers), err)
		}
		n := len(m.Headers)
		if n < last || !slices.EqualFunc(m.Headers, whole.Headers[:n], bytes.Equal) || len(v.Hours) != n {
			t.Errorf("%d bytes: %d blocks, %d hours, and %d before", room, n, len(v.Hours), last)
		}
		size := 0
		for _, b := range slices.Concat(m.Headers, m.Proofs, m.Records, m.Checkpoints) {
			size += len(b) + 1
		}
		for _, der := range m.Certificates {
			size += len(der)
		}
		if size > room {
			t.Errorf("%d bytes where there is room for %d", size, room)
		}
		sizes[n], last = true, n
	}
	if len(sizes) < 4 {
		t.Errorf("months of %d lengths: too few to tell anything", len(sizes))
	}
}

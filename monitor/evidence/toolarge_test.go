package evidence_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// What is larger than the format allows is refused before it is looked at.
func TestTooLarge(t *testing.T) {
	s := newSmallMonth(t)
	good, err := s.Month.Files()
	evidencetest.Must(t, err)
	for name := range good {
		if evidence.FileLimit(name) == 0 || len(good[name]) > evidence.FileLimit(name) {
			t.Errorf("%s: limit %d for %d bytes", name, evidence.FileLimit(name), len(good[name]))
		}
	}
	for _, name := range []string{"", "x", "open/", "open/x", "certificates/x.der", "certificates/" + strings.Repeat("A", 64) + ".der", "../note"} {
		if n := evidence.FileLimit(name); n != 0 {
			t.Errorf("file %q may have %d bytes", name, n)
		}
	}
	for name := range good {
		if evidence.FileLimit(name) > evidence.MaxMonthBytes/2 {
			continue // all together are less
		}
		bad := maps.Clone(good)
		bad[name] = make([]byte, evidence.FileLimit(name)+1)
		_, err := evidence.MonthFromFiles(bad)
		evidencetest.WantError(t, err, fmt.Sprintf("%s has %d bytes, want %d at most", name, evidence.FileLimit(name)+1, evidence.FileLimit(name)))
	}
	with := func(name string, data []byte) map[string][]byte {
		bad := maps.Clone(good)
		bad[name] = data
		return bad
	}
	many := func(prefix string, n int, name func(i int) string) map[string][]byte {
		bad := maps.Clone(good)
		for i := range n {
			bad[prefix+name(i)] = nil
		}
		return bad
	}
	for name, c := range map[string]struct {
		files map[string][]byte
		want  string
	}{
		"all together":     {with(evidence.FileRecords, make([]byte, evidence.MaxMonthBytes)), "together, want 67108864 at most"},
		"lines of blocks":  {with(evidence.FileHeaders, bytes.Repeat([]byte("\n"), 745)), "blocks.jsonl has 745 lines, want 744"},
		"lines of records": {with(evidence.FileRecords, bytes.Repeat([]byte("\n"), 1<<20)), "records.jsonl has 1048576 lines"},
		"lines of proofs":  {with(evidence.FileProofs, bytes.Repeat([]byte("\n"), 1<<20)), "proofs.jsonl has 1048576 lines"},
		"checkpoints":      {with(evidence.FileCheckpoints, bytes.Repeat([]byte("\n\n"), 1<<20)), "there are more than 744"},
		"a checkpoint":     {with(evidence.FileCheckpoints, slices.Concat([]byte("x\n\n"), make([]byte, evidence.MaxCheckpointBytes))), "want 16384 at most"},
		"open hours": {many(evidence.FolderOpen, 800, func(i int) string { return evidence.HourFile(evidencetest.FirstHour + evidence.Hour(i)) }),
			"files that are no certificates, want 752 at most"},
		"certificates": {many(evidence.FolderCerts, 12000, func(i int) string { return fmt.Sprintf("%064x.der", i) }), "certificates, want 11904 at most"},
		"two faults":   {with("x", nil), `file "x" is not known`},
		"deep":         {with(evidence.FileMonth, slices.Concat(bytes.Repeat([]byte("["), 5000), []byte("\n"))), "stand in each other"},
		"wide":         {with(evidence.FileMonth, slices.Concat([]byte(`{"frontier":[`), bytes.Repeat([]byte("{},"), 2000), []byte("{}]}\n"))), "more than 256 members"},
	} {
		if _, err := evidence.MonthFromFiles(c.files); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
	// Lists of the smallest values, wherever they stand, signed by the monitor itself.
	for name, change := range map[string]func(*evidence.MonitorMonth){
		"header": func(m *evidence.MonitorMonth) {
			m.Headers[0] = slices.Concat([]byte(`{"controls":[`), bytes.Repeat([]byte("{},"), 9000), []byte("{}]}"))
		},
		"proof": func(m *evidence.MonitorMonth) {
			m.Proofs[0] = slices.Concat([]byte(`{"path":[`), bytes.Repeat([]byte("0,"), 2000), []byte("0]}"))
		},
		"open": func(m *evidence.MonitorMonth) {
			m.Open[0].Lines = slices.Concat([]byte(`{"rungs":[`), bytes.Repeat([]byte("{},"), 9000), []byte("{}]}\n"))
		},
	} {
		m := clone(s.Month)
		change(&m)
		_, err := evidence.VerifyMonth(s.resign(t, m), s.Keys)
		evidencetest.WantError(t, err, "more than 256 members")
		t.Logf("%s: %v", name, err)
	}
	_, err = evidence.DecodeRecord(slices.Concat([]byte(`{"attempts":[`), bytes.Repeat([]byte("{},"), 9000), []byte("{}]}")), evidencetest.FirstHour)
	evidencetest.WantError(t, err, "more than 256 members")
	_, err = evidence.DecodeRecord(make([]byte, evidence.MaxRecordBytes+1), evidencetest.FirstHour)
	evidencetest.WantError(t, err, "too long")
}

func TestVisitStops(t *testing.T) {
	s := newSmallMonth(t)
	stop := errors.New("enough")
	seen := 0
	_, err := evidence.VerifyHours(s.Month, s.Keys, func(evidence.VerifiedHour) error { seen++; return stop })
	if !errors.Is(err, stop) || seen != 1 {
		t.Errorf("%v after %d hours", err, seen)
	}
}

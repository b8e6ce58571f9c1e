package evidence_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// What a spine shows is what the month of any relay shows, but for its records.
func TestSpine(t *testing.T) {
	s := newSmallMonth(t)
	whole, err := evidence.VerifyMonth(s.Month, s.Keys)
	evidencetest.Must(t, err)
	m, err := evidence.ExportSpine(s.log, s.Month.Month, s.Month.AsOf.Time, s.Keys.Witnesses...)
	evidencetest.Must(t, err)
	if d := cmp.Diff(s.Month.Spine(), m, cmp.AllowUnexported(evidence.MonitorMonth{})); d != "" {
		t.Errorf("the spine of the month is not the one of the log: %s", d)
	}
	spine, err := evidence.VerifySpine(m, s.Keys)
	evidencetest.Must(t, err)
	records := 0
	for i, h := range whole.Hours {
		if h.Record != nil {
			records++
		}
		whole.Hours[i] = h.With(nil, evidence.Examined{})
	}
	if records == 0 {
		t.Fatal("the month has no records: this test says nothing")
	}
	whole.Relay, whole.Digest, whole.Certificates = "", "", nil
	if d := cmp.Diff(whole, spine); d != "" {
		t.Error(d)
	}
	if _, err := evidence.VerifySpine(s.Month, s.Keys); err == nil {
		t.Error("a relay's month was taken for a spine")
	}
	for i := range m.Headers {
		bad := m
		bad.Headers = slices.Clone(m.Headers)
		bad.Headers[i] = bytes.Replace(m.Headers[i], []byte(`"records":`), []byte(`"records":1`), 1)
		if _, err := evidence.VerifySpine(bad, s.Keys); err == nil {
			t.Errorf("block %d was changed, and nobody saw it", i)
		}
	}
}

// A block's records are handed over as they stand in it.
func TestBlockCheckEach(t *testing.T) {
	s := newSmallMonth(t)
	spine, err := evidence.VerifySpine(s.Month.Spine(), s.Keys)
	evidencetest.Must(t, err)
	seen := 0
	for i, h := range spine.Hours {
		lines, err := s.log.RecordLines(s.Month.StartSize + int64(i))
		evidencetest.Must(t, err)
		c := evidence.NewBlockCheck(h.Header)
		c.Each = func(r evidence.Record, line []byte) error {
			want, err := evidence.DecodeRecord(lines[0], h.Header.Hour)
			evidencetest.Must(t, err)
			if !bytes.Equal(line, lines[0]) || !cmp.Equal(r, want) {
				t.Errorf("%s: got the record %s, want %s", h.Header.Hour, line, lines[0])
			}
			lines = lines[1:]
			seen++
			return nil
		}
		for _, line := range slices.Clone(lines) {
			_, err := c.Write(append(slices.Clone(line), '\n'))
			evidencetest.Must(t, err)
		}
		evidencetest.Must(t, c.End())
		if len(lines) > 0 {
			t.Errorf("%s: %d records were not handed over", h.Header.Hour, len(lines))
		}
	}
	if seen == 0 {
		t.Error("there were no records")
	}
}

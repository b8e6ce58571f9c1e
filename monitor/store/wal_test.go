package store

import (
	"bytes"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

func FuzzWAL(f *testing.F) {
	hour := evidencetest.FirstHour
	a := evidencetest.NewRelay(f, crypto.Ed25519, 0).Attempt(f, "key", hour, time.Minute, nil)
	var lines []byte
	for _, e := range []entry{
		{Begin: &begin{evidence.TimeOf(hour.Start()), "x"}},
		{Mark: &evidence.Mark{Clock: &evidence.ClockSample{At: evidence.TimeOf(hour.Start())}}},
		{Mark: &evidence.Mark{Missed: 2}},
		{Attempt: &a},
	} {
		line, err := evidence.Encode(e)
		if err != nil {
			f.Fatal(err)
		}
		lines = append(append(lines, line...), '\n')
	}
	f.Add(lines)
	f.Add(lines[:len(lines)-1])
	f.Add(append(bytes.Clone(lines), make([]byte, 100)...))
	f.Add(append(bytes.Clone(lines), "x\n"...))
	f.Add(bytes.Replace(lines, []byte("\n"), []byte("\r\n"), 1))
	plan := make([]byte, evidence.PlanSize)
	f.Fuzz(func(t *testing.T, b []byte) {
		var e entry
		if evidence.Decode(b, &e) == nil {
			if again, err := evidence.Encode(e); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("took %q, writes %q (%v)", b, again, err)
			}
		}
		w, err := readWAL(b, hour)
		if err != nil {
			return
		}
		if w.good > int64(len(b)) || w.good > 0 && b[w.good-1] != '\n' {
			t.Fatalf("%d of %d bytes count", w.good, len(b))
		}
		// What counts, counts again, and makes records that may be sealed.
		again, err := readWAL(b[:w.good], hour)
		if err != nil || again.good != w.good {
			t.Fatalf("read again: %d of %d, %v", again.good, w.good, err)
		}
		lines := w.lines(func(string, evidence.Hour) []byte { return plan })
		for i, r := range w.records() {
			r.Plan = plan
			if err := evidence.CheckRecord(r, hour); err != nil {
				t.Fatal(err)
			}
			if line, err := evidence.Encode(r); err != nil || !bytes.Equal(line, lines[i]) {
				t.Fatalf("record %s, want %s (%v)", lines[i], line, err)
			}
		}
	})
}

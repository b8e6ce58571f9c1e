package scale

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

var tiny = Options{Relays: 20, Monitors: 16, Hours: 3, Witnesses: 8, Seed: 1}

func made(t *testing.T, o Options) *Fleet {
	t.Helper()
	f, err := Make(t.Context(), filepath.Join(t.TempDir(), "fleet"), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// The logs hold of each relay and hour the records of those monitors that were due, and no
// others, and each record verifies; the bundle counts the hours by them.
func TestFleet(t *testing.T) {
	f := made(t, tiny)
	if f.Made.Listed != tiny.Relays || f.Made.Records != int64(tiny.Relays*tiny.Hours*due) {
		t.Errorf("got %+v, want %d records of each relay's hour", f.Made, due)
	}
	saw := map[evidence.Hour]map[string][]string{} // monitors by relay
	for _, m := range f.monitors {
		l, err := store.OpenRead(f.logOf(m))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for i := range tiny.Hours {
			h := f.hour(i)
			records, err := l.Records(h)
			if err != nil {
				t.Fatal(err)
			}
			if saw[h] == nil {
				saw[h] = map[string][]string{}
			}
			for _, r := range records {
				saw[h][r.PeerID] = append(saw[h][r.PeerID], m.name)
			}
		}
	}
	operators := map[string]string{}
	for _, m := range f.monitors {
		operators[m.name] = m.operator
	}
	for i := range f.roster.Relays {
		relay := &f.roster.Relays[i]
		for h, monitors := range saw {
			var want []string
			for _, m := range f.rules.Due(f.roster, relay, h, f.drand.round(h)) {
				want = append(want, m.Name)
			}
			if got := monitors[relay.PeerID]; !slices.Equal(got, want) || len(got) != due {
				t.Errorf("%s, %s: got records by %v, want %d: %v", relay.PeerID, h, got, due, want)
			}
			distinct := map[string]bool{}
			for _, m := range monitors[relay.PeerID] {
				distinct[operators[m]] = true
			}
			if len(distinct) != due {
				t.Errorf("%s, %s: got monitors of %d operators, want %d", relay.PeerID, h, len(distinct), due)
			}
		}
	}
	counts := map[bounty.Hours]bool{}
	for _, i := range []int{0, 3} { // the second is down for two hours
		f.judge(t, i, counts)
	}
	if len(counts) != 2 {
		t.Errorf("got the counts %v, want two kinds", counts)
	}
}

// judge makes and verifies the bundle of a relay.
func (f *Fleet) judge(t *testing.T, number int, counts map[bounty.Hours]bool) {
	t.Helper()
	r, err := f.newRelay(number)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bundle.zip")
	written, err := f.Bundle(t.Context(), r.id, file)
	if err != nil {
		t.Fatal(err)
	}
	res, err := f.Verify(file)
	if err != nil {
		t.Fatal(err)
	}
	v := res.Counts()
	if len(res.Warnings) > 0 || written.Headline != v.Headline {
		t.Errorf("relay %d: got %q and the warnings %q, want %q and none", number, v.Headline, res.Warnings, written.Headline)
	}
	up := 0
	for i := range f.Hours {
		if !r.isDown(f.hour(i)) {
			up++
		}
	}
	if v.Hours.Up != up || v.Hours.Down != f.Hours-up {
		t.Errorf("relay %d: got %+v, want %d h up and %d down", number, v.Hours, up, f.Hours-up)
	}
	notDue, voted := 0, 0
	for _, m := range v.Monitors {
		notDue += m.NotDue
		voted += m.Votes[bounty.Up] + m.Votes[bounty.Down]
	}
	if voted != due*f.Hours || notDue != (f.Monitors-due)*f.Hours {
		t.Errorf("relay %d: %d votes and %d that were not due, want %d and %d", number, voted, notDue, due*f.Hours, (f.Monitors-due)*f.Hours)
	}
	counts[v.Hours] = true
}

// Twice as many relays, or hours, make twice as many bytes of records, and no more headers.
func TestGrowth(t *testing.T) {
	size := func(o Options) map[string]float64 {
		v, err := made(t, o).size(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	relays, hours := tiny, tiny
	relays.Relays *= 2
	hours.Hours *= 2
	base := size(tiny)
	for _, c := range []struct {
		name string
		got  map[string]float64
		want map[string]float64 // times as much
	}{
		{"relays", size(relays), map[string]float64{ofRecords: 2, ofHeaders: 1, ofCheckpoints: 1}},
		{"hours", size(hours), map[string]float64{ofRecords: 2, ofHeaders: 2, ofCheckpoints: 2}},
	} {
		for kind, want := range c.want {
			if ratio := c.got[kind] / base[kind]; ratio < want*0.9 || ratio > want*1.15 { // the first header tells of no cosignature
				t.Errorf("twice as many %s: got %.2f times the bytes of %s, want %v", c.name, ratio, kind, want)
			}
		}
	}
}

func TestSameSeed(t *testing.T) {
	files := func(o Options) map[string][]byte {
		f := made(t, o)
		all := map[string][]byte{}
		for _, pattern := range []string{"*.yaml", "monitors/*/log/blocks/*.jsonl", "monitors/*/log/blocks/*/*", "monitors/*/log/checkpoints/*", "monitors/*/log/certs/*"} {
			list, err := filepath.Glob(f.path(pattern))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range list {
				b, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				all[strings.TrimPrefix(name, f.dir)] = b
			}
		}
		return all
	}
	o := Options{Relays: 3, Monitors: 15, Hours: 2, Witnesses: 1, Seed: 7}
	a, b := files(o), files(o)
	if !maps.EqualFunc(a, b, bytes.Equal) {
		t.Errorf("the same seed made other files: %s", cmp.Diff(a, b))
	}
	o.Seed++
	if c := files(o); maps.EqualFunc(a, c, bytes.Equal) {
		t.Error("another seed made the same files")
	}
}

// What is measured of a fleet comes out as a table, and results that were kept are read.
func TestMeasure(t *testing.T) {
	f := made(t, tiny)
	again, err := Open(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	if again.Options != f.Options || again.Made != f.Made {
		t.Errorf("got %+v, want %+v", again, f)
	}
	var samples []Sample
	for _, step := range Steps() {
		s, err := again.Measure(t.Context(), step)
		if err != nil {
			t.Fatal(err)
		}
		samples = append(samples, s)
	}
	r := NewResult(again, samples)
	var out bytes.Buffer
	if err := Table(&out, []Result{r, r}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"bytes of a record", "share of hours in which the monitor was not due", "computed where fewer than 720 h", "mirror a log", "| 1.00 |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table does not say %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "ingest") {
		t.Errorf("the table tells of an ingest that nobody has measured:\n%s", out.String())
	}
}

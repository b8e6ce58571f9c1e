package trend

import (
	"context"
	"encoding/xml"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func testLog(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// opened is what another start of the program makes of the folder.
func opened(t *testing.T, dir string) *Keeper {
	t.Helper()
	k := New(dir, testLog(t))
	k.open()
	return k
}

// last are the values of the latest steps of a ring.
func last(r *ring, field, n int, now time.Time) []int64 {
	all := r.values(field, now)
	return all[len(all)-n:]
}

func wantValues(t *testing.T, what string, got []int64, want ...int64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// A step has the highest of each number, and the sum of bytes; a step in which the program
// did not run has nothing, not 0; and a restart adds to the step that it falls into.
func TestStepsGapsAndRestart(t *testing.T) {
	dir := t.TempDir()
	k := opened(t, dir)
	k.note(noon, Now{Reservations: 3, Circuits: 1, Connections: 9, Carried: 100})
	k.note(noon.Add(time.Minute), Now{Reservations: 5, Connections: 8, Carried: 150})
	k.note(noon.Add(5*time.Minute), Now{Carried: 150})
	k.Save()

	k = opened(t, dir)
	k.note(noon.Add(9*time.Minute), Now{Reservations: 1, Carried: 7}) // in the step of before
	now := noon.Add(21 * time.Minute)
	k.note(now, Now{Reservations: 2, Carried: 12})
	wantValues(t, "reservations", last(&k.day, reservations, 6, now), unknown, 5, 1, unknown, unknown, 2)
	wantValues(t, "circuits", last(&k.day, circuits, 6, now), unknown, 1, 0, unknown, unknown, 0)
	wantValues(t, "connections", last(&k.day, connections, 6, now), unknown, 9, 0, unknown, unknown, 0)
	wantValues(t, "bytes of the steps that are over", last(&k.day, carried, 5, now), unknown, 150, 7, unknown, unknown)
	wantValues(t, "the month", last(&k.month, reservations, 2, now), unknown, 5)
	wantValues(t, "bytes of the month", last(&k.month, carried, 1, now.Add(2*time.Hour)), 162)
	info, err := os.Stat(filepath.Join(dir, File))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want a file of mode 0600", info, err)
	}
}

// A count that falls began anew, whatever made it.
func TestCountThatFalls(t *testing.T) {
	k := New(t.TempDir(), testLog(t))
	for i, n := range []int64{10, 30, 5} {
		k.note(noon.Add(time.Duration(i)*5*time.Minute), Now{Carried: n})
	}
	wantValues(t, "bytes", last(&k.day, carried, 3, noon.Add(15*time.Minute)), 10, 20, 5)
}

// full is one that has run for 40 days.
func full(t *testing.T) *Keeper {
	k := New(t.TempDir(), testLog(t))
	for at := noon.AddDate(0, 0, -40); at.Before(noon); at = at.Add(time.Minute) {
		k.day.add(at, sample{reservations: 7})
		k.month.add(at, sample{reservations: 7})
	}
	return k
}

func known(r *ring, now time.Time) (n int) {
	for _, v := range r.values(reservations, now) {
		if v != unknown {
			n++
		}
	}
	return n
}

// A clock that is wrong for an hour, in whichever direction, costs no more than the samples
// of that hour: what was known before is shown again when the clock is right, and what the
// wrong clock said is not.
func TestWrongClock(t *testing.T) {
	for name, wrong := range map[string]time.Time{
		"a year ahead": noon.AddDate(1, 0, 0), "a day ahead": noon.AddDate(0, 0, 1), "1970": time.Unix(600, 0),
		"before 1970": time.Unix(-100_000, 0), "a day back": noon.AddDate(0, 0, -1), "the end of time": time.Unix(1<<55, 0),
	} {
		k := full(t)
		for m := range 60 {
			k.note(wrong.Add(time.Duration(m)*time.Minute), Now{Reservations: 99})
		}
		now := noon.Add(time.Hour)
		k.note(now, Now{Reservations: 8})
		if day, month := known(&k.day, now), known(&k.month, now); day < k.day.room-2*13 || month < k.month.room-2 {
			t.Errorf("%s: got %d of %d and %d of %d samples, want all but those of an hour", name, day, k.day.room, month, k.month.room)
		}
		if wrong.After(now) && slices.Max(k.month.values(reservations, now)) == 99 {
			t.Errorf("%s: got what the clock said while it was wrong, want it left out", name)
		}
		for i := range 31 * 24 * 60 {
			now = now.Add(time.Minute)
			k.day.add(now, sample{reservations: 8})
			k.month.add(now, sample{reservations: 8})
			if i == 24*60 && known(&k.day, now) != k.day.room {
				t.Errorf("%s: after a day: got %d samples, want %d", name, known(&k.day, now), k.day.room)
			}
		}
		if got := known(&k.month, now); got != k.month.room {
			t.Errorf("%s: after a month: got %d samples, want %d", name, got, k.month.room)
		}
	}
}

// The file stays small, whatever is counted and however long, and what was written is read.
func TestFileIsBounded(t *testing.T) {
	dir := t.TempDir()
	k := New(dir, testLog(t))
	const much = 1 << 62
	at := time.Unix(maxStep*300, 0).AddDate(-1, 0, 0) // no date is longer
	for range 365 * 24 * 12 {
		k.day.add(at, sample{0, much, much, much, much})
		k.month.add(at, sample{0, much, much, much, much})
		at = at.Add(5 * time.Minute)
	}
	k.note(at.Add(-time.Minute), Now{Reservations: much, Carried: much})
	k.Save()
	info, err := os.Stat(filepath.Join(dir, File))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > maxFile || len(k.day.samples) != k.day.room || len(k.month.samples) != k.month.room {
		t.Errorf("got %d bytes, %d and %d samples, want at most %d bytes, %d and %d", info.Size(), len(k.day.samples), len(k.month.samples), maxFile, k.day.room, k.month.room)
	}
	if got := opened(t, dir); !slices.Equal(got.day.samples, k.day.samples) || !slices.Equal(got.month.samples, k.month.samples) {
		t.Error("got other samples of the file than were written, want the same")
	}
}

// A damaged file is put aside and said; the relay begins anew.
func TestDamagedFile(t *testing.T) {
	for name, text := range map[string]string{
		"empty":             "",
		"half a file":       `{"day":[[5,1,1,1,1],[6,1,`,
		"twice a step":      `{"day":[[5,1,1,1,1],[5,1,1,1,1]]}`,
		"not by time":       `{"month":[[6,1,1,1,1],[5,1,1,1,1]]}`,
		"a negative number": `{"day":[[5,-1,1,1,1]]}`,
		"a huge number":     `{"day":[[5,1,1,10000000,1]]}`,
		"huge bytes":        `{"day":[[5,1,1,1,1000000000000000]]}`,
		"a huge step":       `{"day":[[1000000000,1,1,1,1]]}`,
		"no whole number":   `{"day":[[5,1,1,1,0.5]]}`,
		"too many":          `{"day":[` + strings.Repeat(`[1],`, 288) + `[1]]}`,
		"too large":         `{"day":[]}` + strings.Repeat(" ", maxFile),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, File), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		k := New(dir, slog.New(slog.NewTextHandler(&said, nil)))
		k.open()
		if len(k.day.samples)+len(k.month.samples) != 0 || !strings.Contains(said.String(), Damaged) {
			t.Errorf("%s: got %v, %v and the log %q, want nothing, and the log to say so", name, k.day.samples, k.month.samples, said.String())
		}
		if aside, err := os.ReadFile(filepath.Join(dir, Damaged)); err != nil || string(aside) != text {
			t.Errorf("%s: got %q, %v, want the file put aside", name, aside, err)
		}
		k.note(noon, Now{Reservations: 1})
		k.Save()
		if got := opened(t, dir); len(got.day.samples) != 1 {
			t.Errorf("%s: after the next write: got %v, want one sample", name, got.day.samples)
		}
	}
}

// Run looks every minute, writes every ten, and what it saw last is kept by Save. Without
// a look there is nothing to write over what is there.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k := New(dir, testLog(t))
		k.Save()
		if _, err := os.Stat(filepath.Join(dir, File)); !os.IsNotExist(err) {
			t.Fatalf("before the first look: got %v, want no file", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		looks, carriedSoFar := 0, int64(0)
		done := make(chan struct{})
		go func() {
			k.Run(ctx, func() Now { looks++; carriedSoFar += 10; return Now{Reservations: looks, Carried: carriedSoFar} })
			close(done)
		}()
		time.Sleep(9*time.Minute + time.Second)
		if _, err := os.Stat(filepath.Join(dir, File)); !os.IsNotExist(err) || len(k.Periods()) != 2 {
			t.Errorf("after 9 minutes: got %v and %d periods, want no file yet, and 2", err, len(k.Periods()))
		}
		time.Sleep(time.Minute)
		if got := opened(t, dir); len(got.day.samples) == 0 {
			t.Error("after 10 minutes: got no sample in the file, want some")
		}
		time.Sleep(5 * time.Minute)
		cancel()
		<-done
		k.Save()
		sum := int64(0)
		for _, s := range opened(t, dir).day.samples {
			sum += s[carried]
		}
		if looks != 17 || sum != carriedSoFar {
			t.Errorf("after 15 minutes and the end: got %d looks and %d bytes in the file, want 17 and %d", looks, sum, carriedSoFar)
		}
	})
}

// What cannot be written is said once, and tried again.
func TestFileThatCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	var said strings.Builder
	k := New(dir, slog.New(slog.NewTextHandler(&said, nil)))
	k.note(noon, Now{Reservations: 1})
	k.Save()
	k.Save()
	if n := strings.Count(said.String(), "cannot be written"); n != 1 {
		t.Errorf("got it said %d times, want once: %s", n, said.String())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	k.Save()
	if got := opened(t, dir); len(got.day.samples) != 1 {
		t.Errorf("got %v, want the sample written by the next try", got.day.samples)
	}
}

func TestCharts(t *testing.T) {
	k := New(t.TempDir(), testLog(t))
	if got := k.Periods(); got != nil {
		t.Errorf("before the first look: got %v, want no picture", got)
	}
	k.note(noon.Add(-2*time.Hour), Now{Reservations: 0, Carried: 0})
	k.note(noon.Add(-2*time.Hour+5*time.Minute), Now{Reservations: 37, Carried: 1_300_000})
	k.note(noon, Now{Reservations: 12, Connections: 1, Carried: 1_300_000})
	periods := k.Periods()
	if len(periods) != 2 || len(periods[0].Charts) != 4 || len(periods[1].Charts) != 4 {
		t.Fatalf("got %+v, want two times four pictures", periods)
	}
	want := Chart{
		Title: "Reservations", Sum: "12 now, at most 37", Top: "50", Steps: 288,
		Words: "Reservations, the last day: 12 now, at most 37, at 2026-11-20 10:05 UTC; nothing is known of 23.8 hours",
		Area:  "M263 100V100H264V26H265V100zM287 100V76H288V100z",
		Gaps:  "M0 0H263V100H0zM265 0H287V100H265z",
	}
	if got := periods[0].Charts[0]; got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got, want := periods[0].Charts[3].Words, "Carried in 5 minutes, the last day: 1.3 MB in all, at most 1.3 MB, at 2026-11-20 10:05 UTC; nothing is known of 23.8 hours"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// Two steps of two hours were looked at, the second one is still counted.
	if got, want := periods[1].Charts[3].Words, "Carried in 2 hours, the last month: 1.3 MB in all, at most 1.3 MB, at 2026-11-20 10:00 UTC; nothing is known of 716 hours"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNice(t *testing.T) {
	for n, want := range map[int64]int64{-1: 1, 0: 1, 1: 1, 2: 2, 3: 5, 5: 5, 6: 10, 37: 50, 1_000_001: 2_000_000, maxBytes: maxBytes + 1} {
		if got := nice(n); got != want {
			t.Errorf("%d: got %d, want %d", n, got, want)
		}
	}
}

// Whatever stands in a file, it is refused or drawn, and stays within its bounds.
func FuzzRead(f *testing.F) {
	f.Add(`{"day":[[5,1,1,1,1],[6,1,2,3,4]],"month":[[1,9999999,0,0,999999999999999]]}`, int64(1_800))
	f.Add(`{"day":[[5,1]],"month":null}`, noon.Unix())
	f.Add(`[]`, int64(-1))
	f.Fuzz(func(t *testing.T, text string, at int64) {
		k := New("", slog.New(slog.DiscardHandler))
		if len(text) > maxFile || k.read([]byte(text)) != nil {
			if k.day.samples != nil || k.month.samples != nil {
				t.Fatal("got samples of a file that is refused, want none")
			}
			return
		}
		k.note(time.Unix(at, 0), Now{Reservations: 1, Carried: 1})
		for _, r := range []*ring{&k.day, &k.month} {
			if err := r.check(); err != nil {
				t.Fatalf("after one more sample: got %v, want samples that can be read again", err)
			}
		}
		for _, p := range k.Periods() {
			for _, c := range p.Charts {
				var image struct{}
				if err := xml.Unmarshal(fmt.Appendf(nil, `<svg aria-label="%s"><path d="%s"/><path d="%s"/></svg>`, c.Words, c.Area, c.Gaps), &image); err != nil {
					t.Fatalf("got %v, want a picture: %+v", err, c)
				}
			}
		}
	})
}

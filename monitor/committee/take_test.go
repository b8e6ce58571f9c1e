package committee

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// Logs grow, and are looked at again and again: only what is new is read, and the verdicts
// are always those of relayaudit.
func TestGrowingLogs(t *testing.T) {
	w := newWorld(t, 3, 3, 12)
	roster := w.roster()
	bases := w.bases(t, roster)
	dbs := map[string]*DB{"sqlite": open(t, filepath.Join(t.TempDir(), "c.db")), "postgres": open(t, server(t).Database(t))}
	closing := func(h evidence.Hour) time.Time { return h.Start().Add(30 * time.Minute) }
	for i, step := range []struct {
		until  evidence.Hour
		grow   func()
		blocks int64 // that are new; a block is of one month
	}{
		{w.First + 4, func() { w.watch(w.First, w.First+4) }, 3 * 4},
		{w.First + 12, func() { w.watch(w.First+4, w.First+12) }, 3 * 8},
		{w.First + 14*24, w.Settle, 3 * (14*24 - 1 - 12)}, // the scene leaves the last hour open
	} {
		w.AsOf = closing(step.until)
		step.grow()
		for name, d := range dbs {
			settle(t, d, bases)
			blocks, records := take(t, d, w.AsOf, bases, w.logs()...)
			if blocks != step.blocks || (records == 0) != (i == 2) {
				t.Errorf("%s: %d blocks were read, want %d; %d records were new", name, blocks, step.blocks, records)
			}
			w.asAudited(t, d, bases, roster)
			if blocks, records := take(t, d, w.AsOf, bases, w.logs()...); blocks != 0 || records != 0 {
				t.Errorf("%s: nothing is new, and %d blocks with %d records were read", name, blocks, records)
			}
			for _, b := range bases {
				if n := judge(t, d, b); n != 0 {
					t.Errorf("%s: nothing is new in %s, and %d relays were judged", name, b.Month, n)
				}
			}
		}
	}
	// A month is settled when a log has gone on for days after it: nobody judges it for ever.
	w.AsOf = closing(w.First + 16*24)
	w.Settle()
	for name, d := range dbs {
		if blocks, _ := take(t, d, w.AsOf, bases, w.logs()...); blocks != 3*2*24 {
			t.Errorf("%s: %d blocks were read of two days", name, blocks)
		}
		if old, now := judge(t, d, bases[0]), judge(t, d, bases[1]); old != 0 || now != 3 {
			t.Errorf("%s: %d relays were judged of the month before, and %d of this", name, old, now)
		}
	}
	for name, d := range dbs {
		months := func() []evidence.Month {
			list, err := d.Months(t.Context())
			must(t, err)
			return list
		}
		if list := months(); len(list) != 2 || list[0] != w.First.Month()+1 {
			t.Errorf("%s: months %v", name, list)
		}
		must(t, d.Forget(t.Context(), w.First.Month()+1))
		if list := months(); len(list) != 1 || list[0] != w.First.Month()+1 {
			t.Errorf("%s: the first month was dropped, and there are %v", name, list)
		}
		if _, err := d.Verdict(t.Context(), w.First.Month(), w.relays[0]); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a verdict of it is there: %v", name, err)
		}
		w.asAudited(t, d, bases[1:], roster)
		// It can be taken in anew.
		settle(t, d, bases)
		if blocks, _ := take(t, d, w.AsOf, bases, w.logs()...); blocks != 3*6 {
			t.Errorf("%s: %d blocks were read anew", name, blocks)
		}
		w.asAudited(t, d, bases, roster)
	}
}

// A log of which two copies are given, one older; one that was put back; one with two
// histories. Others are not held up.
func TestTwoHistories(t *testing.T) {
	w := newWorld(t, 3, 2, 0)
	w.watch(w.First, w.First+3)
	victim := w.Monitors[2]
	copied := filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(copied, os.DirFS(victim.Dir)))
	roster := w.roster()
	w.watch(w.First+3, w.First+5)
	w.AsOf = (w.First + 5).Start().Add(30 * time.Minute)
	twin, err := store.Open(copied)
	must(t, err)
	t.Cleanup(func() { twin.Close() })
	older, err := store.OpenRead(victim.Dir)
	must(t, err)
	t.Cleanup(func() { older.Close() })
	var asWas, other Log = twin, nil // first the log of three hours, later another history
	bases := w.bases(t, roster)
	engines(t, func(t *testing.T, address string) {
		d := open(t, address)
		settle(t, d, bases)
		take(t, d, w.AsOf, bases, w.logs()...)
		if other == nil {
			_, err := d.Take(t.Context(), asWas, w.AsOf, bases, nil)
			if !errors.Is(err, ErrBehind) || !strings.Contains(fmt.Sprint(err), victim.Name) {
				t.Errorf("an older copy: %v", err)
			}
		}
		w.asAudited(t, d, bases, roster)
		if other == nil {
			for h := w.First + 3; h < w.First+6; h++ {
				w.as(0)
				must(t, twin.Append(h, w.Attempt(victim, h, 33*time.Minute), w.DER))
				_, err := twin.Seal(h.End().Add(17 * time.Minute))
				must(t, err)
			}
			other = twin
		}
		_, err := d.Take(t.Context(), other, w.AsOf.Add(2*time.Hour), bases, nil)
		if !errors.Is(err, ErrForked) || !strings.Contains(fmt.Sprint(err), "convict") {
			t.Fatalf("another history: %v", err)
		}
		must(t, d.Trouble(t.Context(), victim.Log.Key(), err.Error()))
		// The proof is what relayaudit would be given, and what was taken in stays.
		var fork []byte
		must(t, d.read.QueryRow("SELECT data FROM forks").Scan(&fork))
		w.asAudited(t, d, bases, roster, fork)
		vantages, err := d.Vantages(t.Context(), w.First.Month())
		must(t, err)
		if v := vantages[2]; v.Void == "" || !strings.Contains(v.Trouble, "TWO HISTORIES") || v.Reaches == nil || *v.Reaches != w.First+5 || v.Key != victim.Log.Key() {
			t.Errorf("the monitor with two histories: %+v", v)
		}
		if v := vantages[0]; v.Void != "" || v.Trouble != "" || v.Reaches == nil || *v.Reaches != w.First+5 || !v.Committee {
			t.Errorf("another monitor: %+v", v)
		}
		blocks, _ := take(t, d, w.AsOf, bases, w.logs()[0])
		if blocks != 0 {
			t.Errorf("%d blocks of another monitor were read again", blocks)
		}
	})
}

// A newer roster has another relay from an hour past on, and later another plan key: what
// was taken in by the older one is taken in anew, as far as it must be.
func TestNewerRoster(t *testing.T) {
	w := newWorld(t, 3, 2, 0)
	w.entries = ""
	w.watch(w.First, w.First+5)
	w.AsOf = (w.First + 5).Start().Add(30 * time.Minute)
	first := w.roster()
	w.enrol(1, w.First+2)
	second := w.roster()
	key := w.Monitors[1].PlanKey
	w.Monitors[1].PlanKey = newWorld(t, 1, 1, 0).Monitors[0].Log.PlanKey()
	third := w.roster()
	w.Monitors[1].PlanKey = key
	engines(t, func(t *testing.T, address string) {
		d := open(t, address)
		for i, roster := range [][]byte{first, second, third} {
			bases := w.bases(t, roster)
			settle(t, d, bases)
			blocks, _ := take(t, d, w.AsOf, bases, w.logs()...)
			// All; from the enrolment on; all of one monitor.
			if want := []int64{15, 9, 5}[i]; blocks != want {
				t.Errorf("roster %d: %d blocks were read, want %d", i, blocks, want)
			}
			w.asAudited(t, d, bases, roster)
		}
	})
}

// A database that was judged by a newer roster is not judged by an older one.
func TestOlderRoster(t *testing.T) {
	w := newWorld(t, 1, 1, 0)
	old := w.roster()
	newer := w.Signed(strings.Replace(w.RosterYAML(), "serial: 1\n", "serial: 2\nprevious: "+evidence.SHA256Hex(old)+"\n", 1))
	engines(t, func(t *testing.T, address string) {
		d := open(t, address)
		settle(t, d, w.bases(t, newer))
		if err := d.Settle(t.Context(), w.bases(t, old)[0]); !errors.Is(err, ErrOlder) {
			t.Errorf("an older roster: %v", err)
		}
		settle(t, d, w.bases(t, newer))
		// Nor one that was judged with the release list without it.
		with := w.bases(t, newer)[0]
		with.Releases = &release.List{SHA256: "x"}
		must(t, d.Settle(t.Context(), with))
		if err := d.Settle(t.Context(), w.bases(t, newer)[0]); !errors.Is(err, ErrOlder) {
			t.Errorf("without the release list: %v", err)
		}
	})
}

// spoilt is a log of which some file is not what was sealed.
type spoilt struct {
	*store.Log
	records func(block int64) (*os.File, error)
	leaf    func(sha string) ([]byte, error)
	lines   func(from, to int64) ([][]byte, error)
}

func (s *spoilt) OpenRecords(block int64) (*os.File, error) {
	if s.records != nil {
		return s.records(block)
	}
	return s.Log.OpenRecords(block)
}

func (s *spoilt) CertificateOf(sha string) ([]byte, error) {
	if s.leaf != nil {
		return s.leaf(sha)
	}
	return s.Log.CertificateOf(sha)
}

func (s *spoilt) HeaderLines(from, to int64) ([][]byte, error) {
	if s.lines != nil {
		return s.lines(from, to)
	}
	return s.Log.HeaderLines(from, to)
}

// Nothing is taken in of a block that is not what was sealed. The blocks before it stay, but
// nobody judges by them; other logs are not held up, and with the right file all goes on.
func TestSpoiltLogs(t *testing.T) {
	w := newWorld(t, 2, 2, 0)
	w.watch(w.First, w.First+4)
	w.AsOf = (w.First + 4).Start().Add(30 * time.Minute)
	roster := w.roster()
	bases := w.bases(t, roster)
	log := w.Monitors[1].Log
	file := func(t *testing.T, change func([]byte) []byte) func(int64) (*os.File, error) {
		return func(block int64) (*os.File, error) {
			f, err := log.OpenRecords(block)
			if err != nil || block < 2 {
				return f, err
			}
			defer f.Close()
			b, err := os.ReadFile(f.Name())
			must(t, err)
			path := filepath.Join(t.TempDir(), "records")
			must(t, os.WriteFile(path, change(b), 0o644))
			return os.Open(path)
		}
	}
	line := func(b []byte) []byte { return b[:bytes.IndexByte(b, '\n')+1] }
	engines(t, func(t *testing.T, address string) {
		for name, bad := range map[string]struct {
			l    *spoilt
			want string
			rows bool // some blocks were good
		}{
			"a record was changed":     {&spoilt{Log: log, records: file(t, func(b []byte) []byte { return bytes.Replace(b, []byte(`"level":4`), []byte(`"level":3`), 1) })}, "not those that were sealed", true},
			"a record is missing":      {&spoilt{Log: log, records: file(t, func(b []byte) []byte { return b[len(line(b)):] })}, "there are", true},
			"a record is there twice":  {&spoilt{Log: log, records: file(t, func(b []byte) []byte { return append(line(b), b...) })}, "not in order", true},
			"a line is not ended":      {&spoilt{Log: log, records: file(t, func(b []byte) []byte { return b[:len(b)-1] })}, "not ended", true},
			"a line has no end":        {&spoilt{Log: log, records: file(t, func([]byte) []byte { return bytes.Repeat([]byte("a"), 4*evidence.MaxRecordBytes) })}, "longer than", true},
			"the file is missing":      {&spoilt{Log: log, records: func(int64) (*os.File, error) { return nil, fs.ErrNotExist }}, "mirror the log anew", false},
			"a certificate is another": {&spoilt{Log: log, leaf: func(string) ([]byte, error) { return []byte("x"), nil }}, "certificate", false},
			"a header was changed": {&spoilt{Log: log, lines: func(from, to int64) ([][]byte, error) {
				lines, err := log.HeaderLines(from, to)
				for i := range lines {
					lines[i] = bytes.Replace(bytes.Clone(lines[i]), []byte(`"samples":`), []byte(`"samples":1`), 1)
				}
				return lines, err
			}}, "block", false},
		} {
			t.Run(name, func(t *testing.T) {
				must(t, Drop(t.Context(), address))
				d := open(t, address)
				settle(t, d, bases)
				_, err := d.Take(t.Context(), bad.l, w.AsOf, bases, nil)
				if err == nil || !strings.Contains(err.Error(), bad.want) || !strings.Contains(err.Error(), log.Origin()) {
					t.Fatalf("got %v, want %q", err, bad.want)
				}
				var late, rows int
				must(t, d.read.QueryRow(fmt.Sprintf("SELECT count(*), count(CASE WHEN hour >= %d THEN 1 END) FROM records", w.First+2)).Scan(&rows, &late))
				if late != 0 || (rows > 0) != bad.rows {
					t.Errorf("%d records are there, %d of them of bad blocks", rows, late)
				}
				take(t, d, w.AsOf, bases, w.logs()[0])
				judge(t, d, bases[0])
				v, err := d.Verdict(t.Context(), bases[0].Month, w.relays[0])
				must(t, err)
				if !v.Monitors[0].Log || v.Monitors[1].Log {
					t.Errorf("judged by the logs of %+v", v.Monitors)
				}
				take(t, d, w.AsOf, bases, log)
				w.asAudited(t, d, bases, roster)
			})
		}
	})
}

// Several processes share the relays of a month: each is judged once.
func TestShared(t *testing.T) {
	w := newWorld(t, 2, 12, 0)
	w.watch(w.First, w.First+2)
	w.AsOf = (w.First + 2).Start().Add(30 * time.Minute)
	roster := w.roster()
	bases := w.bases(t, roster)
	engines(t, func(t *testing.T, address string) {
		var dbs [3]*DB
		for i := range dbs {
			dbs[i] = open(t, address)
			dbs[i].lease = time.Hour // none of them is killed
		}
		settle(t, dbs[0], bases)
		var g errgroup.Group
		var busy, blocks, relays [3]int64
		for i, d := range dbs {
			g.Go(func() error {
				for _, l := range w.logs() {
					r, err := d.Take(t.Context(), l, w.AsOf, bases, nil)
					if err != nil {
						return err
					}
					if r.Busy {
						busy[i]++
					}
					blocks[i] += r.Blocks
				}
				return nil
			})
		}
		must(t, g.Wait())
		if n := blocks[0] + blocks[1] + blocks[2]; n != 2*2 {
			t.Errorf("%d blocks were read, want 4: %v, %v were busy", n, blocks, busy)
		}
		for i, d := range dbs {
			g.Go(func() error {
				r, err := d.Judge(t.Context(), bases[0], 2, nil)
				relays[i] = r.Relays
				return err
			})
		}
		must(t, g.Wait())
		if n := relays[0] + relays[1] + relays[2]; n != 12 {
			t.Errorf("%v relays were judged, want 12 together", relays)
		}
		w.asAudited(t, dbs[0], bases, roster)
	})
}

// Two transactions that wait for each other: the database ends one, and that is done again.
func TestDeadlock(t *testing.T) {
	d := open(t, server(t).Database(t))
	for _, key := range []string{"a", "b"} {
		must(t, d.Trouble(t.Context(), key, "0"))
	}
	var g errgroup.Group
	var both sync.WaitGroup
	both.Add(2)
	var tries atomic.Int64
	for _, keys := range [][]string{{"a", "b"}, {"b", "a"}} {
		g.Go(func() error {
			first := sync.OnceFunc(func() { both.Done(); both.Wait() }) // both hold their first row
			return d.change(t.Context(), func(tx *sql.Tx) error {
				tries.Add(1)
				for _, key := range keys {
					if err := d.exec(t.Context(), tx, "UPDATE logs SET size = size + 1 WHERE log_key = $1", key); err != nil {
						return err
					}
					first()
				}
				return nil
			})
		})
	}
	must(t, g.Wait())
	var sum int64
	must(t, d.read.QueryRow("SELECT sum(size)::bigint FROM logs").Scan(&sum))
	if sum != 4 || tries.Load() < 3 {
		t.Errorf("the sum is %d, want 4; %d tries", sum, tries.Load())
	}
}

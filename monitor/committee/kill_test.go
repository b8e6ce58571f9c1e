package committee

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/pgtest"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

var (
	kills    = flag.Int("kills", 20, "how often TestKilled kills the process that takes in and judges")
	killSeed = flag.Uint64("killseed", 1, "for the moments at which TestKilled kills")
)

// shortLease is that of processes that are killed: tests do not wait for minutes.
const shortLease = time.Second

// all is what a database holds, in the order of its keys: what must be the same whoever was
// killed on the way.
func all(t testing.TB, d *DB) string {
	t.Helper()
	var out strings.Builder
	must(t, d.look(t.Context(), func(tx *sql.Tx) error {
		for _, q := range []string{
			"SELECT month, relay, logs.log_key, hour, data FROM records JOIN logs ON logs.id = records.log ORDER BY 1, 2, 3, 4",
			"SELECT month, logs.log_key, upto, keys, print, spine FROM taken JOIN logs ON logs.id = taken.log ORDER BY 1, 2",
			"SELECT log_key, size, root, trouble, '' FROM logs ORDER BY 1",
			"SELECT month, relay, fault, verdict, line FROM verdicts ORDER BY 1, 2",
			"SELECT sha256, '', '', '', '' FROM certificates ORDER BY 1",
		} {
			rows, err := tx.QueryContext(t.Context(), q)
			if err != nil {
				return err
			}
			columns, err := rows.Columns()
			if err != nil {
				return err
			}
			for rows.Next() {
				values, into := make([]any, len(columns)), make([]any, len(columns))
				for i := range values {
					into[i] = &values[i]
				}
				if err := rows.Scan(into...); err != nil {
					return err
				}
				for _, v := range values {
					if b, ok := v.([]byte); ok {
						v = evidence.SHA256Hex(b)
					}
					fmt.Fprintf(&out, "%v ", v)
				}
				out.WriteByte('\n')
			}
			if err := errors.Join(rows.Err(), rows.Close()); err != nil {
				return err
			}
		}
		return nil
	}))
	return out.String()
}

// whole takes in all logs, and judges, until nobody has anything left to do.
func whole(ctx context.Context, d *DB, now time.Time, bases []*Basis, logs []Log) error {
	for {
		for _, b := range bases {
			if err := d.Settle(ctx, b); err != nil {
				return err
			}
		}
		busy := false
		for _, l := range logs {
			r, err := d.Take(ctx, l, now, bases, nil)
			if err != nil {
				return err
			}
			busy = busy || r.Busy
		}
		for _, b := range bases {
			if _, err := d.Judge(ctx, b, 2, nil); err != nil {
				return err
			}
		}
		var left int
		if err := d.read.QueryRowContext(ctx, "SELECT count(*) FROM verdicts JOIN months ON months.month = verdicts.month WHERE seen < news").Scan(&left); err != nil {
			return err
		}
		if !busy && left == 0 {
			return nil
		}
		select { // another process has it, or was killed with it
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// child is what a process does that is killed: it takes in and judges.
func child(t *testing.T, address string) {
	dir := os.Getenv("COMMITTEE_SCENE")
	file := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		return b
	}
	var now time.Time
	var month evidence.Month
	must(t, now.UnmarshalText(file("now")))
	must(t, month.UnmarshalText(file("month")))
	var logs []Log
	for _, path := range strings.Fields(string(file("logs"))) {
		l, err := store.OpenRead(path)
		must(t, err)
		logs = append(logs, l)
	}
	d, err := Open(t.Context(), address)
	must(t, err)
	d.lease = shortLease
	fmt.Println("open")
	must(t, whole(t.Context(), d, now, []*Basis{basisOf(t, month, file("rules"), file("roster"), nil), basisOf(t, month+1, file("rules"), file("roster"), nil)}, logs))
	fmt.Println("done")
}

// stage is a scene that processes share.
func stage(t *testing.T) (w *world, roster []byte, dir string) {
	w = newWorld(t, 3, 4, 0)
	w.watch(w.First, w.First+9)
	w.AsOf = (w.First + 9).Start().Add(30 * time.Minute)
	roster, dir = w.roster(), t.TempDir()
	var logs []string
	for _, m := range w.Monitors {
		logs = append(logs, m.Dir)
	}
	for name, data := range map[string][]byte{
		"rules": w.RulesFile(), "roster": roster, "logs": []byte(strings.Join(logs, "\n")), "now": []byte(w.AsOf.Format(time.RFC3339Nano)), "month": []byte(w.First.Month().String()),
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
	}
	return w, roster, dir
}

// process is one that works on a database.
type process struct {
	*exec.Cmd
	said *bufio.Scanner
	errs *strings.Builder
}

func start(t *testing.T, test, address, scene string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), "COMMITTEE_DATABASE="+address, "COMMITTEE_SCENE="+scene)
	out, err := cmd.StdoutPipe()
	must(t, err)
	p := &process{cmd, bufio.NewScanner(out), &strings.Builder{}}
	cmd.Stderr = p.errs
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return p
}

// until waits for a word; false: the process ended without it.
func (p *process) until(word string) bool {
	for p.said.Scan() {
		if p.said.Text() == word {
			return true
		}
	}
	return false
}

// A process that takes in logs and judges is killed (SIGKILL) at random moments and started
// again, alone and beside another one that is not killed. In the end nothing is lost and
// nothing is there twice: the database is as one in which nobody was killed.
func TestKilled(t *testing.T) {
	if address := os.Getenv("COMMITTEE_DATABASE"); address != "" {
		child(t, address)
		return
	}
	w, roster, dir := stage(t)
	bases := w.bases(t, roster)
	clean := open(t, filepath.Join(t.TempDir(), "clean.db"))
	must(t, whole(t.Context(), clean, w.AsOf, bases, w.logs()))
	want := all(t, clean)
	n := *kills
	if testing.Short() {
		n = min(n, 8)
	}
	engines(t, func(t *testing.T, address string) {
		random := rand.New(rand.NewPCG(*killSeed, 0))
		begin := time.Now()
		p := start(t, "TestKilled", address, dir)
		if !p.until("done") {
			t.Fatalf("the process said %s", p.errs)
		}
		_ = p.Wait()
		longest := time.Since(begin)
		d := open(t, address)
		compare := func() {
			t.Helper()
			if got := all(t, d); got != want {
				t.Fatalf("the database is another one:\ngot\n%s\nwant\n%s", got, want)
			}
		}
		compare()
		amid := 0 // kills after which something was there, and not all
		for killed := 0; killed < n || amid == 0 && killed < 50*n; killed++ {
			must(t, Drop(t.Context(), address))
			for killed < n {
				p := start(t, "TestKilled", address, dir)
				if !p.until("open") {
					t.Fatalf("the process said %s", p.errs)
				}
				timer := time.AfterFunc(time.Duration(random.Int64N(int64(longest))), func() { _ = p.Process.Signal(syscall.SIGKILL) })
				done := p.until("done")
				timer.Stop()
				_ = p.Wait()
				if done {
					break
				}
				killed++
				if got := all(t, d); got != want && len(got) > 0 {
					amid++
				}
			}
			// Whoever is left goes on: two processes at once.
			a, b := start(t, "TestKilled", address, dir), start(t, "TestKilled", address, dir)
			if !a.until("done") || !b.until("done") {
				t.Fatalf("two processes: %s, %s", a.errs, b.errs)
			}
			_, _ = a.Wait(), b.Wait()
			compare()
		}
		if amid == 0 {
			t.Error("no kill was amid anything: this test says nothing")
		}
		t.Logf("%d kills amid the work, which takes %s", amid, longest)
	})
}

// The server is restarted, without warning, while logs are taken in. What fails says so, and
// the next look goes on.
func TestServerRestarts(t *testing.T) {
	w, roster, _ := stage(t)
	bases := w.bases(t, roster)
	clean := open(t, filepath.Join(t.TempDir(), "clean.db"))
	must(t, whole(t.Context(), clean, w.AsOf, bases, w.logs()))
	want := all(t, clean)
	s := pgtest.Start(t)
	d := open(t, s.Database(t))
	d.lease = shortLease
	settle(t, d, bases)
	failed := 0
	for blocks := range 12 { // down after so many blocks
		seen := 0
		for _, l := range w.logs() {
			_, err := d.Take(t.Context(), l, w.AsOf, bases, func(Progress) {
				if seen++; seen == blocks+1 {
					s.Down()
				}
			})
			if seen > blocks && err != nil {
				failed++
				must(t, s.Up())
				break
			}
		}
		if seen <= blocks {
			break
		}
	}
	if failed == 0 {
		t.Error("nothing failed: this test says nothing")
	}
	must(t, whole(t.Context(), d, w.AsOf, bases, w.logs()))
	if got := all(t, d); got != want {
		t.Errorf("the database is another one:\ngot\n%s\nwant\n%s", got, want)
	}
}

// A full disk takes nothing in, and says so; with room again all goes on.
func TestFullDisk(t *testing.T) {
	w, roster, _ := stage(t)
	bases := w.bases(t, roster)
	d := open(t, filepath.Join(t.TempDir(), "c.db"))
	settle(t, d, bases)
	var pages int
	must(t, d.write.QueryRow("PRAGMA page_count").Scan(&pages))
	_, err := d.write.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages+4))
	must(t, err)
	if err := whole(t.Context(), d, w.AsOf, bases, w.logs()); err == nil || !strings.Contains(err.Error(), "full") {
		t.Fatalf("a full disk: %v", err)
	}
	_, err = d.write.Exec("PRAGMA max_page_count = 1000000")
	must(t, err)
	must(t, whole(t.Context(), d, w.AsOf, bases, w.logs()))
	w.asAudited(t, d, bases, roster)
}

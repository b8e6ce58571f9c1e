package mirror

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

var (
	kills    = flag.Int("kills", 100, "how often TestKilled kills the process that mirrors, and the one that exports")
	killSeed = flag.Uint64("killseed", 1, "for the moments at which TestKilled kills")
)

// A process that mirrors a log, from a web server, is killed (SIGKILL) at random moments
// and started again; so is one that exports it. After each kill nothing in the folder is
// half there, or not the log's; in the end it is the log. Then it begins anew.
func TestKilled(t *testing.T) {
	if dir := os.Getenv("KILLED_DIR"); dir != "" {
		copyUntilKilled(t, dir)
		return
	}
	n := *kills
	if testing.Short() {
		n = min(n, 10)
	}
	_, m := watched(t)
	want := whole(t, m)
	s := serve(t, unpaced(m.Log))
	for _, how := range []string{"mirror", "export"} {
		t.Run(how, func(t *testing.T) {
			v := victim{t: t, env: []string{"KILLED_FROM=" + s.url, "KILLED_KEY=" + m.Log.Key(), "KILLED_LOG=" + m.Dir, "KILLED_HOW=" + how},
				rand: rand.New(rand.NewPCG(*killSeed, 0)), want: want, dir: filepath.Join(t.TempDir(), "0"), key: m.Log.Key()}
			whole := 0
			v.longest = v.measure()
			// Few kills may miss, by chance, what they are for.
			for killed := 0; killed < n || (v.resumed == 0 || whole == 0) && killed < 50*n; {
				if v.life() {
					killed++
					v.sound()
					continue
				}
				same(t, files(t, v.dir), want)
				must(t, os.RemoveAll(v.dir))
				whole++
				v.dir = filepath.Join(t.TempDir(), fmt.Sprint(whole))
			}
			for v.life() { // until one is left alone
				v.sound()
			}
			same(t, files(t, v.dir), want)
			t.Logf("killed %d times, within %s: %d times the folder came to the whole log, %d times a killed one was gone on with", n, v.longest, whole+1, v.resumed)
			if v.resumed == 0 || whole == 0 {
				t.Error("that is too little to see anything")
			}
		})
	}
}

func unpaced(src tiles.Source) http.Handler {
	dir := handler(src)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = fmt.Sprintf("198.51.%d.%d:1", rand.IntN(256), rand.IntN(256)) // every request is another's
		dir.ServeHTTP(w, r)
	})
}

// victim is a process that is killed.
type victim struct {
	t        *testing.T
	env      []string
	rand     *rand.Rand
	want     map[string]string
	dir, key string
	longest  time.Duration // that a life takes which is left alone
	resumed  int
}

func (v *victim) start(dir string) (child *exec.Cmd, said *bufio.Scanner, faults *bytes.Buffer) {
	v.t.Helper()
	child = exec.Command(os.Args[0], "-test.run=^TestKilled$", "-test.count=1")
	child.Env = append(append(os.Environ(), "KILLED_DIR="+dir), v.env...)
	out, err := child.StdoutPipe()
	must(v.t, err)
	faults = new(bytes.Buffer)
	child.Stderr = faults
	must(v.t, child.Start())
	said = bufio.NewScanner(out)
	if !said.Scan() || said.Text() != "open" {
		child.Wait()
		v.t.Fatalf("the process said %q %s", said.Text(), faults)
	}
	return child, said, faults
}

// measure tells how long a life takes.
func (v *victim) measure() time.Duration {
	begin := time.Now()
	child, said, faults := v.start(filepath.Join(v.t.TempDir(), "measured"))
	for said.Scan() {
	}
	child.Wait()
	if faults.Len() > 0 {
		v.t.Fatalf("the process said %s", faults)
	}
	return time.Since(begin)
}

// life starts the process, and says whether it was killed.
func (v *victim) life() bool {
	v.t.Helper()
	if IsMirror(v.dir) {
		v.resumed++
	}
	must(v.t, os.MkdirAll(v.dir, 0o755)) // it may be killed before it makes one
	child, said, faults := v.start(v.dir)
	at := time.AfterFunc(time.Duration(v.rand.Int64N(int64(v.longest))), func() { child.Process.Kill() })
	done := false
	for said.Scan() {
		done = done || said.Text() == "done"
	}
	at.Stop()
	child.Wait()
	if faults.Len() > 0 {
		v.t.Fatalf("the process said %s", faults)
	}
	// On a busy machine a life takes now longer, now shorter; most are to be killed.
	if done {
		v.longest -= v.longest / 8
	} else {
		v.longest += v.longest / 32
	}
	return !done
}

// sound looks at what a kill left: each file is the log's, whole, and what is shown is there.
func (v *victim) sound() {
	v.t.Helper()
	for name, b := range files(v.t, v.dir) {
		switch base := filepath.Base(name); {
		case strings.HasPrefix(base, "."): // written aside, and swept away by the next one
		case name == "checkpoint":
			shown, _, err := evidence.ReadCheckpoint([]byte(b), v.key)
			if err != nil || b != v.want[tiles.CheckpointOf(shown.N)] {
				v.t.Fatalf("checkpoint: %v\n%s", err, b)
			}
		case strings.Contains(name, ".p/"):
			full, _, _ := strings.Cut(name, ".p/")
			if whole, ok := v.want[full]; ok && !strings.HasPrefix(whole, b) {
				v.t.Fatalf("%s is not a part of the full tile", name)
			}
		case b != v.want[name]:
			v.t.Fatalf("%s has %d bytes, want %d, or others", name, len(b), len(v.want[name]))
		}
	}
	if !IsMirror(v.dir) {
		return
	}
	src, err := Open(v.dir, v.key)
	must(v.t, err)
	lines, err := src.HeaderLines(0, src.Size())
	must(v.t, err)
	for i, line := range lines {
		h, err := evidence.DecodeHeader(line)
		must(v.t, err)
		records, err := src.RecordLines(int64(i))
		must(v.t, err)
		if int64(len(records)) != h.Records {
			v.t.Fatalf("block %d has %d records, want %d", i, len(records), h.Records)
		}
		if h.Signed {
			_, err := src.CheckpointOf(int64(i) + 1)
			must(v.t, err)
		}
	}
}

// copyUntilKilled is the process.
func copyUntilKilled(t *testing.T, dir string) {
	fmt.Println("open")
	var err error
	if os.Getenv("KILLED_HOW") == "export" {
		var l *store.Log
		l, err = store.OpenRead(os.Getenv("KILLED_LOG"))
		must(t, err)
		_, err = tiles.Export(context.Background(), l, dir, nil)
	} else {
		var m *Mirror
		m, err = New(Options{From: os.Getenv("KILLED_FROM"), Dir: dir, Key: os.Getenv("KILLED_KEY"), PerSecond: 1e6, noRoom: func(string) error { return nil }})
		must(t, err)
		_, err = m.Sync(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("done")
	os.Exit(0)
}

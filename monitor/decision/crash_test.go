package decision

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

// state is all that is on disk: the folder, and what is kept beside the key ("memory").
type state map[string]string

const memory = "memory"

func stateOf(t testing.TB, w Where) state {
	s := state{}
	if _, err := os.Stat(w.Dir); err == nil {
		s = files(t, w.Dir)
	}
	if b, err := os.ReadFile(w.Memory); err == nil {
		s[memory] = string(b)
	}
	return s
}

func (s state) lay(t testing.TB, w Where) {
	t.Helper()
	rest := maps.Clone(s)
	delete(rest, memory)
	lay(t, w.Dir, rest)
	evidencetest.Must(t, os.RemoveAll(w.Memory))
	if b, ok := s[memory]; ok {
		evidencetest.Must(t, os.WriteFile(w.Memory, []byte(b), 0o644))
	}
}

// write is one that a crash can stand before, or in the middle of.
type write struct {
	name, data string // an empty one removes
}

// writes are those that an entry takes, in order. That these make the state after is what
// the caller sees.
func writes(before, after state) (list []write) {
	rank := func(name string) int {
		switch {
		case strings.HasPrefix(name, "checkpoints/"):
			return 0
		case strings.HasPrefix(name, "tile/entries/"):
			return 2
		case strings.HasPrefix(name, "tile/"):
			return 1
		case name == memory:
			return 3
		}
		return 4
	}
	for name, data := range after {
		if before[name] != data {
			list = append(list, write{name, data})
		}
	}
	slices.SortFunc(list, func(a, b write) int {
		return 1000*(rank(a.name)-rank(b.name)) + strings.Compare(a.name, b.name)
	})
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, ok := after[name]; !ok {
			list = append(list, write{name, ""})
		}
	}
	return list
}

// long puts a log of so many entries into place, all at once.
func long(t testing.TB, w Where, size int) {
	t.Helper()
	if size == 0 {
		return
	}
	lines := make([][]byte, size)
	for i := range lines {
		e := newRelay(t).paid()
		line, err := Encode(e)
		evidencetest.Must(t, err)
		lines[i] = line
	}
	evidencetest.Must(t, os.Rename(forgedOf(t, w, lines...), w.Dir))
	raw, err := os.ReadFile(filepath.Join(w.Dir, "checkpoint"))
	evidencetest.Must(t, err)
	evidencetest.Must(t, os.WriteFile(w.Memory, raw, 0o644))
}

// Whoever is killed between any two writes, or in the middle of one, leaves the log of
// before or the one of after. Who does the same again gets the one of after, and who does
// something else gets a log of one history.
func TestEveryStep(t *testing.T) {
	for _, size := range []int{0, 1, 2, 254, 255, 256, 511} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			w, e, other := committee(t), newRelay(t).paid(), newRelay(t).paid()
			long(t, w, size)
			before := stateOf(t, w)
			enter(t, w, e)
			after := stateOf(t, w)
			all := writes(before, after)
			if len(all) < 4 || all[len(all)-1].name == "" {
				t.Fatalf("writes: %q", all)
			}
			s := maps.Clone(before)
			for i := 0; ; i++ {
				crashed := maps.Clone(s)
				if i < len(all) && all[i].data != "" {
					dir, base := filepath.Split(all[i].name)
					if all[i].name != memory { // a crash leaves half of it aside
						crashed[dir+"."+base+"123"] = all[i].data[:len(all[i].data)/2]
					}
				}
				afterCrash(t, w, crashed, before, after, e, other, int64(size))
				if i == len(all) {
					break
				}
				if s[all[i].name] = all[i].data; all[i].data == "" {
					delete(s, all[i].name)
				}
			}
			if !maps.Equal(s, after) {
				t.Error("the writes do not make the state after")
			}
		})
	}
}

func afterCrash(t *testing.T, w Where, crashed, before, after state, e, other Entry, size int64) {
	t.Helper()
	crashed.lay(t, w)
	if crashed["checkpoint"] != "" {
		l := mustRead(t, w)
		if l.Checkpoint.Size != size && l.Checkpoint.Size != size+1 {
			t.Errorf("there are %d entries, want %d or one more", l.Checkpoint.Size, size)
		}
	}
	w.First = crashed["checkpoint"] == ""
	open := func() *Writer {
		t.Helper()
		l, err := Open(w)
		evidencetest.Must(t, err)
		w.First = false
		return l
	}
	// The same again.
	l := open()
	if _, _, ok := l.Find(e); !ok {
		if crashed[memory] == after[memory] {
			t.Error("what was signed is not there")
		}
		_, _, err := l.Enter(e)
		evidencetest.Must(t, err)
	} else if crashed[memory] != after[memory] {
		t.Error("what was not signed is there")
	}
	evidencetest.Must(t, l.Close())
	evidencetest.Must(t, open().Close()) // sweeps, as the next one does
	if got := stateOf(t, w); !maps.Equal(got, after) && !equalButPartial(got, after) {
		t.Errorf("the same again makes %q, want %q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(after)))
	}
	mustRead(t, w)
	// Something else.
	crashed.lay(t, w)
	w.First = crashed["checkpoint"] == ""
	l = open()
	_, _, signed := l.Find(e)
	_, _, err := l.Enter(other)
	evidencetest.Must(t, err)
	evidencetest.Must(t, l.Close())
	l2 := mustRead(t, w)
	want := size + 1
	if signed {
		want++
	}
	if l2.Checkpoint.Size != want || len(l2.Month(other.Decision.Relay, november).Decisions) != 1 || len(l2.Month(e.Decision.Relay, november).Decisions) != int(want-size-1) {
		t.Errorf("after something else there are %d entries, want %d", l2.Checkpoint.Size, want)
	}
	for _, old := range []state{before, after} {
		if signed || old["checkpoint"] == before["checkpoint"] {
			if raw := old["checkpoint"]; raw != "" {
				v, _, err := evidence.ReadCheckpoint([]byte(raw), l2.VerifierKey())
				evidencetest.Must(t, err)
				evidencetest.Must(t, l2.agrees(v))
			}
		}
	}
}

// equalButPartial says whether two states differ in nothing but partial tiles of which both
// have the full one, which may stay or go.
func equalButPartial(a, b state) bool {
	bare := func(s state) state {
		out := maps.Clone(s)
		maps.DeleteFunc(out, func(name, _ string) bool {
			full, _, partial := strings.Cut(name, ".p/")
			_, ok := s[full]
			return partial && ok
		})
		return out
	}
	return maps.Equal(bare(a), bare(b))
}

var kills = flag.Int("kills", 40, "how often TestKilled kills the process that writes")

// A process that enters one decision after the other on the real disk is killed (SIGKILL)
// at random moments and started again.
func TestKilled(t *testing.T) {
	if dir := os.Getenv("KILLED_DECISIONS"); dir != "" {
		enterUntilKilled(t, dir)
		return
	}
	n := *kills
	if testing.Short() {
		n = min(n, 5)
	}
	w := committee(t)
	dir := filepath.Dir(w.Dir)
	evidencetest.Must(t, os.WriteFile(filepath.Join(dir, "key"), []byte(w.Key.String()), 0o600))
	acked, signed := map[string]bool{}, map[string]bool{}
	for range n {
		child := exec.Command(os.Args[0], "-test.run=^TestKilled$", "-test.count=1")
		child.Env = append(os.Environ(), "KILLED_DECISIONS="+dir)
		out, err := child.StdoutPipe()
		evidencetest.Must(t, err)
		var faults bytes.Buffer
		child.Stderr = &faults
		evidencetest.Must(t, child.Start())
		left := 1 + rand.IntN(6)
		said := bufio.NewScanner(out)
		for said.Scan() {
			what, rest, _ := strings.Cut(said.Text(), " ")
			switch what {
			case "open":
			case "entered":
				acked[rest] = true
			case "checkpoint":
				signed[rest] = true
			default:
				t.Fatalf("the process said %q", said.Text())
			}
			if left--; left == 0 {
				time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, func() { child.Process.Kill() })
			}
		}
		child.Wait()
		if faults.Len() > 0 {
			t.Fatalf("the process said %s", faults.String())
		}
		if _, err := os.Stat(filepath.Join(w.Dir, "checkpoint")); err == nil {
			mustRead(t, w)
		}
	}
	if len(acked) == 0 {
		t.Fatalf("nothing was entered in %d lives: too little to see anything", n)
	}
	l := mustRead(t, w)
	there := map[string]int{}
	for _, line := range l.lines {
		there[Hash(line)]++
	}
	for h := range acked {
		if there[h] != 1 {
			t.Errorf("entry %s was acknowledged and is there %d times", h, there[h])
		}
	}
	for h, n := range there {
		if n != 1 {
			t.Errorf("entry %s is there %d times", h, n)
		}
	}
	for line := range signed {
		var v tlog.Tree
		var root string
		if _, err := fmt.Sscan(line, &v.N, &root); err != nil {
			t.Fatal(err)
		}
		var err error
		v.Hash, err = tlog.ParseHash(root)
		evidencetest.Must(t, err)
		evidencetest.Must(t, l.agrees(v))
	}
	t.Logf("killed %d times: %d entries acknowledged, %d there", n, len(acked), len(there))
}

func enterUntilKilled(t *testing.T, dir string) {
	secret, err := os.ReadFile(filepath.Join(dir, "key"))
	evidencetest.Must(t, err)
	key, err := evidence.ParseSigningKey(string(secret))
	evidencetest.Must(t, err)
	w := Where{Dir: filepath.Join(dir, "log"), Network: evidence.PSF, Key: key, Memory: filepath.Join(dir, "memory")}
	_, err = os.Stat(filepath.Join(w.Dir, "checkpoint"))
	w.First = err != nil
	l, err := Open(w)
	evidencetest.Must(t, err)
	fmt.Println("open")
	for {
		_, h, err := l.Enter(newRelay(t).paid())
		evidencetest.Must(t, err)
		fmt.Println("entered", h)
		fmt.Println("checkpoint", l.Checkpoint.Size, l.Checkpoint.Root)
	}
}

// Two at once cannot fork the log: the second waits its turn.
func TestTwoAtOnce(t *testing.T) {
	w := committee(t)
	enter(t, w, newRelay(t).paid())
	l, err := Open(w)
	evidencetest.Must(t, err)
	_, err = Open(w)
	evidencetest.WantError(t, err, "is in use by another process")
	if !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("got %v", err)
	}
	evidencetest.WantError(t, AddCosignatures(w.Dir, w.Key.VerifierKey(), l.Signed()), "is in use by another process")
	mustRead(t, w) // readers need no turn
	evidencetest.Must(t, l.Close())
	const each, writers = 5, 4
	var all sync.WaitGroup
	for range writers {
		var entries []Entry
		for range each {
			entries = append(entries, newRelay(t).paid())
		}
		all.Go(func() {
			for len(entries) > 0 {
				l, err := Open(w)
				if errors.Is(err, unix.EWOULDBLOCK) {
					continue
				}
				if err == nil {
					_, _, err = l.Enter(entries[0])
					err = errors.Join(err, l.Close())
				}
				if err != nil {
					t.Error(err)
					return
				}
				entries = entries[1:]
			}
		})
	}
	all.Wait()
	if got := mustRead(t, w).Checkpoint.Size; got != 1+each*writers {
		t.Errorf("%d entries, want %d", got, 1+each*writers)
	}
}

// A disk that is full, or a key on a medium that cannot be written to, changes nothing.
func TestNotRemembered(t *testing.T) {
	w := committee(t)
	enter(t, w, newRelay(t).paid())
	before := stateOf(t, w)
	cut := w
	cut.Memory = filepath.Join(t.TempDir(), "not", "there")
	l, err := Open(cut)
	evidencetest.Must(t, err)
	_, _, err = l.Enter(newRelay(t).paid())
	evidencetest.WantError(t, err, "keep what was signed beside the key")
	_, _, again := l.Enter(newRelay(t).paid())
	evidencetest.WantError(t, again, "refused after an earlier failure")
	evidencetest.Must(t, l.Close())
	if got := mustRead(t, w); got.Checkpoint.Size != 1 {
		t.Errorf("%d entries, want 1", got.Checkpoint.Size)
	}
	l, err = Open(w)
	evidencetest.Must(t, err)
	evidencetest.Must(t, l.Close())
	after := stateOf(t, w)
	delete(after, tiles.CheckpointOf(1)) // the copy of what is public already
	if !maps.Equal(before, after) {
		t.Errorf("got %q, want %q", slices.Sorted(maps.Keys(after)), slices.Sorted(maps.Keys(before)))
	}
}

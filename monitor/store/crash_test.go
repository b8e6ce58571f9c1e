package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/internal/durable/durabletest"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// story is what a monitor does over five hours across a month's end, with a gap.
// It goes on after errors as a monitor does, and after its death as a new process.
type story struct {
	t       testing.TB
	dir     string
	disk    *durabletest.BadDisk
	log     *Log
	steps   []func(*story) error
	acked   map[string]bool  // attempts that Append took, by hour, relay and start
	tried   map[string]bool  // all that were offered
	signed  map[int64][]byte // checkpoints that were to be seen, by size
	lastNow time.Time
}

func attemptID(h evidence.Hour, a evidence.Attempt) string {
	return fmt.Sprint(h, " ", a.PeerID, " ", a.Started)
}

// newStory prepares the steps; making vouchers and certificates is the slow part.
func newStory(t testing.TB) []func(*story) error {
	relays := []evidencetest.Relay{evidencetest.NewRelay(t, crypto.Ed25519, 0), evidencetest.NewRelay(t, crypto.Ed25519, 0)}
	der1, cert1 := evidencetest.NewLeaf(t, "one.example.org")
	der2, cert2 := evidencetest.NewLeaf(t, "two.example.org")
	w := evidencetest.NewWitness(t, "w1")
	var steps []func(*story) error
	step := func(f func(*story) error) { steps = append(steps, f) }
	seal := func(now time.Time) {
		step(func(s *story) error {
			s.lastNow = now
			_, err := s.log.Seal(now)
			if err != nil {
				// The planner comes again a minute later.
				_, err = s.log.Seal(now.Add(time.Minute))
			}
			s.look()
			return err
		})
	}
	for h := evidencetest.FirstHour + 2; h < evidencetest.FirstHour+7; h++ {
		if h == evidencetest.FirstHour+3 {
			continue
		}
		step(func(s *story) error { return s.log.Begin(h, h.Start().Add(time.Second), "relaymon/test") })
		step(func(s *story) error {
			return s.log.Mark(h, evidence.Mark{Clock: &evidence.ClockSample{At: evidence.TimeOf(h.Start()), Synchronised: true}})
		})
		seal(h.Start().Add(evidence.CloseAfter))
		for i, r := range relays {
			for n := range 1 + int(h)%2 {
				der, cert := der1, cert1
				if h > evidencetest.FirstHour+4 {
					der, cert = der2, cert2
				}
				a := r.Attempt(t, "key", h, time.Duration(20*n+i+20)*time.Minute, cert)
				a.Rungs, a.Facts = nil, evidence.Facts{Certificate: cert} // short ones: there will be many
				step(func(s *story) error {
					s.tried[attemptID(h, a)] = true
					err := s.log.Append(h, a, der)
					if err == nil {
						s.acked[attemptID(h, a)] = true
					}
					return err
				})
			}
		}
		step(func(s *story) error {
			cp, err := s.log.Checkpoint()
			if err != nil || cp == nil {
				return err
			}
			return s.log.AddCosignatures(s.log.Size(), w.Cosign(t, cp, h.Start()), w.VKey())
		})
	}
	seal(evidencetest.Closing(evidencetest.FirstHour + 8))
	return steps
}

// look keeps the newest checkpoint as a witness would, and refuses a second of its size.
func (s *story) look() {
	s.t.Helper()
	size := s.log.Size()
	cp, err := s.log.Checkpoint()
	if err != nil {
		s.t.Fatal(err)
	}
	text, _, _ := bytes.Cut(cp, []byte("\n\n"))
	if old, ok := s.signed[size]; ok && !bytes.Equal(old, text) {
		s.t.Fatalf("two checkpoints of size %d:\n%s\n%s", size, old, text)
	}
	s.signed[size] = text
}

// survive runs f and says whether the process died in it.
func (s *story) survive(f func() error) (err error, died bool) {
	defer func() {
		if p := recover(); p != nil {
			k, ok := p.(durabletest.Killed)
			if !ok {
				panic(p)
			}
			died, err = true, fmt.Errorf("killed at %s", k.Site)
		}
	}()
	return f(), false
}

// start opens or makes the log, until it succeeds, as a service manager does.
func (s *story) start() {
	for range 50 {
		err, died := s.survive(func() (err error) {
			if _, e := os.Stat(filepath.Join(s.dir, metaFile)); e == nil {
				s.log, err = open(s.disk, s.dir)
			} else {
				s.log, err = create(s.disk, s.dir, Options{Name: "m", Network: evidence.Lab, First: evidencetest.FirstHour})
			}
			return err
		})
		if err == nil {
			return
		}
		if died {
			s.unlock()
			continue
		}
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EIO) {
			s.t.Fatalf("start: %v", err)
		}
	}
	s.t.Fatal("50 starts failed")
}

// unlock lets go of the locks of a dead process, which the kernel does for real ones.
func (s *story) unlock() {
	evidencetest.Must(s.t, os.RemoveAll(filepath.Join(s.dir, lockFile)))
}

func (s *story) run() {
	s.acked, s.tried, s.signed = make(map[string]bool), make(map[string]bool), make(map[int64][]byte)
	s.start()
	for i := 0; i < len(s.steps); i++ {
		err, died := s.survive(func() error { return s.steps[i](s) })
		if died {
			s.unlock()
			s.start()
			continue
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EIO) && !errors.Is(err, ErrSealed) {
			s.t.Fatalf("step %d: %v", i, err)
		}
	}
	s.end()
}

// end lets the disk recover and looks at what is there.
func (s *story) end() {
	t := s.t
	t.Helper()
	s.disk.When = func(int) (durabletest.Mishap, bool) { return 0, false }
	s.unlock()
	l, err := open(s.disk, s.dir)
	evidencetest.Must(t, err)
	s.log = l
	if _, err = l.Seal(s.lastNow.Add(time.Hour)); errors.Is(err, syscall.ENOSPC) {
		_, err = l.Seal(s.lastNow.Add(time.Hour))
	}
	evidencetest.Must(t, err)
	s.look()
	found := make(map[string]bool)
	for h := l.First(); h < l.next(); h++ {
		head, err := l.Header(h)
		evidencetest.Must(t, err)
		if head.Hour != h {
			t.Fatalf("block of %s where %s belongs", head.Hour, h)
		}
		records, err := l.Records(h)
		evidencetest.Must(t, err)
		for _, r := range records {
			for _, a := range r.Attempts {
				id := attemptID(h, a)
				if found[id] {
					t.Fatalf("attempt %s is there twice", id)
				}
				found[id] = true
				if !s.tried[id] {
					t.Fatalf("attempt %s was made up", id)
				}
			}
		}
	}
	for id := range s.acked {
		if !found[id] {
			t.Fatalf("attempt %s was acknowledged and is gone", id)
		}
	}
	for size, text := range s.signed {
		if size == 0 {
			continue
		}
		c, err := evidence.ParseCheckpoint(string(text) + "\n")
		evidencetest.Must(t, err)
		root, err := l.tree.Root(size)
		evidencetest.Must(t, err)
		if root != c.Root {
			t.Fatalf("the checkpoint of size %d that was to be seen is of another history", size)
		}
	}
	evidencetest.Must(t, l.Close())
	if r := sound(t, s.dir); r.Blocks < 9 || r.Attempts != int64(len(found)) {
		t.Fatalf("%+v, %d attempts found", r, len(found))
	}
}

// Each write in turn fails, or is where the process dies: before, in the middle, after.
func TestEveryWriteFails(t *testing.T) {
	steps := newStory(t)
	quiet := &durabletest.BadDisk{Real: durabletest.MemoryDisk{}, When: func(int) (durabletest.Mishap, bool) { return 0, false }}
	(&story{t: t, dir: filepath.Join(t.TempDir(), "log"), disk: quiet, steps: steps}).run()
	if quiet.Count < 50 {
		t.Fatalf("only %d writes: %q", quiet.Count, quiet.Sites)
	}
	base := t.TempDir()
	step := 1
	if testing.Short() {
		step = 7
	}
	for m := range durabletest.Mishaps {
		hits := 0
		for n := 1; n <= quiet.Count; n += step {
			dir := filepath.Join(base, fmt.Sprint(m, "-", n))
			s := &story{t: t, dir: dir, steps: steps, disk: &durabletest.BadDisk{Real: durabletest.MemoryDisk{}, When: func(i int) (durabletest.Mishap, bool) { return m, i == n }}}
			s.run()
			hits += s.disk.Hits
			evidencetest.Must(t, os.RemoveAll(dir))
		}
		// Making a file that is there (a certificate) is no write to fail after.
		if hits < quiet.Count/step*3/4 {
			t.Errorf("mishap %d befell only %d of %d writes", m, hits, quiet.Count/step)
		}
	}
	t.Logf("%d writes, %d mishaps each", quiet.Count, durabletest.Mishaps)
}

// Mishaps in a row, also while recovering from the one before.
func TestManyWritesFail(t *testing.T) {
	steps := newStory(t)
	runs := 100
	if testing.Short() {
		runs = 10
	}
	base := t.TempDir()
	for seed := range runs {
		random := rand.New(rand.NewPCG(uint64(seed), 1))
		dir := filepath.Join(base, fmt.Sprint(seed))
		s := &story{t: t, dir: dir, steps: steps, disk: &durabletest.BadDisk{Real: durabletest.MemoryDisk{}, When: func(int) (durabletest.Mishap, bool) {
			return durabletest.Mishap(random.IntN(int(durabletest.Mishaps))), random.IntN(8) == 0
		}}}
		s.run()
		evidencetest.Must(t, os.RemoveAll(dir))
	}
}

// The real disk, with a real limit on the size of files in place of a full one. The
// limit is of the whole process, so it is another one.
func TestFullDisk(t *testing.T) {
	if dir := os.Getenv("FULL_DISK"); dir != "" {
		fillDisk(t, dir)
		return
	}
	child := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	child.Env = append(os.Environ(), "FULL_DISK="+t.TempDir())
	if out, err := child.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("there is room again")) {
		t.Fatalf("%v\n%s", err, out)
	}
}

func fillDisk(t *testing.T, dir string) {
	dir = filepath.Join(dir, "log")
	l, err := Create(dir, Options{Name: "monitor.example.org", Network: evidence.PSF, First: evidencetest.FirstHour})
	evidencetest.Must(t, err)
	defer l.Close()
	relay := evidencetest.NewRelay(t, crypto.Ed25519, 0)
	evidencetest.Watch(t, l, evidencetest.FirstHour)
	evidencetest.Must(t, l.Append(evidencetest.FirstHour, relay.Attempt(t, l.Key(), evidencetest.FirstHour, time.Minute, nil)))
	before, err := os.ReadFile(l.walPath(evidencetest.FirstHour))
	evidencetest.Must(t, err)
	var old syscall.Rlimit
	evidencetest.Must(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old))
	limit := func(size uint64) {
		evidencetest.Must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: old.Max}))
	}
	a := relay.Attempt(t, l.Key(), evidencetest.FirstHour, 10*time.Minute, nil)
	limit(uint64(len(before)) + 100)
	err = l.Append(evidencetest.FirstHour, a)
	if !errors.Is(err, syscall.EFBIG) || !strings.Contains(err.Error(), "append attempt on "+relay.ID.String()) {
		t.Fatalf("append: %v", err)
	}
	limit(100)
	if _, err := l.Seal(evidencetest.Closing(evidencetest.FirstHour)); !errors.Is(err, syscall.EFBIG) {
		t.Fatalf("seal: %v", err)
	}
	limit(old.Cur)
	if after, err := os.ReadFile(l.walPath(evidencetest.FirstHour)); err != nil || !bytes.Equal(after, before) {
		t.Fatalf("a part of the attempt stayed (%v)", err)
	}
	t.Log("there is room again")
	evidencetest.Must(t, l.Append(evidencetest.FirstHour, a))
	got, err := l.Seal(evidencetest.Closing(evidencetest.FirstHour))
	evidencetest.Must(t, err)
	if len(got) != 1 || got[0].State != evidence.StateOK {
		t.Fatalf("sealed %+v", got)
	}
	if r := sound(t, dir); r.Attempts != 2 {
		t.Fatalf("%+v", r)
	}
}

package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// memoryDisk writes as the real one does, without waiting for the disk.
type memoryDisk struct{}

func (memoryDisk) Create(path string, data []byte, perm fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func (memoryDisk) Replace(path string, data []byte, perm fs.FileMode) error {
	if err := os.WriteFile(path+".tmp", data, perm); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

func (memoryDisk) OpenAppend(path string, perm fs.FileMode) (appender, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, perm)
	return memoryAppender{f}, err
}

func (memoryDisk) Mkdir(path string, perm fs.FileMode) error { return os.MkdirAll(path, perm) }

func (memoryDisk) Remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

type memoryAppender struct{ *os.File }

func (a memoryAppender) Append(p []byte) error {
	_, err := a.Write(p)
	return err
}

// mishap is what befalls a write.
type mishap int

const (
	failBefore mishap = iota // nothing was written (full disk)
	failHalf                 // a part was written
	failAfter                // all was written, and the disk said no (EIO at the last fsync)
	killBefore
	killHalf
	killAfter
	mishaps
)

func (m mishap) kill() bool { return m >= killBefore }

// killed is panicked with where the process dies.
type killed struct{ site string }

// badDisk counts its writes and lets a mishap befall some.
type badDisk struct {
	real  disk
	count int
	hits  int // mishaps that befell
	when  func(n int) (mishap, bool)
	sites []string // of the writes, in order
}

// write runs one of the disk's writes; half leaves behind what a crash in its
// middle would.
func (d *badDisk) write(site string, whole func() error, half func()) error {
	d.count++
	d.sites = append(d.sites, site)
	m, ok := d.when(d.count)
	if !ok {
		return whole()
	}
	switch m {
	case failHalf, killHalf:
		half()
	case failAfter, killAfter:
		if err := whole(); err != nil {
			return err
		}
	}
	d.hits++
	if m.kill() {
		panic(killed{site})
	}
	if m == failBefore {
		return fmt.Errorf("%s: %w", site, syscall.ENOSPC)
	}
	return fmt.Errorf("%s: %w", site, syscall.EIO)
}

// temporary is a file that a write which never ended leaves beside the real one.
func temporary(path string, data []byte) func() {
	return func() {
		os.WriteFile(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".123"), data[:len(data)/2], 0o600)
	}
}

func (d *badDisk) Create(path string, data []byte, perm fs.FileMode) error {
	return d.write("create "+filepath.Base(path), func() error { return d.real.Create(path, data, perm) }, temporary(path, data))
}

func (d *badDisk) Replace(path string, data []byte, perm fs.FileMode) error {
	return d.write("replace "+filepath.Base(path), func() error { return d.real.Replace(path, data, perm) }, temporary(path, data))
}

func (d *badDisk) Mkdir(path string, perm fs.FileMode) error {
	return d.write("mkdir "+filepath.Base(path), func() error { return d.real.Mkdir(path, perm) }, func() {})
}

func (d *badDisk) Remove(path string) error {
	return d.write("remove "+filepath.Base(path), func() error { return d.real.Remove(path) }, func() {})
}

func (d *badDisk) OpenAppend(path string, perm fs.FileMode) (a appender, err error) {
	err = d.write("open "+filepath.Base(path), func() error {
		a, err = d.real.OpenAppend(path, perm)
		return err
	}, func() {})
	if err != nil {
		return nil, err
	}
	return &badAppender{d, path, a}, nil
}

type badAppender struct {
	disk *badDisk
	path string
	appender
}

func (a *badAppender) Append(p []byte) error {
	return a.disk.write("append "+filepath.Base(a.path), func() error { return a.appender.Append(p) }, func() {
		a.appender.Append(p[:len(p)/2])
	})
}

// story is what a monitor does over five hours across a month's end, with a gap.
// It goes on after errors as a monitor does, and after its death as a new process.
type story struct {
	t       testing.TB
	dir     string
	disk    *badDisk
	log     *Log
	steps   []func(*story) error
	acked   map[string]bool  // attempts that Append took, by hour, relay and start
	tried   map[string]bool  // all that were offered
	signed  map[int64][]byte // checkpoints that were to be seen, by size
	lastNow time.Time
}

func attemptID(h Hour, a Attempt) string { return fmt.Sprint(h, " ", a.PeerID, " ", a.Started) }

// newStory prepares the steps; making vouchers and certificates is the slow part.
func newStory(t testing.TB) []func(*story) error {
	relays := []testRelay{newRelay(t, crypto.Ed25519, 0), newRelay(t, crypto.Ed25519, 0)}
	der1, cert1 := newCertificate(t, "one.example.org")
	der2, cert2 := newCertificate(t, "two.example.org")
	w := newWitness(t, "w1")
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
	for h := firstHour + 2; h < firstHour+7; h++ {
		if h == firstHour+3 {
			continue
		}
		step(func(s *story) error { return s.log.Begin(h, h.Start().Add(time.Second), "relaymon/test") })
		step(func(s *story) error {
			return s.log.Mark(h, Mark{Clock: &ClockSample{At: TimeOf(h.Start()), Synchronised: true}})
		})
		seal(h.Start().Add(CloseAfter))
		for i, r := range relays {
			for n := range 1 + int(h)%2 {
				der, cert := der1, cert1
				if h > firstHour+4 {
					der, cert = der2, cert2
				}
				a := r.attempt(t, "key", h, time.Duration(20*n+i+20)*time.Minute, cert)
				a.Rungs, a.Facts = nil, Facts{Certificate: cert} // short ones: there will be many
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
			return s.log.AddCosignatures(s.log.Size(), w.cosign(t, cp, h.Start()), w.vkey())
		})
	}
	seal(closing(firstHour + 8))
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
			k, ok := p.(killed)
			if !ok {
				panic(p)
			}
			died, err = true, fmt.Errorf("killed at %s", k.site)
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
				s.log, err = create(s.disk, s.dir, Options{Name: "m", Network: Lab, First: firstHour})
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
	must(s.t, os.RemoveAll(filepath.Join(s.dir, lockFile)))
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
	s.disk.when = func(int) (mishap, bool) { return 0, false }
	s.unlock()
	l, err := open(s.disk, s.dir)
	must(t, err)
	s.log = l
	if _, err = l.Seal(s.lastNow.Add(time.Hour)); errors.Is(err, syscall.ENOSPC) {
		_, err = l.Seal(s.lastNow.Add(time.Hour))
	}
	must(t, err)
	s.look()
	found := make(map[string]bool)
	for h := l.First(); h < l.next(); h++ {
		head, err := l.Header(h)
		must(t, err)
		if head.Hour != h {
			t.Fatalf("block of %s where %s belongs", head.Hour, h)
		}
		records, err := l.Records(h)
		must(t, err)
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
		c, err := parseCheckpointText(string(text) + "\n")
		must(t, err)
		root, err := l.tree.root(size)
		must(t, err)
		if root != c.root {
			t.Fatalf("the checkpoint of size %d that was to be seen is of another history", size)
		}
	}
	must(t, l.Close())
	if r := sound(t, s.dir); r.Blocks < 9 || r.Attempts != int64(len(found)) {
		t.Fatalf("%+v, %d attempts found", r, len(found))
	}
}

// Each write in turn fails, or is where the process dies: before, in the middle, after.
func TestEveryWriteFails(t *testing.T) {
	steps := newStory(t)
	quiet := &badDisk{real: memoryDisk{}, when: func(int) (mishap, bool) { return 0, false }}
	(&story{t: t, dir: filepath.Join(t.TempDir(), "log"), disk: quiet, steps: steps}).run()
	if quiet.count < 50 {
		t.Fatalf("only %d writes: %q", quiet.count, quiet.sites)
	}
	base := t.TempDir()
	step := 1
	if testing.Short() {
		step = 7
	}
	for m := range mishaps {
		hits := 0
		for n := 1; n <= quiet.count; n += step {
			dir := filepath.Join(base, fmt.Sprint(m, "-", n))
			s := &story{t: t, dir: dir, steps: steps, disk: &badDisk{real: memoryDisk{}, when: func(i int) (mishap, bool) { return m, i == n }}}
			s.run()
			hits += s.disk.hits
			must(t, os.RemoveAll(dir))
		}
		// Making a file that is there (a certificate) is no write to fail after.
		if hits < quiet.count/step*3/4 {
			t.Errorf("mishap %d befell only %d of %d writes", m, hits, quiet.count/step)
		}
	}
	t.Logf("%d writes, %d mishaps each", quiet.count, mishaps)
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
		s := &story{t: t, dir: dir, steps: steps, disk: &badDisk{real: memoryDisk{}, when: func(int) (mishap, bool) {
			return mishap(random.IntN(int(mishaps))), random.IntN(8) == 0
		}}}
		s.run()
		must(t, os.RemoveAll(dir))
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
	l, err := Create(dir, Options{Name: "monitor.example.org", Network: PSF, First: firstHour})
	must(t, err)
	defer l.Close()
	relay := newRelay(t, crypto.Ed25519, 0)
	watch(t, l, firstHour)
	must(t, l.Append(firstHour, relay.attempt(t, l.Key(), firstHour, time.Minute, nil)))
	before, err := os.ReadFile(l.walPath(firstHour))
	must(t, err)
	var old syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old))
	limit := func(size uint64) {
		must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: old.Max}))
	}
	a := relay.attempt(t, l.Key(), firstHour, 10*time.Minute, nil)
	limit(uint64(len(before)) + 100)
	err = l.Append(firstHour, a)
	if !errors.Is(err, syscall.EFBIG) || !strings.Contains(err.Error(), "append attempt on "+relay.id.String()) {
		t.Fatalf("append: %v", err)
	}
	limit(100)
	if _, err := l.Seal(closing(firstHour)); !errors.Is(err, syscall.EFBIG) {
		t.Fatalf("seal: %v", err)
	}
	limit(old.Cur)
	if after, err := os.ReadFile(l.walPath(firstHour)); err != nil || !bytes.Equal(after, before) {
		t.Fatalf("a part of the attempt stayed (%v)", err)
	}
	t.Log("there is room again")
	must(t, l.Append(firstHour, a))
	got, err := l.Seal(closing(firstHour))
	must(t, err)
	if len(got) != 1 || got[0].State != StateOK {
		t.Fatalf("sealed %+v", got)
	}
	if r := sound(t, dir); r.Attempts != 2 {
		t.Fatalf("%+v", r)
	}
}

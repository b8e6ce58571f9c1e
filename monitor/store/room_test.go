package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/internal/need"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/internal/durable/durabletest"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// inMounts runs the calling test again in a mount namespace of its own. It is true
// there, with the folder on which the test may mount.
func inMounts(t *testing.T) (dir string, inside bool) {
	t.Helper()
	if dir := os.Getenv("FULL_FILE_SYSTEM"); dir != "" {
		return dir, true
	}
	need.Root(t)
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v"}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	child := exec.CommandContext(t.Context(), os.Args[0], args...)
	child.Env = append(os.Environ(), "FULL_FILE_SYSTEM="+t.TempDir())
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS}
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	return "", false
}

// fill takes all pages of a small file system but so many, or all inodes but so many;
// the function that it returns gives them back.
func fill(t testing.TB, dir string, pages, inodes int) (empty func()) {
	t.Helper()
	filler := filepath.Join(dir, "filler")
	evidencetest.Must(t, os.MkdirAll(filler, 0o700))
	full := func(err error) bool {
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		return err != nil
	}
	for i := 0; inodes >= 0; i++ {
		if full(os.WriteFile(filepath.Join(filler, fmt.Sprint("file", i)), nil, 0o600)) {
			for j := range inodes {
				evidencetest.Must(t, os.Remove(filepath.Join(filler, fmt.Sprint("file", i-1-j))))
			}
			break
		}
	}
	if pages >= 0 {
		f, err := os.Create(filepath.Join(filler, "pages"))
		evidencetest.Must(t, err)
		page := make([]byte, os.Getpagesize())
		size := int64(0)
		for {
			n, err := f.Write(page)
			size += int64(n)
			if full(err) {
				break
			}
		}
		evidencetest.Must(t, f.Truncate(max(0, size-int64(pages*len(page)))))
		evidencetest.Must(t, f.Close())
	}
	return func() { evidencetest.Must(t, os.RemoveAll(filler)) }
}

// tightDisk is the machine's, on a file system that is full, but for some pages or
// inodes, while one of its writes is made.
type tightDisk struct {
	durable.Machine
	t             *testing.T
	dir           string
	at, count     int
	pages, inodes int
	refused       string // the site that met ENOSPC
	left          string // a file that a refused write left behind
}

func (d *tightDisk) write(site string, whole func() error) error {
	d.count++
	if d.count != d.at {
		return whole()
	}
	empty := fill(d.t, d.dir, d.pages, d.inodes)
	defer empty()
	err := whole()
	if errors.Is(err, syscall.ENOSPC) {
		d.refused = site
		evidencetest.Must(d.t, filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && strings.HasPrefix(e.Name(), ".") {
				d.left = path
			}
			return err
		}))
	}
	return err
}

func (d *tightDisk) Create(path string, data []byte, perm fs.FileMode) error {
	return d.write("create", func() error { return d.Machine.Create(path, data, perm) })
}

func (d *tightDisk) Replace(path string, data []byte, perm fs.FileMode) error {
	return d.write("replace", func() error { return d.Machine.Replace(path, data, perm) })
}

func (d *tightDisk) Mkdir(path string, perm fs.FileMode) error {
	return d.write("mkdir", func() error { return d.Machine.Mkdir(path, perm) })
}

func (d *tightDisk) Remove(path string) error {
	return d.write("remove", func() error { return d.Machine.Remove(path) })
}

func (d *tightDisk) OpenAppend(path string, perm fs.FileMode) (a durable.Appender, err error) {
	err = d.write("open", func() error {
		a, err = d.Machine.OpenAppend(path, perm)
		return err
	})
	if err != nil {
		return nil, err
	}
	return tightAppender{d, a}, nil
}

type tightAppender struct {
	disk *tightDisk
	durable.Appender
}

func (a tightAppender) Append(p []byte) error {
	return a.disk.write("append", func() error { return a.Appender.Append(p) })
}

// A real file system of a few pages is full at each write in turn, but for some pages
// or inodes: nothing that was acknowledged is lost, nothing is left behind, and the log
// goes on when there is room again.
func TestFullAtEachWrite(t *testing.T) {
	dir, inside := inMounts(t)
	if !inside {
		return
	}
	evidencetest.Must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=512k,nr_inodes=200"))
	steps := newStory(t)
	never := func(int) (durabletest.Mishap, bool) { return 0, false }
	run := func(d *tightDisk) {
		log := filepath.Join(dir, "log")
		(&story{t: t, dir: log, disk: &durabletest.BadDisk{Real: d, When: never}, steps: steps}).run()
		if d.left != "" {
			t.Errorf("write %d (%s) with %d pages and %d inodes left %s behind", d.at, d.refused, d.pages, d.inodes, d.left)
		}
		evidencetest.Must(t, os.RemoveAll(log))
	}
	quiet := &tightDisk{t: t, dir: dir}
	run(quiet)
	step := 1
	if testing.Short() {
		step = 2
	}
	refused := map[string]int{}
	for n := 1; n <= quiet.count; n += step {
		for k := range 4 {
			for _, d := range []*tightDisk{{pages: k, inodes: -1}, {pages: -1, inodes: k}} {
				d.t, d.dir, d.at = t, dir, n
				run(d)
				refused[d.refused]++
			}
		}
	}
	for _, site := range []string{"create", "replace", "mkdir", "append"} {
		if refused[site] == 0 {
			t.Errorf("no %s met a full disk", site)
		}
	}
	t.Logf("%d writes, refused: %v", quiet.count, refused)
}

// A disk that fills up stops the monitor while what is open can still be sealed.
func TestRoom(t *testing.T) {
	dir, inside := inMounts(t)
	if !inside {
		return
	}
	evidencetest.Must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m,nr_inodes=400"))
	path := filepath.Join(dir, "log")
	l, err := Create(path, Options{Name: "m", Network: evidence.Lab, First: evidencetest.FirstHour})
	evidencetest.Must(t, err)
	defer func() { evidencetest.Must(t, l.Close()) }()
	relay := evidencetest.NewRelay(t, crypto.Ed25519, 0)
	wordy := slices.Repeat([]string{strings.Repeat("x", evidence.MaxTextBytes)}, 128)
	room := func(want string) {
		t.Helper()
		err := l.Room(2)
		if got := fmt.Sprint(err); want == "" && err != nil || !strings.Contains(got, want) {
			t.Errorf("room: %v, want %q", err, want)
		}
	}
	room("")
	evidencetest.Watch(t, l, evidencetest.FirstHour)
	empty := fill(t, dir, -1, 10)
	room("less than 64 inodes are free on the file system of " + path)
	empty()
	room("")

	// The monitor goes on until it is told to stop; then the hour can be sealed, whatever it holds.
	empty = fill(t, dir, 800, -1)
	kept := 0
	for ; l.Room(2) == nil; kept++ {
		a := evidence.Attempt{Started: evidence.TimeOf(evidencetest.FirstHour.Start().Add(time.Duration(kept) * time.Millisecond)), PeerID: evidencetest.NewRelay(t, crypto.Ed25519, 0).ID.String(),
			Results: map[evidence.Component]evidence.Result{evidence.TCP4: {Outcome: evidence.OK}, evidence.WSS: {Outcome: evidence.OK}, evidence.Relay: {Outcome: evidence.OK}},
			Facts:   evidence.Facts{Protocols: wordy}}
		evidencetest.Must(t, l.Append(evidencetest.FirstHour, a))
	}
	room("no room for the evidence log: less than ")
	if _, err := l.Seal(evidencetest.Closing(evidencetest.FirstHour)); err != nil || kept < 2 {
		t.Errorf("%d attempts were kept, and the hour cannot be sealed: %v", kept, err)
	}
	empty()
	room("")

	// A write that was refused is made up for by one that is taken.
	evidencetest.Watch(t, l, evidencetest.FirstHour+1)
	empty = fill(t, dir, 0, -1)
	big := relay.Attempt(t, l.Key(), evidencetest.FirstHour+1, time.Minute, nil)
	big.Facts.Protocols = wordy
	if err := l.Append(evidencetest.FirstHour+1, big); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("append to a full disk: %v", err)
	}
	empty()
	if !l.refused {
		t.Error("the refusal is forgotten")
	}
	room("")
	if l.refused {
		t.Error("the refusal is not forgotten")
	}
	evidencetest.Must(t, l.Append(evidencetest.FirstHour+1, big))

	_, err = l.Seal(evidencetest.Closing(evidencetest.FirstHour + 1))
	evidencetest.Must(t, err)
	if r := sound(t, path); r.Attempts != int64(kept)+1 {
		t.Errorf("%d attempts in the log, want %d", r.Attempts, kept+1)
	}
}

package evidence

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// tree of files: name to content.
func readTree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = string(b)
		return err
	}))
	return files
}

// A monitor's whole life: backup, more hours, the disk dies, the backup is
// restored, the witness knows better, the newer copy is found and adopted.
func TestRollback(t *testing.T) {
	s := newSmallMonth(t)
	l, dir := s.log, s.log.dir
	other, _ := newLog(t)
	w, err := other.Witness()
	must(t, err)
	var backup bytes.Buffer
	must(t, Backup(dir, &backup))

	open := firstHour + 8
	must(t, l.Append(open, s.relay.attempt(t, l.Key(), open, 30*time.Minute, nil)))
	_, err = l.Seal(closing(open))
	must(t, err)
	r, err := l.AddCheckpointRequest(0)
	must(t, err)
	_, err = w.Cosign(l.Key(), r, closing(open))
	must(t, err)
	watch(t, l, open+1)
	der, cert := newCertificate(t, "new.example.org")
	later := s.relay.attempt(t, l.Key(), open+1, 10*time.Minute, cert)
	must(t, l.Append(open+1, later, der))
	must(t, l.Close())

	again := filepath.Join(t.TempDir(), "a", "restored")
	must(t, Restore(bytes.NewReader(backup.Bytes()), again))
	if fi, err := os.Stat(filepath.Join(again, keyFile)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("the key's mode: %v, %v", fi.Mode(), err)
	}
	if err := Restore(bytes.NewReader(backup.Bytes()), again); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("restored over a log: %v", err)
	}
	l, err = Open(again)
	must(t, err)
	defer l.Close()
	if l.Size() != 8 || !l.Held() {
		t.Fatalf("restored: size %d, held %v", l.Size(), l.Held())
	}
	watch(t, l, open+2)
	now := closing(open + 2)
	if _, err := l.Seal(now); !errors.Is(err, ErrHeld) {
		t.Fatalf("a restored log sealed: %v", err)
	}
	last, err := w.Last(l.Key())
	must(t, err)
	var older *OlderCopyError
	if err := l.Confront(last); !errors.As(err, &older) || older.Size != 8 || older.Known != 9 {
		t.Fatalf("Confront: %v", err)
	}
	must(t, l.Close())
	l, err = Open(again) // a restart does not help
	must(t, err)
	defer l.Close()
	if _, err := l.Seal(now); !errors.Is(err, ErrHeld) {
		t.Fatalf("a restored log sealed after a start: %v", err)
	}

	n, err := l.Adopt(dir)
	must(t, err)
	if n != 1 || l.Size() != 9 {
		t.Fatalf("adopted %d, size %d", n, l.Size())
	}
	n, err = l.Adopt(dir) // again: nothing more
	must(t, err)
	if n != 0 {
		t.Fatalf("adopted %d more", n)
	}
	must(t, l.Confront(last, nil))
	sealed, err := l.Seal(now)
	must(t, err)
	if len(sealed) != 2 || sealed[0].State != StateOK || sealed[0].Records != 1 || sealed[1].State != StateOK {
		t.Fatalf("sealed %+v", sealed)
	}
	report := sound(t, again)
	if report.Blocks != 11 || report.Attempts != 5*2+3+1 {
		t.Fatalf("%+v", report)
	}
	r, err = l.AddCheckpointRequest(9)
	must(t, err)
	if _, err := w.Cosign(l.Key(), r, now); err != nil {
		t.Fatal(err)
	}
	// Nothing of the newer copy was changed.
	if old := sound(t, dir); old.Blocks != 9 || len(old.Open) != 1 {
		t.Fatalf("%+v", old)
	}
	// A log without witnesses goes on at its operator's word.
	third := filepath.Join(t.TempDir(), "third")
	must(t, Restore(bytes.NewReader(backup.Bytes()), third))
	l3, err := Open(third)
	must(t, err)
	defer l3.Close()
	must(t, l3.Release())
	_, err = l3.Seal(closing(open))
	must(t, err)
	_, err = l3.Adopt(dir)
	wantError(t, err, "is of another history")
	_, err = l.Adopt(third)
	wantError(t, err, "it has 9 blocks, here are 11")
	must(t, l3.Close())
	l3, err = Open(third)
	must(t, err)
	defer l3.Close()
	if l3.Held() {
		t.Fatal("held again after a start")
	}
	foreign, foreignDir := newLog(t)
	_ = foreign
	_, err = l3.Adopt(foreignDir)
	wantError(t, err, "with key")
	must(t, os.WriteFile(filepath.Join(dir, "blocks", "x"), nil, 0o644))
	_, err = l.Adopt(dir)
	wantError(t, err, "it has faults")
}

func TestBackupIsTheLog(t *testing.T) {
	s := newSmallMonth(t)
	w, err := s.log.Witness()
	must(t, err)
	other, _ := newLog(t)
	grow(t, other, 1)
	r, err := other.AddCheckpointRequest(0)
	must(t, err)
	_, err = w.Cosign(other.Key(), r, closing(firstHour))
	must(t, err)
	fork := checkpoint{origin: other.Origin(), size: 1, root: Hash{1}}
	if _, err := w.Cosign(other.Key(), AddCheckpoint{1, nil, signedText(t, other, fork.text())}, closing(firstHour)); !errors.Is(err, ErrForked) {
		t.Fatal(err)
	}
	var a, b bytes.Buffer
	must(t, Backup(s.log.dir, &a))
	must(t, Backup(s.log.dir, &b))
	dir := filepath.Join(t.TempDir(), "restored")
	must(t, os.Mkdir(dir, 0o755)) // an empty folder is what a service has
	must(t, Restore(&a, dir))
	want, got := readTree(t, s.log.dir), readTree(t, dir)
	delete(want, lockFile)
	delete(got, restoredFile)
	if len(want) != len(got) {
		t.Fatalf("%d files, want %d", len(got), len(want))
	}
	for name, data := range want {
		if got[name] != data {
			t.Errorf("%s differs", name)
		}
	}
	// Truncated or changed archives are refused, and leave nothing behind.
	whole := b.Bytes()
	parent := t.TempDir()
	for i := 0; i < len(whole); i += 97 {
		target := filepath.Join(parent, "x")
		if err := Restore(bytes.NewReader(whole[:i]), target); err == nil {
			t.Fatalf("restored the first %d of %d bytes", i, len(whole))
		}
		bad := bytes.Clone(whole)
		bad[i] ^= 0x10
		// Some bytes make no difference: a time in gzip's header, or which of two equal
		// strings a later one is copied from. What is restored is the log all the same.
		if err := Restore(bytes.NewReader(bad), target); err == nil {
			got := readTree(t, target)
			delete(got, restoredFile)
			if !maps.Equal(got, want) {
				t.Fatalf("restored another log with byte %d of %d changed", i, len(whole))
			}
		}
		must(t, os.RemoveAll(target))
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
}

func TestRestoreRefuses(t *testing.T) {
	for name, h := range map[string]tar.Header{
		"climbing":  {Typeflag: tar.TypeReg, Name: "../log.json"},
		"absolute":  {Typeflag: tar.TypeReg, Name: "/log.json"},
		"unknown":   {Typeflag: tar.TypeReg, Name: "x"},
		"deep":      {Typeflag: tar.TypeReg, Name: "wal/../log.json"},
		"link":      {Typeflag: tar.TypeSymlink, Name: "log.json", Linkname: "/etc/passwd"},
		"folder":    {Typeflag: tar.TypeDir, Name: "wal"},
		"no log":    {Typeflag: tar.TypeReg, Name: "certs/" + strings.Repeat("0", 64) + ".der"},
		"line feed": {Typeflag: tar.TypeReg, Name: "log.json\n"},
	} {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		w := tar.NewWriter(z)
		must(t, w.WriteHeader(&h))
		must(t, errors.Join(w.Close(), z.Close()))
		dir := filepath.Join(t.TempDir(), "log")
		if err := Restore(&b, dir); err == nil {
			t.Errorf("%s: restored", name)
		}
		if _, err := os.Lstat(dir); err == nil {
			t.Errorf("%s: left a folder behind", name)
		}
	}
	if err := Restore(strings.NewReader("x"), filepath.Join(t.TempDir(), "log")); err == nil {
		t.Error("restored nonsense")
	}
}

// Backups, checks and exports of a log that is being written to are of one moment each.
func TestReadersBesideTheWriter(t *testing.T) {
	l, dir := newLog(t)
	relay := newRelay(t, crypto.Ed25519, 0)
	attempt := relay.attempt(t, l.Key(), firstHour, time.Minute, nil)
	done := make(chan struct{})
	var g sync.WaitGroup
	reader := func(read func(n int) error) {
		g.Go(func() {
			for n := 0; ; n++ {
				if err := read(n); err != nil {
					t.Error(err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	base := t.TempDir()
	reader(func(n int) error {
		var b bytes.Buffer
		if err := Backup(dir, &b); err != nil {
			return err
		}
		return Restore(&b, filepath.Join(base, fmt.Sprint(n)))
	})
	reader(func(int) error {
		r, err := OpenRead(dir)
		if err != nil {
			return err
		}
		m, err := r.Month(firstHour.Month(), relay.id.String(), closing(firstHour+100))
		if err != nil {
			return err
		}
		_, err = VerifyMonth(m, Keys{Log: l.Key()})
		return err
	})
	reader(func(int) error {
		r, err := Check(dir)
		if err == nil && len(r.Faults) > 0 {
			err = fmt.Errorf("check: %q", r.Faults)
		}
		return err
	})
	for h := firstHour; h < firstHour+30; h++ {
		watch(t, l, h)
		attempt.Started = TimeOf(h.Start().Add(time.Minute))
		must(t, l.Append(h, attempt))
		_, err := l.Seal(closing(h))
		must(t, err)
	}
	close(done)
	g.Wait()
}

// Adopting dies at each write in turn and is repeated.
func TestAdoptDies(t *testing.T) {
	s := newSmallMonth(t)
	must(t, s.log.Close())
	// An older copy: the log as it was before anything was sealed.
	older := filepath.Join(t.TempDir(), "older")
	must(t, os.CopyFS(older, os.DirFS(s.log.dir)))
	for _, sub := range []string{walDir, blocksDir, signedDir, certsDir} {
		must(t, os.RemoveAll(filepath.Join(older, sub)))
		must(t, os.Mkdir(filepath.Join(older, sub), 0o755))
	}
	keys := func(dir string) {
		must(t, os.Chmod(filepath.Join(dir, keyFile), 0o600))
		must(t, os.Chmod(filepath.Join(dir, witnessFile), 0o600))
	}
	want := readTree(t, s.log.dir)
	for m := range mishaps {
		for n := 1; ; n++ {
			dir := filepath.Join(t.TempDir(), "log")
			must(t, os.CopyFS(dir, os.DirFS(older)))
			keys(dir)
			d := &badDisk{real: memoryDisk{}, when: func(i int) (mishap, bool) { return m, i == n }}
			l, err := open(d, dir)
			must(t, err)
			func() {
				defer func() {
					if p := recover(); p != nil {
						if _, ok := p.(killed); !ok {
							panic(p)
						}
					}
				}()
				if _, err := l.Adopt(s.log.dir); err != nil && d.hits == 0 {
					t.Fatal(err)
				}
			}()
			must(t, os.Remove(filepath.Join(dir, lockFile)))
			if l, err = open(memoryDisk{}, dir); err != nil {
				t.Fatalf("mishap %d at %s: %v", m, d.sites[len(d.sites)-1], err)
			}
			if _, err := l.Adopt(s.log.dir); err != nil {
				t.Fatalf("mishap %d at %s: %v", m, d.sites[len(d.sites)-1], err)
			}
			must(t, l.Close())
			sound(t, dir)
			got := readTree(t, dir)
			for name, data := range want {
				if strings.HasPrefix(name, walDir) || name == lockFile {
					continue // its begin and marks are not taken over, its attempts are
				}
				if got[name] != data {
					t.Fatalf("mishap %d at %s: %s differs", m, d.sites[len(d.sites)-1], name)
				}
			}
			if d.hits == 0 {
				break
			}
		}
	}
}

func TestBackupToABrokenPipe(t *testing.T) {
	s := newSmallMonth(t)
	r, w := io.Pipe()
	r.Close()
	if err := Backup(s.log.dir, w); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("%v", err)
	}
	if err := Backup(t.TempDir(), io.Discard); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("backup of nothing: %v", err)
	}
}

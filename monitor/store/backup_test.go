package store

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

	"github.com/psf-relay/relay-appliance/internal/durable/durabletest"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
	"github.com/psf-relay/relay-appliance/monitor/witness"
)

// tree of files: name to content.
// witnessOf is the own witness of a log's owner.
func witnessOf(l *Log) (*witness.Witness, error) {
	dir, key, err := l.Witness()
	if err != nil {
		return nil, err
	}
	return witness.New(dir, key)
}

// request is what a log asks a witness that cosigned it up to a size.
func request(l *Log, oldSize int64) (r witness.AddCheckpoint, err error) {
	r.OldSize = oldSize
	r.Checkpoint, r.Proof, err = l.Extension(oldSize)
	return r, err
}

func readTree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	evidencetest.Must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
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
	w, err := witnessOf(other)
	evidencetest.Must(t, err)
	var backup bytes.Buffer
	evidencetest.Must(t, Backup(dir, &backup))

	open := evidencetest.FirstHour + 8
	evidencetest.Must(t, l.Append(open, s.Relay.Attempt(t, l.Key(), open, 30*time.Minute, nil)))
	_, err = l.Seal(evidencetest.Closing(open))
	evidencetest.Must(t, err)
	r, err := request(l, 0)
	evidencetest.Must(t, err)
	_, err = w.Cosign(l.Key(), r, evidencetest.Closing(open))
	evidencetest.Must(t, err)
	evidencetest.Watch(t, l, open+1)
	der, cert := evidencetest.NewLeaf(t, "new.example.org")
	later := s.Relay.Attempt(t, l.Key(), open+1, 10*time.Minute, cert)
	evidencetest.Must(t, l.Append(open+1, later, der))
	evidencetest.Must(t, l.Close())

	again := filepath.Join(t.TempDir(), "a", "restored")
	evidencetest.Must(t, Restore(bytes.NewReader(backup.Bytes()), again, anyLog))
	if fi, err := os.Stat(filepath.Join(again, keyFile)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("the key's mode: %v, %v", fi.Mode(), err)
	}
	if err := Restore(bytes.NewReader(backup.Bytes()), again, anyLog); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("restored over a log: %v", err)
	}
	l, err = Open(again)
	evidencetest.Must(t, err)
	defer l.Close()
	if l.Size() != 8 || !l.Held() {
		t.Fatalf("restored: size %d, held %v", l.Size(), l.Held())
	}
	evidencetest.Watch(t, l, open+2)
	now := evidencetest.Closing(open + 2)
	if _, err := l.Seal(now); !errors.Is(err, ErrHeld) {
		t.Fatalf("a restored log sealed: %v", err)
	}
	last, err := w.Last(l.Key())
	evidencetest.Must(t, err)
	var older *OlderCopyError
	if err := l.Confront(last); !errors.As(err, &older) || older.Size != 8 || older.Known != 9 {
		t.Fatalf("Confront: %v", err)
	}
	evidencetest.Must(t, l.Close())
	l, err = Open(again) // a restart does not help
	evidencetest.Must(t, err)
	defer l.Close()
	if _, err := l.Seal(now); !errors.Is(err, ErrHeld) {
		t.Fatalf("a restored log sealed after a start: %v", err)
	}

	n, err := l.Adopt(dir)
	evidencetest.Must(t, err)
	if n != 1 || l.Size() != 9 {
		t.Fatalf("adopted %d, size %d", n, l.Size())
	}
	n, err = l.Adopt(dir) // again: nothing more
	evidencetest.Must(t, err)
	if n != 0 {
		t.Fatalf("adopted %d more", n)
	}
	evidencetest.Must(t, l.Confront(last, nil))
	sealed, err := l.Seal(now)
	evidencetest.Must(t, err)
	if len(sealed) != 2 || sealed[0].State != evidence.StateOK || sealed[0].Records != 1 || sealed[1].State != evidence.StateOK {
		t.Fatalf("sealed %+v", sealed)
	}
	report := sound(t, again)
	if report.Blocks != 11 || report.Attempts != 5*2+1+1 {
		t.Fatalf("%+v", report)
	}
	r, err = request(l, 9)
	evidencetest.Must(t, err)
	if _, err := w.Cosign(l.Key(), r, now); err != nil {
		t.Fatal(err)
	}
	// Nothing of the newer copy was changed.
	if old := sound(t, dir); old.Blocks != 9 || len(old.Open) != 1 {
		t.Fatalf("%+v", old)
	}
	// A log without witnesses goes on at its operator's word.
	third := filepath.Join(t.TempDir(), "third")
	evidencetest.Must(t, Restore(bytes.NewReader(backup.Bytes()), third, anyLog))
	l3, err := Open(third)
	evidencetest.Must(t, err)
	defer l3.Close()
	evidencetest.Must(t, l3.Release())
	_, err = l3.Seal(evidencetest.Closing(open))
	evidencetest.Must(t, err)
	_, err = l3.Adopt(dir)
	evidencetest.WantError(t, err, "is of another history")
	_, err = l.Adopt(third)
	evidencetest.WantError(t, err, "it has 9 blocks, here are 11")
	evidencetest.Must(t, l3.Close())
	l3, err = Open(third)
	evidencetest.Must(t, err)
	defer l3.Close()
	if l3.Held() {
		t.Fatal("held again after a start")
	}
	foreign, foreignDir := newLog(t)
	_ = foreign
	_, err = l3.Adopt(foreignDir)
	evidencetest.WantError(t, err, "with key")
	evidencetest.Must(t, os.WriteFile(filepath.Join(dir, "blocks", "x"), nil, 0o644))
	_, err = l.Adopt(dir)
	evidencetest.WantError(t, err, "it has faults")
}

func TestBackupIsTheLog(t *testing.T) {
	s := newSmallMonth(t)
	w, err := witnessOf(s.log)
	evidencetest.Must(t, err)
	other, _ := newLog(t)
	evidencetest.Grow(t, other, 1)
	r, err := request(other, 0)
	evidencetest.Must(t, err)
	_, err = w.Cosign(other.Key(), r, evidencetest.Closing(evidencetest.FirstHour))
	evidencetest.Must(t, err)
	fork := evidence.Checkpoint{Origin: other.Origin(), Size: 1, Root: evidence.Hash{1}}
	if _, err := w.Cosign(other.Key(), witness.AddCheckpoint{OldSize: 1, Proof: nil, Checkpoint: evidencetest.SignedText(t, other.dir, fork.Text())}, evidencetest.Closing(evidencetest.FirstHour)); !errors.Is(err, witness.ErrForked) {
		t.Fatal(err)
	}
	var a, b bytes.Buffer
	evidencetest.Must(t, Backup(s.log.dir, &a))
	evidencetest.Must(t, Backup(s.log.dir, &b))
	dir := filepath.Join(t.TempDir(), "restored")
	evidencetest.Must(t, os.Mkdir(dir, 0o755)) // an empty folder is what a service has
	evidencetest.Must(t, Restore(&a, dir, anyLog))
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
		if err := Restore(bytes.NewReader(whole[:i]), target, anyLog); err == nil {
			t.Fatalf("restored the first %d of %d bytes", i, len(whole))
		}
		bad := bytes.Clone(whole)
		bad[i] ^= 0x10
		// Some bytes make no difference: a time in gzip's header, or which of two equal
		// strings a later one is copied from. What is restored is the log all the same.
		if err := Restore(bytes.NewReader(bad), target, anyLog); err == nil {
			got := readTree(t, target)
			delete(got, restoredFile)
			if !maps.Equal(got, want) {
				t.Fatalf("restored another log with byte %d of %d changed", i, len(whole))
			}
		}
		evidencetest.Must(t, os.RemoveAll(target))
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
		evidencetest.Must(t, w.WriteHeader(&h))
		evidencetest.Must(t, errors.Join(w.Close(), z.Close()))
		dir := filepath.Join(t.TempDir(), "log")
		if err := Restore(&b, dir, anyLog); err == nil {
			t.Errorf("%s: restored", name)
		}
		if _, err := os.Lstat(dir); err == nil {
			t.Errorf("%s: left a folder behind", name)
		}
	}
	if err := Restore(strings.NewReader("x"), filepath.Join(t.TempDir(), "log"), anyLog); err == nil {
		t.Error("restored nonsense")
	}
}

// What is read whole is no longer than a log's file can be, whatever the archive says.
func TestRestoreIsBounded(t *testing.T) {
	for name, size := range map[string]int64{
		"log.json": 1<<20 + 1, "witness.key": 1<<20 + 1, "blocks/2026-01.jsonl": 744*evidence.MaxHeaderBytes + 1,
		"wal/2026-01-01T00.jsonl": 1<<30 + 1, "blocks/2026-01/2026-01-01T00.jsonl": 1<<30 + 1,
	} {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		evidencetest.Must(t, tar.NewWriter(z).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size}))
		evidencetest.Must(t, z.Close())
		if err := Restore(&b, filepath.Join(t.TempDir(), "log"), anyLog); err == nil || !strings.Contains(err.Error(), "is no file of a log") {
			t.Errorf("%s of %d bytes: %v", name, size, err)
		}
	}
}

// Backups, checks and exports of a log that is being written to are of one moment each.
func TestReadersBesideTheWriter(t *testing.T) {
	l, dir := newLog(t)
	relay := evidencetest.NewRelay(t, crypto.Ed25519, 0)
	attempt := relay.Attempt(t, l.Key(), evidencetest.FirstHour, time.Minute, nil)
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
		return Restore(&b, filepath.Join(base, fmt.Sprint(n)), anyLog)
	})
	reader(func(int) error {
		r, err := OpenRead(dir)
		if err != nil {
			return err
		}
		m, err := r.Month(evidencetest.FirstHour.Month(), relay.ID.String(), evidencetest.Closing(evidencetest.FirstHour+100))
		if err != nil {
			return err
		}
		_, err = evidence.VerifyMonth(m, evidence.Keys{Log: l.Key()})
		return err
	})
	reader(func(int) error {
		r, err := Check(dir)
		if err == nil && len(r.Faults) > 0 {
			err = fmt.Errorf("check: %q", r.Faults)
		}
		return err
	})
	for h := evidencetest.FirstHour; h < evidencetest.FirstHour+30; h++ {
		evidencetest.Watch(t, l, h)
		attempt.Started = evidence.TimeOf(h.Start().Add(time.Minute))
		evidencetest.Must(t, l.Append(h, attempt))
		_, err := l.Seal(evidencetest.Closing(h))
		evidencetest.Must(t, err)
	}
	close(done)
	g.Wait()
}

// Adopting dies at each write in turn and is repeated.
func TestAdoptDies(t *testing.T) {
	s := newSmallMonth(t)
	evidencetest.Must(t, s.log.Close())
	// An older copy: the log as it was before anything was sealed.
	older := filepath.Join(t.TempDir(), "older")
	evidencetest.Must(t, os.CopyFS(older, os.DirFS(s.log.dir)))
	for _, sub := range []string{walDir, blocksDir, signedDir, certsDir} {
		evidencetest.Must(t, os.RemoveAll(filepath.Join(older, sub)))
		evidencetest.Must(t, os.Mkdir(filepath.Join(older, sub), 0o755))
	}
	keys := func(dir string) {
		evidencetest.Must(t, os.Chmod(filepath.Join(dir, keyFile), 0o600))
		evidencetest.Must(t, os.Chmod(filepath.Join(dir, witnessFile), 0o600))
		evidencetest.Must(t, os.Chmod(filepath.Join(dir, planFile), 0o600))
	}
	want := readTree(t, s.log.dir)
	for m := range durabletest.Mishaps {
		for n := 1; ; n++ {
			dir := filepath.Join(t.TempDir(), "log")
			evidencetest.Must(t, os.CopyFS(dir, os.DirFS(older)))
			keys(dir)
			d := &durabletest.BadDisk{Real: durabletest.MemoryDisk{}, When: func(i int) (durabletest.Mishap, bool) { return m, i == n }}
			l, err := open(d, dir)
			evidencetest.Must(t, err)
			func() {
				defer func() {
					if p := recover(); p != nil {
						if _, ok := p.(durabletest.Killed); !ok {
							panic(p)
						}
					}
				}()
				if _, err := l.Adopt(s.log.dir); err != nil && d.Hits == 0 {
					t.Fatal(err)
				}
			}()
			evidencetest.Must(t, os.Remove(filepath.Join(dir, lockFile)))
			if l, err = open(durabletest.MemoryDisk{}, dir); err != nil {
				t.Fatalf("mishap %d at %s: %v", m, d.Sites[len(d.Sites)-1], err)
			}
			if _, err := l.Adopt(s.log.dir); err != nil {
				t.Fatalf("mishap %d at %s: %v", m, d.Sites[len(d.Sites)-1], err)
			}
			evidencetest.Must(t, l.Close())
			sound(t, dir)
			got := readTree(t, dir)
			for name, data := range want {
				if strings.HasPrefix(name, walDir) || name == lockFile {
					continue // its begin and marks are not taken over, its attempts are
				}
				if got[name] != data {
					t.Fatalf("mishap %d at %s: %s differs", m, d.Sites[len(d.Sites)-1], name)
				}
			}
			if d.Hits == 0 {
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

// What is written can be restored. Without that a night's backup that is none would push
// out the last good one.
func TestBackupOfADamagedLog(t *testing.T) {
	s := newSmallMonth(t)
	evidencetest.Must(t, s.log.Close())
	dir := s.log.dir
	refused := 0
	for name, data := range readTree(t, dir) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		fi, err := os.Stat(path)
		evidencetest.Must(t, err)
		records := strings.HasPrefix(name, blocksDir+"/2026-11/")
		try := func(what string) {
			t.Helper()
			var b bytes.Buffer
			err := Backup(dir, &b)
			if err != nil {
				refused++
				if b.Len() > 0 {
					t.Errorf("%s %s: it has written something: %v", name, what, err)
				}
				if hour := strings.TrimSuffix(filepath.Base(name), ".jsonl"); records && !strings.Contains(err.Error(), "records of "+hour) {
					t.Errorf("%s %s: %v", name, what, err)
				}
				return
			}
			if records {
				t.Errorf("%s %s: backed up", name, what)
			}
			if err := Restore(&b, filepath.Join(t.TempDir(), "log"), anyLog); err != nil {
				t.Errorf("%s %s: backed up, but not to be restored: %v", name, what, err)
			}
		}
		if len(data) > 0 {
			bad := []byte(data)
			bad[len(bad)/2] ^= 1
			evidencetest.Must(t, os.WriteFile(path, bad, fi.Mode()))
			try("rotten")
			evidencetest.Must(t, os.WriteFile(path, []byte(data)[:len(data)/2], fi.Mode()))
			try("cut")
		}
		evidencetest.Must(t, os.Remove(path))
		try("gone")
		evidencetest.Must(t, os.WriteFile(path, []byte(data), fi.Mode()))
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
	// What it does not hold does not matter.
	evidencetest.Must(t, os.WriteFile(filepath.Join(dir, "notes"), nil, 0o644))
	evidencetest.Must(t, os.Chmod(filepath.Join(dir, keyFile), 0o640))
	var b bytes.Buffer
	evidencetest.Must(t, Backup(dir, &b))
	evidencetest.Must(t, Restore(&b, filepath.Join(t.TempDir(), "log"), anyLog))
}

// anyLog takes the log of any monitor.
func anyLog(string) error { return nil }

package store

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Backup writes the whole log in dir, secret keys included, as a gzipped tar
// archive. A monitor may be writing meanwhile: the archive holds the log as it was
// at one moment. Where something is missing or damaged, so that [Restore] would refuse it,
// nothing is written: a backup that is none would take the place of a good one.
func Backup(dir string, w io.Writer) error {
	var l *Log
	var open map[string][]byte
	// An hour may be sealed, and its write-ahead file go, between load and read.
	for try := 0; ; try++ {
		var err error
		if l, err = load(durable.Machine{}, dir); err == nil {
			if open, err = l.openFiles(); err == nil {
				break
			}
		}
		if try == 3 || !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("backup: %w", err)
		}
	}
	c := newChecker(l)
	c.quick = true
	if c.content(); len(c.r.Faults) > 0 {
		return fmt.Errorf("backup: %w", damaged("the log", c.r.Faults))
	}
	z := gzip.NewWriter(w)
	b := backup{l: l, known: c.known, tar: tar.NewWriter(z)}
	if err := errors.Join(b.write(open), b.tar.Close(), z.Close()); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// damaged is an error that names the first of many faults.
func damaged(what string, faults []string) error {
	const most = 10
	said := strings.Join(faults[:min(most, len(faults))], "; ")
	if more := len(faults) - most; more > 0 {
		said += fmt.Sprintf("; and %d more", more)
	}
	return fmt.Errorf("%s has %d faults: %s", what, len(faults), said)
}

// openFiles are the write-ahead lines that count.
func (l *Log) openFiles() (map[string][]byte, error) {
	files := make(map[string][]byte)
	for h, w := range l.wals {
		b, err := os.ReadFile(l.walPath(h))
		if err != nil {
			return nil, err
		}
		files[walDir+"/"+evidence.HourFile(h)] = b[:w.good]
	}
	return files, nil
}

type backup struct {
	l     *Log
	known map[string]bool // the files that there must be
	tar   *tar.Writer
}

// write goes by what the log had when it was loaded; what it has got since is left out.
func (b backup) write(open map[string][]byte) error {
	l := b.l
	for _, name := range []string{metaFile, keyFile, witnessFile, planFile} {
		if err := b.copy(name, -1); err != nil {
			return err
		}
	}
	for name, data := range open {
		if err := b.add(name, data); err != nil {
			return err
		}
	}
	for h := l.meta.First; h < l.next(); {
		m := h.Month()
		good := int64(-1)
		if s, ok := l.headers[m]; ok {
			good = s.good
		}
		if err := b.copy(blocksDir+"/"+m.String()+".jsonl", good); err != nil {
			return err
		}
		for ; h < l.next() && m.Contains(h); h++ {
			if err := b.copyKnown(blocksDir + "/" + m.String() + "/" + evidence.HourFile(h)); err != nil {
				return err
			}
		}
	}
	for size := int64(1); size <= l.signed; size++ {
		if err := b.copyKnown(filepath.ToSlash(filepath.Join(signedDir, filepath.Base(l.checkpointPath(size))))); err != nil {
			return err
		}
	}
	for _, dir := range []string{certsDir, witnessDir} {
		files, err := os.ReadDir(l.path(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, f := range files {
			if backupName.MatchString(dir + "/" + f.Name()) {
				if err := b.copy(dir+"/"+f.Name(), -1); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (b backup) copyKnown(name string) error {
	if !b.known[b.l.path(filepath.FromSlash(name))] {
		return nil
	}
	return b.copy(name, -1)
}

// copy adds a file, or its first bytes.
func (b backup) copy(name string, first int64) error {
	data, err := os.ReadFile(b.l.path(filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	if first >= 0 {
		data = data[:first]
	}
	return b.add(name, data)
}

func (b backup) add(name string, data []byte) error {
	if err := b.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o600}); err != nil {
		return err
	}
	_, err := b.tar.Write(data)
	return err
}

// backupName is what may be in an archive.
var backupName = regexp.MustCompile(`^(log\.json|log\.key|witness\.key|plan\.key|wal/` + hourPattern + `|blocks/` + monthPattern + `\.jsonl|blocks/` +
	monthPattern + `/` + hourPattern + `|checkpoints/[0-9]{8,10}|certs/[0-9a-f]{64}\.der|witness/[0-9a-f]{64}(\.fork)?)$`)

const (
	monthPattern = `[0-9]{4}-[0-9]{2}`
	hourPattern  = monthPattern + `-[0-9]{2}T[0-9]{2}\.jsonl`
)

const (
	maxBackupFile  = 1 << 30 // a file; the largest are the records of an hour
	maxBackupBytes = 64 << 30
	maxBackupFiles = 4_000_000
	// leave is how much of the disk is for what else runs there.
	leave = 256 << 20
)

// largest is how long a file of a log may be. That of a month's headers is read whole.
func largest(name string) int64 {
	const maxHours = 31 * 24
	switch dir, rest, _ := strings.Cut(name, "/"); {
	case dir == walDir || dir == blocksDir && strings.Contains(rest, "/"):
		return maxBackupFile
	case dir == blocksDir:
		return maxHours * evidence.MaxHeaderBytes
	}
	return 1 << 20
}

// restorePrefix begins the name of the folder in which a backup is unpacked.
const restorePrefix = ".restore-"

// Restore makes the log of a backup in dir, which must not exist yet or be empty.
// The log is checked before it takes its place, and fits refuses an origin that is not
// wanted there. It is held: nothing is signed before [Log.Confront] has found out whether
// this copy is the newest.
func Restore(r io.Reader, dir string, fits func(origin string) error) (err error) {
	if files, err := os.ReadDir(dir); err == nil && len(files) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: move away what is there", dir, fs.ErrExist)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	// What a restore left that a power cut ended: it has the keys in it.
	beside, err := os.ReadDir(filepath.Dir(dir))
	if err != nil {
		return err
	}
	for _, e := range beside {
		if strings.HasPrefix(e.Name(), restorePrefix) {
			if err := os.RemoveAll(filepath.Join(filepath.Dir(dir), e.Name())); err != nil {
				return err
			}
		}
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), restorePrefix+"*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := unpack(r, tmp); err != nil {
		return err
	}
	report, err := Check(tmp)
	if err != nil {
		return fmt.Errorf("the backup is of no log: %w", err)
	}
	if len(report.Faults) > 0 {
		return damaged("the backup", report.Faults)
	}
	if err := fits(report.Origin); err != nil {
		return err
	}
	if err := syncAll(tmp); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(dir))
}

// syncAll writes to disk what is in a folder, however many files.
func syncAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

func unpack(r io.Reader, dir string) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("not a backup: %w", err)
	}
	for _, sub := range []string{walDir, blocksDir, signedDir, certsDir} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	t := bounded.NewTar(z, maxBackupFiles, maxBackupBytes)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read backup: %w", err)
		}
		if !backupName.MatchString(h.Name) || h.Size > largest(h.Name) {
			return fmt.Errorf("read backup: %q is no file of a log, or too long for one", h.Name)
		}
		room, _, err := free(dir)
		if err != nil {
			return err
		}
		if room < h.Size+leave {
			return fmt.Errorf("read backup: less than %d MiB would be left free on the file system of %s: make room", leave>>20, filepath.Dir(dir))
		}
		if err := unpackFile(t, filepath.Join(dir, filepath.FromSlash(h.Name))); err != nil {
			return err
		}
	}
	if err := t.End(); err != nil {
		return fmt.Errorf("read backup: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, restoredFile), []byte("compare with the witnesses before anything is signed\n"), 0o644)
}

func unpackFile(r io.Reader, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if strings.HasSuffix(path, ".key") {
		mode = 0o600
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("read backup: %w", err)
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("read backup: %w", err)
	}
	return nil
}

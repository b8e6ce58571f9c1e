package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// takeLock makes this process the folder's only writer until the file is closed.
func takeLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("log in %s is in use by another process; stop it first", dir)
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
}

// Open opens the log in dir for writing and repairs what a crash left behind.
// It signs nothing: [Log.Seal] does. One process at a time may hold a log.
func Open(dir string) (*Log, error) { return open(durable.Machine{}, dir) }

func open(d durable.Disk, dir string) (*Log, error) {
	if _, err := os.Stat(filepath.Join(dir, metaFile)); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	lock, err := takeLock(dir)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l, err := load(d, dir)
	if err == nil {
		err = l.sweep()
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("open log: %w", err)
	}
	l.lock = lock
	return l, nil
}

// OpenRead opens the log in dir for reading, also while a monitor writes to it,
// and shows it as it is at this moment.
func OpenRead(dir string) (*Log, error) {
	// A writer may seal an hour, which removes its write-ahead file, while it is being read.
	for try := 0; ; try++ {
		l, err := load(durable.Machine{}, dir)
		if err == nil {
			return l, nil
		}
		if try == 3 || !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open log: %w", err)
		}
	}
}

// Exists says whether a log was made in dir, be it whole or not.
func Exists(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, metaFile))
	return err == nil
}

// load reads a log without changing anything.
func load(d durable.Disk, dir string) (*Log, error) {
	l := &Log{dir: dir, disk: d, tree: evidence.NewTree(), headers: make(map[evidence.Month]segment), wals: make(map[evidence.Hour]*openWAL)}
	b, err := os.ReadFile(l.path(metaFile))
	if err != nil {
		return nil, err
	}
	if err := evidence.Decode(bytes.TrimSuffix(b, []byte("\n")), &l.meta); err != nil {
		return nil, fmt.Errorf("%s: %w", l.path(metaFile), err)
	}
	if l.meta.Format != metaFormat {
		return nil, fmt.Errorf("%s: format %q, want %s; a newer relaymon may know it", l.path(metaFile), l.meta.Format, metaFormat)
	}
	if _, _, err := evidence.ParseOrigin(l.meta.Origin); err != nil {
		return nil, fmt.Errorf("%s: %w", l.path(metaFile), err)
	}
	if l.meta.PlanKey == "" {
		return nil, fmt.Errorf("%s names no plan key: relaymon before version 1 of the evidence format made this log, and no version goes on with it; move it away, make another with \"relaymon init\" and let the committee enter its keys", l.path(metaFile))
	}
	if l.key, err = readKey(l.path(keyFile), l.meta.Origin, evidence.LogKeyType); err != nil {
		return nil, err
	}
	if l.witness, err = readKey(l.path(witnessFile), l.meta.Origin+"/witness", evidence.WitnessKeyType); err != nil {
		return nil, err
	}
	if l.plan, err = readPlanKey(l.path(planFile)); err != nil {
		return nil, err
	}
	if l.key.VerifierKey() != l.meta.Key || l.witness.VerifierKey() != l.meta.WitnessKey || l.plan.Public().String() != l.meta.PlanKey {
		return nil, fmt.Errorf("%s: its keys are not those in %s, %s and %s; restore the files from one backup", l.path(metaFile), keyFile, witnessFile, planFile)
	}
	if _, err := os.Lstat(l.path(restoredFile)); err == nil {
		l.held = true
	}
	// The write-ahead files come first: an hour that is sealed meanwhile shows up
	// twice rather than not at all, and the block wins.
	wals, err := l.readWALs()
	if err != nil {
		return nil, err
	}
	if err := l.readHeaders(); err != nil {
		return nil, err
	}
	for _, w := range wals {
		if w.hour >= l.next() {
			l.wals[w.hour] = w
		}
	}
	return l, nil
}

func (l *Log) readWALs() ([]*openWAL, error) {
	files, err := os.ReadDir(l.path(walDir))
	if err != nil {
		return nil, err
	}
	var list []*openWAL
	for _, f := range files {
		h, ok := evidence.ParseHourFile(f.Name())
		if !ok {
			continue
		}
		b, err := os.ReadFile(l.walPath(h))
		if err != nil {
			return nil, err
		}
		w, err := readWAL(b, h)
		if err != nil {
			return nil, fmt.Errorf("%s is damaged: %w; move it away to give up this hour", l.walPath(h), err)
		}
		list = append(list, &openWAL{wal: w, file: segment{disk: l.disk, path: l.walPath(h), good: w.good}})
	}
	return list, nil
}

// errDamaged is what a store says that no crash can have left.
func (l *Log) errDamaged(format string, a ...any) error {
	return fmt.Errorf("log in %s is damaged: %w; restore it from a backup", l.dir, fmt.Errorf(format, a...))
}

// readHeaders builds the tree and checks it against the last checkpoint.
func (l *Log) readHeaders() error {
	size, err := l.lastCheckpoint(evidence.MaxBlocks)
	if err != nil {
		return err
	}
	for m := l.meta.First.Month(); ; m++ {
		b, err := os.ReadFile(l.headersPath(m))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		good, err := l.readMonthHeaders(m, b, size)
		if err != nil {
			return err
		}
		clear(l.headers)
		l.headers[m] = segment{disk: l.disk, path: l.headersPath(m), good: good}
		if l.next() < m.End() {
			break
		}
	}
	if size > l.tree.Size {
		return l.errDamaged("its last checkpoint is of %d blocks, it has %d", size, l.tree.Size)
	}
	// A writer may have signed another meanwhile.
	if size, err = l.lastCheckpoint(l.tree.Size); err != nil || size == 0 {
		return err
	}
	c, err := l.readCheckpoint(size)
	if err != nil {
		return err
	}
	root, err := l.tree.Root(size)
	if err != nil {
		return err
	}
	if root != c.Root {
		return l.errDamaged("its blocks do not make the root of the checkpoint of size %d", size)
	}
	l.signed = size
	return nil
}

// readMonthHeaders adds the lines of a month's file to the tree. Lines after the
// last checkpoint may have been torn by a crash; nothing was signed over them.
func (l *Log) readMonthHeaders(m evidence.Month, b []byte, signed int64) (good int64, err error) {
	for len(b) > 0 {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		h, err := evidence.DecodeHeader(line)
		if err == nil {
			err = l.follows(h)
		}
		if err == nil && h.Hour.Month() != m {
			err = fmt.Errorf("block %s is not of %s", h.Hour, m)
		}
		if err != nil || !whole {
			if l.tree.Size < signed {
				return 0, l.errDamaged("block %d: %w", l.tree.Size, err)
			}
			return good, nil
		}
		if err := l.addHeader(h, line); err != nil {
			return 0, err
		}
		good += int64(len(line)) + 1
		b = rest
	}
	return good, nil
}

// follows says whether a header may come next.
func (l *Log) follows(h evidence.Header) error {
	if h.Hour != l.next() {
		return fmt.Errorf("block is of hour %s, want %s", h.Hour, l.next())
	}
	if h.Previous != l.leaf {
		return fmt.Errorf("block %s does not refer to the one before", h.Hour)
	}
	return nil
}

func (l *Log) addHeader(h evidence.Header, line []byte) error {
	leaf := tlog.RecordHash(line)
	if err := l.tree.Add(leaf); err != nil {
		return err
	}
	l.leaf, l.last = leaf, &h
	return nil
}

// lastCheckpoint is the largest size up to limit of which there is a checkpoint
// file; 0 if there is none.
func (l *Log) lastCheckpoint(limit int64) (int64, error) {
	files, err := os.ReadDir(l.path(signedDir))
	if err != nil {
		return 0, err
	}
	var last int64
	for _, f := range files {
		var size int64
		if _, err := fmt.Sscanf(f.Name(), "%d", &size); err == nil && size <= limit && l.checkpointPath(size) == l.path(signedDir, f.Name()) {
			last = max(last, size)
		}
	}
	return last, nil
}

// readCheckpoint reads a checkpoint of this log. Its cosignatures were verified
// when they came in; those of the given witnesses are again.
func (l *Log) readCheckpoint(size int64, witnesses ...note.Verifier) (evidence.Checkpoint, error) {
	b, err := os.ReadFile(l.checkpointPath(size))
	if err != nil {
		return evidence.Checkpoint{}, err
	}
	n, err := evidence.ParseNote(b, l.key.Verifier(), witnesses...)
	if err != nil {
		return evidence.Checkpoint{}, l.errDamaged("checkpoint of size %d: %w", size, err)
	}
	c, err := evidence.ParseCheckpoint(n.Text)
	if err != nil || c.Size != size || c.Origin != l.meta.Origin {
		return evidence.Checkpoint{}, l.errDamaged("checkpoint of size %d: its text is %q", size, n.Text)
	}
	c.Cosignatures = append(n.Sigs[1:], n.UnverifiedSigs...)
	return c, nil
}

// sweep removes what a crash left: temporary files, and write-ahead files of
// hours that are sealed.
func (l *Log) sweep() error {
	dirs := []string{l.dir, l.path(walDir), l.path(blocksDir), l.path(signedDir), l.path(certsDir)}
	if m := l.next().Month(); l.tree.Size > 0 {
		dirs = append(dirs, l.path(blocksDir, m.String()), l.path(blocksDir, l.last.Hour.Month().String()))
	}
	for _, dir := range dirs {
		files, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, f := range files {
			if strings.HasPrefix(f.Name(), ".") && f.Type().IsRegular() {
				if err := l.disk.Remove(filepath.Join(dir, f.Name())); err != nil {
					return err
				}
			}
		}
	}
	return l.removeSealedWALs()
}

func (l *Log) removeSealedWALs() error {
	files, err := os.ReadDir(l.path(walDir))
	if err != nil {
		return err
	}
	for _, f := range files {
		if h, ok := evidence.ParseHourFile(f.Name()); ok && h < l.next() {
			if err := l.disk.Remove(l.walPath(h)); err != nil {
				return err
			}
		}
	}
	return nil
}

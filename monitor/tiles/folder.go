package tiles

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	pathpkg "path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/internal/durable"
)

// Folder is a log's public form as plain files, which one process at a time may write to.
// It may be killed at any moment: a file is there, whole, or it is not; and all that is
// under the file "checkpoint" was there before it.
type Folder struct {
	dir  string
	lock *os.File
}

const lockFile = ".lock"

// OpenFolder makes a folder, if it is not there, and takes it for writing. One that holds
// something else is refused ([ErrTaken]).
func OpenFolder(dir string) (*Folder, error) {
	// A log's own folder, or the data folder above it: all that is here is there for everybody.
	for _, secret := range []string{"log.key", "log/log.key"} {
		if _, err := os.Stat(filepath.Join(dir, secret)); err == nil {
			return nil, fmt.Errorf("%s holds the secret keys of a log (%s), and what is written here is for everybody: name another folder", dir, secret)
		}
	}
	if err := free(dir); err != nil {
		return nil, err
	}
	if err := mkdir(dir); err != nil {
		return nil, fmt.Errorf("make folder %s: %w", dir, err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	f := &Folder{dir: dir, lock: lock}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("%s is in use by another process: wait for it, or stop it (%w)", dir, err)
	}
	if err := f.sweep(); err != nil {
		lock.Close()
		return nil, err
	}
	return f, nil
}

// Close lets go of the folder.
func (f *Folder) Close() error { return f.lock.Close() }

// ErrTaken is wrapped when a folder holds something else than a log's public form.
var ErrTaken = errors.New("what is written here needs a folder of its own: name a new or an empty one")

// folders are what a folder of a log holds beside its checkpoint; a mirror keeps forks, a
// monitor that publishes keeps bundles.
var folders = []string{"tile", "records", "checkpoints", "certificates", "forks", "bundles"}

// free says whether a folder is empty, or holds a log already, or the beginning of one.
func free(dir string) error {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	other, locked := "", false
	for _, d := range list {
		switch name := d.Name(); {
		case name == nameLast && d.Type().IsRegular():
			return nil
		case name == lockFile:
			locked = true
		case name == "lost+found": // of the file system
		case aside(name), d.IsDir() && slices.Contains(folders, name) && locked: // the lock is the first by name
		default:
			other = cmp.Or(other, name)
		}
	}
	if other != "" {
		return fmt.Errorf("%s holds other files (%s): %w", dir, other, ErrTaken)
	}
	return nil
}

// sweep removes what a killed process left: files that were written aside, and partial
// tiles of which the full one is there. What is not of a log stays.
func (f *Folder) sweep() error {
	return fs.WalkDir(os.DirFS(f.dir), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && !strings.Contains(path, "/") && !slices.Contains(folders, path):
			return fs.SkipDir
		case d.IsDir() && strings.HasSuffix(path, suffixPartial):
			full := strings.TrimSuffix(path, suffixPartial)
			if _, ok := ParseName(full); ok && f.Has(full) {
				return cmp.Or(f.removePartial(full), fs.SkipDir)
			}
		case d.Type().IsRegular() && aside(path):
			return os.Remove(f.Path(path))
		}
		return nil
	})
}

// asideFork is a mirror's proof that is being written.
var asideFork = regexp.MustCompile(`^forks/\.[0-9]{8,}-[0-9a-f]{8}\.(fork|checkpoint)\.[0-9]+$`)

// aside says whether a path is of a file that is being written: a dot, the name of a file
// of a log, and a number, perhaps after one more dot.
func aside(path string) bool {
	dir, base := pathpkg.Split(path)
	base, ok := strings.CutPrefix(base, ".")
	name := strings.TrimRight(base, "0123456789")
	for ok && len(name) < len(base) { // the name may end with a number itself
		if _, is := ParseName(dir + strings.TrimSuffix(name, ".")); is {
			return true
		}
		name = base[:len(name)+1]
	}
	return asideFork.MatchString(path)
}

// removePartial removes the partial tiles of a full one.
func (f *Folder) removePartial(full string) error {
	list, err := os.ReadDir(f.Path(full + suffixPartial))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	left := false
	for _, d := range list {
		path := full + suffixPartial + "/" + d.Name()
		if _, is := ParseName(path); (is || aside(path)) && d.Type().IsRegular() {
			if err := os.Remove(f.Path(path)); err != nil {
				return err
			}
		} else {
			left = true
		}
	}
	if left {
		return nil
	}
	return os.Remove(f.Path(full + suffixPartial))
}

// Path is where a file of the log is.
func (f *Folder) Path(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

// Has says whether a file is there.
func (f *Folder) Has(name string) bool {
	_, err := os.Lstat(f.Path(name))
	return err == nil
}

// Read reads a small file of the log.
func (f *Folder) Read(name string) ([]byte, error) { return Read(f.dir, name) }

// Read reads a small file of a log from a folder that somebody else may write to.
func Read(dir, name string) ([]byte, error) {
	n, ok := ParseName(name)
	if !ok {
		return nil, fmt.Errorf("%q is no file of a log", name)
	}
	return bounded.ReadFile(filepath.Join(dir, filepath.FromSlash(name)), n.Limit())
}

// Create writes a file that never changes; one that is there stays.
func (f *Folder) Create(name string, data []byte) error {
	return f.CreateFrom(name, bytes.NewReader(data))
}

// CreateFrom is Create of what r gives. If r fails there is no file.
func (f *Folder) CreateFrom(name string, r io.Reader) error {
	path := f.Path(name)
	if f.Has(name) {
		return nil
	}
	if err := mkdir(filepath.Dir(path)); err != nil {
		return err
	}
	if err := durable.CreateFrom(path, r, 0o644); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// Replace writes a file that may change, and says whether it did.
func (f *Folder) Replace(name string, data []byte) (bool, error) {
	path := f.Path(name)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return false, nil
	}
	if err := mkdir(filepath.Dir(path)); err != nil {
		return false, err
	}
	return true, durable.Replace(path, data, 0o644)
}

// Keep writes a file that is beside the log, such as a bundle, or replaces it.
func (f *Folder) Keep(path string, data []byte) error {
	if err := mkdir(filepath.Dir(f.Path(path))); err != nil {
		return err
	}
	return durable.Replace(f.Path(path), data, 0o644)
}

// Remove removes a file that turned out to be bad.
func (f *Folder) Remove(name string) error {
	if err := os.Remove(f.Path(name)); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(f.Path(name)))
}

// Step is what a folder has to show more of.
type Step struct {
	Old, Size  int64           // blocks that it shows, and that it is to show
	Hashes     tlog.HashReader // of the log's tree
	Headers    [][]byte        // of the blocks from the begin of the bundle of block Old on, to Size-1
	Checkpoint []byte          // of Size; nil: a newer one is there
}

// Publish writes the tiles and entries of a step, and then its checkpoint. Records,
// certificates and the other checkpoints must be there before.
func (f *Folder) Publish(s Step) error { return publish(context.Background(), folderTarget{f}, s) }

// publish is [Folder.Publish] to any target.
func publish(ctx context.Context, to Target, s Step) error {
	full, err := grow(ctx, to, s)
	if err != nil {
		return err
	}
	if s.Checkpoint != nil {
		if _, err := to.Replace(ctx, nameLast, s.Checkpoint); err != nil {
			return err
		}
	}
	for _, name := range full { // whoever follows a checkpoint of before finds the full one instead
		if err := to.Tidy(name); err != nil {
			return err
		}
	}
	return nil
}

// Prepare writes the tiles and entries of a step, which nothing shows before its checkpoint
// is there: for a log that signs only what is on disk. What was prepared and is not to be
// shown is removed by [Folder.Cut].
func (f *Folder) Prepare(s Step) error {
	_, err := grow(context.Background(), folderTarget{f}, s)
	return err
}

// grow writes tiles and entries, and returns those that are full.
func grow(ctx context.Context, to Target, s Step) (full []string, err error) {
	if first := s.Old / Width * Width; s.Size <= s.Old || int64(len(s.Headers)) != s.Size-first {
		return nil, fmt.Errorf("publish blocks %d to %d: %d headers, want %d", s.Old, s.Size, len(s.Headers), s.Size-first)
	}
	for _, t := range tlog.NewTiles(Height, s.Old, s.Size) {
		data, err := tlog.ReadTileData(t, s.Hashes)
		if err != nil {
			return nil, err
		}
		if err := create(ctx, to, TileOf(t), data); err != nil {
			return nil, err
		}
		if t.W == Width {
			full = append(full, TileOf(t))
		}
	}
	for i := 0; i < len(s.Headers); i += Width {
		lines := s.Headers[i:min(i+Width, len(s.Headers))]
		data, err := JoinEntries(lines)
		if err != nil {
			return nil, err
		}
		name := EntriesOf((s.Old+int64(i))/Width, len(lines))
		if err := create(ctx, to, name, data); err != nil {
			return nil, err
		}
		if len(lines) == Width {
			full = append(full, name)
		}
	}
	return full, nil
}

// Cut removes the tiles, entries and checkpoints that are not under a tree of so many leaves.
func (f *Folder) Cut(size int64) error {
	return fs.WalkDir(os.DirFS(f.dir), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && !strings.Contains(path, "/") && !slices.Contains(folders, path):
			return fs.SkipDir
		}
		switch n, ok := ParseName(path); {
		case !ok || !d.Type().IsRegular() || n.Under(size):
		case n.Kind == Tile, n.Kind == Entries, n.Kind == Checkpoint:
			return f.Remove(path)
		}
		return nil
	})
}

// folderTarget is a folder to which a log is exported.
type folderTarget struct{ f *Folder }

func (t folderTarget) Read(_ context.Context, name string) ([]byte, error) { return t.f.Read(name) }

func (t folderTarget) Has(_ context.Context, name string) (bool, error) { return t.f.Has(name), nil }

func (t folderTarget) Create(_ context.Context, name string, open func() (io.ReadCloser, error)) error {
	if t.f.Has(name) {
		return nil
	}
	r, err := open()
	if err != nil {
		return err
	}
	return errors.Join(t.f.CreateFrom(name, r), r.Close())
}

func (t folderTarget) Replace(_ context.Context, name string, data []byte) (bool, error) {
	return t.f.Replace(name, data)
}

func (t folderTarget) Tidy(full string) error { return t.f.removePartial(full) }

// mkdir makes a folder, and those above it, so that they outlast a power cut.
func mkdir(dir string) error {
	if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent == dir {
		return fmt.Errorf("make folder %s: %w", dir, fs.ErrNotExist)
	}
	if err := mkdir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return durable.SyncDir(parent)
}

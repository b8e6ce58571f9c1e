package decision

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

// Where says where a log is kept, and with which key.
type Where struct {
	Dir     string
	Network evidence.Network
	Key     evidence.SigningKey // the committee's
	// Memory is the file beside the key in which the last checkpoint is kept that was signed.
	Memory string
	// First says that there is no log yet: it is made. Otherwise there must be one, so that
	// a mistyped folder does not become a second log.
	First bool
}

// PlaceError says that the log is not where the caller says that it is, or is not to be
// there: his slip, and no fault of the log's.
type PlaceError struct{ err error }

func (e *PlaceError) Error() string { return e.err.Error() }

// Unwrap is the error without this word on it.
func (e *PlaceError) Unwrap() error { return e.err }

// Writer writes a log.
type Writer struct {
	*Log
	where  Where
	key    evidence.SigningKey // under the log's name
	folder *tiles.Folder
	bad    error // why nothing more may be written
}

// Open verifies a log as [Read] does, and takes it for writing. It completes or cuts off
// what a killed process left. Nothing is opened that is older than what was signed.
func Open(w Where) (*Writer, error) {
	fail := func(err error) (*Writer, error) {
		return nil, fmt.Errorf("the log of decisions in %s: %w", w.Dir, err)
	}
	origin, err := Origin(w.Key.Name(), w.Network)
	if err != nil {
		return fail(err)
	}
	key, err := w.Key.Named(origin)
	if err != nil {
		return fail(err)
	}
	if err := checkPlace(w); err != nil {
		return fail(&PlaceError{err})
	}
	folder, err := tiles.OpenFolder(w.Dir)
	if err != nil {
		return fail(err)
	}
	out := &Writer{where: w, key: key, folder: folder}
	if err := out.load(); err != nil {
		folder.Close()
		return fail(err)
	}
	return out, nil
}

// checkPlace refuses to begin a log where it was not meant to begin, before anything is
// written.
func checkPlace(w Where) error {
	dir, err := filepath.Abs(w.Dir)
	if err != nil {
		return err
	}
	memory, err := filepath.Abs(w.Memory)
	if err != nil {
		return err
	}
	if filepath.Dir(memory) == dir {
		return errors.New("the committee's key lies in this folder, and what is in it is for everybody: keep the key elsewhere")
	}
	_, err = os.Lstat(filepath.Join(w.Dir, checkpointFile))
	switch {
	case errors.Is(err, fs.ErrNotExist) && !w.First:
		if remembered, _ := bounded.ReadFile(w.Memory, evidence.MaxCheckpointBytes); remembered != nil {
			return fmt.Errorf("there is none, but one was signed with this key, as %s says: is this the right folder?", w.Memory)
		}
		return errors.New("there is none: is this the right folder? The first entry of all is made with --first")
	case errors.Is(err, fs.ErrNotExist):
		_, prepared := os.Lstat(filepath.Join(w.Dir, "tile"))
		if _, err := os.Lstat(w.Memory); err == nil && prepared != nil {
			return fmt.Errorf("a log was begun with this key already, as %s says: name its folder, or bring it back; leave out --first", w.Memory)
		}
		return nil
	case err == nil && w.First:
		return errors.New("there is one already: leave out --first")
	}
	return err
}

// load reads the log and brings the folder in order.
func (w *Writer) load() error {
	raw, err := tiles.Read(w.where.Dir, checkpointFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		w.Log = &Log{Origin: w.key.Name(), Network: w.where.Network, key: w.key.VerifierKey(), tree: evidence.NewTree(), book: newBook(w.where.Network)}
	case err != nil:
		return err
	default:
		if w.Log, err = read(w.where.Dir, raw, w.where.Key.VerifierKey(), nil); err != nil {
			return err
		}
	}
	if w.Network != w.where.Network {
		return &PlaceError{fmt.Errorf("it is of network %s, and this entry is of network %s: each has a log of its own", w.Network, w.where.Network)}
	}
	if err := w.remember(); err != nil {
		return err
	}
	// A sweep may have taken a partial tile away for a full one that no signature covers.
	if size := w.tree.Size; size > 0 {
		if err := w.folder.Prepare(w.step(size - 1)); err != nil {
			return err
		}
	}
	return w.folder.Cut(w.tree.Size)
}

// remember compares the log with the last checkpoint that was signed. A later one of which
// the entries are there is put in place; any other means that this is an older copy.
func (w *Writer) remember() error {
	memory := w.where.Memory
	signed, err := bounded.ReadFile(memory, evidence.MaxCheckpointBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the key came here without it
	}
	if err != nil {
		return fmt.Errorf("read what was signed last: %w", err)
	}
	last, _, err := evidence.ReadCheckpoint(signed, w.key.VerifierKey())
	if err != nil {
		return fmt.Errorf("%s is not what was signed last: %w", memory, err)
	}
	if last.N <= w.tree.Size {
		if err := w.agrees(last); err != nil {
			return fmt.Errorf("%w, as %s says: nothing is signed beside that", err, memory)
		}
		return nil
	}
	newer, err := read(w.where.Dir, signed, w.where.Key.VerifierKey(), nil)
	if err != nil {
		return fmt.Errorf("this is an older copy: it has %d entries, and a checkpoint of %d was signed, as %s says. Bring back the newer one; whoever copied or cosigned the log may have it (%w)", w.tree.Size, last.N, memory, err)
	}
	if w.tree.Size > 0 { // of a killed process: it is the same history, and one entry more
		root, err := newer.tree.Root(w.tree.Size)
		if err != nil || root != w.Checkpoint.Root {
			return errors.Join(fmt.Errorf("the log has forked: %s is of another history", memory), err)
		}
	}
	if _, err := w.folder.Replace(checkpointFile, signed); err != nil {
		return err
	}
	w.Log = newer
	return nil
}

// step is what shows the entries after the first old ones.
func (w *Writer) step(old int64) tiles.Step {
	return tiles.Step{Old: old, Size: w.tree.Size, Hashes: w.tree, Headers: w.lines[old/tiles.Width*tiles.Width:], Checkpoint: w.raw}
}

// Close lets go of the log.
func (w *Writer) Close() error { return w.folder.Close() }

// Find is the place and the leaf hash of an entry that says the same, if that is in force:
// a decision that stands, or an appeal. So whoever repeats what he did changes nothing.
func (w *Writer) Find(e Entry) (index int64, hash string, ok bool) {
	p, says, err := e.place()
	if err != nil || e.Network != w.Network {
		return 0, "", false
	}
	m := w.book.find(p)
	if e.Decision != nil {
		s := m.Standing()
		if s == nil {
			return 0, "", false
		}
		stands, err := evidence.Encode(s.Decision)
		if err != nil {
			return 0, "", false
		}
		says, err := evidence.Encode(*e.Decision)
		return s.Index, s.Hash, err == nil && bytes.Equal(stands, says)
	}
	for _, a := range m.Appeals {
		if a.Says == says {
			return a.Index, a.Hash, true
		}
	}
	return 0, "", false
}

// Check says all that keeps an entry from being entered.
func (w *Writer) Check(e Entry) error {
	if w.bad != nil {
		return fmt.Errorf("refused after an earlier failure: %w", w.bad)
	}
	var f faults
	f.want(w.tree.Size < MaxEntries, "the log has %d entries, which are all that it takes: begin another with a new key", w.tree.Size)
	line, err := Encode(e)
	if err != nil {
		f = append(f, err)
	}
	f.want(w.bytes+len(line) <= MaxBytes, "the log's entries would have more than %d bytes: begin another with a new key", MaxBytes)
	if e.Decision != nil || e.Appeal != nil {
		if fault := w.book.check(e); fault != nil && !(err != nil && e.Appeal != nil) {
			f = append(f, fault)
		}
	}
	return errors.Join(f...)
}

// Enter puts an entry into the log, signs it, and returns its place and its leaf hash.
// After an error the log has to be opened anew.
func (w *Writer) Enter(e Entry) (index int64, hash string, err error) {
	if err := w.Check(e); err != nil {
		return 0, "", err
	}
	line, err := Encode(e)
	if err != nil {
		return 0, "", err
	}
	old := w.tree.Size
	if err := w.enter(line); err != nil {
		w.bad = err
		return 0, "", fmt.Errorf("write the log of decisions in %s: %w", w.where.Dir, err)
	}
	return old, Hash(line), nil
}

func (w *Writer) enter(line []byte) error {
	old, before := w.tree.Size, w.raw
	if err := w.take(line); err != nil {
		return err
	}
	if old > 0 { // with the cosignatures that have come in
		if _, err := w.folder.Replace(tiles.CheckpointOf(old), before); err != nil {
			return err
		}
	}
	if err := w.folder.Prepare(w.step(old)); err != nil {
		return err
	}
	root, err := w.tree.Root(w.tree.Size)
	if err != nil {
		return err
	}
	w.Checkpoint = evidence.Checkpoint{Origin: w.Origin, Size: w.tree.Size, Root: root}
	if w.raw, err = evidence.SignNote(w.Checkpoint.Text(), w.key); err != nil {
		return err
	}
	if err := durable.Replace(w.where.Memory, w.raw, 0o644); err != nil {
		return fmt.Errorf("keep what was signed beside the key: %w", err)
	}
	return w.folder.Publish(w.step(old))
}

// AddCosignatures puts cosignatures under the last checkpoint of the log in a folder:
// offered is that checkpoint with the lines of witnesses. Lines of the given witnesses that
// do not verify are left out. It fails if the log has grown meanwhile.
func AddCosignatures(dir, committee string, offered []byte, witnesses ...string) error {
	fail := func(err error) error {
		return fmt.Errorf("add cosignatures to the log of decisions in %s: %w", dir, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, checkpointFile)); err != nil {
		return fail(err)
	}
	folder, err := tiles.OpenFolder(dir)
	if err != nil {
		return fail(err)
	}
	defer folder.Close()
	held, err := folder.Read(checkpointFile)
	if err != nil {
		return fail(err)
	}
	l, err := open(held, committee, witnesses)
	if err != nil {
		return fail(err)
	}
	_, merged, err := evidence.MergeCheckpoints(held, offered, l.key, witnesses...)
	if err == nil {
		merged, err = evidence.JoinCheckpoints(merged, merged, l.key) // one line a key
	}
	if err == nil {
		_, err = open(merged, committee, witnesses)
	}
	if err == nil {
		_, err = folder.Replace(checkpointFile, merged)
	}
	if err != nil {
		return fail(err)
	}
	return nil
}

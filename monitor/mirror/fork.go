package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

// ForkError says that the log's key has signed two histories. The copy stays as it is, and
// what convicts the log is kept beside it.
type ForkError struct {
	Size int64
	File string // where the proof is
	// Pair says that the file has two checkpoints of one size, which convict the log by
	// themselves ([evidence.NewFork]). Without it the log has not shown a second checkpoint
	// of a size that is held; the one that it shows is kept, for whoever has its partner.
	Pair bool
}

// Error implements error.
func (e *ForkError) Error() string {
	if e.Pair {
		return fmt.Sprintf("THE LOG HAS TWO HISTORIES: it signed two different trees of %d blocks. The proof is %s: send it to the committee. The copy stays as it was", e.Size, e.File)
	}
	return fmt.Sprintf("THE LOG HAS TWO HISTORIES: its signed checkpoint of %d blocks does not go on from this copy. It is kept in %s: send it to the committee, together with this copy, which stays as it was", e.Size, e.File)
}

const (
	forkSuffix = ".fork"
	loneSuffix = ".checkpoint"
	// mostForks is how many are kept: one is enough.
	mostForks = 32
	// pairTries is of how many sizes a second checkpoint is asked for.
	pairTries = 8
)

// forked keeps what the log shows of another history than the one that is held. shown is
// its last tree, and t reads it (nil: it is no longer than what is held).
func (m *Mirror) forked(ctx context.Context, shown tlog.Tree, last []byte, t *tree) error {
	if held, err := m.folder.Read(tiles.CheckpointOf(shown.N)); err == nil {
		return m.convict(shown, last, held)
	}
	// Nothing of this size is held: so the log is asked for its checkpoints of sizes that are.
	own, err := open(m.o.Dir, m.o.Key)
	if err != nil {
		return err
	}
	for size, asked := min(m.held.N, shown.N), 0; t != nil && size > 0 && asked < pairTries; size-- {
		name := tiles.CheckpointOf(size)
		held, err := m.folder.Read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		ours, err := own.tree.root(size)
		if err != nil {
			return err
		}
		if theirs, err := t.root(size); err != nil || theirs == ours {
			break // the histories part after this
		}
		asked++
		raw, _, err := m.get(ctx, name, "")
		if err != nil {
			continue
		}
		if tree, other, err := evidence.ReadCheckpoint(raw, m.o.Key); err == nil && tree.N == size && tree.Hash != ours {
			return m.convict(tree, other, held)
		}
	}
	return m.convict(shown, last, nil)
}

// convict keeps a checkpoint that contradicts what is held, together with one of the same
// size (nil: none is at hand).
func (m *Mirror) convict(shown tlog.Tree, checkpoint, held []byte) error {
	if held == nil {
		held, _ = m.folder.Read(tiles.CheckpointOf(shown.N))
	}
	data, suffix := checkpoint, loneSuffix
	if held != nil {
		pair, err := evidence.NewFork(held, checkpoint, m.o.Key)
		if err != nil {
			return err
		}
		data, suffix = pair, forkSuffix
	}
	dir := filepath.Join(m.o.Dir, forksDir)
	file := filepath.Join(dir, fmt.Sprintf("%08d-%x%s", shown.N, shown.Hash[:4], suffix))
	fork := &ForkError{Size: shown.N, File: file, Pair: held != nil}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return errors.Join(fork, err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) >= mostForks {
		return errors.Join(fork, err)
	}
	err := durable.Create(file, data, 0o644)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err := errors.Join(err, durable.SyncDir(m.o.Dir)); err != nil {
		return errors.Join(fork, fmt.Errorf("and the proof cannot be kept: %w", err))
	}
	return fork
}

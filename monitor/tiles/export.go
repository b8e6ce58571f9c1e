package tiles

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Exported says what an export has done.
type Exported struct {
	Origin       string `json:"origin"`
	Size         int64  `json:"size"`   // blocks that the folder shows now
	Blocks       int64  `json:"blocks"` // new ones
	Records      int64  `json:"records"`
	Certificates int64  `json:"certificates"`
	// Checkpoints were written: new ones, and those with new cosignatures.
	Checkpoints int64 `json:"checkpoints"`
}

// lateBlocks is of how many blocks, before those that are new, the checkpoints are looked
// at again: cosignatures may have come in.
const lateBlocks = 48

// Export brings a folder to where the log is, and writes only what is new. It may be
// killed at any moment, goes on from there the next time, and may run beside the monitor.
// It tells progress (nil: nobody asks) how many of the log's blocks the folder shows.
func Export(ctx context.Context, src Source, dir string, progress func(done, size int64)) (out Exported, err error) {
	f, err := OpenFolder(dir)
	if err != nil {
		return out, fmt.Errorf("export: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if out, err = ExportTo(ctx, src, folderTarget{f}, false, progress); err != nil {
		return out, fmt.Errorf("export to %s: %w", dir, err)
	}
	return out, nil
}

// Target is where an export writes to: a folder, or what others keep. One process at a
// time may write there. What it takes is there to stay when its method returns.
type Target interface {
	// Read reads a small file; fs.ErrNotExist if it is not there.
	Read(ctx context.Context, name string) ([]byte, error)
	// Has says whether a file that never changes is there.
	Has(ctx context.Context, name string) (bool, error)
	// Create writes a file that never changes; open may be called more than once. If it
	// fails there is no such file, or the one that was there before.
	Create(ctx context.Context, name string, open func() (io.ReadCloser, error)) error
	// Replace writes a file that may change, and says whether it did.
	Replace(ctx context.Context, name string, data []byte) (bool, error)
	// Tidy is told that a full tile is there and shown, whose partial ones are of no use.
	Tidy(full string) error
}

// ErrNotThisLog is wrapped when a target shows what the log does not have: another log, a
// newer copy of it or another history. Nothing is written over it.
var ErrNotThisLog = errors.New("nothing is written over it")

// ExportTo is [Export] to any target. If all is set, it goes through what the target should
// have, from the first block on, and not only through what is beyond its checkpoint.
func ExportTo(ctx context.Context, src Source, to Target, all bool, progress func(done, size int64)) (Exported, error) {
	e := &exporter{ctx: ctx, src: src, to: to, all: all, out: Exported{Origin: src.Origin()}}
	shown, err := e.shown()
	if err != nil {
		return e.out, err
	}
	e.begin, e.out.Size = shown, shown
	if progress != nil && shown > 0 {
		progress(shown, src.Size())
	}
	from := shown
	if all {
		from = 0
	} else if err := e.late(max(0, shown-lateBlocks), shown); err != nil {
		return e.out, err
	}
	for size := src.Size(); from < size; {
		if err := context.Cause(ctx); err != nil {
			return e.out, err
		}
		if from, err = e.step(from, size); err != nil {
			return e.out, err
		}
		e.out.Size = max(from, shown)
		e.out.Blocks = e.out.Size - shown
		if progress != nil {
			progress(from, size)
		}
	}
	return e.out, nil
}

type exporter struct {
	ctx   context.Context // of this export
	src   Source
	to    Target
	all   bool
	begin int64 // blocks that the target showed at the start
	out   Exported
}

// shown is how many blocks the target shows; it must be of the same log.
func (e *exporter) shown() (int64, error) {
	raw, err := e.to.Read(e.ctx, nameLast)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	tree, _, err := evidence.ReadCheckpoint(raw, e.src.Key())
	if err != nil {
		return 0, fmt.Errorf("its checkpoint is of another log, or none, and %w: %w", ErrNotThisLog, err)
	}
	if size := e.src.Size(); tree.N > size {
		return 0, fmt.Errorf("it shows %d blocks, the log has %d, and %w: is this an older copy of the log?", tree.N, size, ErrNotThisLog)
	}
	root, err := tlog.TreeHash(tree.N, e.src)
	if err == nil && root != tree.Hash {
		err = fmt.Errorf("it shows another history, and %w: its root of %d blocks is %s, the log's %s", ErrNotThisLog, tree.N, tree.Hash, root)
	}
	return tree.N, err
}

func readHeaders(lines [][]byte) (list []evidence.Header, err error) {
	list = make([]evidence.Header, len(lines))
	for i, line := range lines {
		if list[i], err = evidence.DecodeHeader(line); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// late brings in cosignatures under checkpoints that the folder has.
func (e *exporter) late(from, to int64) error {
	lines, err := e.src.HeaderLines(from, to)
	if err != nil {
		return err
	}
	list, err := readHeaders(lines)
	if err != nil {
		return err
	}
	for i, h := range list {
		if h.Signed {
			if err := e.checkpoint(from + int64(i) + 1); err != nil {
				return err
			}
		}
	}
	if to == 0 {
		return nil
	}
	last, err := e.to.Read(e.ctx, CheckpointOf(to))
	if err == nil {
		_, err = e.to.Replace(e.ctx, nameLast, last)
	}
	return err
}

// checkpoint writes a checkpoint with the cosignatures that the log and the target hold.
func (e *exporter) checkpoint(size int64) error {
	raw, err := e.src.CheckpointOf(size)
	if err != nil {
		return err
	}
	name := CheckpointOf(size)
	old, err := e.to.Read(e.ctx, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if old != nil {
		joined, err := evidence.JoinCheckpoints(raw, old, e.src.Key())
		switch {
		case err == nil:
			raw = joined
		case !e.all: // else what is there is of no use, and the log's own is put in its place
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	written, err := e.to.Replace(e.ctx, name, raw)
	if written {
		e.out.Checkpoints++
	}
	return err
}

// step shows the blocks of one bundle more after the old ones, or of as many as it takes to
// come to a signed one, and returns how many are shown then.
func (e *exporter) step(old, size int64) (int64, error) {
	base := old / Width * Width
	var lines [][]byte
	var list []evidence.Header
	signed := int64(0)
	for signed == 0 {
		end := base + int64(len(lines))
		if end == size {
			return 0, fmt.Errorf("no checkpoint was signed after %d blocks", old)
		}
		more, err := e.src.HeaderLines(end, min(end+Width, size))
		if err != nil {
			return 0, err
		}
		headers, err := readHeaders(more)
		if err != nil {
			return 0, err
		}
		lines, list = append(lines, more...), append(list, headers...)
		if i := lastSigned(list); base+int64(i)+1 > old {
			signed = base + int64(i) + 1
		}
	}
	for block := old; block < signed; block++ {
		if err := e.block(block, list[block-base]); err != nil {
			return 0, fmt.Errorf("block %d: %w", block, err)
		}
	}
	s := Step{Old: old, Size: signed, Hashes: e.src, Headers: lines[:signed-base]}
	if signed >= e.begin { // else a newer one is there
		var err error
		if s.Checkpoint, err = e.to.Read(e.ctx, CheckpointOf(signed)); err != nil {
			return 0, err
		}
	}
	return signed, publish(e.ctx, e.to, s)
}

// lastSigned is the place of the last signed header; -1: there is none.
func lastSigned(list []evidence.Header) int {
	for i, h := range slices.Backward(list) {
		if h.Signed {
			return i
		}
	}
	return -1
}

func (e *exporter) block(block int64, h evidence.Header) error {
	if h.Records > 0 {
		if err := e.records(block, h.Hour); err != nil {
			return err
		}
	}
	if h.Signed {
		return e.checkpoint(block + 1)
	}
	return nil
}

// records writes the records of a block, and before them the certificates that they name.
func (e *exporter) records(block int64, h evidence.Hour) error {
	r, err := e.open(block)
	if err != nil {
		return err
	}
	var unasked error
	has := func(sha string) bool {
		there, err := e.to.Has(e.ctx, CertificateOf(sha))
		if unasked == nil {
			unasked = err
		}
		return there || err != nil
	}
	err = EachCertificate(r, h, has, func(c evidence.Certificate) error {
		der, err := e.src.CertificateOf(c.SHA256)
		if err != nil {
			return err
		}
		e.out.Certificates++
		return create(e.ctx, e.to, CertificateOf(c.SHA256), der)
	})
	if err = errors.Join(err, unasked, r.Close()); err != nil {
		return err
	}
	e.out.Records++
	return e.to.Create(e.ctx, RecordsOf(block), func() (io.ReadCloser, error) { return e.open(block) })
}

// create is Create of what is in memory.
func create(ctx context.Context, to Target, name string, data []byte) error {
	return to.Create(ctx, name, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
}

func (e *exporter) open(block int64) (io.ReadCloser, error) {
	if files, ok := e.src.(RecordFiles); ok {
		return files.OpenRecords(block)
	}
	lines, err := e.src.RecordLines(block)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(append(bytes.Join(lines, []byte("\n")), '\n'))), nil
}

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
	e := &exporter{src: src, f: f, out: Exported{Origin: src.Origin()}}
	if e.out.Size, err = e.shown(); err != nil {
		return e.out, fmt.Errorf("export to %s: %w", dir, err)
	}
	size, begin := src.Size(), e.out.Size
	if err = e.late(max(0, begin-lateBlocks), begin); err != nil {
		return e.out, fmt.Errorf("export to %s: %w", dir, err)
	}
	for e.out.Size < size {
		if err = context.Cause(ctx); err == nil {
			err = e.step(size)
		}
		if err != nil {
			return e.out, fmt.Errorf("export to %s: %w", dir, err)
		}
		e.out.Blocks = e.out.Size - begin
		if progress != nil {
			progress(e.out.Size, size)
		}
	}
	return e.out, nil
}

type exporter struct {
	src Source
	f   *Folder
	out Exported
}

// shown is how many blocks the folder shows; it must be of the same log.
func (e *exporter) shown() (int64, error) {
	raw, err := e.f.Read(nameLast)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	tree, _, err := evidence.ReadCheckpoint(raw, e.src.Key())
	if err != nil {
		return 0, fmt.Errorf("the folder is of another log: %w", err)
	}
	if tree.N > e.src.Size() {
		return 0, fmt.Errorf("the folder shows %d blocks, the log has %d: is it an older copy of the log?", tree.N, e.src.Size())
	}
	root, err := tlog.TreeHash(tree.N, e.src)
	if err == nil && root != tree.Hash {
		err = fmt.Errorf("the folder shows another history: its root of %d blocks is %s, the log's %s", tree.N, tree.Hash, root)
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
	last, err := e.f.Read(CheckpointOf(to))
	if err == nil {
		_, err = e.f.Replace(nameLast, last)
	}
	return err
}

// checkpoint writes a checkpoint with the cosignatures that the log and the folder hold.
func (e *exporter) checkpoint(size int64) error {
	raw, err := e.src.CheckpointOf(size)
	if err != nil {
		return err
	}
	name := CheckpointOf(size)
	old, err := e.f.Read(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if old != nil {
		if raw, err = evidence.JoinCheckpoints(raw, old, e.src.Key()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	written, err := e.f.Replace(name, raw)
	if written {
		e.out.Checkpoints++
	}
	return err
}

// step shows the blocks of one bundle more, or of as many as it takes to come to a
// signed one.
func (e *exporter) step(size int64) error {
	old := e.out.Size
	base := old / Width * Width
	var lines [][]byte
	var list []evidence.Header
	signed := int64(0)
	for signed == 0 {
		end := base + int64(len(lines))
		if end == size {
			return fmt.Errorf("no checkpoint was signed after %d blocks", old)
		}
		more, err := e.src.HeaderLines(end, min(end+Width, size))
		if err != nil {
			return err
		}
		headers, err := readHeaders(more)
		if err != nil {
			return err
		}
		lines, list = append(lines, more...), append(list, headers...)
		if i := lastSigned(list); base+int64(i)+1 > old {
			signed = base + int64(i) + 1
		}
	}
	for block := old; block < signed; block++ {
		if err := e.block(block, list[block-base]); err != nil {
			return fmt.Errorf("block %d: %w", block, err)
		}
	}
	last, err := e.f.Read(CheckpointOf(signed))
	if err != nil {
		return err
	}
	if err := e.f.Publish(Step{old, signed, e.src, lines[:signed-base], last}); err != nil {
		return err
	}
	e.out.Size = signed
	return nil
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
	err = EachCertificate(r, h, func(sha string) bool { return e.f.Has(CertificateOf(sha)) }, func(c evidence.Certificate) error {
		der, err := e.src.CertificateOf(c.SHA256)
		if err != nil {
			return err
		}
		e.out.Certificates++
		return e.f.Create(CertificateOf(c.SHA256), der)
	})
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	if r, err = e.open(block); err != nil {
		return err
	}
	e.out.Records++
	return errors.Join(e.f.CreateFrom(RecordsOf(block), r), r.Close())
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

package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	bounds "github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

// forksDir holds what convicts the log.
const forksDir = "forks"

// Source is a log as a mirror, or an export, holds it. It shows the log as it was when it
// was opened, also while a mirror goes on.
type Source struct {
	dir, key, origin string
	tree             *tree
	first            evidence.Hour
	remote           *Remote // nil: the folder has all that there is
}

var _ evidence.Source = (*Source)(nil)

// Open opens a folder that holds the log with the given verifier key.
func Open(dir, key string) (*Source, error) {
	s, err := open(dir, key)
	if err != nil {
		return nil, fmt.Errorf("open the mirror in %s: %w", dir, err)
	}
	return s, nil
}

func open(dir, key string) (*Source, error) {
	return (&Source{dir: dir, key: key, origin: originOf(key)}).begin()
}

func (s *Source) begin() (*Source, error) {
	raw, err := s.read(tiles.Name{Kind: tiles.LastCheckpoint}.String())
	if err != nil {
		return nil, err
	}
	t, _, err := evidence.ReadCheckpoint(raw, s.key)
	if err != nil {
		return nil, err
	}
	s.tree = newTree(t, s.tile)
	line, err := s.HeaderLines(0, 1)
	if err != nil {
		return nil, err
	}
	h, err := evidence.DecodeHeader(line[0])
	if err != nil {
		return nil, err
	}
	s.first = h.Hour
	return s, nil
}

// originOf is the name in a verifier key, which is the log's origin.
func originOf(key string) string {
	origin, _, _ := strings.Cut(key, "+")
	return origin
}

// IsMirror says whether a folder looks like one that holds a log's public form.
func IsMirror(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, tiles.Name{Kind: tiles.LastCheckpoint}.String()))
	return err == nil && info.Mode().IsRegular()
}

// OriginIn is the origin in the first line of a folder's checkpoint, unverified: it tells
// whose key is needed to open it.
func OriginIn(dir string) (string, error) {
	raw, err := readFile(dir, tiles.Name{Kind: tiles.LastCheckpoint}.String())
	if err != nil {
		return "", err
	}
	origin, _, _ := bytes.Cut(raw, []byte("\n"))
	return string(origin), nil
}

func readFile(dir, name string) ([]byte, error) {
	return bounds.ReadFile(filepath.Join(dir, filepath.FromSlash(name)), limitOf(name))
}

func (s *Source) read(name string) ([]byte, error) {
	b, err := readFile(s.dir, name)
	if errors.Is(err, fs.ErrNotExist) && s.remote != nil {
		if err = s.lacks(name); err == nil {
			b, err = readFile(s.dir, name)
		}
	}
	return b, err
}

func (s *Source) tile(t tlog.Tile) ([]byte, error) {
	return s.readWide(tiles.TileOf(t), tiles.TileOf(tlog.Tile{H: t.H, L: t.L, N: t.N, W: tiles.Width}), func(b []byte) ([]byte, error) {
		return b[:min(len(b), t.W*tlog.HashSize)], nil
	})
}

// readWide reads a partial tile, or, if it is there no more, the full one.
func (s *Source) readWide(name, full string, cut func([]byte) ([]byte, error)) ([]byte, error) {
	b, err := s.read(name)
	if errors.Is(err, fs.ErrNotExist) && full != name {
		b, err = s.read(full)
	}
	if err != nil {
		return nil, err
	}
	return cut(b)
}

// Origin is that of the log.
func (s *Source) Origin() string { return s.origin }

// Key is the verifier key with which the mirror was opened.
func (s *Source) Key() string { return s.key }

// First is the hour of block 0.
func (s *Source) First() evidence.Hour { return s.first }

// Size is that of the last checkpoint.
func (s *Source) Size() int64 { return s.tree.N }

// ReadHashes implements [tlog.HashReader]. Each hash is under the last checkpoint.
func (s *Source) ReadHashes(indexes []int64) ([]tlog.Hash, error) { return s.tree.ReadHashes(indexes) }

// HeaderLines are the canonical headers of blocks from..to-1, checked against the tree.
func (s *Source) HeaderLines(from, to int64) ([][]byte, error) {
	if from < 0 || from > to || to > s.tree.N {
		return nil, fmt.Errorf("blocks %d to %d: %w: the mirror has %d", from, to, fs.ErrNotExist, s.tree.N)
	}
	var out [][]byte
	for at := from; at < to; {
		bundle, err := s.bundle(at / tiles.Width)
		if err != nil {
			return nil, err
		}
		base := at / tiles.Width * tiles.Width
		bundle = bundle[at-base : min(int64(len(bundle)), to-base)]
		out, at = append(out, bundle...), at+int64(len(bundle))
	}
	return out, nil
}

func (s *Source) bundle(index int64) ([][]byte, error) {
	from := index * tiles.Width
	width := int(min(tiles.Width, s.tree.N-from))
	b, err := s.readWide(tiles.EntriesOf(index, width), tiles.EntriesOf(index, tiles.Width), func(b []byte) ([]byte, error) { return b, nil })
	if err != nil {
		return nil, err
	}
	list, err := entries(b, width)
	if err != nil {
		return nil, err
	}
	return list, checkLeaves(s.tree, from, list)
}

// entries are the first so many of a bundle.
func entries(b []byte, width int) ([][]byte, error) {
	list, err := tiles.SplitEntries(b)
	if err != nil {
		return nil, err
	}
	if len(list) < width {
		return nil, fmt.Errorf("the bundle has %d entries, want %d", len(list), width)
	}
	return list[:width], nil
}

// checkLeaves says whether entries are the leaves of a tree from a place on.
func checkLeaves(t *tree, from int64, list [][]byte) error {
	hashes, err := t.leaves(from, from+int64(len(list)))
	if err != nil {
		return err
	}
	for i, line := range list {
		if tlog.RecordHash(line) != hashes[i] {
			return fmt.Errorf("entry %d is not the one under the checkpoint", from+int64(i))
		}
	}
	return nil
}

// RecordLines are the canonical records of a block, sorted by peer ID.
func (s *Source) RecordLines(block int64) ([][]byte, error) {
	f, err := s.OpenRecords(block)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.hasNone(block)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := s.read(tiles.RecordsOf(block))
	if err != nil {
		return nil, err
	}
	return bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n")), nil
}

// hasNone says whether a block is one without records.
func (s *Source) hasNone(block int64) error {
	line, err := s.HeaderLines(block, block+1)
	if err != nil {
		return err
	}
	h, err := evidence.DecodeHeader(line[0])
	if err == nil && h.Records > 0 && s.remote != nil {
		return fmt.Errorf("the log at %s is damaged: %s is missing", s.remote.o.From, tiles.RecordsOf(block))
	}
	if err == nil && h.Records > 0 {
		err = fmt.Errorf("the mirror in %s is damaged: %s is missing: mirror the log anew, into another folder", s.dir, tiles.RecordsOf(block))
	}
	return err
}

// OpenRecords opens the file of a block's records.
func (s *Source) OpenRecords(block int64) (*os.File, error) {
	if block < 0 || block >= s.tree.N {
		return nil, fmt.Errorf("block %d: %w: the mirror has %d", block, fs.ErrNotExist, s.tree.N)
	}
	path := filepath.Join(s.dir, filepath.FromSlash(tiles.RecordsOf(block)))
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && s.remote != nil {
		if err = s.lacks(tiles.RecordsOf(block)); err == nil {
			f, err = os.Open(path)
		}
	}
	return f, err
}

// CheckpointOf is the checkpoint of a size, with all cosignatures that the mirror holds.
func (s *Source) CheckpointOf(size int64) ([]byte, error) { return s.read(tiles.CheckpointOf(size)) }

// CertificateOf is a certificate (DER), by its SHA-256 in hex.
func (s *Source) CertificateOf(sha256 string) ([]byte, error) {
	name := tiles.CertificateOf(sha256)
	if _, ok := tiles.ParseName(name); !ok {
		return nil, fmt.Errorf("certificate %q: its name is not a SHA-256 in hex", sha256)
	}
	der, err := s.read(name)
	if err == nil && evidence.SHA256Hex(der) != sha256 {
		err = fmt.Errorf("the mirror in %s is damaged: %s has another hash", s.dir, name)
	}
	return der, err
}

// Forks are what the mirror holds that convicts the log, see [evidence.NewFork].
func (s *Source) Forks() ([][]byte, error) {
	files, err := os.ReadDir(filepath.Join(s.dir, forksDir))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	var out [][]byte
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), forkSuffix) {
			continue
		}
		b, err := bounds.ReadFile(filepath.Join(s.dir, forksDir, f.Name()), 2*evidence.MaxCheckpointBytes+1)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

package decision

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

const originMark = "/decisions/"

// checkpointFile is where the last checkpoint is.
var checkpointFile = tiles.Name{Kind: tiles.LastCheckpoint}.String()

// Origin is the first line of the log's checkpoints, and the name of its key: that of the
// committee's key, and the network.
func Origin(committee string, n evidence.Network) (string, error) {
	if n != evidence.Lab && n != evidence.PSF {
		return "", fmt.Errorf("network %q: want %s or %s", n, evidence.Lab, evidence.PSF)
	}
	return committee + originMark + string(n), nil
}

// Key is the verifier key of the log that the committee with the verifier key committee
// keeps: the same key under the log's origin as its name.
func Key(committee string, n evidence.Network) (string, error) {
	name, _, _ := strings.Cut(committee, "+")
	origin, err := Origin(name, n)
	if err != nil {
		return "", err
	}
	key, err := evidence.NameKey(committee, origin)
	if err != nil {
		return "", fmt.Errorf("the committee's key: %w", err)
	}
	return key, nil
}

// Log is a log that was read and found good.
type Log struct {
	Origin  string
	Network evidence.Network
	// Checkpoint is the last one, with the cosignatures that were verified.
	Checkpoint evidence.Checkpoint

	key   string // verifier key
	raw   []byte // the checkpoint as it is in the folder
	lines [][]byte
	bytes int
	tree  *evidence.Tree
	book  *book
}

// Read verifies the log in a folder: the checkpoint's signature by the committee's key, and
// the cosignatures of the given witnesses where they are there; each entry, the root, every
// tile, every earlier checkpoint that is kept, and the rules that the package comment names.
// The folder may be a copy; somebody may write to it meanwhile. All faults are told, up to 20.
func Read(dir, committee string, witnesses ...string) (*Log, error) {
	raw, err := tiles.Read(dir, checkpointFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no log of decisions: %w", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the checkpoint: %w", err)
	}
	l, err := read(dir, raw, committee, witnesses)
	if err != nil {
		return nil, fmt.Errorf("the log of decisions in %s: %w", dir, err)
	}
	return l, nil
}

// read verifies what is in the folder under a checkpoint, which need not be the folder's.
func read(dir string, raw []byte, committee string, witnesses []string) (*Log, error) {
	l, err := open(raw, committee, witnesses)
	if err != nil {
		return nil, err
	}
	var f faults
	for l.tree.Size < l.Checkpoint.Size && len(f) < maxFaults {
		first := l.tree.Size
		lines, err := readEntries(dir, first/tiles.Width, int(min(l.Checkpoint.Size-first, tiles.Width)))
		if err != nil {
			return nil, errors.Join(append(f, err)...)
		}
		for i, line := range lines {
			if err := l.take(line); err != nil {
				f = append(f, fmt.Errorf("entry %d: %w", first+int64(i), err))
			}
		}
		if l.bytes > MaxBytes {
			return nil, fmt.Errorf("its entries have more than %d bytes, which are all that are read", MaxBytes)
		}
	}
	if len(f) >= maxFaults {
		return nil, errors.Join(append(f[:maxFaults], errors.New("it is read no further"))...)
	}
	root, err := l.tree.Root(l.tree.Size)
	if err != nil {
		return nil, err
	}
	if root != l.Checkpoint.Root {
		f.want(false, "its entries are not those that the committee signed: their root is %s, the checkpoint's %s", root, l.Checkpoint.Root)
	} else {
		l.checkFiles(dir, &f)
	}
	if len(f) > 0 {
		return nil, errors.Join(f...)
	}
	return l, nil
}

// maxFaults is how many faults are told.
const maxFaults = 20

// open verifies a checkpoint, and returns a log without entries.
func open(raw []byte, committee string, witnesses []string) (*Log, error) {
	origin, _, _ := strings.Cut(string(raw), "\n")
	name, _, _ := strings.Cut(committee, "+")
	of, network, ok := cutLast(origin, originMark)
	if !ok {
		return nil, fmt.Errorf("its checkpoint is of %.200q, which is no log of decisions", origin)
	}
	if of != name {
		return nil, fmt.Errorf("it is of the committee %.200q, not of %q", of, name)
	}
	l := &Log{Origin: origin, Network: evidence.Network(network), raw: raw, tree: evidence.NewTree()}
	var err error
	if l.key, err = Key(committee, l.Network); err != nil {
		return nil, err
	}
	v, err := evidence.LogVerifier(l.key)
	if err != nil {
		return nil, err
	}
	known, err := evidence.WitnessVerifiers(witnesses)
	if err != nil {
		return nil, err
	}
	if l.Checkpoint, err = evidence.OpenCheckpoint(raw, v, known...); err != nil {
		return nil, err
	}
	if l.Checkpoint.Size < 1 || l.Checkpoint.Size > MaxEntries {
		return nil, fmt.Errorf("its checkpoint is of %d entries, want 1 to %d", l.Checkpoint.Size, MaxEntries)
	}
	l.book = newBook(l.Network)
	return l, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// take adds an entry's bytes to the tree, and to the book what they say, if it is good.
func (l *Log) take(line []byte) error {
	index := l.tree.Size
	l.lines, l.bytes = append(l.lines, line), l.bytes+len(line)
	if err := l.tree.Add(tlog.RecordHash(line)); err != nil {
		return err
	}
	e, err := Decode(line)
	if err != nil {
		return err
	}
	if err := l.book.check(e); err != nil {
		return err
	}
	return l.book.enter(index, Hash(line), e)
}

// readEntries reads so many entries of a bundle. That may be full already, while the
// checkpoint is one of before.
func readEntries(dir string, index int64, width int) ([][]byte, error) {
	name := tiles.EntriesOf(index, width)
	raw, err := tiles.Read(dir, name)
	if errors.Is(err, fs.ErrNotExist) && width < tiles.Width {
		if full, fault := tiles.Read(dir, tiles.EntriesOf(index, tiles.Width)); fault == nil {
			raw, err = full, nil
		}
	}
	if err != nil {
		return nil, err
	}
	lines, err := tiles.SplitEntries(raw)
	if err == nil && len(lines) < width {
		err = fmt.Errorf("it has %d entries, want %d", len(lines), width)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return lines[:width], nil
}

// content is what a file of the log must hold; nil: that is not known.
func (l *Log) content(n tiles.Name) ([]byte, error) {
	switch n.Kind {
	case tiles.Tile:
		return tlog.ReadTileData(n.Tile(), l.tree)
	case tiles.Entries:
		first := n.Index * tiles.Width
		return tiles.JoinEntries(l.lines[first : first+int64(n.Width)])
	}
	return nil, nil
}

// checkFiles compares the tiles with what the entries make, and opens the checkpoints of
// before. Others read these files and nothing else. What is not under the checkpoint is
// somebody's who is writing, or was killed.
func (l *Log) checkFiles(dir string, f *faults) {
	size := l.Checkpoint.Size
	for _, t := range tlog.NewTiles(tiles.Height, 0, size) {
		full := t
		full.W = tiles.Width
		if !isThere(dir, tiles.TileOf(t)) && !isThere(dir, tiles.TileOf(full)) {
			f.want(false, "%s is missing", tiles.TileOf(t))
		}
	}
	root := os.DirFS(dir)
	for _, folder := range []string{"tile", "checkpoints"} {
		err := fs.WalkDir(root, folder, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
				return nil
			}
			if err != nil || len(*f) >= maxFaults {
				return err
			}
			n, ok := tiles.ParseName(path)
			if !ok || !n.Under(size) {
				return nil
			}
			l.checkFile(dir, n, f)
			return nil
		})
		f.want(err == nil, "%s: %w", folder, err)
	}
}

func isThere(dir, name string) bool {
	_, err := tiles.Read(dir, name)
	return err == nil
}

func (l *Log) checkFile(dir string, n tiles.Name, f *faults) {
	got, err := tiles.Read(dir, n.String())
	if errors.Is(err, fs.ErrNotExist) {
		return // a partial tile, of which the full one has come meanwhile
	}
	if err == nil && n.Kind == tiles.Checkpoint {
		if err := l.checkOlder(got, n.Index); err != nil {
			f.want(false, "%s: %w", n, err)
		}
		return
	}
	want, fault := l.content(n)
	if err = errors.Join(err, fault); err == nil && !bytes.Equal(got, want) {
		err = errors.New("it does not hold what the entries make")
	}
	f.want(err == nil, "%s: %w", n, err)
}

// checkOlder opens the checkpoint of an earlier size.
func (l *Log) checkOlder(raw []byte, size int64) error {
	v, err := evidence.LogVerifier(l.key)
	if err != nil {
		return err
	}
	c, err := evidence.OpenCheckpoint(raw, v)
	if err == nil && c.Size != size {
		err = fmt.Errorf("it is of %d entries", c.Size)
	}
	if err != nil {
		return err
	}
	return l.agrees(tlog.Tree{N: c.Size, Hash: c.Root})
}

// agrees says whether an older checkpoint of the log is one of this history.
func (l *Log) agrees(older tlog.Tree) error {
	root, err := l.tree.Root(older.N)
	if err == nil && root != older.Hash {
		err = fmt.Errorf("the log has forked: the root of %d entries is %s here, and %s was signed", older.N, root, older.Hash)
	}
	return err
}

// VerifierKey is the log's verifier key, for witnesses.
func (l *Log) VerifierKey() string { return l.key }

// Signed is the last checkpoint as it is in the folder: a signed note, with all cosignatures.
func (l *Log) Signed() []byte { return bytes.Clone(l.raw) }

// Consistency proves that the log's first old entries are under the last checkpoint, as
// witnesses want it proven (RFC 6962).
func (l *Log) Consistency(old int64) ([]evidence.Hash, error) {
	if old < 0 || old > l.Checkpoint.Size {
		return nil, fmt.Errorf("the log has %d entries: there is no proof from %d on", l.Checkpoint.Size, old)
	}
	if old == 0 || old == l.Checkpoint.Size {
		return nil, nil
	}
	return tlog.ProveTree(l.Checkpoint.Size, old, l.tree)
}

// Months is what the log says of each relay's month, in order.
func (l *Log) Months() []*Month { return l.book.list() }

// Month is what the log says of one; an empty one if it says nothing.
func (l *Log) Month(relay string, month evidence.Month) *Month {
	return l.book.find(place{month, relay})
}

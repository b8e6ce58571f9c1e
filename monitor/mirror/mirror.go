package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

// Options are what a mirror is told, and never takes from the log.
type Options struct {
	From      string   // an http or https URL, that of a bucket, or a folder
	Dir       string   // where the copy is
	Key       string   // verifier key of the log
	Witnesses []string // verifier keys of the witnesses; cosignatures by others are kept, unverified
	Agent     string   // how the mirror calls itself to a web server
	PerSecond float64  // requests a second at most; 0: 8
	// Progress is told how many of the log's blocks are held (nil: nobody asks).
	Progress func(held, size int64)

	// For tests.
	now    func() time.Time
	pause  time.Duration // before a file is asked for again
	within time.Duration // a small file comes in
	noRoom func(dir string) error
}

func (o Options) patience() time.Duration {
	if o.pause > 0 {
		return o.pause
	}
	return time.Second
}

func (o Options) timeout() time.Duration {
	if o.within > 0 {
		return o.within
	}
	return baseTimeout
}

// Report says what a look at the log came to.
type Report struct {
	Origin       string `json:"origin"`
	Size         int64  `json:"size"`   // blocks that are held now
	Blocks       int64  `json:"blocks"` // new ones
	Records      int64  `json:"records"`
	Certificates int64  `json:"certificates"`
	// Checkpoints were written: new ones, and those with new cosignatures.
	Checkpoints int64 `json:"checkpoints"`
}

// Mirror is a copy of another's log that can be brought up to date. One process at a time
// may have it open.
type Mirror struct {
	o      Options
	from   place
	folder *tiles.Folder
	held   tlog.Tree
	first  evidence.Hour     // of block 0, if anything is held
	tags   map[string]string // of checkpoints that were looked at: what the server calls them
	whole  bool              // the checkpoints that were held at the start were looked through
}

// New opens the copy, or begins one.
func New(o Options) (*Mirror, error) {
	if err := evidence.CheckKeys(o.Key, o.Witnesses...); err != nil {
		return nil, err
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.noRoom == nil {
		o.noRoom = noRoom
	}
	from, err := placeOf(o.From, o)
	if err != nil {
		return nil, err
	}
	f, err := tiles.OpenFolder(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	m := &Mirror{o: o, from: from, folder: f, tags: map[string]string{}}
	s, err := open(o.Dir, o.Key)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !IsMirror(o.Dir): // it is empty, or was begun
	case err != nil:
		return nil, errors.Join(fmt.Errorf("the copy in %s cannot be gone on with: %w", o.Dir, err), f.Close())
	default:
		m.held, m.first = s.tree.Tree, s.first
	}
	return m, nil
}

// Close lets go of the copy.
func (m *Mirror) Close() error { return errors.Join(m.folder.Close(), closePlace(m.from)) }

// ErrShrunk is wrapped when a log shows less than is held of it: it was put back to an
// older state, or something on the way shows an old copy. Nothing is given up.
var ErrShrunk = errors.New("the log shows less than this copy holds")

// Sync looks at the log once and brings the copy up to date. After an error, or a kill, the
// next Sync goes on; what was found good stays. A [*ForkError] says that the log has two
// histories.
func (m *Mirror) Sync(ctx context.Context) (Report, error) {
	r := Report{Origin: originOf(m.o.Key), Size: m.held.N}
	err := m.sync(ctx, &r)
	r.Size = m.held.N
	if err != nil {
		return r, fmt.Errorf("mirror %s: %w", m.o.From, err)
	}
	return r, nil
}

func (m *Mirror) sync(ctx context.Context, r *Report) error {
	raw, _, err := m.get(ctx, lastCheckpoint, "")
	if err != nil {
		return err
	}
	shown, last, err := evidence.ReadCheckpoint(raw, m.o.Key, m.o.Witnesses...)
	if err != nil {
		return fmt.Errorf("%s: %w", lastCheckpoint, err)
	}
	if hours := int64(evidence.HourOf(m.o.now())); shown.N == 0 || shown.N > hours {
		return fmt.Errorf("%s: it is of %d blocks, one an hour: want 1 to %d", lastCheckpoint, shown.N, hours)
	}
	if shown.N <= m.held.N {
		if err := m.notLonger(ctx, shown, last); err != nil {
			return err
		}
		return m.late(ctx, m.held.N, r)
	}
	t := newTree(shown, func(t tlog.Tile) ([]byte, error) { return m.tile(ctx, t) })
	if m.held.N > 0 {
		root, err := t.root(m.held.N)
		if err != nil {
			return fmt.Errorf("the log does not show that it goes on from %d blocks: %w", m.held.N, err)
		}
		if root != m.held.Hash {
			return m.forked(ctx, shown, last, t)
		}
	}
	// What the next headers tell of is here before they are.
	if err := m.late(ctx, m.held.N, r); err != nil {
		return err
	}
	for m.held.N < shown.N {
		if err := m.step(ctx, t, last, r); err != nil {
			return err
		}
	}
	return nil
}

var lastCheckpoint = tiles.Name{Kind: tiles.LastCheckpoint}.String()

// notLonger looks at a checkpoint of no more blocks than are held.
func (m *Mirror) notLonger(ctx context.Context, shown tlog.Tree, last []byte) error {
	own, err := open(m.o.Dir, m.o.Key)
	if err != nil {
		return err
	}
	root, err := own.tree.root(shown.N)
	switch {
	case err != nil:
		return err
	case root != shown.Hash:
		return m.forked(ctx, shown, last, nil)
	case shown.N < m.held.N:
		return fmt.Errorf("%w: its checkpoint is of %d blocks, %d are held. If its operator put a backup in place, the log must not go on from there", ErrShrunk, shown.N, m.held.N)
	}
	return nil
}

// get reads a small file of the log.
func (m *Mirror) get(ctx context.Context, name, tag string) (b []byte, newTag string, err error) {
	body, newTag, err := m.from.open(ctx, name, tag, limitOf(name))
	if err != nil {
		return nil, "", err
	}
	b, err = io.ReadAll(body)
	return b, newTag, errors.Join(err, body.Close())
}

// tile reads a tile; a partial one that is there no more is part of the full one.
func (m *Mirror) tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	b, err := m.wide(ctx, tiles.TileOf(t), tiles.TileOf(tlog.Tile{H: t.H, L: t.L, N: t.N, W: tiles.Width}))
	return b[:min(len(b), t.W*tlog.HashSize)], err
}

func (m *Mirror) wide(ctx context.Context, name, full string) ([]byte, error) {
	b, _, err := m.get(ctx, name, "")
	if errors.Is(err, fs.ErrNotExist) && full != name {
		b, _, err = m.get(ctx, full, "")
	}
	return b, err
}

// step takes over the blocks of one bundle, or of as many as it takes to come to a signed
// one; from then on they are held.
func (m *Mirror) step(ctx context.Context, t *tree, last []byte, r *Report) error {
	old := m.held.N
	base := old / tiles.Width * tiles.Width
	var lines [][]byte
	chain, err := m.chainFrom(base)
	if err != nil {
		return err
	}
	signed := int64(0)
	for signed == 0 {
		from := base + int64(len(lines))
		if from == t.N {
			return fmt.Errorf("the log's last block, %d, is not signed", t.N-1)
		}
		more, err := m.bundle(ctx, t, from/tiles.Width)
		if err != nil {
			return err
		}
		for i, line := range more {
			at := from + int64(i)
			h, err := chain.add(at, line)
			if err != nil {
				return err
			}
			if at < old {
				continue
			}
			if err := m.block(ctx, t, at, h, last, r); err != nil {
				return fmt.Errorf("block %d (%s): %w", at, h.Hour, err)
			}
			if h.Signed {
				signed = at + 1
			}
		}
		lines = append(lines, more...)
	}
	checkpoint, err := m.folder.Read(tiles.CheckpointOf(signed))
	if err != nil {
		return err
	}
	root, err := t.root(signed)
	if err != nil {
		return err
	}
	if err := m.folder.Publish(tiles.Step{Old: old, Size: signed, Hashes: t, Headers: lines[:signed-base], Checkpoint: checkpoint}); err != nil {
		return err
	}
	m.held, m.first = tlog.Tree{N: signed, Hash: root}, chain.first
	r.Blocks += signed - old
	if m.o.Progress != nil {
		m.o.Progress(signed, t.N)
	}
	return nil
}

// bundle reads the headers of one bundle, as far as the tree has them.
func (m *Mirror) bundle(ctx context.Context, t *tree, index int64) ([][]byte, error) {
	from := index * tiles.Width
	width := int(min(tiles.Width, t.N-from))
	name, full := tiles.EntriesOf(index, width), tiles.EntriesOf(index, tiles.Width)
	b, err := m.wide(ctx, name, full)
	if err != nil {
		return nil, err
	}
	list, err := entries(b, width)
	if err == nil {
		err = checkLeaves(t, from, list)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return list, nil
}

// chainFrom begins a chain after so many blocks that are held.
func (m *Mirror) chainFrom(size int64) (chain, error) {
	c := chain{first: m.first, now: m.o.now()}
	if size == 0 {
		return c, nil
	}
	own, err := open(m.o.Dir, m.o.Key)
	if err != nil {
		return c, err
	}
	leaf, err := own.tree.leaves(size-1, size)
	if err == nil {
		c.previous = leaf[0]
	}
	return c, err
}

// chain checks that headers follow each other.
type chain struct {
	first    evidence.Hour // of block 0
	now      time.Time
	previous tlog.Hash
}

func (c *chain) add(at int64, line []byte) (evidence.Header, error) {
	h, err := evidence.DecodeHeader(line)
	if err != nil {
		return h, fmt.Errorf("block %d: %w", at, err)
	}
	if at == 0 {
		c.first = h.Hour // and its previous is zero
	}
	switch {
	case h.Hour != c.first+evidence.Hour(at):
		return h, fmt.Errorf("block %d is of hour %s, want %s", at, h.Hour, c.first+evidence.Hour(at))
	case h.Previous != c.previous:
		return h, fmt.Errorf("block %d does not refer to the one before", at)
	case h.Hour == h.Hour.Month().End()-1 && !h.Signed:
		return h, fmt.Errorf("block %d is the last of %s, and is not signed", at, h.Hour.Month())
	case h.Hour.Start().After(c.now.Add(ahead)):
		return h, fmt.Errorf("block %d is of %s: the log is ahead of the time", at, h.Hour)
	}
	c.previous = tlog.RecordHash(line)
	return h, nil
}

// ahead is how far another's clock may be ahead of this one.
const ahead = 24 * time.Hour

// block takes over what belongs to a block: records, certificates, and, if it is signed,
// the checkpoint. What is there already, from before a kill, is checked again.
func (m *Mirror) block(ctx context.Context, t *tree, at int64, h evidence.Header, last []byte, r *Report) error {
	if err := cmp.Or(context.Cause(ctx), m.o.noRoom(m.o.Dir)); err != nil {
		return err
	}
	if h.Records > 0 {
		if err := m.records(ctx, at, h, r); err != nil {
			return err
		}
	}
	if !h.Signed {
		return nil
	}
	root, err := t.root(at + 1)
	if err != nil {
		return err
	}
	if at+1 != t.N {
		last = nil
	}
	return m.checkpoint(ctx, tlog.Tree{N: at + 1, Hash: root}, last, r)
}

func (m *Mirror) records(ctx context.Context, at int64, h evidence.Header, r *Report) error {
	name := tiles.RecordsOf(at)
	if m.folder.Has(name) {
		if err := m.checkRecords(name, h); err != nil {
			if err := m.folder.Remove(name); err != nil { // it is of no use to anybody
				return err
			}
		}
	}
	if !m.folder.Has(name) {
		if err := m.fetchRecords(ctx, name, h); err != nil {
			return err
		}
		r.Records++
	}
	f, err := os.Open(m.folder.Path(name))
	if err != nil {
		return err
	}
	defer f.Close()
	return tiles.EachCertificate(f, h.Hour, m.hasCertificate, func(c evidence.Certificate) error {
		return m.certificate(ctx, c, r)
	})
}

func (m *Mirror) checkRecords(name string, h evidence.Header) error {
	f, err := os.Open(m.folder.Path(name))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, checked(f, h))
	return err
}

func (m *Mirror) fetchRecords(ctx context.Context, name string, h evidence.Header) error {
	body, _, err := m.from.open(ctx, name, "", min(tiles.MaxBlockBytes, h.Records*(evidence.MaxRecordBytes+1)))
	if err != nil {
		return err
	}
	err = m.folder.CreateFrom(name, checked(roomy{body, m}, h))
	return errors.Join(err, body.Close())
}

// roomy reads on while there is room for what is read.
type roomy struct {
	io.Reader
	m *Mirror
}

func (r roomy) Read(p []byte) (int, error) {
	if err := r.m.o.noRoom(r.m.o.Dir); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// checked passes the records of a block on, and fails in the end if they are not those
// that the header is of.
func checked(r io.Reader, h evidence.Header) io.Reader {
	return &checkedRecords{r, evidence.NewBlockCheck(h)}
}

type checkedRecords struct {
	r     io.Reader
	check *evidence.BlockCheck
}

func (c *checkedRecords) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if _, bad := c.check.Write(p[:n]); bad != nil {
		return 0, bad
	}
	if errors.Is(err, io.EOF) {
		if bad := c.check.End(); bad != nil {
			return 0, bad
		}
	}
	return n, err
}

// hasCertificate says whether a certificate was found good by this process, or before
// under its name, which is its hash.
func (m *Mirror) hasCertificate(sha string) bool { return m.folder.Has(tiles.CertificateOf(sha)) }

func (m *Mirror) certificate(ctx context.Context, c evidence.Certificate, r *Report) error {
	name := tiles.CertificateOf(c.SHA256)
	if _, ok := tiles.ParseName(name); !ok {
		return fmt.Errorf("certificate %.80q: its name is not a SHA-256 in hex", c.SHA256)
	}
	if err := m.o.noRoom(m.o.Dir); err != nil {
		return err
	}
	der, _, err := m.get(ctx, name, "")
	if err != nil {
		return err
	}
	if err := evidence.CheckCertificate(c, der); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	r.Certificates++
	return m.folder.Create(name, der)
}

// checkpoint takes over the checkpoint of a tree, together with another copy of it (nil:
// none), and adds what cosignatures there are to those that are held.
func (m *Mirror) checkpoint(ctx context.Context, want tlog.Tree, other []byte, r *Report) error {
	name := tiles.CheckpointOf(want.N)
	raw, tag, err := m.get(ctx, name, m.tags[name])
	if errors.Is(err, errSame) {
		return nil
	}
	if err != nil {
		return err
	}
	shown, merged, err := evidence.ReadCheckpoint(raw, m.o.Key, m.o.Witnesses...)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if shown.N != want.N {
		return fmt.Errorf("%s: it is of size %d", name, shown.N)
	}
	if shown.Hash != want.Hash {
		return m.convict(shown, merged, other)
	}
	if other != nil {
		if _, merged, err = evidence.MergeCheckpoints(merged, other, m.o.Key, m.o.Witnesses...); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	switch held, err := m.folder.Read(name); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		// One that is not under the copy's last checkpoint yet, from before a kill or an
		// error, may be of another tree.
		_, both, err := evidence.MergeCheckpoints(held, merged, m.o.Key, m.o.Witnesses...)
		if errors.Is(err, evidence.ErrOtherTree) {
			return m.convict(shown, merged, held)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		merged = both
	}
	written, err := m.folder.Replace(name, merged)
	if err != nil {
		return err
	}
	if written {
		r.Checkpoints++
	}
	m.tags[name] = tag
	return nil
}

// lateBlocks is of how many blocks the checkpoints are looked at again: cosignatures may
// have come in since.
const lateBlocks = 48

// late looks again at the last checkpoints among the first so many blocks, which were held
// before.
func (m *Mirror) late(ctx context.Context, blocks int64, r *Report) error {
	if m.held.N == 0 {
		return nil
	}
	own, err := open(m.o.Dir, m.o.Key)
	if err != nil {
		return err
	}
	from := max(0, blocks-lateBlocks)
	list, err := own.HeaderLines(from, blocks)
	if err != nil {
		return err
	}
	for i, line := range list {
		h, err := evidence.DecodeHeader(line)
		if err != nil {
			return err
		}
		if !h.Signed {
			continue
		}
		if err := m.again(ctx, own, from+int64(i)+1, r); err != nil {
			return err
		}
	}
	if !m.whole {
		for at := int64(0); at < from; at += tiles.Width {
			if err := m.lacking(ctx, own, at, min(at+tiles.Width, from), r); err != nil {
				return err
			}
		}
		m.whole = true
	}
	maps.DeleteFunc(m.tags, func(name, _ string) bool { return name < tiles.CheckpointOf(m.held.N-lateBlocks) })
	last, err := m.folder.Read(tiles.CheckpointOf(m.held.N))
	if err == nil {
		_, err = m.folder.Replace(lastCheckpoint, last)
	}
	return err
}

// again looks again at a checkpoint that is held.
func (m *Mirror) again(ctx context.Context, own *Source, size int64, r *Report) error {
	root, err := own.tree.root(size)
	if err != nil {
		return err
	}
	return m.checkpoint(ctx, tlog.Tree{N: size, Hash: root}, nil, r)
}

// lacking looks again at those checkpoints under some of the blocks that lack cosignatures
// of which these blocks tell: whoever showed them first has left some out, or put others in
// their place.
func (m *Mirror) lacking(ctx context.Context, own *Source, from, to int64, r *Report) error {
	list, err := own.HeaderLines(from, to)
	if err != nil {
		return err
	}
	for i, line := range list {
		h, err := evidence.DecodeHeader(line)
		if err != nil {
			return err
		}
		size := from + int64(i) // of the blocks before this one
		if len(h.Cosigned) == 0 || size == 0 {
			continue
		}
		held, err := m.folder.Read(tiles.CheckpointOf(size))
		if err != nil {
			return err
		}
		has, err := evidence.HasHeld(held, h.Cosigned, m.o.Key, m.o.Witnesses...)
		if err != nil {
			return err
		}
		if !has {
			if err := m.again(ctx, own, size, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// spare is how many bytes of the file system a mirror leaves to others.
const spare = 256 << 20

func noRoom(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("room in %s: %w", dir, err)
	}
	if free := int64(min(fs.Bavail, 1<<40)) * fs.Bsize; free < spare {
		return fmt.Errorf("less than %d MB are free on the file system of %s: make room, and the mirror goes on", spare>>20, dir)
	}
	return nil
}

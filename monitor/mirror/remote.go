package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/bucket"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

// bucketPlace is a log in a bucket.
type bucketPlace struct{ *bucket.Bucket }

func (p bucketPlace) open(ctx context.Context, name, _ string, limit int64) (io.ReadCloser, string, error) {
	r, err := p.Get(ctx, name, limit)
	return r, "", err
}

// inBucket is the bucket that an address means.
func inBucket(from string, o Options) (place, error) {
	if err := bucket.Check(from); err != nil {
		return nil, fmt.Errorf("mirror: %w: %w", ErrFrom, err)
	}
	perSecond := o.PerSecond
	if perSecond <= 0 {
		perSecond = defaultPerSecond
	}
	b, err := bucket.Open(context.Background(), from, bucket.Options{PerSecond: perSecond, Pause: o.patience(), Within: o.timeout()})
	if err != nil {
		return nil, err
	}
	return bucketPlace{b}, nil
}

// Remote reads a log where it is, and only what is asked for; a mirror reads all. What was
// read is kept in a folder and asked for no more: so the log stays as it was when it was
// opened.
type Remote struct {
	ctx  context.Context // of all that is asked for
	o    Options
	from place
}

// OpenRemote opens the log at o.From, of which o.Dir keeps what is read: a folder of its
// own, which may be removed afterwards. Keys are named later ([Remote.Open]).
func OpenRemote(ctx context.Context, o Options) (*Remote, error) {
	if o.noRoom == nil {
		o.noRoom = noRoom
	}
	from, err := placeOf(o.From, o)
	if err != nil {
		return nil, err
	}
	r := &Remote{ctx, o, from}
	if !IsMirror(o.Dir) {
		err = r.fetch(lastCheckpoint, limitOf(lastCheckpoint), nil)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Close ends the use of the log, and of what was opened of it.
func (r *Remote) Close() error { return closePlace(r.from) }

func closePlace(p place) error {
	if c, ok := p.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Origin is the one that the log's checkpoint names, unverified: it tells whose key is
// needed to open it.
func (r *Remote) Origin() (string, error) { return OriginIn(r.o.Dir) }

// Open opens the log with its verifier key. All that is read of it is verified.
func (r *Remote) Open(key string) (*Source, error) {
	s, err := (&Source{dir: r.o.Dir, key: key, origin: originOf(key), remote: r}).begin()
	if err != nil {
		return nil, fmt.Errorf("read the log at %s: %w", r.o.From, err)
	}
	return s, nil
}

// fetch brings a file of the log into the folder; check (nil: what reads the file checks it)
// passes its content on, or fails.
func (r *Remote) fetch(name string, limit int64, check func(io.Reader) io.Reader) error {
	if err := r.o.noRoom(existing(r.o.Dir)); err != nil {
		return err
	}
	body, _, err := r.from.open(r.ctx, name, "", limit)
	if err != nil {
		return err
	}
	var content io.Reader = body
	if check != nil {
		content = check(content)
	}
	path := filepath.Join(r.o.Dir, filepath.FromSlash(name))
	if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
		err = durable.CreateFrom(path, content, 0o644)
	}
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return errors.Join(err, body.Close())
}

// existing is the folder, or the first above it that is there.
func existing(dir string) string {
	for !isThere(dir) && filepath.Dir(dir) != dir {
		dir = filepath.Dir(dir)
	}
	return dir
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// lacks brings in what a source has not read before.
func (s *Source) lacks(name string) error {
	n, ok := tiles.ParseName(name)
	if !ok {
		return fmt.Errorf("%q is no file of a log", name)
	}
	switch n.Kind {
	case tiles.Records:
		line, err := s.HeaderLines(n.Index, n.Index+1)
		if err != nil {
			return err
		}
		h, err := evidence.DecodeHeader(line[0])
		if err != nil {
			return err
		}
		if h.Records == 0 {
			return fs.ErrNotExist
		}
		limit := min(n.Limit(), h.Records*(evidence.MaxRecordBytes+1))
		return s.remote.fetch(name, limit, func(r io.Reader) io.Reader { return checked(r, h) })
	case tiles.Checkpoint:
		if err := s.remote.fetch(name, n.Limit(), nil); err != nil {
			return err
		}
		if err := s.checkSigned(n.Index); err != nil {
			return errors.Join(err, os.Remove(filepath.Join(s.dir, filepath.FromSlash(name)))) // or it would be taken the next time
		}
		return nil
	}
	return s.remote.fetch(name, n.Limit(), nil)
}

// checkSigned says whether a checkpoint is of the tree that the log shows.
func (s *Source) checkSigned(size int64) error {
	name := tiles.CheckpointOf(size)
	raw, err := readFile(s.dir, name)
	if err != nil {
		return err
	}
	shown, _, err := evidence.ReadCheckpoint(raw, s.key)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if shown.N != size {
		return fmt.Errorf("%s: it is of size %d", name, shown.N)
	}
	root, err := s.tree.root(size)
	if err == nil && root != shown.Hash {
		err = fmt.Errorf("%s: it is of another history than the last checkpoint: \"relaymon mirror\" keeps what proves it", name)
	}
	return err
}

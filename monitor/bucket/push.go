package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

// Pushed says what a push has done.
type Pushed struct {
	tiles.Exported
	Written int64 `json:"written"` // objects, of any kind; of a folder they are not counted
}

// ErrAll is returned when all of a folder is to be gone through.
var ErrAll = errors.New("a folder is not repaired: export into a new one, and put it in its place")

// Push brings the bucket to where the log is. It may be killed at any moment and goes on
// from there the next time. What the bucket has is seen by its checkpoint, which goes last
// and never backwards: [tiles.ErrNotThisLog]. If all is set, all that the log has is
// compared with what is there, and what is missing or differs is written anew.
func (b *Bucket) Push(ctx context.Context, src tiles.Source, all bool, progress func(done, size int64)) (out Pushed, err error) {
	if b.blob == nil {
		if all {
			return out, ErrAll
		}
		out.Exported, err = tiles.Export(ctx, src, b.dir, progress)
		return out, err
	}
	if all {
		b.forget(nil)
	}
	b.written = 0
	out.Exported, err = tiles.ExportTo(ctx, src, &target{b, all}, all, progress)
	out.Written = b.written
	if err != nil {
		err = fmt.Errorf("push to %s: %w", b.address, err)
	}
	return out, err
}

// forget drops what is known of the bucket: its checkpoint is another one.
func (b *Bucket) forget(last []byte) {
	b.last = last
	b.known.Purge()
	b.signed.Purge()
}

// target is the bucket while a log is pushed.
type target struct {
	b   *Bucket
	all bool
}

var lastCheckpoint = tiles.Name{Kind: tiles.LastCheckpoint}.String()

// Read implements [tiles.Target].
func (t *target) Read(ctx context.Context, name string) ([]byte, error) {
	if data, ok := t.b.signed.Get(name); ok {
		return data, nil
	}
	n, ok := tiles.ParseName(name)
	if !ok {
		return nil, fmt.Errorf("%q is no file of a log", name)
	}
	r, err := t.b.Get(ctx, name, n.Limit())
	if errors.Is(err, errOurs) && n.Kind == tiles.LastCheckpoint {
		return nil, fmt.Errorf("its checkpoint is none, and %w: %w", tiles.ErrNotThisLog, err)
	}
	var data []byte
	switch {
	case err == nil:
		if data, err = io.ReadAll(r); err != nil {
			return nil, err
		}
	case t.all && n.Kind == tiles.Checkpoint && errors.Is(err, errOurs):
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err) // what is there is of no use
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if n.Kind == tiles.LastCheckpoint {
		if !bytes.Equal(data, t.b.last) {
			t.b.forget(data)
		}
	} else if err == nil {
		t.b.signed.Add(name, data)
	}
	return data, err
}

// Has implements [tiles.Target].
func (t *target) Has(ctx context.Context, name string) (there bool, err error) {
	if t.b.known.Contains(name) || t.all {
		return t.b.known.Contains(name), nil
	}
	err = t.b.try(ctx, name, 0, func(ctx context.Context) (err error) {
		there, err = t.b.blob.Exists(ctx, name)
		return err
	})
	if there {
		t.b.known.Add(name, struct{}{})
	}
	return there, err
}

// Create implements [tiles.Target].
func (t *target) Create(ctx context.Context, name string, open func() (io.ReadCloser, error)) error {
	if t.b.known.Contains(name) {
		return nil
	}
	if err := t.b.put(ctx, t.object(name, open)); err != nil {
		return err
	}
	t.b.known.Add(name, struct{}{})
	return nil
}

func (t *target) object(name string, open func() (io.ReadCloser, error)) object {
	n, _ := tiles.ParseName(name)
	return object{name: name, mediaType: n.MediaType(), cache: n.CacheControl(), open: open}
}

// Replace implements [tiles.Target]. The last checkpoint is written over the one only that
// was seen when the push began.
func (t *target) Replace(ctx context.Context, name string, data []byte) (bool, error) {
	seen := t.b.last
	old, err := t.Read(ctx, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err == nil && bytes.Equal(old, data) {
		return false, nil
	}
	if name == lastCheckpoint && !bytes.Equal(old, seen) {
		return false, errors.New("its checkpoint was changed by somebody else in the meantime: let one process at a time push to it")
	}
	o := t.object(name, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
	if err := o.measure(); err != nil {
		return false, err
	}
	if err := t.b.send(ctx, o); err != nil {
		return false, err
	}
	if name == lastCheckpoint {
		t.b.last = data
	} else {
		t.b.signed.Add(name, data)
	}
	return true, nil
}

// Tidy implements [tiles.Target]: a bucket keeps partial tiles, for it takes no right to
// remove anything to fill one.
func (t *target) Tidy(string) error { return nil }

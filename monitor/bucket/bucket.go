package bucket

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // what stores name an object's content by
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"
	"time"

	"github.com/googleapis/gax-go/v2"
	lru "github.com/hashicorp/golang-lru/v2"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
	"golang.org/x/time/rate"

	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

// Options say how a store is used.
type Options struct {
	PerSecond float64 // requests a second at most; 0: 16

	// For tests.
	Pause  time.Duration // the longest first pause before an object is asked for again
	Within time.Duration // a small object goes or comes
}

const (
	defaultPerSecond = 16
	// An object goes or comes within baseTimeout and what its size takes at slowest bytes a
	// second.
	baseTimeout = time.Minute
	slowest     = 64 << 10
	// tries is how often an object is tried, beside what the provider's library does.
	tries        = 6
	firstPause   = time.Second
	longestPause = 30 * time.Second
	// small is what is kept in memory as a whole.
	small = 1 << 20
	// partBytes is how much of a large object is in memory while it is sent.
	partBytes = 8 << 20
)

// Bucket is a store in use. It is safe for concurrent use, but for Push.
type Bucket struct {
	blob    *blob.Bucket // nil: it is a folder
	dir     string
	address string
	o       Options
	pace    *rate.Limiter

	// What this process knows of the bucket, as long as the checkpoint in it is the last one:
	// objects that are there, and late checkpoints as they are there.
	last    []byte
	known   *lru.Cache[string, struct{}]
	signed  *lru.Cache[string, []byte]
	written int64
}

// Bounds of what a process remembers of a bucket.
const (
	mostKnown  = 1 << 14
	mostSigned = 512 // more than an export looks at again, and than it writes in a step
)

// Open prepares the use of the store with an address that [Check] takes; nobody is asked
// for an object yet.
func Open(ctx context.Context, address string, o Options) (*Bucket, error) {
	a, err := parse(address)
	if err != nil {
		return nil, fmt.Errorf("bucket: %w", err)
	}
	if o.PerSecond <= 0 {
		o.PerSecond = defaultPerSecond
	}
	if o.Pause <= 0 {
		o.Pause = firstPause
	}
	if o.Within <= 0 {
		o.Within = baseTimeout
	}
	b := &Bucket{address: address, o: o, pace: rate.NewLimiter(rate.Limit(o.PerSecond), 1)}
	if dir, ok := Folder(address); ok {
		b.dir = dir
		return b, nil
	}
	if b.known, err = lru.New[string, struct{}](mostKnown); err == nil {
		b.signed, err = lru.New[string, []byte](mostSigned)
	}
	if err == nil {
		b.blob, err = connect(ctx, a)
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", address, clean("", err))
	}
	return b, nil
}

// Close ends the use of the store.
func (b *Bucket) Close() error {
	if b.blob == nil {
		return nil
	}
	return b.blob.Close()
}

// String is the bucket's address, which holds no secrets.
func (b *Bucket) String() string { return b.address }

// try makes an attempt at an object of so many bytes, and again if it may go better then.
func (b *Bucket) try(ctx context.Context, name string, size int64, do func(context.Context) error) error {
	pause := gax.Backoff{Initial: b.o.Pause, Max: longestPause, Multiplier: 2}
	for try := 1; ; try++ {
		if err := b.pace.Wait(ctx); err != nil {
			return err
		}
		within, cancel := context.WithTimeoutCause(ctx, b.o.Within+time.Duration(size/slowest)*time.Second, errSlow)
		err := do(within)
		if err != nil && errors.Is(context.Cause(within), errSlow) {
			err = errors.Join(errSlow, err)
		}
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !mayGo(err) || try == tries:
			return clean(name, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause.Pause()):
		}
	}
}

var errSlow = errors.New("it goes too slowly")

// errOurs is wrapped by what another attempt does not mend: a fault of this side, or an
// object that is not as it may be.
var errOurs = errors.New("")

func mayGo(err error) bool {
	if errors.Is(err, errOurs) {
		return false
	}
	switch gcerrors.Code(err) {
	case gcerrors.NotFound, gcerrors.PermissionDenied, gcerrors.InvalidArgument, gcerrors.Unimplemented, gcerrors.FailedPrecondition:
		return false
	}
	return true
}

// fault is an error of a store in words that may be shown: without what stands behind a URL,
// which may be a secret.
type fault struct {
	text string
	err  error
}

func (f *fault) Error() string { return f.text }
func (f *fault) Unwrap() error { return f.err }

var behindURL = regexp.MustCompile(`\?[^\s"']*`)

// maxFault is how much of a store's error is shown.
const maxFault = 600

func clean(name string, err error) error {
	if f := (*fault)(nil); errors.As(err, &f) {
		return err
	}
	text := strings.Join(strings.Fields(behindURL.ReplaceAllString(err.Error(), "?...")), " ")
	if len(text) > maxFault {
		text = strings.ToValidUTF8(text[:maxFault], "") + "..."
	}
	if name != "" {
		text = name + ": " + text
	}
	if gcerrors.Code(err) == gcerrors.PermissionDenied {
		text += " (the key needs the rights to read, write and list: without the last one a store may call forbidden what is not there)"
	}
	return &fault{text, err}
}

// Get opens an object, of which no more than so many bytes are read; fs.ErrNotExist if it
// is not there.
func (b *Bucket) Get(ctx context.Context, name string, limit int64) (io.ReadCloser, error) {
	if limit > small {
		return b.stream(ctx, name, limit)
	}
	var data []byte
	err := b.try(ctx, name, limit, func(ctx context.Context) error {
		r, err := b.reader(ctx, name, limit)
		if err != nil {
			return err
		}
		defer r.Close()
		if data, err = io.ReadAll(io.LimitReader(r, limit+1)); err == nil && int64(len(data)) > limit {
			err = tooLong(limit)
		}
		return err
	})
	if err != nil {
		return nil, absent(name, err)
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// reader opens an object, unless it says itself that it is too long.
func (b *Bucket) reader(ctx context.Context, name string, limit int64) (*blob.Reader, error) {
	r, err := b.blob.NewReader(ctx, name, nil)
	if err != nil {
		return nil, err
	}
	if r.Size() > limit {
		return nil, errors.Join(tooLong(limit), r.Close())
	}
	return r, nil
}

func tooLong(limit int64) error {
	return fmt.Errorf("%wthe bucket offers more than %d bytes", errOurs, limit)
}

func absent(name string, err error) error {
	if gcerrors.Code(err) == gcerrors.NotFound {
		return fmt.Errorf("%w (%w)", fs.ErrNotExist, err)
	}
	return err
}

// stream opens a large object. What breaks off in its midst is not gone on with.
func (b *Bucket) stream(ctx context.Context, name string, limit int64) (io.ReadCloser, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.o.Within+time.Duration(limit/slowest)*time.Second, errSlow)
	var r *blob.Reader
	err := b.try(ctx, name, limit, func(context.Context) (err error) {
		r, err = b.reader(ctx, name, limit)
		return err
	})
	if err != nil {
		cancel()
		return nil, absent(name, err)
	}
	return &stream{r, name, limit, cancel}, nil
}

type stream struct {
	r      *blob.Reader
	name   string
	left   int64
	cancel func()
}

// Read implements [io.Reader].
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.left -= int64(n); s.left < 0 {
		return 0, fmt.Errorf("%s: the bucket has more bytes than it may have", s.name)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = clean(s.name, err)
	}
	return n, err
}

// Close implements [io.Closer].
func (s *stream) Close() error {
	defer s.cancel()
	return s.r.Close()
}

// object is what is to be in the bucket.
type object struct {
	name, mediaType, cache string
	open                   func() (io.ReadCloser, error)
	size                   int64
	md5                    []byte
}

// measure reads what is to be sent once, to tell whether it is there.
func (o *object) measure() error {
	r, err := o.open()
	if err != nil {
		return err
	}
	sum := md5.New()
	o.size, err = io.Copy(sum, r)
	o.md5 = sum.Sum(nil)
	return errors.Join(err, r.Close())
}

// put sends an object, unless the bucket has the same.
func (b *Bucket) put(ctx context.Context, o object) error {
	if err := o.measure(); err != nil {
		return fmt.Errorf("%s: %w", o.name, err)
	}
	same, err := b.same(ctx, o)
	if err != nil || same {
		return err
	}
	return b.send(ctx, o)
}

// same says whether the bucket has the object as it is to be. Where the bucket names no sum
// of it, or one of another kind, the object is read.
func (b *Bucket) same(ctx context.Context, o object) (same bool, err error) {
	err = b.try(ctx, o.name, o.size, func(ctx context.Context) error {
		there, err := b.blob.Attributes(ctx, o.name)
		if gcerrors.Code(err) == gcerrors.NotFound {
			same = false
			return nil
		}
		if err != nil || there.Size != o.size {
			same = false
			return err
		}
		if same = bytes.Equal(there.MD5, o.md5); same {
			return nil
		}
		r, err := b.blob.NewReader(ctx, o.name, nil)
		if err != nil {
			return err
		}
		defer r.Close()
		sum := md5.New()
		_, err = io.Copy(sum, io.LimitReader(r, o.size+1))
		same = bytes.Equal(sum.Sum(nil), o.md5)
		return err
	})
	return same, err
}

func (b *Bucket) send(ctx context.Context, o object) error {
	err := b.try(ctx, o.name, o.size, func(ctx context.Context) error {
		r, err := o.open()
		if err != nil {
			return fmt.Errorf("%w%w", errOurs, err)
		}
		defer r.Close()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		w, err := b.blob.NewWriter(ctx, o.name, &blob.WriterOptions{
			ContentType: o.mediaType, CacheControl: o.cache, ContentMD5: o.md5, BufferSize: partBytes, MaxConcurrency: 1,
		})
		if err != nil {
			return err
		}
		if _, err = io.Copy(w, r); err != nil {
			cancel() // or what came so far would be kept
			return errors.Join(err, w.Close())
		}
		return w.Close()
	})
	if err == nil {
		b.written++
	}
	return err
}

// PutBundle puts a month's bundle into the bucket, under bundles/<month>/. A final one may
// be kept by others for ever.
func (b *Bucket) PutBundle(ctx context.Context, month, file string, data []byte, final bool) error {
	name := "bundles/" + month + "/" + file
	if b.blob == nil {
		f, err := tiles.OpenFolder(b.dir)
		if err != nil {
			return err
		}
		return errors.Join(f.Keep(name, data), f.Close())
	}
	cache := "no-cache"
	if final {
		cache = "public, max-age=31536000, immutable"
	}
	return b.put(ctx, object{name: name, mediaType: "application/zip", cache: cache, open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}})
}

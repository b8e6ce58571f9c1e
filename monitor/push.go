package monitor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bucket"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
	"github.com/psf-relay/relay-appliance/monitor/web"
)

// bucketBehindAfter is how long a bucket may lack sealed hours before somebody is told. An
// hour's cosignatures come in within the next one.
const bucketBehindAfter = 3 * time.Hour

// pushing is what is known of the bucket that the log is pushed to.
type pushing struct {
	turn  sync.Mutex     // held by who uses the bucket: the log's push, or a bundle's
	store *bucket.Bucket // under turn; nil: not open yet

	mu      sync.Mutex
	size    int64 // hours that the bucket shows; -1: it was not asked yet
	tried   bool
	whole   time.Time // when it had all that there was; at first when the program began
	err     error     // of the last push; nil: none
	refused bool      // it shows something else than this log
}

// push brings the bucket to where the log is. What goes wrong is tried again by the next
// one; probes and seals do not wait for it.
func (m *Monitor) push(ctx context.Context, now time.Time) {
	if m.cfg.Publish.Bucket == "" || ctx.Err() != nil {
		return
	}
	p := &m.pushing
	err := m.pushOnce(ctx)
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if before := p.err; err != nil && (before == nil || before.Error() != err.Error()) {
		m.log.Error("the log is not pushed to its bucket", "err", err)
	} else if err == nil && before != nil {
		m.log.Info("the log is pushed to its bucket again")
	}
	p.tried, p.err, p.refused = true, err, errors.Is(err, tiles.ErrNotThisLog)
	if err == nil {
		p.whole = now
	}
}

func (m *Monitor) pushOnce(ctx context.Context) error {
	p := &m.pushing
	p.turn.Lock()
	defer p.turn.Unlock()
	b, err := m.openBucket(ctx)
	if err != nil {
		return err
	}
	out, err := b.Push(ctx, m.store, false, func(done, _ int64) { p.shows(done) })
	if err == nil {
		p.shows(out.Size)
	}
	return err
}

// openBucket opens the bucket, once. The caller holds the turn.
func (m *Monitor) openBucket(ctx context.Context) (b *bucket.Bucket, err error) {
	if m.pushing.store == nil {
		if b, err = bucket.Open(ctx, m.cfg.Publish.Bucket, bucket.Options{}); err != nil {
			return nil, err
		}
		m.pushing.store = b
	}
	return m.pushing.store, nil
}

func (p *pushing) shows(size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size = size
}

// bucketUnsure says of both alerts about the bucket whether it cannot be told now that they
// are over: since the start no push has come to its end, or the last one failed.
func (m *Monitor) bucketUnsure() (refused, behind bool) {
	if m.cfg.Publish.Bucket == "" {
		return false, false
	}
	p := &m.pushing
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.tried || p.err != nil && !p.refused, !p.tried || p.err != nil
}

// addBucket says how the bucket stands.
func (m *Monitor) addBucket(o *web.Overview) {
	if m.cfg.Publish.Bucket == "" {
		return
	}
	p := &m.pushing
	p.mu.Lock()
	defer p.mu.Unlock()
	b := &web.Bucket{Address: m.cfg.Publish.Bucket, Known: p.size >= 0, Size: max(p.size, 0)}
	b.Behind = max(m.store.Size()-b.Size, 0)
	if p.err != nil {
		b.Error = p.err.Error()
	} else if p.tried {
		b.At = evidence.TimeOf(p.whole)
	}
	o.Bucket = b
}

// bucketProblem is what is to be told of the bucket; empty: nothing.
func (m *Monitor) bucketProblem(now time.Time) (refused bool, words string) {
	if m.cfg.Publish.Bucket == "" {
		return false, ""
	}
	p := &m.pushing
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.refused:
		return true, p.err.Error()
	case now.Sub(p.whole) < bucketBehindAfter:
		return false, ""
	case p.err != nil:
		return false, fmt.Sprintf("the bucket has not had the whole log since %s: %v", p.whole.UTC().Format(time.RFC3339), p.err)
	}
	return false, fmt.Sprintf("the bucket has not had the whole log since %s: it shows %d of %d hours", p.whole.UTC().Format(time.RFC3339), max(p.size, 0), m.store.Size())
}

// PushLog brings a bucket to where the log is; see [bucket.Bucket.Push]. A monitor may be
// running with the log.
func PushLog(ctx context.Context, cfg Config, address string, all bool, progress func(done, size int64)) (out bucket.Pushed, err error) {
	b, err := bucket.Open(ctx, address, bucket.Options{})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	l, err := openForReading(cfg)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	return b.Push(ctx, l, all, progress)
}

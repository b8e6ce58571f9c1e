package monitor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/internal/durable"
)

// Witnesses of the world take a log in on the word of how often it asks, and may
// shut out one that asks more. A log of ours asks once an hour.
const (
	maxRequests = 24
	quotaSpan   = 24 * time.Hour
	// After an answer that is no cosignature such a witness is asked again in
	// worldPause; that doubles up to worldRest, after which there is a new checkpoint
	// in any case.
	worldPause = 15 * time.Minute
	worldRest  = time.Hour
)

// quota remembers, also beyond a start, when each witness of the world was asked, and
// what it cosigned last.
type quota struct {
	path string
	log  *slog.Logger
	mu   sync.Mutex
	by   map[string]*used // by the witness's key
}

type used struct {
	Size int64       `json:"size"` // what it cosigned last, as far as is known
	At   []time.Time `json:"asked"`
}

// spentError says that a witness was asked as often as a log may ask.
type spentError struct{ until time.Time }

func (e *spentError) Error() string {
	return fmt.Sprintf("it was asked %d times within 24 hours, which is all that a log may: it is asked again at %s", maxRequests, e.until.UTC().Format(time.TimeOnly))
}

// readQuota reads what the file holds. A file that cannot be read counts as none.
func readQuota(path string, log *slog.Logger) *quota {
	q := &quota{path: path, log: log, by: map[string]*used{}}
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &q.by)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("when witnesses were asked is not known any more", "err", err)
	}
	if err != nil || q.by == nil { // half of what was read, or the word null
		q.by = map[string]*used{}
	}
	return q
}

func (q *quota) of(key string) *used {
	if q.by[key] == nil {
		q.by[key] = &used{}
	}
	return q.by[key]
}

// size is what a witness cosigned last, as far as is known.
func (q *quota) size(key string) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return max(q.of(key).Size, 0)
}

// begin notes, before a witness is asked, that it is; the error is a *spentError if it
// must not be.
func (q *quota) begin(key string, now time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	one := q.of(key)
	one.At = slices.DeleteFunc(one.At, func(at time.Time) bool { return now.Sub(at) >= quotaSpan })
	for i, at := range one.At {
		if at.After(now) { // the clock was set back: it was not later than now
			one.At[i] = now
		}
	}
	if len(one.At) >= maxRequests {
		return &spentError{one.At[0].Add(quotaSpan)}
	}
	one.At = append(one.At, now)
	return q.write()
}

// end notes what came of it: a request that did not reach the witness does not count.
func (q *quota) end(key string, size int64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	one := q.of(key)
	switch {
	case err == nil:
		one.Size = size
	case unreached(err) && len(one.At) > 0:
		one.At = one.At[:len(one.At)-1]
	default:
		return
	}
	if err := q.write(); err != nil {
		q.log.Warn("cannot note when witnesses were asked", "err", err)
	}
}

func (q *quota) write() error {
	b, err := json.Marshal(q.by)
	if err != nil {
		return fmt.Errorf("note when witnesses were asked: %w", err)
	}
	return durable.Replace(q.path, append(b, '\n'), 0o600)
}

// unreached says whether a request ended before there was a connection to send it by.
func unreached(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

package alert

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// errSilent says that it is not known whether a message was taken.
var errSilent = errors.New("it has not answered")

const (
	// After retryHanging another try is made beside one that hangs; no more than mostHanging
	// run at the same time.
	retryHanging = 15 * time.Minute
	mostHanging  = 4
	// mostTries are remembered, those included that came back after nobody waited for them.
	mostTries = 2 * mostHanging
)

// try is a message on its way to a receiver. The library knows no context: a try that
// nobody waits for any more goes on until the other side ends it.
type try struct {
	text  string
	begun time.Time
	once  sync.Once
	known chan struct{} // closed when it is known what became of it
	err   error
}

// finish notes what became of the message. What comes after it changes nothing: a server
// that took a mail may fail to say goodbye.
func (t *try) finish(err error) {
	t.once.Do(func() {
		t.err = err
		close(t.known)
	})
}

func (t *try) isKnown() bool {
	select {
	case <-t.known:
		return true
	default:
		return false
	}
}

// tries are those of one receiver.
type tries struct {
	mu      sync.Mutex
	list    []*try
	running int // also those whose outcome is known
}

// begin begins a try, or finds the one of the same text: as long as it runs, or when it
// came back while nobody was waiting. Beside one that runs no other begins, unless it hangs.
func (r *tries) begin(now time.Time, text string, send func(*try) error) (*try, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.list {
		if t.text == text && (t.isKnown() || now.Sub(t.begun) < retryHanging) {
			return t, nil
		}
	}
	for _, t := range slices.Backward(r.list) {
		if !t.isKnown() && (now.Sub(t.begun) < retryHanging || r.running >= mostHanging) {
			return nil, fmt.Errorf("the try of %s has not come back yet: the server took the connection and does not answer", t.begun.UTC().Format("15:04:05 MST"))
		}
	}
	if r.running >= mostHanging {
		return nil, errors.New("the server takes messages and does not close its connections")
	}
	t := &try{text: text, begun: now, known: make(chan struct{})}
	r.list = append(r.list, t)
	r.list = r.list[max(0, len(r.list)-mostTries):]
	r.running++
	go func() {
		t.finish(send(t))
		r.mu.Lock()
		defer r.mu.Unlock()
		r.running--
	}()
	return t, nil
}

// wait waits until it is known what became of the try, and forgets it then.
func (r *tries) wait(ctx context.Context, t *try) error {
	select {
	case <-t.known:
	case <-ctx.Done():
		if !t.isKnown() {
			return fmt.Errorf("%w in %s", errSilent, time.Since(t.begun).Round(time.Second))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = slices.DeleteFunc(r.list, func(other *try) bool { return other == t })
	return t.err
}

// heard has a mail's try end with success when the library says that the server took the
// mail: what fails afterwards is the end of the connection.
type heard struct{ t *try }

// Print is one of types.StdLogger. What the library logs may be a secret: it is dropped.
func (heard) Print(...any) {}

// Println is another one.
func (heard) Println(...any) {}

// Printf is another one.
func (h heard) Printf(format string, _ ...any) {
	if h.t != nil && format == mailTaken {
		h.t.finish(nil)
	}
}

// mailTaken is what the library logs of a mail that the server took.
const mailTaken = "Mail successfully sent to %q!"

var _ types.StdLogger = heard{}

package relay

import (
	"runtime"
	"sync"
	"time"
)

// turnTime is how long a turn lasts at the most, and how long a circuit waits for
// one. A reader at the far end of a slow line must not hold up the other circuits
// of the peer that pays for them.
const turnTime = 20 * time.Millisecond

// turns lets the circuits of one peer pass data on a few at a time. Without it
// every circuit gets an equal share of the machine, so that a peer with fifty of
// them leaves a neighbour with one a fiftieth; with it peers share, not circuits.
type turns chan struct{}

func newTurns() turns { return make(turns, runtime.GOMAXPROCS(0)+1) }

// turn is one direction of a circuit, which has a turn or has none. Reading and
// writing alternate in it, so that its methods are not called at the same time.
type turn struct {
	of turns

	mu   sync.Mutex
	held bool
	end  *time.Timer
}

// take waits for a turn, and goes without one when it waited long enough.
func (t *turn) take() {
	select {
	case t.of <- struct{}{}:
	default:
		wait := time.NewTimer(turnTime)
		defer wait.Stop()
		select {
		case t.of <- struct{}{}:
		case <-wait.C:
			return
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = true
	if t.end == nil {
		t.end = time.AfterFunc(turnTime, t.give)
	} else {
		t.end.Reset(turnTime)
	}
}

// give ends the turn, if there is one.
func (t *turn) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held {
		t.held = false
		t.end.Stop()
		<-t.of
	}
}

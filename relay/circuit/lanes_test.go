package circuit

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// send has a circuit of u's send a piece, and says when it may.
func send(ls *lanes, u *user) (may chan struct{}) {
	may = make(chan struct{})
	go func() { ls.begin(u, ahead); close(may) }()
	synctest.Wait()
	return may
}

func open(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Who waits on a connection holds others up after a little, until it goes on.
func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ls := newLanes(func() { time.Sleep(time.Microsecond) })
		hog := ls.enter("service", "hog")
		alone := []chan struct{}{send(ls, hog), send(ls, hog), send(ls, hog)}
		for _, may := range alone {
			if !open(may) {
				t.Fatal("it is held up by itself")
			}
			ls.end(hog)
		}

		victim, third := ls.enter("service", "victim"), ls.enter("service", "third")
		if !open(send(ls, victim)) {
			t.Fatal("the victim is held up by nobody")
		}
		if !open(send(ls, hog)) {
			t.Error("nothing may be sent beside it")
		}
		ls.end(hog)
		second, other := send(ls, hog), send(ls, hog)
		if open(second) || open(other) {
			t.Error("the hog goes on and on")
		}
		elsewhere := ls.enter("other service", "hog")
		if !open(send(ls, elsewhere)) {
			t.Error("it is held up on the way to another peer")
		}
		ls.end(elsewhere)
		// The victim goes on: one piece of each of the others, and no more.
		late := send(ls, third)
		ls.end(victim)
		again := send(ls, victim)
		time.Sleep(2 * time.Microsecond)
		synctest.Wait()
		if !open(again) || !open(second) || open(other) || open(late) {
			t.Errorf("after it went on: victim %v, hog %v and %v, third %v", open(again), open(second), open(other), open(late))
		}
		// Its reader stops: nobody is held up for long, and by turns.
		ls.end(hog)
		time.Sleep(2 * waitsFor)
		synctest.Wait()
		if !open(other) || !open(late) {
			t.Errorf("behind a reader that stopped: %v, %v", open(other), open(late))
		}
		ls.end(hog)
		ls.end(third)
		for range 10 {
			if !open(send(ls, hog)) {
				t.Error("one whose reader stopped holds others up again")
			}
			ls.end(hog)
		}
		ls.end(victim)
		for _, u := range []*user{hog, victim, third, elsewhere} {
			ls.leave(u)
		}
		if len(ls.by) != 0 {
			t.Errorf("left over: %v", ls.by)
		}
	})
}

// Whatever happens on a lane, everybody gets through, and nothing is left over.
func TestLanesLetEverybodyThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ls := newLanes(func() { time.Sleep(time.Microsecond) })
		var wg sync.WaitGroup
		var through atomic.Int64
		const payers, circuits, pieces = 5, 8, 20
		for p := range payers {
			for range circuits {
				u := ls.enter("service", peer.ID(rune('a'+p)))
				wg.Go(func() {
					for n := range pieces {
						ls.begin(u, ahead/2)
						time.Sleep(time.Duration(p*n) * 100 * time.Microsecond) // some are slow
						ls.end(u)
						through.Add(1)
					}
					ls.leave(u)
				})
			}
		}
		wg.Wait()
		time.Sleep(2 * waitsFor) // of the last timer
		if through.Load() != payers*circuits*pieces || len(ls.by) != 0 {
			t.Errorf("%d of %d pieces, left over: %v", through.Load(), payers*circuits*pieces, ls.by)
		}
	})
}

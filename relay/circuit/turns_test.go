package circuit

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// In a round nobody carries more than a quantum and what was begun, however many
// circuits it has, and nobody waits who has not had its part.
func TestTurns(t *testing.T) {
	over := make(chan struct{}) // a round is over when the test says so
	tn, err := newTurns()
	relaytest.Must(t, err)
	tn.idle = func() { <-over }
	hog := tn.enter("hog")
	const piece, pieces = quantum / 4, 21
	passed := make(chan struct{}, pieces)
	tn.take(hog, 100*quantum) // alone it may do what it likes
	victim := tn.enter("victim")
	var wg sync.WaitGroup
	for range pieces {
		wg.Go(func() {
			tn.take(hog, piece)
			passed <- struct{}{}
		})
	}
	queued := func() int {
		tn.mu.Lock()
		defer tn.mu.Unlock()
		return len(hog.queue)
	}
	waits := pieces
	for waits > 0 {
		waits = max(0, waits-quantum/piece)
		relaytest.Eventually(t, fmt.Sprintf("%d wait", waits), func() bool { return queued() == waits })
		tn.take(victim, quantum) // does not wait: it had nothing in this round
		if waits > 0 {
			over <- struct{}{}
		}
	}
	wg.Wait()
	if len(passed) != pieces {
		t.Errorf("%d of %d passed", len(passed), pieces)
	}

	// What was carried ahead is taken off the rounds to come.
	waitTurn := func(n int) chan struct{} {
		done := make(chan struct{})
		go func() { tn.take(hog, n); close(done) }()
		return done
	}
	relaytest.Eventually(t, "nobody ends rounds that nobody waits for", func() bool {
		tn.mu.Lock()
		defer tn.mu.Unlock()
		return !tn.ringing
	})
	tn.next()
	tn.take(hog, 0) // it takes part in the round
	tn.take(hog, hog.left+2*quantum)
	done := waitTurn(1)
	relaytest.Eventually(t, "the next piece waits", func() bool { return queued() == 1 })
	for range 2 {
		over <- struct{}{}
	}
	relaytest.Eventually(t, "two rounds do not make up for three", func() bool {
		tn.mu.Lock()
		defer tn.mu.Unlock()
		return hog.left == 0
	})
	select {
	case <-done:
		t.Error("it passed at once")
	default:
	}
	over <- struct{}{}
	<-done

	// Who had nothing to carry for long catches up, but not on everything.
	for range 3 * saved {
		tn.next()
	}
	for range saved {
		tn.take(hog, quantum)
	}
	done = waitTurn(quantum)
	relaytest.Eventually(t, "what was saved is used up", func() bool { return queued() == 1 })
	over <- struct{}{}
	<-done

	tn.leave(victim)
	tn.leave(hog)
	if len(tn.payers) != 0 || len(tn.waiting) != 0 {
		t.Errorf("left over: %+v", tn)
	}
}

// With others about, much goes through many circuits as it is.
func TestTurnsCarryEverything(t *testing.T) {
	c := relaytest.LabConfig(t)
	c.Limits.GuestCircuitData = 16 << 20
	r := start(t, c)
	relay := r.info()
	to := relaytest.NewPeer(t, nil)
	_, err := relaytest.Reserve(t, to, relay)
	relaytest.Must(t, err)
	relaytest.AcceptRaw(to, func(s network.Stream) {
		_, _ = io.Copy(s, s)
		_ = s.Close()
	})
	data := make([]byte, 2<<20)
	_, _ = rand.Read(data)
	var circuits []network.Stream
	for range 3 {
		from := relaytest.NewPeer(t, nil)
		relaytest.Must(t, from.Connect(relaytest.Context(t), relay))
		for range 6 {
			circuits = append(circuits, relaytest.MustOpenRaw(t, from, relay.ID, to.ID()))
		}
	}
	var wg sync.WaitGroup
	for _, s := range circuits {
		wg.Go(func() {
			if _, err := s.Write(data); err != nil {
				t.Error(err)
			}
			_ = s.CloseWrite()
		})
		wg.Go(func() {
			if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes came back, %v, want the %d that were sent", len(got), err, len(data))
			}
		})
	}
	wg.Wait()
	turns := r.service.turns
	turns.mu.Lock()
	if turns.round == 0 {
		t.Error("nobody waited for a turn")
	}
	turns.mu.Unlock()
	relaytest.Eventually(t, "no payer is left over", func() bool {
		turns.mu.Lock()
		defer turns.mu.Unlock()
		return len(turns.payers) == 0
	})
}

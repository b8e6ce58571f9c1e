package circuit

import (
	"bytes"
	"crypto/rand"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// wire is a connection of a given rate, behind a queue of 64 writes as the multiplexer
// has one. Who writes waits in line for room in it.
type wire struct {
	network.Conn
	queue  chan sending
	mu     sync.Mutex
	got    map[peer.ID]int
	unsent []int
}

type sending struct {
	from peer.ID
	n    int
}

func (w *wire) Scope() network.ConnScope { return wireScope{w: w} }

type wireScope struct {
	network.ConnScope
	w *wire
}

func (s wireScope) BoundUnsent(n int) { s.w.unsent = append(s.w.unsent, n) }

// newWire carries what is queued at a rate in bytes a second, until it is cut.
func newWire(rate int) (w *wire, cut func()) {
	w = &wire{queue: make(chan sending, 64), got: map[peer.ID]int{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range w.queue {
			time.Sleep(time.Duration(s.n) * time.Second / time.Duration(rate))
			w.mu.Lock()
			w.got[s.from] += s.n
			w.mu.Unlock()
		}
	}()
	return w, func() { close(w.queue); <-done }
}

func (w *wire) carried(from peer.ID) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got[from]
}

func (w *wire) writer(from peer.ID) io.Writer {
	return writerFunc(func(b []byte) (int, error) {
		w.queue <- sending{from, len(b)}
		return len(b), nil
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// fills writes through a circuit until the time is over.
func fills(sc *scheduler, to *wire, from peer.ID, until time.Time, wg *sync.WaitGroup) {
	p := sc.enter(to, from)
	wg.Go(func() {
		defer sc.leave(p)
		for buf := make([]byte, 32<<10); time.Now().Before(until); {
			_ = p.write(to.writer(from), buf)
		}
	})
}

// At 10 Mbit/s and at 1 Gbit/s, 50 circuits of one payer leave another payer's one half of the
// connection, and what that one asks waits behind no more than a little.
func TestSchedulerShares(t *testing.T) {
	for _, rate := range []int{1250e3, 125e6} {
		synctest.Test(t, func(t *testing.T) {
			sc := newScheduler(func() {})
			w, cut := newWire(rate)
			defer cut()
			var wg sync.WaitGroup
			until := time.Now().Add(20 * time.Second)
			for range 50 {
				fills(sc, w, "hog", until, &wg)
			}
			time.Sleep(10 * time.Second) // the hog's queue is full
			before := w.carried("hog")
			if fast := before > rate*9; !fast {
				t.Errorf("alone, %d of %d bytes a second pass", before/10, rate)
			}
			fills(sc, w, "one", until, &wg)
			asks := sc.enter(w, "asks")
			time.Sleep(time.Second)
			var longest time.Duration
			for n := range 10 {
				begun := time.Now()
				_ = asks.write(w.writer("asks"), make([]byte, 512))
				for w.carried("asks") < (n+1)*512 {
					time.Sleep(100 * time.Microsecond)
				}
				longest = max(longest, time.Since(begun))
				time.Sleep(100 * time.Millisecond)
			}
			sc.leave(asks)
			wg.Wait()
			hog, one := w.carried("hog")-before, w.carried("one")
			if share := float64(one) / float64(hog+one); share < 0.4 || share > 0.5 {
				t.Errorf("at %d bytes a second: one circuit carried %d bytes, 50 of another payer %d: %.2f of all", rate, one, hog, share)
			}
			if longest > 75*time.Millisecond {
				t.Errorf("at %d bytes a second: a question waited for %s", rate, longest)
			}
			if len(sc.by) != 0 {
				t.Errorf("left over: %v", sc.by)
			}
		})
	}
}

// A connection's queue in the kernel follows its rate, up and down.
func TestSchedulerBoundsWhatIsUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, rate := range []int{100e6, 100e3} {
			sc := newScheduler(func() {})
			w, cut := newWire(rate)
			var wg sync.WaitGroup
			fills(sc, w, "one", time.Now().Add(20*time.Second), &wg)
			wg.Wait()
			cut()
			want := max(leastUnsent, rate*int(unsentTime/time.Millisecond)/1000)
			if got := w.unsent[len(w.unsent)-1]; got < want/2 || got > want*2 {
				t.Errorf("at %d bytes a second it may hold %d, want about %d at the end", rate, w.unsent, want)
			}
		}
	})
}

// A reader that has stopped holds nobody up for long, of its own payer or of others, and
// no second time.
func TestSchedulerGivesUpWhoIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc, w := newScheduler(func() {}), &wire{}
		stuck, again := make(chan struct{}), make(chan struct{})
		nobody := writerFunc(func([]byte) (int, error) { <-stuck; return 0, io.ErrClosedPipe })
		quick := writerFunc(func(b []byte) (int, error) { return len(b), nil })
		slow, other := sc.enter(w, "slow"), sc.enter(w, "other")
		go func() {
			if err := slow.write(nobody, make([]byte, 100)); err != io.ErrClosedPipe {
				t.Errorf("%v", err)
			}
			close(again)
		}()
		synctest.Wait()
		begun := time.Now()
		for _, p := range []*payer{other, slow} {
			relaytest.Must(t, p.write(quick, make([]byte, 1<<20)))
		}
		if held := time.Since(begun); held == 0 || held > 2*mostHold {
			t.Errorf("others waited for %s", held)
		}
		close(stuck)
		<-again
		sc.leave(slow)
		sc.leave(other)
	})
}

// With others about, much goes through many circuits as it is.
func TestSchedulerCarriesEverything(t *testing.T) {
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
	relaytest.Eventually(t, "no payer is left over", func() bool {
		r.service.scheduler.mu.Lock()
		defer r.service.scheduler.mu.Unlock()
		return len(r.service.scheduler.by) == 0
	})
}

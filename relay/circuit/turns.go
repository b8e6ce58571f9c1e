package circuit

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sys/unix"
)

// quantum is what the circuits of one payer may carry in one round, together:
// two copy buffers of the default size. With less a round costs more than it
// carries, with more a peer that has one circuit gets a smaller part.
const quantum = 64 << 10

// saved is how many rounds a payer may catch up on in which it had less to carry: its
// data comes in bursts, as its own machine and network have them. 2 MiB in all.
const saved = 32

// turns keeps the circuits of one peer from starving everybody else's. Go's
// scheduler runs what is ready and looks at the network when nothing is, or every
// 10 ms. A peer with 50 busy circuits has always something ready, so that a peer
// with one would wait those 10 ms for each window it fills.
//
// Therefore time is cut into rounds. In each, the circuits that one peer pays for
// carry a quantum; what is more waits for the next round, which begins when all
// that is ready has run and the network was looked at. While there is CPU to
// spare, that is at once: nobody is slowed down for a share that nobody wants.
type turns struct {
	idle func() // returns when a round is over

	mu      sync.Mutex
	round   uint64
	ringing bool // somebody ends rounds
	payers  map[peer.ID]*payer
	waiting []*payer
}

// payer is whom circuits are charged to: the peer that opened them.
type payer struct {
	id    peer.ID
	open  int // circuits
	round uint64
	left  int // of its quanta; below 0: carried ahead
	queue []turn
}

// turn is n bytes that wait for a round.
type turn struct {
	n    int
	come chan struct{}
}

func newTurns() (*turns, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd for the turns of circuits: %w", err)
	}
	bell := os.NewFile(uintptr(fd), "turns")
	return &turns{idle: func() { afterPoll(bell) }, payers: map[peer.ID]*payer{}}, nil
}

// enter notes one more circuit at the peer's expense, leave one less.
func (t *turns) enter(id peer.ID) *payer {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.payers[id]
	if p == nil {
		p = &payer{id: id, round: t.round, left: quantum}
		t.payers[id] = p
	}
	p.open++
	return p
}

func (t *turns) leave(p *payer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.open--; p.open == 0 {
		delete(t.payers, p.id)
	}
}

// take returns when n bytes of the payer's may pass: at once, unless its circuits
// have had their part of the round and somebody else has a circuit, too.
func (t *turns) take(p *payer, n int) {
	t.mu.Lock()
	if len(t.payers) < 2 && len(p.queue) == 0 {
		t.mu.Unlock()
		return
	}
	if p.round != t.round {
		p.begin(t.round)
	}
	if len(p.queue) == 0 && p.left > 0 {
		p.left -= n
		t.mu.Unlock()
		return
	}
	come := make(chan struct{})
	if p.queue = append(p.queue, turn{n, come}); len(p.queue) == 1 {
		t.waiting = append(t.waiting, p)
	}
	if !t.ringing {
		t.ringing = true
		go t.ring()
	}
	t.mu.Unlock()
	<-come
}

// ring ends rounds while somebody waits for the next.
func (t *turns) ring() {
	for waiting := true; waiting; {
		t.idle()
		waiting = t.next()
	}
}

// next begins a round and says whether anybody waits for another one.
func (t *turns) next() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.round++
	still := t.waiting[:0]
	for _, p := range t.waiting {
		p.begin(t.round)
		for len(p.queue) > 0 && p.left > 0 {
			p.left -= p.queue[0].n
			close(p.queue[0].come)
			p.queue = p.queue[1:]
		}
		if len(p.queue) > 0 {
			still = append(still, p)
		}
	}
	clear(t.waiting[len(still):])
	t.waiting = still
	t.ringing = len(still) > 0
	return t.ringing
}

// begin gives the payer its quantum for each round since the last it took part in.
func (p *payer) begin(round uint64) {
	rounds := min(round-p.round, 2*saved)
	p.round, p.left = round, min(saved*quantum, p.left+int(rounds)*quantum)
}

// afterPoll returns when the runtime has looked at the network, which it does
// when no goroutine is ready: it makes the bell, an eventfd, readable and waits
// for the poller to find it so.
func afterPoll(bell *os.File) {
	conn, err := bell.SyscallConn()
	if err != nil {
		return
	}
	rung := false
	_ = conn.Read(func(fd uintptr) bool { // nothing is read: without a bell a round is over at once
		if rung {
			return true
		}
		rung = true
		one := [8]byte{0: 1}
		_, err := syscall.Write(int(fd), one[:])
		return err != nil
	})
}

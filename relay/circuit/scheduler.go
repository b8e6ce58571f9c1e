package circuit

import (
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// quantumTime is for how much of a connection's time each payer may write to it in a
	// round. The multiplexer (yamux) queues 64 writes of whatever size, so that a write
	// waits for 64 quanta at the most: 16 ms.
	quantumTime = 250 * time.Microsecond
	// aloneTime is the same while one payer is alone there. What it has queued is what a
	// second one finds; but smaller writes cost more CPU.
	aloneTime = 2 * time.Millisecond
	// The least quantum is more than ten times what the headers of a write are, the
	// largest is two copy buffers of the default size.
	leastQuantum, largestQuantum = 512, 64 << 10

	// Who writes for longer than the connection takes for these bytes, within these
	// bounds, has a reader that is slow: nobody waits for it any longer.
	holdBytes           = 64 << 10
	leastHold, mostHold = 10 * time.Millisecond, 50 * time.Millisecond

	// The rate of a connection is measured over this time, or over so many quanta, which
	// is more than the multiplexer queues. Until then it is taken to be firstRate.
	rateTime, rateQuanta   = 50 * time.Millisecond, 256
	firstRate, largestRate = 4 << 20, 4 << 30

	// unsentTime is for how much of a connection's time the kernel may hold what it has
	// not sent yet, while one payer is alone there. With several it is the least: the rest
	// of the time that a round may take is the reader's. By itself the kernel holds MiB.
	unsentTime  = 12 * time.Millisecond
	leastUnsent = 16 << 10
)

// scheduler shares out the connection to a peer among the payers whose circuits lead
// there, by deficit round robin: in a round each payer may write a quantum, however many
// circuits it has, and the next round begins when nobody writes and the network was
// looked at, so that who has data there takes part in it. What is on a connection
// arrives in the order in which it was sent, and a circuit may send no more than a window
// before its reader has answered. So nobody may fill the connection while somebody else
// waits for room on it.
type scheduler struct {
	mu sync.Mutex
	by map[network.Conn]*link

	poll func()
}

// link is a connection to which circuits lead.
type link struct {
	conn  network.Conn
	bound func(unsent int)
	poll  func() // returns when all that is ready has run, and the network was looked at

	mu      sync.Mutex
	payers  map[peer.ID]*payer
	waiting []*payer // those with a queue
	round   uint64
	writing int    // how many write whom the others wait for, and the poll
	given   uint64 // how often they have been given up
	timer   *time.Timer

	rate  int64 // bytes that it carries in a second while anybody writes
	under int   // how many do
	since time.Time
	busy  time.Duration
	sent  int64

	unsent int // what the kernel was told
}

// payer is whom circuits to a peer are charged to: the peer that opened them.
type payer struct {
	link     *link
	id       peer.ID
	circuits int
	round    uint64
	left     int // of its quantum; below 0: what it wrote ahead
	queue    []*piece
}

// piece is what a circuit writes at a time.
type piece struct {
	n     int
	given uint64 // the link's when it began
	come  chan struct{}
}

// bounded is a connection's scope whose queue in the kernel can be bounded.
type bounded interface{ BoundUnsent(bytes int) }

func newScheduler(poll func()) *scheduler {
	return &scheduler{by: map[network.Conn]*link{}, poll: poll}
}

// enter notes a circuit at the payer's expense that leads to a peer, leave its end.
func (sc *scheduler) enter(to network.Conn, id peer.ID) *payer {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	l := sc.by[to]
	if l == nil {
		l = newLink(to, sc.poll)
		sc.by[to] = l
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.payers[id]
	if p == nil {
		p = &payer{link: l, id: id, round: l.round - 1}
		l.payers[id] = p
		l.carries(l.rate)
	}
	p.circuits++
	return p
}

func newLink(to network.Conn, poll func()) *link {
	l := &link{conn: to, bound: func(int) {}, poll: poll, payers: map[peer.ID]*payer{}, rate: firstRate}
	if scope, ok := to.Scope().(bounded); ok {
		l.bound = scope.BoundUnsent
	}
	return l
}

func (sc *scheduler) leave(p *payer) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	l := p.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.circuits--; p.circuits > 0 {
		return
	}
	delete(l.payers, p.id)
	l.carries(l.rate)
	if len(l.payers) == 0 {
		delete(sc.by, l.conn)
	}
}

// write sends b to the peer.
func (p *payer) write(to io.Writer, b []byte) error {
	for len(b) > 0 {
		n, given := p.link.begin(p, len(b))
		_, err := to.Write(b[:n])
		p.link.end(n, given)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// begin returns when the payer may write, and how much of n bytes. end says that it has.
func (l *link) begin(p *payer, n int) (size int, given uint64) {
	l.mu.Lock()
	if l.writing == 0 && !l.may(p) {
		l.round++
	}
	if len(p.queue) == 0 && l.may(p) {
		defer l.mu.Unlock()
		return l.grant(p, n), l.given
	}
	w := &piece{n: n, come: make(chan struct{})}
	if p.queue = append(p.queue, w); len(p.queue) == 1 {
		l.waiting = append(l.waiting, p)
	}
	if l.timer == nil {
		l.hold()
	}
	l.mu.Unlock()
	<-w.come
	return w.n, w.given
}

func (l *link) end(n int, given uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.measure(n)
	if given != l.given {
		return
	}
	if l.writing--; l.writing == 0 && len(l.waiting) > 0 {
		l.writing = 1 // the poll
		go func() {
			l.poll()
			l.mu.Lock()
			defer l.mu.Unlock()
			if given != l.given {
				return
			}
			if l.writing--; l.writing == 0 { // else somebody goes on with the quantum
				l.next()
			}
		}()
	}
}

// next begins a round for those who wait.
func (l *link) next() {
	l.round++
	still := l.waiting[:0]
	for _, p := range l.waiting {
		for len(p.queue) > 0 && l.may(p) {
			w := p.queue[0]
			p.queue = p.queue[1:]
			w.n, w.given = l.grant(p, w.n), l.given
			close(w.come)
		}
		if len(p.queue) > 0 {
			still = append(still, p)
		}
	}
	clear(l.waiting[len(still):])
	l.waiting = still
}

// may says whether the payer has something left of its quantum.
func (l *link) may(p *payer) bool {
	if p.round != l.round {
		q := l.quantum()
		p.round, p.left = l.round, q+min(0, max(p.left, 1-q))
	}
	return p.left > 0
}

// grant lets the payer write one piece, of at most n bytes.
func (l *link) grant(p *payer, n int) int {
	n = min(n, l.quantum())
	p.left -= n
	l.writing++
	if l.under++; l.under == 1 {
		l.since = time.Now()
	}
	return n
}

func (l *link) quantum() int {
	within := aloneTime
	if len(l.payers) > 1 {
		within = quantumTime
	}
	return int(min(max(leastQuantum, l.rate*int64(within)/int64(time.Second)), largestQuantum))
}

// hold sees to it that those who wait do not wait long for one whose reader is slow.
func (l *link) hold() {
	round := l.round
	within := min(max(leastHold, time.Duration(holdBytes*int64(time.Second)/l.rate)), mostHold)
	l.timer = time.AfterFunc(within, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.timer = nil; len(l.waiting) == 0 {
			return
		}
		if l.round == round {
			l.given++
			l.writing = 0
			l.next()
		}
		if len(l.waiting) > 0 {
			l.hold()
		}
	})
}

// measure notes that n bytes were written.
func (l *link) measure(n int) {
	now := time.Now()
	l.under--
	l.busy += now.Sub(l.since)
	l.since = now
	if l.sent += int64(n); l.busy >= rateTime || l.sent >= rateQuanta*int64(l.quantum()) {
		l.carries(max(1, min(2*l.rate, l.sent*int64(time.Second)/int64(max(1, l.busy)), largestRate)))
		l.busy, l.sent = 0, 0
	}
}

// carries sets the rate, and what follows from it and from who is there.
func (l *link) carries(rate int64) {
	l.rate = rate
	unsent := leastUnsent
	if len(l.payers) < 2 {
		unsent = max(leastUnsent, int(rate*int64(unsentTime)/int64(time.Second)))
	}
	if unsent > 2*l.unsent || 2*unsent < l.unsent { // a system call
		l.unsent = unsent
		l.bound(unsent)
	}
}

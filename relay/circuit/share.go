package circuit

import (
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// pieceTime is how long a piece may keep a connection busy that circuits of several
	// payers lead to. The multiplexer (yamux) queues 64 of them, so that what one payer
	// sends waits for that many pieces of the others at the most: 32 ms.
	pieceTime = 500 * time.Microsecond
	// Pieces are no smaller, since each has headers of some 50 bytes, and no larger than
	// the copy buffer.
	leastPiece = 1 << 10
	// holdTime is how long a payer's circuits wait for one of them whose reader takes
	// nothing.
	holdTime = 50 * time.Millisecond
	// rateTime is over how long the rate of a connection is measured.
	rateTime = 10 * time.Millisecond
)

// links share out the connection to a peer among those who pay for circuits to it. What
// is on a connection arrives in the order in which it was sent; so each payer has one
// write at a time under way to a peer, however many circuits it has, and a write is no
// more than the connection carries in [pieceTime]. While one payer alone has circuits to a
// peer, nothing of this happens.
type links struct {
	mu sync.Mutex
	by map[peer.ID]*link
}

// link is the connection to one peer.
type link struct {
	to peer.ID

	mu      sync.Mutex
	senders map[peer.ID]*sender // by payer
	piece   int                 // bytes
	begun   time.Time           // of the measuring
	sent    int                 // since then
}

// sender is one payer's part of a link.
type sender struct {
	link     *link
	payer    peer.ID
	circuits int
	writing  chan struct{} // holds one: it is somebody's turn
}

func newLinks() *links { return &links{by: map[peer.ID]*link{}} }

// enter notes a circuit at the payer's expense that leads to a peer, leave its end.
func (ls *links) enter(to, payer peer.ID) *sender {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.by[to]
	if l == nil {
		l = &link{to: to, senders: map[peer.ID]*sender{}, piece: leastPiece}
		ls.by[to] = l
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.senders[payer]
	if s == nil {
		s = &sender{link: l, payer: payer, writing: make(chan struct{}, 1)}
		l.senders[payer] = s
	}
	s.circuits++
	return s
}

func (ls *links) leave(s *sender) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.circuits--; s.circuits == 0 {
		delete(l.senders, s.payer)
	}
	if len(l.senders) == 0 {
		delete(ls.by, l.to)
	}
}

// write sends p to the peer.
func (s *sender) write(to io.Writer, p []byte) error {
	for len(p) > 0 {
		n := s.link.next(len(p))
		if n == 0 { // nobody else is there
			_, err := to.Write(p)
			return err
		}
		if err := s.writePiece(to, p[:n]); err != nil {
			return err
		}
		s.link.wrote(n, time.Now())
		p = p[n:]
	}
	return nil
}

// writePiece writes when it is the circuit's turn among those of its payer.
func (s *sender) writePiece(to io.Writer, p []byte) error {
	s.writing <- struct{}{}
	next := sync.OnceFunc(func() { <-s.writing })
	held := time.AfterFunc(holdTime, next)
	_, err := to.Write(p)
	if held.Stop() {
		next()
	}
	return err
}

// next is how much of n bytes may be sent in one piece; 0: all of them, one payer is alone.
func (l *link) next(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.senders) < 2 {
		return 0
	}
	return min(n, l.piece)
}

// wrote measures what the connection carries.
func (l *link) wrote(n int, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent += n
	took := now.Sub(l.begun)
	if took < rateTime {
		return
	}
	if took < 100*rateTime { // else nobody wrote for a while
		l.piece = max(leastPiece, int(float64(l.sent)*float64(pieceTime)/float64(took)))
	}
	l.begun, l.sent = now, 0
}

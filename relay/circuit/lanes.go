package circuit

import (
	"container/list"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// ahead is what each of the others may send to a peer while somebody waits to
	// send to it.
	ahead = quantum
	// waitsFor is how long one who does not go on holds the others up. On a connection
	// that is full one goes on sooner, and who waits longer does so for a reader that
	// is slow: the others have then ahead in each waitsFor, 13 MB/s.
	waitsFor = 5 * time.Millisecond
)

// lanes keep the circuits of one payer from filling the connection to a peer to which
// circuits of others lead, too. What is on it arrives in the order in which it was
// sent, and a circuit may send no more than a window before its reader has answered:
// behind the full windows of 50 circuits one circuit can send its own once in the time
// that all of them take, however many turns it is given.
//
// Therefore, while somebody's circuit waits for its window, others may send no more
// than a little, and wait then until it has gone on. Nobody waits for one who has
// nothing to send, nor for long for one whose reader is slow.
type lanes struct {
	soon func() // returns when all that is ready has run

	mu     sync.Mutex
	by     map[peer.ID]*lane
	moving []*lane // on which somebody went on and somebody waits
}

// lane is the connection to one peer.
type lane struct {
	to      peer.ID
	users   map[peer.ID]*user // by payer
	sent    int64             // bytes
	sending *list.List        // of users, the one that went on longest ago first
	queued  []*user           // in the order in which it is their turn
	moving  bool
	timer   *time.Timer
}

// user is one payer's part of a lane.
type user struct {
	lane     *lane
	payer    peer.ID
	circuits int
	writes   int           // how many of them are sending
	place    *list.Element // in the lane's list; nil: none is, or the reader has stopped
	since    time.Time     // when one of them last went on
	base     int64         // what all had sent then
	queue    []passage
}

// passage is n bytes that wait until they may be sent.
type passage struct {
	n    int
	come chan struct{}
}

func newLanes(soon func()) *lanes { return &lanes{soon: soon, by: map[peer.ID]*lane{}} }

// enter notes a circuit at the payer's expense that leads to a peer, leave its end.
func (ls *lanes) enter(to, payer peer.ID) *user {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.by[to]
	if l == nil {
		l = &lane{to: to, users: map[peer.ID]*user{}, sending: list.New()}
		ls.by[to] = l
	}
	u := l.users[payer]
	if u == nil {
		u = &user{lane: l, payer: payer}
		l.users[payer] = u
	}
	u.circuits++
	return u
}

func (ls *lanes) leave(u *user) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := u.lane
	if u.circuits--; u.circuits == 0 {
		delete(l.users, u.payer)
	}
	if len(l.users) == 0 {
		delete(ls.by, l.to)
	}
}

// begin returns when n bytes may be sent; end says that they were.
func (ls *lanes) begin(u *user, n int) {
	ls.mu.Lock()
	l, now := u.lane, time.Now()
	if len(u.queue) == 0 && l.free(u, now) {
		l.admit(u, n, now)
		ls.mu.Unlock()
		return
	}
	come := make(chan struct{})
	if u.queue = append(u.queue, passage{n, come}); len(u.queue) == 1 {
		l.queued = append(l.queued, u)
	}
	if l.timer == nil {
		ls.wake(l, now)
	}
	ls.mu.Unlock()
	<-come
}

func (ls *lanes) end(u *user) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := u.lane
	u.writes--
	l.wentOn(u, time.Now())
	if len(l.queued) == 0 || l.moving {
		return
	}
	l.moving = true
	if ls.moving = append(ls.moving, l); len(ls.moving) == 1 {
		go ls.move()
	}
}

// move lets the others send, after those who went on had the time to ask for more.
func (ls *lanes) move() {
	ls.soon()
	ls.mu.Lock()
	defer ls.mu.Unlock()
	now := time.Now()
	for _, l := range ls.moving {
		l.moving = false
		l.look(now)
	}
	ls.moving = nil
}

// wake looks again when the one that went on longest ago has been waited for.
func (ls *lanes) wake(l *lane, now time.Time) {
	d := waitsFor
	if e := l.sending.Front(); e != nil {
		d -= now.Sub(e.Value.(*user).since)
	}
	l.timer = time.AfterFunc(d, func() {
		ls.mu.Lock()
		defer ls.mu.Unlock()
		now := time.Now()
		l.look(now)
		l.timer = nil
		if len(l.queued) > 0 {
			ls.wake(l, now)
		}
	})
}

// look lets send who need not wait any longer, one piece of each payer in turn.
func (l *lane) look(now time.Time) {
	for waits := 0; waits < len(l.queued); {
		u := l.queued[0]
		l.queued = l.queued[1:]
		if !l.free(u, now) {
			l.queued = append(l.queued, u)
			waits++
			continue
		}
		p := u.queue[0]
		u.queue = u.queue[1:]
		l.admit(u, p.n, now)
		close(p.come)
		waits = 0
		if len(u.queue) > 0 {
			l.queued = append(l.queued, u)
		}
	}
}

// free says that nobody else has to be waited for.
func (l *lane) free(u *user, now time.Time) bool {
	for e := l.sending.Front(); e != nil; {
		next, other := e.Next(), e.Value.(*user)
		switch {
		case now.Sub(other.since) >= waitsFor:
			l.sending.Remove(e)
			other.place = nil
		case other != u:
			// All behind it went on later.
			return l.sent-other.base < ahead*int64(max(1, l.sending.Len()-1))
		}
		e = next
	}
	return true
}

// admit notes that n bytes of the payer's are being sent.
func (l *lane) admit(u *user, n int, now time.Time) {
	l.sent += int64(n)
	if u.writes++; u.writes == 1 {
		l.wentOn(u, now)
	}
}

// wentOn moves the payer to the end of those who send.
func (l *lane) wentOn(u *user, now time.Time) {
	u.since, u.base = now, l.sent
	switch {
	case u.writes == 0 && u.place != nil:
		l.sending.Remove(u.place)
		u.place = nil
	case u.writes > 0 && u.place != nil:
		l.sending.MoveToBack(u.place)
	case u.writes > 0:
		u.place = l.sending.PushBack(u)
	}
}

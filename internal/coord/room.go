package coord

import (
	"sync"
	"time"
)

// room is memory that all neighbours share, for frames that are on their way. When
// it is full, the frame that moves most slowly gives way: one that stalls on purpose
// holds nothing for longer than others leave it.
type room struct {
	mu     sync.Mutex
	size   int
	used   int
	now    func() time.Time
	claims map[*claim]struct{}
}

// claim is the share of one frame.
type claim struct {
	room  *room
	evict func() // called with the room locked, when the frame has to give way
	held  int
	moved int // bytes that really came or went
	since time.Time
	whole bool // nothing waits for the network: the frame does not give way any more
	gone  bool // it gave way
}

// settling is how long a frame is left alone before its pace is judged.
const settling = 2 * time.Second

func newRoom(size int) *room {
	return &room{size: size, now: time.Now, claims: make(map[*claim]struct{})}
}

// claim begins with nothing. evict may be nil.
func (r *room) claim(evict func()) *claim {
	return &claim{room: r, evict: evict, since: r.now()}
}

// grow takes n bytes more. It is false when there is no room, or the frame had to
// give way: its share is returned then.
func (c *claim) grow(n int) bool {
	r := c.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.gone {
		return false
	}
	for r.used+n > r.size {
		slow := r.slowest()
		if slow == nil || slow == c {
			r.drop(c)
			return false
		}
		r.drop(slow)
	}
	r.claims[c] = struct{}{}
	c.held += n
	r.used += n
	return true
}

// slowest is the frame with the least bytes a second of those that had their time.
func (r *room) slowest() (slow *claim) {
	now := r.now()
	var least float64
	for c := range r.claims {
		took := now.Sub(c.since)
		if c.whole || took < settling {
			continue
		}
		if pace := float64(c.moved) / took.Seconds(); slow == nil || pace < least {
			slow, least = c, pace
		}
	}
	return slow
}

func (r *room) drop(c *claim) {
	r.used -= c.held
	c.held, c.gone = 0, true
	delete(r.claims, c)
	if c.evict != nil {
		c.evict()
	}
}

// move notes n bytes and does with the room locked what belongs to them. It is false
// when the frame gave way.
func (c *claim) move(n int, do func()) bool {
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	if c.gone {
		return false
	}
	c.moved += n
	if do != nil {
		do()
	}
	return true
}

// release returns the share. A nil claim has none.
func (c *claim) release() {
	if c == nil {
		return
	}
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	c.room.used -= c.held
	c.held, c.gone = 0, true
	delete(c.room.claims, c)
}

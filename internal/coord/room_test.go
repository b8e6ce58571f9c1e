package coord

import (
	"testing"
	"time"
)

// When the room is full the frame that moves least gives way, and none that just came.
func TestRoom(t *testing.T) {
	now := time.Now()
	r := newRoom(100)
	r.now = func() time.Time { return now }
	evicted := map[string]bool{}
	take := func(name string, n int) *claim {
		c := r.claim(func() { evicted[name] = true })
		if !c.grow(n) {
			t.Fatalf("no room for %s", name)
		}
		return c
	}
	fast, slow, whole := take("fast", 40), take("slow", 40), take("whole", 20)
	whole.move(0, func() { whole.whole = true })
	fast.move(30, nil)
	slow.move(3, nil)
	if c := r.claim(nil); c.grow(10) {
		t.Fatal("one of those that just came gave way")
	}
	now = now.Add(settling)
	next := take("next", 30)
	if !evicted["slow"] || evicted["fast"] || evicted["whole"] {
		t.Errorf("gave way: %v", evicted)
	}
	if slow.move(1, nil) || slow.grow(1) {
		t.Error("what gave way goes on")
	}
	slow.release()
	for _, c := range []*claim{fast, whole, next, nil} {
		c.release()
	}
	if r.used != 0 || len(r.claims) != 0 {
		t.Errorf("%d bytes and %d claims are left", r.used, len(r.claims))
	}
}

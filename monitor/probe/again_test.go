package probe

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// What gives up waiting is tried again while the rung's time lasts; what the relay
// answered is not.
func TestAgain(t *testing.T) {
	const s = time.Second
	for _, test := range []struct {
		name    string
		each    time.Duration // how long one try takes
		class   evidence.Class
		ok      int // the try that is ok; 0: none
		outcome evidence.Outcome
		tries   int
	}{
		{"identify gives up after 5 s", 5 * s, evidence.IdentifyTimeout, 0, evidence.Fail, 3},
		{"and is answered the third time", 5 * s, evidence.IdentifyTimeout, 3, evidence.OK, 3},
		{"waits as long as it may", 15 * s, evidence.ConnectTimeout, 0, evidence.Fail, 1},
		{"too little time is left", 12 * s, evidence.ConnectTimeout, 0, evidence.Fail, 1},
		{"no way, said at once", 0, evidence.Unreachable, 0, evidence.Fail, 4},
		{"a way after a moment", 0, evidence.Unreachable, 2, evidence.OK, 2},
		{"refused at once", 0, evidence.Refused, 2, evidence.Fail, 1},
		{"closed at once", 0, evidence.Dropped, 2, evidence.Fail, 1},
		{"closed after a while", 5 * s, evidence.Dropped, 2, evidence.OK, 2},
		{"an answer after long", 5 * s, evidence.HandshakeFailed, 2, evidence.Fail, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClimb(Target{}, Options{})
				n := 0
				outcome, class, _ := c.run(t.Context(), rung{deadline: 15 * s, climb: func(c *climb, ctx context.Context) error {
					if n++; n != c.try {
						t.Errorf("got try %d, want %d", c.try, n)
					}
					select {
					case <-time.After(test.each):
					case <-ctx.Done():
					}
					if n == test.ok {
						return nil
					}
					return fail(test.class, errors.New("x"))
				}})
				want := test.class
				if test.outcome == evidence.OK {
					want = ""
				}
				if outcome != test.outcome || class != want || n != test.tries {
					t.Errorf("got %s %s after %d tries, want %s %s after %d", outcome, class, n, test.outcome, want, test.tries)
				}
			})
		})
	}
}

// What a try had no time to find out does not hide what the one before it found.
func TestLastTryCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClimb(Target{}, Options{})
		outcome, class, _ := c.run(t.Context(), rung{deadline: 15 * time.Second, climb: func(c *climb, ctx context.Context) error {
			if c.try == 1 {
				return fail(evidence.Unreachable, errors.New("no way"))
			}
			<-ctx.Done()
			return blind(evidence.Resolver, ctx.Err())
		}})
		if outcome != evidence.Fail || class != evidence.Unreachable || c.try != 2 {
			t.Errorf("got %s %s after %d tries, want fail unreachable after 2", outcome, class, c.try)
		}
	})
}

// A control for which there is no way shows that the line does not work now, even if it
// works a moment later.
func TestControlIsNotTriedUntilItWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClimb(Target{}, Options{})
		c.control = true
		outcome, _, _ := c.run(t.Context(), rung{deadline: 15 * time.Second, climb: func(c *climb, ctx context.Context) error {
			if c.try > 1 {
				return nil
			}
			return fail(evidence.Unreachable, errors.New("no way"))
		}})
		if outcome != evidence.Fail {
			t.Errorf("got %s, want a failure", outcome)
		}
	})
}

// A connection that is gone is made again when the rung that needs it is.
func TestReconnect(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	relay := newRelay(t, ca.leaf(t, nil), true, nil)
	c := newClimb(relay.Target, ca.options())
	defer c.close()
	c.try = 1
	if err := errors.Join(c.tcp4(within(t)), c.wss(within(t))); err != nil {
		t.Fatal(err)
	}
	c.tcp.Network().ClosePeer(relay.PeerID)
	c.web.Network().ClosePeer(relay.PeerID)
	if f := asFault(c.reserve(within(t))); f == nil || f.class != evidence.Dropped {
		t.Fatalf("got %v, want that the connection is gone", f)
	}
	c.try = 2
	if err := c.identify(within(t)); err != nil {
		t.Errorf("identify: %v", err)
	}
	if err := c.reserve(within(t)); err != nil {
		t.Errorf("reserve: %v", err)
	}
	if err := c.circuit(within(t)); err != nil {
		t.Errorf("circuit: %v", err)
	}
	if n := len(c.attempt.Facts.PingUS); n != pings {
		t.Errorf("got %d round trips, want %d", n, pings)
	}
}

// The kernel's timer for a first packet that is not answered.
func TestUnanswered(t *testing.T) {
	for d, want := range map[time.Duration]traffic{
		0: {1, 0}, 999 * time.Millisecond: {1, 0}, time.Second: {2, 1}, 3 * time.Second: {3, 2}, 15 * time.Second: {5, 4}, 30 * time.Second: {5, 4},
	} {
		if got := unanswered(d); got != want {
			t.Errorf("%v: got %+v, want %+v", d, got, want)
		}
	}
}

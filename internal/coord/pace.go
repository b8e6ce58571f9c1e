package coord

import (
	"context"
	"math/rand/v2"
	"time"
)

// When announcements are made. Upstream makes one every 122 s and counts a peer
// whose last one is older than ten minutes as gone.
const (
	announceEvery  = 115 * time.Second
	announceJitter = 5 * time.Second
	announceGap    = 10 * time.Second
	// A newcomer's gossipsub takes us into its mesh with its next heartbeat, which
	// comes once a second: before that the announcement may pass it by.
	newcomerDelay = 2500 * time.Millisecond
)

// repeat announces at once, then at least every two minutes, and soon after a
// newcomer came, but never twice within announceGap. An announcement that nobody
// was there to hear does not count.
func repeat(ctx context.Context, newcomers <-chan struct{}, announce func() (counts bool)) {
	for {
		select { // who came until now hears this one
		case <-newcomers:
		default:
		}
		if announce() && !sleep(ctx, announceGap) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-newcomers:
			if !sleep(ctx, newcomerDelay) {
				return
			}
		case <-time.After(announceEvery - announceGap - rand.N(announceJitter)):
		}
	}
}

// jitter keeps relays that started together from acting together.
func jitter(d time.Duration) time.Duration { return d - d/8 + rand.N(d/4) }

// sleep is false when ctx ended it.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// wake leaves a mark that something happened.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

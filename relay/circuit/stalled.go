package circuit

import (
	"cmp"
	"context"
	"io"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/psf-relay/relay-appliance/relay/refusal"
)

const (
	// memoryEvery is the pause between looks at the memory in use.
	memoryEvery = 250 * time.Millisecond
	// stallTime is how long a peer must have taken nothing before its circuit may
	// be cut for it. Who only pauses is let alone while there is memory.
	stallTime = 5 * time.Second
	// perStall is what a stalled circuit holds: a window of data that nobody takes,
	// and its copy buffer. Measured 170 to 640 KiB.
	perStall = 256 << 10
)

// write passes on what is carried, and notes since when it has had to wait.
func (c *circuit) write(to io.Writer, p []byte, d *direction) error {
	d.since.Store(time.Now().UnixNano())
	defer d.since.Store(0)
	return d.payer.write(to, p)
}

// stalled says since when one end has taken nothing of what the other one sends.
func (c *circuit) stalled() (since time.Time, ok bool) {
	first := int64(math.MaxInt64)
	for _, s := range []*stamp{&c.up.since, &c.down.since} {
		if at := s.Load(); at != 0 {
			first = min(first, at)
		}
	}
	return time.Unix(0, first), first != math.MaxInt64
}

// GuardMemory cuts circuits whose reader has stopped when the memory runs short,
// until ctx ends: no limit on connections or circuits is low enough for a small
// machine if on each of them data is held that nobody takes.
func (svc *Service) GuardMemory(ctx context.Context) {
	look := time.NewTicker(memoryEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-look.C:
			if excess := memoryExcess(); excess > 0 {
				if n := svc.relieve(now, excess); n > 0 {
					svc.log.Warn("memory is short: cut circuits whose reader had stopped", "circuits", n)
				}
			}
		}
	}
}

// relieve cuts the circuits that have been stalled longest, as many as are worth
// the excess.
func (svc *Service) relieve(now time.Time, excess int64) int {
	type stall struct {
		c     *circuit
		since time.Time
	}
	var all []stall
	svc.mu.Lock()
	for c := range svc.circuits {
		if since, ok := c.stalled(); ok && now.Sub(since) >= stallTime && !c.ending() {
			all = append(all, stall{c, since})
		}
	}
	svc.mu.Unlock()
	slices.SortFunc(all, func(a, b stall) int { return cmp.Compare(a.since.UnixNano(), b.since.UnixNano()) })
	all = all[:min(len(all), int((excess+perStall-1)/perStall))]
	for _, s := range all {
		s.c.because(refusal.EndedMemory)
		go s.c.reset(network.StreamResourceLimitExceeded) // waits for a connection that takes nothing
	}
	return len(all)
}

// ending says whether the relay ends the circuit already.
func (c *circuit) ending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// memoryExcess is by how much the program exceeds nine tenths of its memory limit,
// counted as the limit counts. Below 0: there is room.
func memoryExcess() int64 {
	use := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(use)
	limit := debug.SetMemoryLimit(-1) // reads it
	return int64(use[0].Value.Uint64()-use[1].Value.Uint64()) - limit/10*9
}

package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/psf-relay/relay-appliance/internal/bench/lab"
)

// parallel is how many peers connect at the same time.
const parallel = 8

// crowdOf is a growing number of connected peers.
type crowdOf struct {
	mu    sync.Mutex
	peers []*Peer
}

func (c *crowdOf) close() {
	for _, p := range c.peers {
		p.Close()
	}
}

// grow connects, identifies and reserves for peers until there are so many. Each
// comes from the address that from gives it.
func (c *crowdOf) grow(ctx context.Context, to Target, over string, until int, reserve bool, from func(int) int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for n := len(c.peers); n < until; n++ {
		g.Go(func() error {
			p, err := Dial(ctx, to, over, from(n))
			if err == nil {
				if err = p.Identify(ctx); err == nil && reserve {
					err = p.Reserve(ctx)
				}
				c.mu.Lock()
				c.peers = append(c.peers, p)
				c.mu.Unlock()
			}
			if err != nil {
				return fmt.Errorf("peer %d: %w", n+1, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// alive counts the peers whose connection the relay still keeps.
func (c *crowdOf) alive() (n int) {
	for _, p := range c.peers {
		if p.Connected() {
			n++
		}
	}
	return n
}

// own gives each peer an address of its own.
func own(n int) int { return n }

// How often the cost of a RESERVE is looked at: so many peers ask so often again. With
// fewer it is chance how much of the garbage collector's work falls into that time.
const reservers, reserves = 160, 25

// fill has peers come, identify and reserve, and at each step measures what they
// take of the relay, and what it costs to prolong a reservation beside them.
func (j Job) fill(ctx context.Context, _ func(Ready) error) (Values, error) {
	pid := j.Target.PID
	if err := settled(ctx, pid); err != nil {
		return nil, err
	}
	empty, err := lab.RSS(pid)
	if err != nil {
		return nil, err
	}
	v := Values{"rss_mib_0": float64(empty) / (1 << 20)}
	var all crowdOf
	defer all.close()
	for i, step := range j.Steps {
		u, err := use(pid)
		if err != nil {
			return nil, err
		}
		came := step - len(all.peers)
		if err := all.grow(ctx, j.Target, j.Over, step, true, own); err != nil {
			return nil, err
		}
		cpu, _, err := u.since()
		if err != nil {
			return nil, err
		}
		if err := settled(ctx, pid); err != nil {
			return nil, err
		}
		rss, err := lab.RSS(pid)
		if err != nil {
			return nil, err
		}
		name := func(what string) string { return fmt.Sprintf("%s_%d", what, step) }
		v[name("rss_mib")] = float64(rss) / (1 << 20)
		v[name("rss_kib_peer")] = float64(rss-empty) / (1 << 10) / float64(step)
		v[name("arrival_ms")] = cpu.Seconds() * 1000 / float64(came)
		// The newest ask: what a peer may ask for is limited.
		if v[name("reserve_ms")], err = reserveCost(ctx, pid, all.peers[max(0, len(all.peers)-reservers):]); err != nil {
			return nil, err
		}
		if n := all.alive(); n != step {
			return nil, fmt.Errorf("step %d: of %d peers %d are connected", i+1, step, n)
		}
	}
	return v, nil
}

func reserveCost(ctx context.Context, pid int, peers []*Peer) (float64, error) {
	u, err := use(pid)
	if err != nil {
		return 0, err
	}
	for range reserves {
		for _, p := range peers {
			if err := p.Reserve(ctx); err != nil {
				return 0, err
			}
		}
	}
	cpu, _, err := u.since()
	return cpu.Seconds() * 1000 / float64(reserves*len(peers)), err
}

// churn has peers connect, identify and leave in eight loops.
func (j Job) churn(ctx context.Context, _ func(Ready) error) (Values, error) {
	within, cancel := context.WithTimeout(ctx, j.For)
	defer cancel()
	counts := make([]int, parallel)
	u, err := use(j.Target.PID)
	if err != nil {
		return nil, err
	}
	var g errgroup.Group
	for loop := range parallel {
		g.Go(func() error {
			for n := loop; within.Err() == nil; n += parallel {
				p, err := Dial(ctx, j.Target, j.Over, n)
				if err != nil {
					return err
				}
				if err := errors.Join(p.Identify(ctx), p.Close()); err != nil {
					return err
				}
				counts[loop]++
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	wall := time.Since(u.start)
	if err := settled(ctx, j.Target.PID); err != nil {
		return nil, err
	}
	cpu, _, err := u.since()
	if err != nil {
		return nil, err
	}
	n := 0
	for _, c := range counts {
		n += c
	}
	return Values{"cpu_ms": cpu.Seconds() * 1000 / float64(n), "per_s": float64(n) / wall.Seconds()}, nil
}

// crowd has clients behind one address connect and reserve, and counts those who
// got what they wanted and kept it.
func (j Job) crowd(ctx context.Context, _ func(Ready) error) (Values, error) {
	var all crowdOf
	defer func() { all.close() }()
	err := all.grow(ctx, j.Target, j.Over, j.Peers, true, func(int) int { return 0 })
	if err == nil {
		err = settled(ctx, j.Target.PID)
	}
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	// A refusal is a result.
	return Values{"served": float64(all.alive()), "refused": float64(j.Peers - all.alive())}, nil
}

// trim has more peers come than the relay wants to keep connected, some of them
// with a reservation, and counts who is sent away, and whether there is room then
// for newcomers.
func (j Job) trim(ctx context.Context, _ func(Ready) error) (Values, error) {
	var reserved, idle, newcomers crowdOf
	defer func() { reserved.close(); idle.close(); newcomers.close() }()
	if err := reserved.grow(ctx, j.Target, j.Over, j.Peers, true, own); err != nil {
		return nil, err
	}
	if err := idle.grow(ctx, j.Target, j.Over, j.Others, false, func(n int) int { return 1000 + n }); err != nil {
		return nil, err
	}
	for end := time.Now().Add(j.For); idle.alive() == j.Others && time.Now().Before(end); {
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return nil, err
		}
	}
	if err := settled(ctx, j.Target.PID); err != nil {
		return nil, err
	}
	const come = 20
	if err := newcomers.grow(ctx, j.Target, j.Over, come, false, func(n int) int { return 2000 + n }); err != nil && ctx.Err() != nil {
		return nil, err
	}
	return Values{
		"reserved_gone":     float64(j.Peers - reserved.alive()),
		"idle_gone":         float64(j.Others - idle.alive()),
		"newcomers_percent": 100 * float64(newcomers.alive()) / come,
	}, nil
}

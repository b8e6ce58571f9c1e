package load

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/coord"
)

// What a soak does all the time: little of everything, without end.
const (
	soakStanding  = 200                    // peers that hold a reservation and prolong it
	soakProlong   = 2 * time.Minute        // how often
	soakChurn     = 250 * time.Millisecond // how often a peer comes, and leaves again
	soakCircuit   = 500 * time.Millisecond // how often a circuit is opened and closed
	soakAmount    = 256 << 10              // what it carries, each way
	soakStreams   = 10                     // circuits that stay open
	soakMembers   = 8                      // members of the coordination network that stay
	soakNewMember = 30 * time.Second       // how often another one comes, announces itself and leaves
)

var soakOver = []string{"tcp/noise", "tcp/tls", "wss/noise", "quic"}

// tally counts what a soak did and what failed, and says why.
type tally struct {
	mu     sync.Mutex
	values Values
}

func (t *tally) note(what string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.values[what]++
	if err != nil {
		t.values[what+"_failed"]++
		fmt.Fprintln(os.Stderr, time.Now().UTC().Format(time.TimeOnly), what+":", err)
	}
}

// soak keeps the relay busy until its time is over.
func (j Job) soak(ctx context.Context, _ func(Ready) error) (Values, error) {
	t := &tally{values: Values{}}
	var standing crowdOf
	defer standing.close()
	for i, over := range soakOver {
		if err := standing.grow(ctx, j.Target, over, soakStanding*(i+1)/len(soakOver), true, own); err != nil {
			return nil, err
		}
	}
	for _, p := range standing.peers {
		go p.echo(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, j.For)
	defer cancel()
	var wg sync.WaitGroup
	every := func(d time.Duration, do func(n int)) {
		wg.Go(func() {
			var each sync.WaitGroup
			defer each.Wait()
			ticks := time.NewTicker(d)
			defer ticks.Stop()
			for n := 0; ; n++ {
				select {
				case <-ticks.C:
					each.Go(func() { do(n) })
				case <-ctx.Done():
					return
				}
			}
		})
	}
	// What the end of the time cuts off has not failed.
	note := func(what string, err error) {
		if ctx.Err() == nil {
			t.note(what, err)
		}
	}
	every(soakProlong/soakStanding, func(n int) {
		note("prolonged", standing.peers[n%len(standing.peers)].Reserve(ctx))
	})
	every(soakChurn, func(n int) {
		note("came_and_left", j.visit(ctx, soakOver[n%len(soakOver)], 1000+n))
	})
	every(soakCircuit, func(int) {
		a, b := mathrand.N(soakStanding), mathrand.N(soakStanding-1)
		if b >= a {
			b++
		}
		note("circuits", exchange(ctx, standing.peers[a], standing.peers[b]))
	})
	for i := range soakStreams {
		wg.Go(func() { note("streams", trickle(ctx, standing.peers[i], standing.peers[soakStanding-1-i])) })
	}
	for range soakMembers {
		wg.Go(func() { note("members", j.member(ctx, t)) })
	}
	every(soakNewMember, func(int) {
		short, cancel := context.WithTimeout(ctx, soakNewMember)
		defer cancel()
		note("members", j.member(short, t))
	})
	wg.Wait()
	if n := standing.alive(); n != soakStanding {
		t.note("standing", fmt.Errorf("of %d peers %d are still connected", soakStanding, n))
	}
	return t.values, nil
}

// visit is a peer that comes, reserves and leaves.
func (j Job) visit(ctx context.Context, over string, n int) error {
	p, err := Dial(ctx, j.Target, over, n)
	if err != nil {
		return err
	}
	return errors.Join(p.Identify(ctx), p.Reserve(ctx), p.Close())
}

// echo sends back what comes over the circuits that lead to a peer.
func (p *Peer) echo(ctx context.Context) {
	for {
		select {
		case c := <-p.circuits:
			go func() {
				_, _ = io.Copy(c, c) // what is lost is missed at the other end
				c.Close()
			}()
		case <-ctx.Done():
			return
		}
	}
}

// exchange opens a circuit, has the other end send everything back, and compares.
func exchange(ctx context.Context, a, b *Peer) error {
	c, err := a.Connect(ctx, b.ID)
	if err != nil {
		return err
	}
	defer c.Reset()
	if err := c.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		return err
	}
	sent := make([]byte, soakAmount)
	if _, err := rand.Read(sent); err != nil {
		return err
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		wrote <- errors.Join(err, c.CloseWrite())
	}()
	back, err := io.ReadAll(io.LimitReader(c, soakAmount+1))
	if err = errors.Join(err, <-wrote); err != nil {
		return fmt.Errorf("%d bytes came back: %w", len(back), err)
	}
	if sha256.Sum256(back) != sha256.Sum256(sent) {
		return fmt.Errorf("%d bytes came back, not those that were sent", len(back))
	}
	return nil
}

// trickle keeps one circuit open and a little data on it.
func trickle(ctx context.Context, a, b *Peer) error {
	c, err := a.Connect(ctx, b.ID)
	if err != nil {
		return err
	}
	defer c.Reset()
	go func() { _, _ = io.Copy(io.Discard, c) }() // an end is seen by the writer
	data := make([]byte, 16<<10)
	for pause(ctx, time.Second) == nil {
		if _, err := c.Write(data); err != nil {
			return err
		}
	}
	return nil
}

// member is a peer of the PSF's coordination network: it announces itself, and
// hears the others through the relay.
func (j Job) member(ctx context.Context, t *tally) error {
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableMetrics(), libp2p.Transport(tcp.NewTCPTransport))
	if err != nil {
		return err
	}
	defer h.Close()
	// It leaves the network before its pubsub ends.
	lasting, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	ps, err := coord.NewPubSub(lasting, h)
	if err != nil {
		return err
	}
	key, err := coord.NewKey()
	if err != nil {
		return err
	}
	at := j.Target.Addrs["tcp"]
	addr, err := ma.NewMultiaddr(fmt.Sprintf("/ip4/%s/tcp/%d", at.Addr(), at.Port()))
	if err != nil {
		return err
	}
	if err := h.Connect(ctx, peer.AddrInfo{ID: j.Target.ID, Addrs: []ma.Multiaddr{addr}}); err != nil {
		return err
	}
	m, err := coord.Join(coord.MemberConfig{
		PubSub: ps, ID: h.ID(), Key: key,
		Announcement: func() coord.Announcement {
			return coord.Announcement{PeerID: h.ID(), Type: "node.js", ConnectPref: "cr", JSONLD: coord.JSONLD{Name: "soak"}}
		},
	})
	if err != nil {
		return err
	}
	m.Ready()
	<-ctx.Done()
	heard := m.Stats().Members
	t.mu.Lock()
	t.values["members_known"] = max(t.values["members_known"], float64(heard))
	t.mu.Unlock()
	return m.Close()
}

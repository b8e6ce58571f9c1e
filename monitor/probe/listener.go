package probe

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/psf-relay/relay-appliance/internal/coord"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Listener stays on the coordination topic through the relays that it watches,
// and remembers the last announcement of every peer that it heard.
type Listener struct {
	opts  Options
	host  *peerHost
	topic *coord.Listener
	ctx   context.Context
	stop  context.CancelFunc
	done  sync.WaitGroup

	redial time.Duration // minRedial, or less in tests

	mu      sync.Mutex
	last    map[peer.ID]coord.Heard
	news    chan struct{} // closed, and made anew, at each announcement
	watched map[peer.ID]*watch
}

// watch is one relay to which the listener keeps a connection.
type watch struct {
	target Target
	stop   context.CancelFunc
}

// A relay that cannot be reached, or that closes our connections, is tried again
// this seldom: listening must cost it nothing.
const (
	minRedial  = 30 * time.Second
	maxRedial  = 10 * time.Minute
	dialWithin = 30 * time.Second
)

// maxWatched bounds the relays that are watched, and so the connections.
const maxWatched = 512

// maxHeard bounds the memory of announcements; the oldest is forgotten.
const maxHeard = 4096

// NewListener starts one. A nil key makes a new identity; of o the fields are
// used that say how to dial. Nothing is dialled before [Listener.Watch].
func NewListener(key crypto.PrivKey, o Options) (*Listener, error) {
	h, err := newPeerHost(key, dialsMany)
	if err != nil {
		return nil, fmt.Errorf("start the announcements' listener: %w", err)
	}
	if o.Pace == nil {
		o.Pace = NewPace(OneOffPace)
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &Listener{
		opts: o, host: h, ctx: ctx, stop: stop, redial: minRedial,
		last: map[peer.ID]coord.Heard{}, news: make(chan struct{}), watched: map[peer.ID]*watch{},
	}
	ps, err := coord.NewPubSub(ctx, h)
	if err == nil {
		l.topic, err = coord.Listen(ps, l.heard)
	}
	if err != nil {
		stop()
		h.close()
		return nil, fmt.Errorf("start the announcements' listener: %w", err)
	}
	return l, nil
}

// Close ends the listener and its connections.
func (l *Listener) Close() error {
	// The topic first: it is left through the pubsub, which ends with ctx.
	err := l.topic.Close()
	l.mu.Lock() // Watch starts nothing from here on
	l.stop()
	l.mu.Unlock()
	l.done.Wait()
	l.host.close()
	return err
}

// Watch makes the listener stay connected to these relays and to no others.
// Addresses that Check refuses are left out, and what exceeds 512 relays.
func (l *Listener) Watch(targets []Target) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wanted := map[peer.ID]Target{}
	for _, t := range targets {
		if l.opts.Check(t) == nil && len(wanted) < maxWatched {
			wanted[t.PeerID] = t
		}
	}
	for id, w := range l.watched {
		if t, ok := wanted[id]; !ok || t.with(t.TCP4) != w.target.with(w.target.TCP4) || t.with(t.WSS) != w.target.with(w.target.WSS) {
			w.stop()
			delete(l.watched, id)
		}
	}
	for id, t := range wanted {
		if l.watched[id] != nil || l.ctx.Err() != nil {
			continue
		}
		ctx, stop := context.WithCancel(l.ctx)
		l.watched[id] = &watch{target: t, stop: stop}
		l.done.Go(func() { l.stay(ctx, t) })
	}
}

// stay keeps a connection to t until ctx ends.
func (l *Listener) stay(ctx context.Context, t Target) {
	wait := l.redial
	for ctx.Err() == nil {
		start := time.Now()
		if gone, err := l.connect(ctx, t); err == nil {
			select {
			case <-gone:
			case <-ctx.Done():
				_ = l.host.Network().ClosePeer(t.PeerID)
				return
			}
		}
		if time.Since(start) > maxRedial {
			wait = l.redial
		}
		// Spread, else all listeners come back at once when a relay has restarted.
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		wait = min(2*wait, maxRedial)
	}
}

// connect dials t, over tcp4 if it can. The channel is closed when the
// connection is gone.
func (l *Listener) connect(ctx context.Context, t Target) (<-chan struct{}, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	if err := l.opts.Pace.wait(ctx, string(t.PeerID)); err != nil {
		return nil, err
	}
	w := overTCP4
	if t.TCP4 == nil {
		w = overWSS
	}
	conn, err := w(dialer{&l.opts, new(evidence.Facts), new(line)}, ctx, t)
	if err != nil {
		return nil, err
	}
	noticed := noticedConn{conn, newSignal()}
	if _, err := l.host.adopt(ctx, noticed, t.PeerID); err != nil {
		return nil, err
	}
	return noticed.gone.done, nil
}

// heard remembers an announcement.
func (l *Listener) heard(h coord.Heard) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.last[h.PeerID]; ok && old.BroadcastedAt.After(h.BroadcastedAt) {
		return
	}
	if _, known := l.last[h.PeerID]; !known && len(l.last) >= maxHeard {
		var oldest peer.ID
		for id, o := range l.last {
			if oldest == "" || o.At.Before(l.last[oldest].At) {
				oldest = id
			}
		}
		delete(l.last, oldest)
	}
	l.last[h.PeerID] = h
	close(l.news)
	l.news = make(chan struct{})
}

// Last is the newest announcement of a peer, if it is not older than
// [coord.MaxAge]: an older one says nothing about now.
func (l *Listener) Last(id peer.ID) (coord.Heard, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, ok := l.last[id]
	return h, ok && time.Since(h.At) <= coord.MaxAge
}

// Wait is Last, as soon as there is one. It gives up when ctx ends.
func (l *Listener) Wait(ctx context.Context, id peer.ID) (coord.Heard, bool) {
	for {
		l.mu.Lock()
		news := l.news
		l.mu.Unlock()
		if h, ok := l.Last(id); ok {
			return h, true
		}
		select {
		case <-news:
		case <-ctx.Done():
			return coord.Heard{}, false
		case <-l.ctx.Done():
			return coord.Heard{}, false
		}
	}
}

// Heard lists what was heard of all peers, however old, the newest first.
func (l *Listener) Heard() []coord.Heard {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]coord.Heard, 0, len(l.last))
	for _, h := range l.last {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b coord.Heard) int { return b.At.Compare(a.At) })
	return list
}

// News is closed at the next announcement that is worth remembering.
func (l *Listener) News() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.news
}

// Connected counts the watched relays to which there is a connection now.
func (l *Listener) Connected() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for id := range l.watched {
		if l.host.Network().Connectedness(id) == network.Connected {
			n++
		}
	}
	return n
}

// noticedConn tells when it is closed, by whichever side: libp2p closes the
// connection below when the muxer above it ends.
type noticedConn struct {
	manet.Conn
	gone *signal
}

func (c noticedConn) Close() error {
	c.gone.close()
	return c.Conn.Close()
}

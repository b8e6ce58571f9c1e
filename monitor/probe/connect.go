package probe

import (
	"context"
	"sync"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// way is one of the two ways to a relay.
type way func(dialer, context.Context, Target) (manet.Conn, error)

var (
	overTCP4 way = dialer.tcp4
	overWSS  way = dialer.wss
)

// connect makes a host and connects it to the relay. It returns a host only when
// it is connected.
func (c *climb) connect(ctx context.Context, w way, as role, key crypto.PrivKey) (*peerHost, error) {
	conn, err := w(c.dialer(), ctx, c.target)
	if err != nil {
		return nil, err
	}
	h, err := newPeerHost(key, as)
	if err != nil {
		conn.Close()
		return nil, blind(evidence.OwnFault, err)
	}
	c.hosts = append(c.hosts, h)
	if _, err := h.adopt(ctx, conn, c.target.PeerID); err != nil {
		return nil, err
	}
	return h, nil
}

func (c *climb) dialer() dialer { return dialer{&c.opts, &c.attempt.Facts, &c.line} }

// toRelay is the connection of h to the relay, or nil when it is gone.
func (c *climb) toRelay(h *peerHost) network.Conn {
	for _, conn := range h.Network().ConnsToPeer(c.target.PeerID) {
		if !conn.IsClosed() {
			return conn
		}
	}
	return nil
}

// reconnect gives a peer that has lost its connection a new one, when the rung that
// needs it is tried again. A peer that was never connected stays so.
func (c *climb) reconnect(ctx context.Context, h **peerHost, w way, as role, key crypto.PrivKey) error {
	if c.try == 1 || *h == nil || c.toRelay(*h) != nil {
		return nil
	}
	(*h).Network().Close() // else two hosts of one key would be there
	again, err := c.connect(ctx, w, as, key)
	if err != nil {
		return err
	}
	*h = again
	return nil
}

// signal is a channel that may be closed more than once.
type signal struct {
	done chan struct{}
	once sync.Once
}

func newSignal() *signal { return &signal{done: make(chan struct{})} }
func (s *signal) close() { s.once.Do(func() { close(s.done) }) }

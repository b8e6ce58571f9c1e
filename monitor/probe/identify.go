package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// pings are how many round trips are measured: the first holds the negotiation
// of the protocol, and the smallest bounds the distance to the relay (rule R14).
const pings = 5

var errDropped = errors.New("the relay closed the connection that it had accepted")

// identify asks the relay who it is, and measures round trips.
func (c *climb) identify(ctx context.Context) error {
	if c.try > 1 { // go-libp2p asks once on each connection
		h, err := c.connect(ctx, overTCP4, dials, nil)
		if err != nil {
			return err
		}
		c.tcp, c.attempt.Facts.PingUS = h, nil
	}
	conn := c.toRelay(c.tcp)
	if conn == nil {
		return fail(evidence.Dropped, errDropped)
	}
	if err := c.identified(ctx, c.tcp, conn); err != nil {
		return err
	}
	if err := c.ping(ctx, conn); err != nil {
		if conn.IsClosed() && ctx.Err() == nil {
			return fail(evidence.Dropped, fmt.Errorf("%w: %w", errDropped, err))
		}
		return fail(evidence.PingFailed, err)
	}
	return nil
}

// identified waits until the relay's identify message is there, and keeps it.
func (c *climb) identified(ctx context.Context, h *peerHost, conn network.Conn) error {
	select {
	case <-h.IDService().IdentifyWait(conn):
	case <-ctx.Done():
		return fail(evidence.IdentifyTimeout, fmt.Errorf("identify: %w", ctx.Err()))
	}
	select {
	case e := <-h.failures.Out():
		reason := e.(event.EvtPeerIdentificationFailed).Reason
		if conn.IsClosed() {
			return fail(evidence.Dropped, fmt.Errorf("%w: identify: %w", errDropped, reason))
		}
		return timeoutOr(evidence.IdentifyTimeout, evidence.IdentifyFailed, fmt.Errorf("identify: %w", reason))
	default:
	}
	c.describe(h)
	return nil
}

// describe notes what the relay says of itself.
func (c *climb) describe(h *peerHost) {
	facts, id := &c.attempt.Facts, c.target.PeerID
	if v, err := h.Peerstore().Get(id, "AgentVersion"); err == nil {
		if agent, ok := v.(string); ok {
			facts.AgentVersion = clean(agent, maxAgent)
		}
	}
	protocols, err := h.Peerstore().GetProtocols(id)
	if err != nil {
		return
	}
	facts.Protocols = nil
	for _, p := range protocols[:min(len(protocols), maxProtocols)] {
		facts.Protocols = append(facts.Protocols, clean(string(p), maxText))
	}
	slices.Sort(facts.Protocols)
}

// ping measures round trips on one stream.
func (c *climb) ping(ctx context.Context, conn network.Conn) error {
	s, err := open(ctx, conn, ping.ID)
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	defer s.Reset()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	for range pings {
		start := time.Now()
		if err := echo(s, ping.PingSize); err != nil {
			return fmt.Errorf("ping: %w", err)
		}
		c.attempt.Facts.PingUS = append(c.attempt.Facts.PingUS, time.Since(start).Microseconds())
	}
	return nil
}

var errAltered = errors.New("the bytes that came back are not those that were sent")

// echo sends random bytes and reads as many back.
func echo(s io.ReadWriter, size int) error {
	sent, back := make([]byte, size), make([]byte, size)
	rand.Read(sent) // never fails
	if _, err := s.Write(sent); err != nil {
		return err
	}
	if _, err := io.ReadFull(s, back); err != nil {
		return err
	}
	if !bytes.Equal(sent, back) {
		return errAltered
	}
	return nil
}

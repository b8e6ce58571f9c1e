package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// echoed is how much goes through the circuit and back. The protocol is ping,
// whose handler gives every 32 bytes back: a protocol of our own would stand in
// what A's identify tells the relay.
const echoed = 4096

// roomy is a data limit with which nothing of this can be too much: handshake,
// identify of both peers, and the echo.
const roomy = 32 << 10

// circuit lets peer B, connected over tcp4, dial A through the relay.
func (c *climb) circuit(ctx context.Context) error {
	if err := c.reconnect(ctx, &c.tcp, overTCP4, dials, nil); err != nil {
		return err
	}
	b, over := c.tcp, ""
	if b == nil {
		h, err := c.connect(ctx, overWSS, dials, nil)
		if err != nil {
			return err
		}
		b, over = h, "over wss, since no tcp4 address was given"
	}
	if c.opts.meddle != nil {
		c.opts.meddle(c.a, b)
	}
	conn, limit, err := c.through(ctx, b)
	if err != nil {
		return err
	}
	if !c.relayed(conn.RemoteMultiaddr()) {
		return blind(evidence.NotRelayed, fmt.Errorf("peer A was reached at %s, not through the relay", conn.RemoteMultiaddr()))
	}
	c.attempt.Facts.CircuitAddr = conn.RemoteMultiaddr().String()

	s, err := open(ctx, conn, ping.ID)
	if err != nil {
		return cut(ctx, limit, "shake hands through the circuit", err)
	}
	// B believed in the handshake as soon as it had sent its last message; only a
	// round trip inside shows that A has finished it, too.
	c.attempt.Level = evidence.LevelHandshake
	defer s.Reset()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	if err := echo(s, echoed); errors.Is(err, errAltered) {
		return blind(evidence.EchoAltered, err)
	} else if err != nil {
		return cut(ctx, limit, fmt.Sprintf("echo %d bytes through the circuit", echoed), err)
	}
	c.attempt.Level = evidence.LevelEchoed
	if over != "" {
		return remark(over)
	}
	return nil
}

// through asks the relay for a circuit to A and returns B's connection to A, and
// the relay's data limit.
func (c *climb) through(ctx context.Context, b *peerHost) (network.Conn, int64, error) {
	s, answer, err := c.ask(ctx, b, &pb.HopMessage{
		Type: pb.HopMessage_CONNECT.Enum(),
		Peer: &pb.Peer{Id: []byte(c.a.ID())},
	}, evidence.CircuitTimeout, evidence.CircuitFailed)
	if err != nil {
		return nil, 0, err
	}
	status := answer.GetStatus()
	c.attempt.Facts.HopConnect = int32(status)
	if status != pb.Status_OK {
		s.Reset()
		err := refusal("connect", status)
		switch status {
		case pb.Status_RESERVATION_REFUSED, pb.Status_RESOURCE_LIMIT_EXCEEDED:
			return nil, 0, busy(evidence.CircuitBusy, err)
		case pb.Status_PERMISSION_DENIED:
			return nil, 0, fail(evidence.CircuitDenied, err)
		case pb.Status_NO_RESERVATION:
			return nil, 0, fail(evidence.CircuitNoReservation, err)
		case pb.Status_CONNECTION_FAILED:
			return nil, 0, fail(evidence.CircuitNotConnected, err)
		}
		return nil, 0, fail(evidence.CircuitFailed, err)
	}
	c.attempt.Level = evidence.LevelConnected
	limit := int64(min(answer.GetLimit().GetData(), maxLimit))
	if limit == 0 {
		limit = c.attempt.Facts.Reservation.LimitBytes
	}
	s.SetDeadline(time.Time{}) // the handshake sets its own
	relay := s.Conn()
	remote := slices.Concat(relay.RemoteMultiaddr(), ma.StringCast("/p2p/"+c.target.PeerID.String()+"/p2p-circuit"))
	conn, err := b.adopt(ctx, circuitConn{s, remote, answer.GetLimit() != nil}, c.a.ID())
	if err == nil {
		return conn, limit, nil
	}
	if f := new(fault); errors.As(err, &f) {
		switch f.class {
		case evidence.WrongPeer:
			return nil, 0, fail(evidence.CircuitWrongPeer, f.err)
		case evidence.HandshakeFailed, evidence.HandshakeTimeout:
			return nil, 0, cut(ctx, limit, "through the circuit", f.err)
		}
	}
	return nil, 0, err
}

// cut says why a circuit that was open did not carry the bytes.
func cut(ctx context.Context, limit int64, what string, err error) *fault {
	err = fmt.Errorf("%s: %w", what, err)
	switch {
	case limit > 0 && limit < roomy:
		return fail(evidence.LimitTooSmall, fmt.Errorf("data limit of %d bytes: %w", limit, err))
	case ctx.Err() != nil:
		return fail(evidence.CircuitTimeout, err)
	}
	return timeoutOr(evidence.CircuitTimeout, evidence.CircuitCut, err)
}

// relayed says whether addr leads through the relay that is probed.
func (c *climb) relayed(addr ma.Multiaddr) bool {
	relay, rest := ma.SplitFunc(addr, func(p ma.Component) bool { return p.Protocol().Code == ma.P_CIRCUIT })
	if rest == nil || relay == nil {
		return false
	}
	id, err := peer.IDFromP2PAddr(relay)
	return err == nil && id == c.target.PeerID
}

// circuitConn makes the stream of an answered CONNECT the connection on which
// the two peers shake hands.
type circuitConn struct {
	network.Stream
	remote  ma.Multiaddr
	limited bool
}

func (c circuitConn) Close() error                  { return c.Reset() }
func (c circuitConn) RemoteMultiaddr() ma.Multiaddr { return c.remote }
func (c circuitConn) LocalMultiaddr() ma.Multiaddr  { return c.Conn().LocalMultiaddr() }
func (c circuitConn) LocalAddr() net.Addr           { return circuitAddr{} }
func (c circuitConn) RemoteAddr() net.Addr          { return circuitAddr{} }

// Stat tells libp2p to treat the connection as a limited one.
func (c circuitConn) Stat() network.ConnStats {
	return network.ConnStats{Stats: network.Stats{Limited: c.limited}}
}

type circuitAddr struct{}

func (circuitAddr) Network() string { return "libp2p-circuit-relay" }
func (circuitAddr) String() string  { return "p2p-circuit" }

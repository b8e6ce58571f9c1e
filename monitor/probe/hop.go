package probe

import (
	"context"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/network"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// maxHop bounds a message of the hop protocol, as in go-libp2p.
const maxHop = 4096

// ask sends one request of the hop protocol and returns the relay's answer, with
// the stream: after a CONNECT it is the circuit. go-libp2p's own client is not
// used because it throws the voucher's signed bytes away, and hides the status
// of a CONNECT in text.
func (c *climb) ask(ctx context.Context, h *peerHost, request *pb.HopMessage, late, failed evidence.Class) (network.Stream, *pb.HopMessage, error) {
	conn := c.toRelay(h)
	if conn == nil {
		return nil, nil, fail(evidence.Dropped, errDropped)
	}
	broke := func(what string, err error) error {
		err = fmt.Errorf("%s: %w", what, err)
		switch {
		case unsupported(err):
			return fail(evidence.NoHop, err)
		case ctx.Err() != nil:
			return fail(late, err)
		case conn.IsClosed():
			return fail(evidence.Dropped, fmt.Errorf("%w: %w", errDropped, err))
		}
		return timeoutOr(late, failed, err)
	}
	s, err := open(ctx, conn, proto.ProtoIDv2Hop)
	if err != nil {
		return nil, nil, broke("open a stream to the relay service", err)
	}
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	if err := util.NewDelimitedWriter(s).WriteMsg(request); err != nil {
		s.Reset()
		return nil, nil, broke("send the request", err)
	}
	rd := util.NewDelimitedReader(s, maxHop)
	defer rd.Close()
	answer := new(pb.HopMessage)
	if err := rd.ReadMsg(answer); err != nil {
		s.Reset()
		return nil, nil, broke("read the relay's answer", err)
	}
	if answer.GetType() != pb.HopMessage_STATUS || answer.Status == nil {
		s.Reset()
		return nil, nil, fail(failed, errors.New("the relay's answer holds no status"))
	}
	return s, answer, nil
}

// refusal words a status that is not OK.
func refusal(what string, status pb.Status) error {
	return fmt.Errorf("%s: status %s (%d)", what, status, int32(status))
}

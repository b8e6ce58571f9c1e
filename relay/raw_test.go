package relay

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
)

// acceptRaw has h take circuits and hand each to serve as it comes, without a
// libp2p connection in it.
func acceptRaw(h host.Host, serve func(network.Stream)) {
	h.SetStreamHandler(proto.ProtoIDv2Stop, func(s network.Stream) {
		_ = s.SetDeadline(time.Now().Add(patience))
		var m pbv2.StopMessage
		if _, err := readFrame(s, &m); err != nil {
			_ = s.Reset()
			return
		}
		yes := &pbv2.StopMessage{Type: pbv2.StopMessage_STATUS.Enum(), Status: pbv2.Status_OK.Enum()}
		if err := util.NewDelimitedWriter(s).WriteMsg(yes); err != nil {
			_ = s.Reset()
			return
		}
		_ = s.SetDeadline(time.Time{}) // it ends with the host
		serve(s)
	})
}

// relayAnswer is a status other than OK, as an error.
type relayAnswer pbv2.Status

func (a relayAnswer) Error() string { return "the relay answers " + pbv2.Status(a).String() }

// openRaw opens a circuit from a peer that is connected to the relay. Unlike
// libp2p's client it opens as many to one peer as it is told.
func openRaw(ctx context.Context, from host.Host, relay, to peer.ID) (network.Stream, error) {
	s, err := from.NewStream(ctx, relay, proto.ProtoIDv2Hop)
	if err != nil {
		return nil, err
	}
	_ = s.SetDeadline(time.Now().Add(patience))
	var m pbv2.HopMessage
	err = util.NewDelimitedWriter(s).WriteMsg(&pbv2.HopMessage{
		Type: pbv2.HopMessage_CONNECT.Enum(), Peer: &pbv2.Peer{Id: []byte(to)},
	})
	if err == nil {
		_, err = readFrame(s, &m)
	}
	if err == nil && m.GetStatus() != pbv2.Status_OK {
		err = relayAnswer(m.GetStatus())
	}
	if err != nil {
		_ = s.Reset()
		return nil, err
	}
	return s, nil
}

func mustOpenRaw(t testing.TB, from host.Host, relay, to peer.ID) network.Stream {
	t.Helper()
	s, err := openRaw(testContext(t), from, relay, to)
	must(t, err)
	return s
}

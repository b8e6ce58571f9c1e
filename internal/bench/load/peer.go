// Package load is the clients of a benchmark. They speak libp2p down to the bytes
// of identify and Circuit Relay v2 themselves, on top of the library's transports:
// a whole host for each of 5,000 peers would cost the clients more than the relay.
package load

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/record"
	"github.com/libp2p/go-libp2p/core/transport"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	pbid "github.com/libp2p/go-libp2p/p2p/protocol/identify/pb"
	ma "github.com/multiformats/go-multiaddr"
	mss "github.com/multiformats/go-multistream"
	pb "google.golang.org/protobuf/proto"
)

// Target is the program under test, as its clients see it.
type Target struct {
	Name  string
	PID   int
	ID    peer.ID                   `json:",omitzero"` // of a relay
	Addrs map[string]netip.AddrPort // by transport: tcp, quic, wss, tls (a proxy)
	CA    string                    // PEM of the CA that vouches for wss and tls
}

const (
	protoIdentify = "/ipfs/id/1.0.0"
	protoPush     = "/ipfs/id/push/1.0.0"
	protoPing     = "/ipfs/ping/1.0.0" // by which js-libp2p watches over connections
)

// patience bounds each exchange of a client.
const patience = 15 * time.Second

// Peer is a client with its connection to the relay.
type Peer struct {
	ID         peer.ID
	key        crypto.PrivKey
	conn       transport.CapableConn
	identified chan struct{} // closed when the relay has asked who this is
	once       sync.Once
	circuits   chan io.ReadWriteCloser // that others opened to this peer
}

// Dial connects a new peer over a transport such as tcp/noise, from the address
// of the nth client.
func Dial(ctx context.Context, to Target, over string, n int) (*Peer, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := dial(ctx, key, to, over, n)
	if err != nil {
		return nil, fmt.Errorf("connect over %s: %w", over, err)
	}
	p := &Peer{ID: id, key: key, conn: conn, identified: make(chan struct{}), circuits: make(chan io.ReadWriteCloser, 256)}
	go p.serve()
	return p, nil
}

// Close closes the connection.
func (p *Peer) Close() error { return p.conn.Close() }

// Connected says whether the relay still keeps the connection.
func (p *Peer) Connected() bool { return !p.conn.IsClosed() }

// serve answers what the relay asks, as any client does, until the connection ends.
func (p *Peer) serve() {
	mux := mss.NewMultistreamMuxer[protocol.ID]()
	handle := func(id protocol.ID, f func(network.MuxedStream) error) {
		mux.AddHandler(id, func(_ protocol.ID, rwc io.ReadWriteCloser) error {
			s := rwc.(network.MuxedStream)
			err := f(s)
			if err != nil {
				_ = s.Reset() // nobody is left to tell
			}
			return err
		})
	}
	handle(protoIdentify, p.introduce)
	handle(protoPush, func(s network.MuxedStream) error {
		_, err := io.Copy(io.Discard, io.LimitReader(s, 64<<10))
		return errors.Join(err, s.Close())
	})
	handle(protoPing, func(s network.MuxedStream) error {
		_, err := io.Copy(s, s)
		return errors.Join(err, s.Close())
	})
	handle(proto.ProtoIDv2Stop, p.accept)
	for {
		s, err := p.conn.AcceptStream()
		if err != nil {
			return
		}
		go func() {
			if id, h, err := mux.Negotiate(s); err != nil {
				_ = s.Reset()
			} else {
				_ = h(id, s) // the handler has ended the stream
			}
		}()
	}
}

// introduce answers identify with what go-libp2p's hosts say, a signed record of
// their addresses among it.
func (p *Peer) introduce(s network.MuxedStream) error {
	defer p.once.Do(func() { close(p.identified) })
	public, err := crypto.MarshalPublicKey(p.key.GetPublic())
	if err != nil {
		return err
	}
	mine := p.conn.LocalMultiaddr()
	envelope, err := record.Seal(peer.PeerRecordFromAddrInfo(peer.AddrInfo{ID: p.ID, Addrs: []ma.Multiaddr{mine}}), p.key)
	if err != nil {
		return err
	}
	signed, err := envelope.Marshal()
	if err != nil {
		return err
	}
	err = util.NewDelimitedWriter(s).WriteMsg(&pbid.Identify{
		ProtocolVersion:  pb.String("ipfs/0.1.0"),
		AgentVersion:     pb.String("relay-bench"),
		PublicKey:        public,
		ListenAddrs:      [][]byte{mine.Bytes()},
		ObservedAddr:     p.conn.RemoteMultiaddr().Bytes(),
		Protocols:        []string{protoIdentify, protoPush, protoPing, string(proto.ProtoIDv2Stop)},
		SignedPeerRecord: signed,
	})
	return errors.Join(err, s.Close())
}

// Identify asks the relay who it is, and waits until it has asked the same.
func (p *Peer) Identify(ctx context.Context) error {
	s, err := p.open(ctx, protoIdentify)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(s, 64<<10))
	_ = s.Close() // a QUIC stream that the other side has ended refuses it
	if err != nil {
		return fmt.Errorf("identify: %w", err)
	}
	if len(answer) == 0 {
		return errors.New("identify: an empty answer")
	}
	select {
	case <-p.identified:
		return nil
	case <-time.After(patience):
		return errors.New("identify: the relay did not ask")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Reserve asks for a reservation.
func (p *Peer) Reserve(ctx context.Context) error {
	s, err := p.hop(ctx, &pbv2.HopMessage{Type: pbv2.HopMessage_RESERVE.Enum()})
	if err != nil {
		return fmt.Errorf("reserve: %w", err)
	}
	_ = s.Close() // as above
	return nil
}

// Connect opens a circuit to a peer with a reservation.
func (p *Peer) Connect(ctx context.Context, to peer.ID) (network.MuxedStream, error) {
	s, err := p.hop(ctx, &pbv2.HopMessage{Type: pbv2.HopMessage_CONNECT.Enum(), Peer: &pbv2.Peer{Id: []byte(to)}})
	if err != nil {
		return nil, fmt.Errorf("open a circuit: %w", err)
	}
	return s, s.SetDeadline(time.Time{})
}

// hop makes a request of the relay and returns the stream on which it was granted.
func (p *Peer) hop(ctx context.Context, request *pbv2.HopMessage) (network.MuxedStream, error) {
	s, err := p.open(ctx, proto.ProtoIDv2Hop)
	if err != nil {
		return nil, err
	}
	var answer pbv2.HopMessage
	if err = util.NewDelimitedWriter(s).WriteMsg(request); err == nil {
		rd := util.NewDelimitedReader(s, 4096)
		err = rd.ReadMsg(&answer)
		rd.Close()
	}
	if err == nil && answer.GetStatus() != pbv2.Status_OK {
		err = errors.New(answer.GetStatus().String())
	}
	if err != nil {
		_ = s.Reset()
		return nil, err
	}
	return s, nil
}

// accept lets a circuit in that the relay brings.
func (p *Peer) accept(s network.MuxedStream) error {
	var request pbv2.StopMessage
	rd := util.NewDelimitedReader(s, 4096)
	err := rd.ReadMsg(&request)
	rd.Close()
	if err != nil {
		return err
	}
	if err := util.NewDelimitedWriter(s).WriteMsg(&pbv2.StopMessage{Type: pbv2.StopMessage_STATUS.Enum(), Status: pbv2.Status_OK.Enum()}); err != nil {
		return err
	}
	select {
	case p.circuits <- s:
		return nil
	default:
		return errors.New("nobody takes the circuits")
	}
}

// open opens a stream for a protocol. Its deadline is set.
func (p *Peer) open(ctx context.Context, id protocol.ID) (network.MuxedStream, error) {
	s, err := p.conn.OpenStream(ctx)
	if err != nil {
		return nil, fmt.Errorf("open a stream: %w", err)
	}
	if err = s.SetDeadline(time.Now().Add(patience)); err == nil {
		err = mss.SelectProtoOrFail(id, s)
	}
	if err != nil {
		_ = s.Reset()
		return nil, fmt.Errorf("agree on %s: %w", id, err)
	}
	return s, nil
}

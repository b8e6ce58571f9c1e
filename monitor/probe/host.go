package probe

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	mss "github.com/multiformats/go-multistream"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// What every host of go-libp2p says of itself when nobody told it otherwise: it
// does not single the prober out.
const (
	agentVersion    = "github.com/libp2p/go-libp2p"
	protocolVersion = "ipfs/0.1.0"
)

// peerHost is a libp2p host that is connected to what adopt was given, and to
// nothing else. It offers identify, ping and, if it takes circuits, stop: the
// protocols of any client.
type peerHost struct {
	*basichost.BasicHost
	upgrader transport.Upgrader
	rcmgr    network.ResourceManager
	ready    atomic.Pointer[transport.CapableConn]
	failures event.Subscription // of identify
}

// role is how a host is reached.
type role int

const (
	dials        role = iota // not at all
	dialsMany                // nor here, but it is a listener
	takesCircuit             // through relays
	serves                   // on a port of 127.0.0.1 that the kernel chooses: only the loopback relay
)

// newPeerHost makes a host with Noise and yamux only, which is what a browser
// has. A nil key makes a new identity.
func newPeerHost(key crypto.PrivKey, as role) (_ *peerHost, err error) {
	if key == nil {
		if key, _, err = crypto.GenerateEd25519Key(rand.Reader); err != nil {
			return nil, err
		}
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	var undo []io.Closer
	defer func() {
		if err != nil {
			for _, c := range undo {
				c.Close()
			}
		}
	}()
	store, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, err
	}
	undo = append(undo, store)
	if err := errors.Join(store.AddPrivKey(id, key), store.AddPubKey(id, key.GetPublic())); err != nil {
		return nil, err
	}
	peers := fewPeers
	if as == dialsMany {
		peers = maxWatched
	}
	limiter, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits(peers)))
	if err != nil {
		return nil, err
	}
	undo = append(undo, limiter)
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
	security, err := noise.New(noise.ID, key, muxers)
	if err != nil {
		return nil, err
	}
	// The handshake through a circuit has as long as the rung, at both ends.
	up, err := upgrader.New([]sec.SecureTransport{security}, muxers, nil, limiter, nil, upgrader.WithAcceptTimeout(circuitDeadline))
	if err != nil {
		return nil, err
	}
	bus := eventbus.NewBus()
	net, err := swarm.NewSwarm(id, store, bus,
		swarm.WithResourceManager(limiter),
		swarm.WithDialRanker(swarm.NoDelayDialRanker),
		swarm.WithUDPBlackHoleSuccessCounter(nil),
		swarm.WithIPv6BlackHoleSuccessCounter(nil))
	if err != nil {
		return nil, err
	}
	undo = append([]io.Closer{net}, undo...)
	h := &peerHost{upgrader: up, rcmgr: limiter}
	// Before the first connection is made, else its identification may be missed.
	if h.failures, err = bus.Subscribe(new(event.EvtPeerIdentificationFailed)); err != nil {
		return nil, err
	}
	h.BasicHost, err = basichost.NewHost(net, &basichost.HostOpts{
		EventBus:        bus,
		EnablePing:      true,
		UserAgent:       agentVersion,
		ProtocolVersion: protocolVersion,
	})
	if err != nil {
		return nil, err
	}
	undo = []io.Closer{h.BasicHost} // closes all of them
	switch as {
	case serves:
		tpt, err := tcp.NewTCPTransport(up, limiter, nil)
		if err != nil {
			return nil, err
		}
		if err := net.AddTransport(tpt); err != nil {
			return nil, err
		}
		if err := net.Listen(ma.StringCast("/ip4/127.0.0.1/tcp/0")); err != nil {
			return nil, err
		}
	case takesCircuit:
		if err := net.AddTransport(&handover{host: h, protocols: []int{ma.P_TCP, ma.P_WSS}}); err != nil {
			return nil, err
		}
		if err := client.AddTransport(h, up); err != nil {
			return nil, err
		}
	default:
		if err := net.AddTransport(&handover{host: h, protocols: []int{ma.P_TCP, ma.P_WSS, ma.P_CIRCUIT}}); err != nil {
			return nil, err
		}
	}
	h.Start()
	return h, nil
}

func (h *peerHost) close() {
	h.failures.Close()
	h.Close()
}

// Hosts have connections to few others: one to a relay, and the circuits through
// it; a listener one to each relay that it watches.
const fewPeers = 8

// limits bound a host that has connections to so many peers. No single peer gets
// more than its share.
func limits(peers int) rcmgr.ConcreteLimitConfig {
	of := func(peers int) rcmgr.ResourceLimits {
		return rcmgr.BaseLimit{
			Conns: 2 * peers, ConnsInbound: peers, ConnsOutbound: peers,
			Streams: 16 * peers, StreamsInbound: 8 * peers, StreamsOutbound: 8 * peers,
			FD: 2 * peers, Memory: int64(peers) << 23,
		}.ToResourceLimits()
	}
	all, one := of(peers), of(fewPeers)
	return rcmgr.PartialLimitConfig{
		System: all, Transient: all, AllowlistedSystem: all, AllowlistedTransient: all,
		ServiceDefault: all, ProtocolDefault: all,
		ServicePeerDefault: one, ProtocolPeerDefault: one, PeerDefault: one, Conn: one, Stream: one,
	}.Build(rcmgr.InfiniteLimits)
}

// adopt makes conn a libp2p connection to id, which the host then has.
func (h *peerHost) adopt(ctx context.Context, conn manet.Conn, id peer.ID) (network.Conn, error) {
	scope, err := h.rcmgr.OpenConnection(network.DirOutbound, false, conn.RemoteMultiaddr())
	if err != nil {
		conn.Close()
		return nil, blind(evidence.OwnFault, err)
	}
	if err := scope.SetPeer(id); err != nil {
		scope.Done()
		conn.Close()
		return nil, blind(evidence.OwnFault, err)
	}
	capable, err := h.upgrader.Upgrade(ctx, &handover{host: h}, conn, network.DirOutbound, id, scope)
	if err != nil {
		conn.Close()
		var other sec.ErrPeerIDMismatch
		if errors.As(err, &other) {
			return nil, fail(evidence.WrongPeer, fmt.Errorf("asked for %s, but %s answers", other.Expected, other.Actual))
		}
		if ctx.Err() != nil {
			return nil, fail(evidence.HandshakeTimeout, fmt.Errorf("libp2p handshake: %w", ctx.Err()))
		}
		if dropped(conn) {
			return nil, fail(evidence.Dropped, fmt.Errorf("%w: libp2p handshake: %w", errDropped, err))
		}
		return nil, timeoutOr(evidence.HandshakeTimeout, evidence.HandshakeFailed, fmt.Errorf("libp2p handshake: %w", err))
	}
	h.ready.Store(&capable)
	h.Peerstore().AddAddr(id, conn.RemoteMultiaddr(), peerstore.TempAddrTTL)
	got, err := h.Network().DialPeer(ctx, id)
	if unused := h.ready.Swap(nil); unused != nil {
		(*unused).Close() // the swarm had a connection already and gave that
	}
	if err != nil {
		return nil, fmt.Errorf("hand the connection to the swarm: %w", err)
	}
	return got, nil
}

// handover is the one transport with which a host's swarm can "dial": it gives
// out the connection that adopt has made ready.
type handover struct {
	host *peerHost
	// With circuits it hands over those, too, unless go-libp2p's own client takes them.
	protocols []int
}

var errNothingReady = errors.New("the host may dial nothing by itself")

func (t *handover) Dial(_ context.Context, _ ma.Multiaddr, id peer.ID) (transport.CapableConn, error) {
	conn := t.host.ready.Swap(nil)
	if conn == nil {
		return nil, errNothingReady
	}
	if (*conn).RemotePeer() != id {
		(*conn).Close()
		return nil, errNothingReady
	}
	return *conn, nil
}

func (t *handover) CanDial(ma.Multiaddr) bool { return true }
func (t *handover) Proxy() bool               { return false }

func (t *handover) Protocols() []int { return t.protocols }

func (t *handover) Listen(ma.Multiaddr) (transport.Listener, error) {
	return nil, errors.New("the host listens nowhere")
}

// SkipResolve keeps the swarm from looking up names of its own accord.
func (t *handover) SkipResolve(context.Context, ma.Multiaddr) bool { return true }

// open opens a stream for proto on this very connection.
func open(ctx context.Context, conn network.Conn, proto protocol.ID) (network.Stream, error) {
	s, err := conn.NewStream(network.WithAllowLimitedConn(ctx, "probe"))
	if err != nil {
		return nil, err
	}
	if d, ok := ctx.Deadline(); ok {
		s.SetDeadline(d)
	}
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	if err := mss.SelectProtoOrFail(proto, s); err != nil {
		s.Reset()
		return nil, err
	}
	if err := s.SetProtocol(proto); err != nil {
		s.Reset()
		return nil, err
	}
	return s, nil
}

// unsupported says whether the other side does not know the protocol.
func unsupported(err error) bool {
	var e mss.ErrNotSupported[protocol.ID]
	return errors.As(err, &e)
}

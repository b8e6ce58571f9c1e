package circuit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	msmux "github.com/multiformats/go-multistream"
	pb "google.golang.org/protobuf/proto"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/refusal"
)

// The times and sizes of the protocol; the specification leaves them to the relay.
const (
	// ReservationTTL is how long a reservation lasts unless it is prolonged; clients
	// do so shortly before its end. The relay signs its end: a monitor counts what lasts
	// longer than 3 hours as signed beforehand (rule R6).
	ReservationTTL = time.Hour
	// requestTime is how long a peer may take to say what it wants of the relay, and to
	// take the answer.
	requestTime = 15 * time.Second
	// stopTime is how long the peer with the reservation may take to accept a circuit.
	stopTime = time.Minute
	// maxMessage is the longest message that is read, in bytes.
	maxMessage = 4096
)

// serve answers one request: https://github.com/libp2p/specs/blob/master/relay/circuit-v2.md#hop-protocol
func (svc *Service) serve(s network.Stream) {
	release, err := charged(s)
	if err != nil {
		svc.Refused("", refusal.Resources, refusal.Peer(s.Conn().RemotePeer()))
		_ = s.ResetWithError(network.StreamResourceLimitExceeded)
		return
	}
	defer release()
	_ = s.SetReadDeadline(time.Now().Add(requestTime)) // a stream that cannot have one fails on read
	var m pbv2.HopMessage
	err = read(s, &m)
	_ = s.SetReadDeadline(time.Time{})
	switch {
	case err != nil || m.Type == nil:
		svc.refuse(s, pbv2.HopMessage_STATUS, refusal.Malformed)
	case m.GetType() == pbv2.HopMessage_RESERVE:
		svc.metrics.ReservationRequestHandled(svc.serveReserve(s))
	case m.GetType() == pbv2.HopMessage_CONNECT:
		svc.metrics.ConnectionRequestHandled(svc.serveConnect(s, m.GetPeer()))
	default:
		svc.refuse(s, m.GetType(), refusal.Malformed)
	}
}

// charged puts a stream and its messages on the account of the relay service.
func charged(s network.Stream) (release func(), err error) {
	if err := s.Scope().SetService(relayv2.ServiceName); err != nil {
		return nil, err
	}
	if err := s.Scope().ReserveMemory(maxMessage, network.ReservationPriorityAlways); err != nil {
		return nil, err
	}
	return func() { s.Scope().ReleaseMemory(maxMessage) }, nil
}

// read reads one message, and not a byte behind it.
func read(from io.Reader, m pb.Message) error {
	r := util.NewDelimitedReader(from, maxMessage)
	defer r.Close()
	return r.ReadMsg(m)
}

// serveReserve gives a peer a reservation, or prolongs it.
func (svc *Service) serveReserve(s network.Stream) pbv2.Status {
	const request = pbv2.HopMessage_RESERVE
	conn, now := s.Conn(), time.Now()
	ip, err := svc.mayAsk(conn, now)
	if err != nil {
		return svc.refuse(s, request, err)
	}
	got, err := svc.reserve(conn, ip, now)
	if err != nil {
		return svc.refuse(s, request, err)
	}
	if conn.IsClosed() { // before it had the reservation: then nobody took it back
		svc.left(conn)
	}
	if got.gone != "" {
		svc.giveWay(got.gone)
	}
	p := conn.RemotePeer()
	answer, err := svc.grant(p, got.until, now)
	if err == nil {
		err = svc.answer(s, answer)
	}
	if err != nil {
		if got.fresh {
			svc.reservations.free(p, got.until)
		}
		_ = s.ResetWithError(network.StreamProtocolViolation)
		return pbv2.Status_CONNECTION_FAILED
	}
	if !got.fresh {
		svc.metrics.ReservationAllowed(true)
	}
	_ = s.Close()
	return pbv2.Status_OK
}

// mayAsk says whether requests on a connection are served now, and charges one.
func (svc *Service) mayAsk(conn network.Conn, now time.Time) (ip netip.Prefix, err error) {
	p, addr := conn.RemotePeer(), conn.RemoteMultiaddr()
	if svc.banned.bans(p, addr) {
		return ip, refusal.Banned
	}
	if ip, err = config.PrefixOf(addr); err != nil {
		return ip, refusal.Relayed
	}
	return ip, svc.budget.admit(p, ip, now)
}

// grant tells a peer of its reservation: until when, at which addresses others
// reach it through the relay, and the voucher. Its limit is that of a circuit between
// guests, if the peer is no member.
func (svc *Service) grant(p peer.ID, expires, now time.Time) (*pbv2.HopMessage, error) {
	voucher, err := record.Seal(&proto.ReservationVoucher{Relay: svc.host.ID(), Peer: p, Expiration: expires}, svc.key)
	if err != nil {
		return nil, fmt.Errorf("sign a voucher: %w", err)
	}
	signed, err := voucher.Marshal()
	if err != nil {
		return nil, fmt.Errorf("sign a voucher: %w", err)
	}
	expire := uint64(expires.Unix())
	m := &pbv2.HopMessage{
		Type: pbv2.HopMessage_STATUS.Enum(), Status: pbv2.Status_OK.Enum(),
		Reservation: &pbv2.Reservation{Expire: &expire, Addrs: svc.addrs(now), Voucher: signed},
	}
	if !svc.Member(p) {
		m.Limit = svc.guestLimit().message()
	}
	return m, nil
}

// addrsEvery is how long the relay's addresses are told as they were found once: finding
// them costs as much as signing a voucher.
const addrsEvery = time.Second

// addrs are the relay's addresses in reservations, each with /p2p/ID.
func (svc *Service) addrs(now time.Time) [][]byte {
	last := svc.told.Load()
	if last != nil && now.Sub(last.at) < addrsEvery {
		return last.addrs
	}
	next := &told{at: now}
	for _, a := range svc.host.Addrs() {
		if svc.tells(a) {
			next.addrs = append(next.addrs, slices.Clip(a).AppendComponent(svc.self).Bytes())
		}
	}
	svc.told.Store(next)
	return next.addrs
}

// serveConnect opens a circuit to the peer with a reservation.
func (svc *Service) serveConnect(s network.Stream, to *pbv2.Peer) pbv2.Status {
	const request = pbv2.HopMessage_CONNECT
	conn, now := s.Conn(), time.Now()
	ip, err := svc.mayAsk(conn, now)
	if err != nil {
		return svc.refuse(s, request, err)
	}
	dest, err := peer.IDFromBytes(to.GetId())
	if err != nil {
		return svc.refuse(s, request, refusal.Malformed)
	}
	if svc.banned.bans(dest, nil) {
		return svc.refuse(s, request, refusal.Banned)
	}
	over := svc.reservations.conn(dest, now)
	if over == nil {
		return svc.refuse(s, request, refusal.NoHolder)
	}
	src := conn.RemotePeer()
	c, err := svc.openCircuit(s, src, dest, ip, svc.classOf(src, dest, now), now)
	if err != nil {
		return svc.refuse(s, request, err)
	}
	release, err := c.connect(over)
	if err != nil {
		c.end()
		return svc.refuse(s, request, err)
	}
	defer release()
	err = svc.answer(s, &pbv2.HopMessage{Type: pbv2.HopMessage_STATUS.Enum(), Status: pbv2.Status_OK.Enum(), Limit: c.limit.message()})
	if err != nil {
		c.reset(network.StreamProtocolViolation)
		c.end()
		return pbv2.Status_CONNECTION_FAILED
	}
	c.begin()
	return pbv2.Status_OK
}

// connect asks the peer with the reservation to accept the circuit, over the connection
// of its latest RESERVE: https://github.com/libp2p/specs/blob/master/relay/circuit-v2.md#stop-protocol
func (c *circuit) connect(over network.Conn) (release func(), err error) {
	if err := c.memory.ReserveMemory(2*c.service.buffer, network.ReservationPriorityHigh); err != nil {
		return nil, refusal.Resources
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	s, err := over.NewStream(ctx)
	if err != nil {
		return nil, errors.Join(refusal.NotTaken, err)
	}
	if !c.opened(s) {
		return nil, refusal.NotTaken // a ban, say, has ended it meanwhile
	}
	fail := func(why error, code network.StreamErrorCode) (func(), error) {
		_ = s.ResetWithError(code)
		return nil, why
	}
	if err := s.SetProtocol(proto.ProtoIDv2Stop); err != nil {
		return fail(refusal.Resources, network.StreamResourceLimitExceeded)
	}
	release, err = charged(s)
	if err != nil {
		return fail(refusal.Resources, network.StreamResourceLimitExceeded)
	}
	_ = s.SetDeadline(time.Now().Add(stopTime)) // a stream that cannot have one fails on write
	if err := c.ask(s); err != nil {
		release()
		return fail(errors.Join(refusal.NotTaken, err), network.StreamProtocolViolation)
	}
	_ = s.SetDeadline(time.Time{})
	return release, nil
}

// ask sends the request to accept the circuit, and reads the answer. The choice of the
// protocol travels with the request.
func (c *circuit) ask(s network.Stream) error {
	negotiated := msmux.NewMSSelect(s, proto.ProtoIDv2Stop)
	request := &pbv2.StopMessage{Type: pbv2.StopMessage_CONNECT.Enum(), Peer: &pbv2.Peer{Id: []byte(c.src)}, Limit: c.limit.message()}
	if err := util.NewDelimitedWriter(negotiated).WriteMsg(request); err != nil {
		return err
	}
	var m pbv2.StopMessage
	if err := read(negotiated, &m); err != nil {
		return err
	}
	if m.GetType() != pbv2.StopMessage_STATUS || m.GetStatus() != pbv2.Status_OK {
		return fmt.Errorf("it answered %s, %s", m.GetType(), m.GetStatus())
	}
	return nil
}

// answer sends the answer to a request.
func (svc *Service) answer(s network.Stream, m *pbv2.HopMessage) error {
	_ = s.SetWriteDeadline(time.Now().Add(requestTime)) // a stream that cannot have one fails on write
	defer func() { _ = s.SetWriteDeadline(time.Time{}) }()
	return util.NewDelimitedWriter(s).WriteMsg(m)
}

// refuse answers a request that is not served, and returns the status that it told.
func (svc *Service) refuse(s network.Stream, request pbv2.HopMessage_Type, why error) pbv2.Status {
	status := refusal.Of(why).Status(request)
	svc.Refused(status.String(), why, refusal.Peer(s.Conn().RemotePeer()))
	err := svc.answer(s, &pbv2.HopMessage{Type: pbv2.HopMessage_STATUS.Enum(), Status: status.Enum()})
	if err != nil {
		_ = s.Reset()
		return status
	}
	_ = s.Close()
	return status
}

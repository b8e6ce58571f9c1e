package circuit

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// This service and that of the installed go-libp2p say the same, byte by byte as far as a
// peer can tell, to all that peers may do. Where they differ, the first difference is named:
// a new version of the library changes nothing unseen. What differs on purpose stands in
// the story: what the library shows, and what is shown here.
func TestAsTheLibrary(t *testing.T) {
	c := relaytest.LimitConfig(t)
	c.Limits.GuestCircuitData, c.Limits.GuestCircuitTime = 1<<17, 2*time.Minute
	rc := relayv2.DefaultResources()
	rc.ReservationTTL = ReservationTTL
	c.Limits.ReservationsPerIP, c.Limits.CircuitsPerPeer = rc.MaxReservationsPerIP, rc.MaxCircuits
	ours := start(t, c)
	relaytest.Must(t, Ban(c.DataDir, denied.ID.String()))
	relaytest.Eventually(t, "the ban is read", func() bool { return ours.banned.bans(denied.ID, nil) })
	lib, err := libp2p.New(libp2p.ListenAddrs(c.Listen.TCP...), libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.ForceReachabilityPublic())
	relaytest.Must(t, err)
	t.Cleanup(func() { lib.Close() })
	service, err := relayv2.New(lib, relayv2.WithResources(rc), relayv2.WithACL(deny{}), relayv2.WithReservationAddressFilter(func(ma.Multiaddr) bool { return true }))
	relaytest.Must(t, err)
	t.Cleanup(func() { service.Close() })

	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			theirs := s.tell(t, peer.AddrInfo{ID: lib.ID(), Addrs: lib.Addrs()})
			here := s.tell(t, ours.info())
			for i := range max(len(theirs), len(here)) {
				a, b := lineOf(theirs, i), lineOf(here, i)
				if on, ok := s.differs[a]; ok && on == b {
					continue
				}
				if a != b {
					t.Fatalf("step %d: the library: %s\nhere: %s", i+1, a, b)
				}
			}
		})
	}
}

func lineOf(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}

// story is what peers do to a relay, and what they see of it.
type story struct {
	name    string
	tell    func(t *testing.T, relay peer.AddrInfo) []string
	differs map[string]string // what the library shows, and what we show in its reservation
}

var stories = []story{
	{name: "reservation", tell: func(t *testing.T, relay peer.AddrInfo) (saw []string) {
		h := relaytest.NewPeerAt(t, "127.0.1.1")
		for range 2 { // made and prolonged
			m, end := ask(t, h, relay, relaytest.Frame(t, &pbv2.HopMessage{Type: pbv2.HopMessage_RESERVE.Enum()}))
			saw = append(saw, shown(m), end, voucherOf(m, relay.ID, h.ID()))
		}
		r, err := client.Reserve(relaytest.Context(t), h, relay)
		relaytest.Must(t, err)
		return append(saw, fmt.Sprintf("client: limit %d bytes, %s; expires in an hour: %v; voucher: %v; addresses: %d",
			r.LimitData, r.LimitDuration, time.Until(r.Expiration) > 50*time.Minute && time.Until(r.Expiration) <= time.Hour, r.Voucher != nil, len(r.Addrs)))
	}},
	{name: "requests that are none", tell: func(t *testing.T, relay peer.AddrInfo) (saw []string) {
		h := relaytest.NewPeerAt(t, "127.0.1.2")
		for _, raw := range [][]byte{
			nil, {0}, {3, 0xff, 0xff, 0xff}, {0xff, 0xff, 0xff, 0xff, 0x0f}, {100, 8, 0}, bytes.Repeat([]byte{0x80}, 20),
			relaytest.Frame(t, &pbv2.HopMessage{Type: pbv2.HopMessage_STATUS.Enum()}),
			relaytest.Frame(t, &pbv2.HopMessage{Type: pbv2.HopMessage_Type(7).Enum()}),
			relaytest.Frame(t, &pbv2.HopMessage{Type: pbv2.HopMessage_CONNECT.Enum()}),
			relaytest.Frame(t, &pbv2.HopMessage{Type: pbv2.HopMessage_CONNECT.Enum(), Peer: &pbv2.Peer{Id: []byte("x")}}),
			relaytest.Frame(t, &pbv2.HopMessage{Type: pbv2.HopMessage_RESERVE.Enum(), Peer: &pbv2.Peer{Id: make([]byte, 4085)}}), // 4096 bytes in all
			relaytest.Frame(t, &pbv2.HopMessage{Type: pbv2.HopMessage_RESERVE.Enum(), Peer: &pbv2.Peer{Id: make([]byte, 4096)}}),
		} {
			m, end := ask(t, h, relay, raw)
			saw = append(saw, fmt.Sprintf("%d bytes, %x: %s, %s", len(raw), raw[:min(len(raw), 20)], shown(m), end))
		}
		return saw
	}, differs: map[string]string{
		// A message without a type is taken for a RESERVE there. The specification wants one.
		"1 bytes, 00: OK, with a reservation for 1h0m0s and limit 131072 bytes, 120 s, closed": "1 bytes, 00: MALFORMED_MESSAGE, closed",
	}},
	{name: "circuit", tell: func(t *testing.T, relay peer.AddrInfo) (saw []string) {
		to, from := holder(t, relay, "127.0.1.3"), relaytest.NewPeerAt(t, "127.0.1.4")
		heard := make(chan string, 1)
		to.SetStreamHandler(proto.ProtoIDv2Stop, func(s network.Stream) {
			var m pbv2.StopMessage
			if relaytest.ReadMessage(s, &m) != nil {
				_ = s.Reset()
				return
			}
			id, _ := peer.IDFromBytes(m.GetPeer().GetId())
			said := fmt.Sprintf("%s, the asker's ID: %v, addresses: %d, limit %d, %d", m.GetType(), id == from.ID(), len(m.GetPeer().GetAddrs()), m.GetLimit().GetData(), m.GetLimit().GetDuration())
			accept(s)
			_, _ = io.WriteString(s, said) // and half-closes, and reads on
			_ = s.CloseWrite()
			back, err := io.ReadAll(s)
			heard <- fmt.Sprintf("%s, %s", back, endOf(err))
			_ = s.Close()
		})
		relaytest.Must(t, from.Connect(relaytest.Context(t), relay))
		m, s := connect(t, from, relay, to.ID())
		saw = append(saw, shown(m), fmt.Sprintf("limit %d, %d", m.GetLimit().GetData(), m.GetLimit().GetDuration()))
		said, err := io.ReadAll(s)
		saw = append(saw, string(said), endOf(err))
		_, err = io.WriteString(s, "after the other end has closed")
		saw = append(saw, fmt.Sprint(err))
		relaytest.Must(t, s.Close())
		return append(saw, <-heard)
	}},
	{name: "reset by the one that asked", tell: func(t *testing.T, relay peer.AddrInfo) []string {
		return resets(t, relay, "127.0.1.5", true)
	}, differs: resetDiffers},
	{name: "reset by the one that was asked", tell: func(t *testing.T, relay peer.AddrInfo) []string {
		return resets(t, relay, "127.0.1.7", false)
	}, differs: resetDiffers},
	{name: "circuits that are not accepted", tell: func(t *testing.T, relay peer.AddrInfo) (saw []string) {
		to, from := holder(t, relay, "127.0.1.9"), relaytest.NewPeerAt(t, "127.0.1.10")
		relaytest.Must(t, from.Connect(relaytest.Context(t), relay))
		m, end := ask(t, from, relay, connectMessage(t, relaytest.NewPeerAt(t, "127.0.1.11").ID()))
		saw = append(saw, "no reservation: "+shown(m)+", "+end)
		m, end = ask(t, from, relay, connectMessage(t, relay.ID))
		saw = append(saw, "the relay itself: "+shown(m)+", "+end)
		m, end = ask(t, from, relay, connectMessage(t, from.ID()))
		saw = append(saw, "itself, without a reservation: "+shown(m)+", "+end)
		m, end = ask(t, to, relay, connectMessage(t, to.ID()))
		saw = append(saw, "itself, with a reservation: "+shown(m)+", "+end)
		for _, a := range []struct {
			name   string
			answer []byte
		}{
			{"reset", nil},
			{"refused", stopMessage(t, pbv2.StopMessage_STATUS, pbv2.Status_PERMISSION_DENIED)},
			{"no status", stopMessage(t, pbv2.StopMessage_CONNECT, pbv2.Status_OK)},
			{"no message", []byte{3, 0xff, 0xff, 0xff}},
			{"too long", []byte{0xff, 0xff, 0xff, 0x0f}},
			{"nothing", []byte{}},
		} {
			to.SetStreamHandler(proto.ProtoIDv2Stop, func(s network.Stream) {
				var m pbv2.StopMessage
				if relaytest.ReadMessage(s, &m) == nil && a.answer != nil {
					_, _ = s.Write(a.answer)
					_ = s.Close()
					return
				}
				_ = s.Reset()
			})
			m, end := ask(t, from, relay, connectMessage(t, to.ID()))
			saw = append(saw, a.name+": "+shown(m)+", "+end)
		}
		to.RemoveStreamHandler(proto.ProtoIDv2Stop)
		m, end = ask(t, from, relay, connectMessage(t, to.ID()))
		saw = append(saw, "no such protocol: "+shown(m)+", "+end)
		relaytest.Must(t, to.Close())
		relaytest.Eventually(t, "the reservation has ended with its connection", func() bool {
			m, end = ask(t, from, relay, connectMessage(t, to.ID()))
			return m.GetStatus() == pbv2.Status_NO_RESERVATION
		})
		return append(saw, "gone: "+shown(m)+", "+end)
	}},
	{name: "limits that are reached", tell: func(t *testing.T, relay peer.AddrInfo) (saw []string) {
		var to host.Host
		for range relayv2.DefaultResources().MaxReservationsPerIP {
			to = holder(t, relay, "127.0.1.20")
		}
		m, end := ask(t, relaytest.NewPeerAt(t, "127.0.1.20"), relay, relaytest.Frame(t, &pbv2.HopMessage{Type: pbv2.HopMessage_RESERVE.Enum()}))
		saw = append(saw, "of one address: "+shown(m)+", "+end)
		from := relaytest.NewPeerAt(t, "127.0.1.21")
		relaytest.Must(t, from.Connect(relaytest.Context(t), relay))
		relaytest.AcceptRaw(to, relaytest.SendBack)
		for range relayv2.DefaultResources().MaxCircuits {
			m, _ := connect(t, from, relay, to.ID())
			saw = append(saw, shown(m))
		}
		m, end = ask(t, from, relay, connectMessage(t, to.ID()))
		return append(saw, "of one peer: "+shown(m)+", "+end)
	}},
	{name: "a banned peer", tell: func(t *testing.T, relay peer.AddrInfo) (saw []string) {
		to, bad := holder(t, relay, "127.0.1.22"), relaytest.NewPeerAt(t, "127.0.1.23", libp2p.Identity(denied.key))
		for _, raw := range [][]byte{relaytest.Frame(t, &pbv2.HopMessage{Type: pbv2.HopMessage_RESERVE.Enum()}), connectMessage(t, to.ID())} {
			m, end := ask(t, bad, relay, raw)
			saw = append(saw, shown(m)+", "+end)
		}
		m, end := ask(t, to, relay, connectMessage(t, bad.ID()))
		return append(saw, shown(m)+", "+end)
	}},
	{name: "a client's circuit", tell: func(t *testing.T, relay peer.AddrInfo) (saw []string) {
		to, from := holder(t, relay, "127.0.1.12"), relaytest.NewPeerAt(t, "127.0.1.13")
		err := relaytest.Echo(t, from, to, relay, 32<<10)
		saw = append(saw, fmt.Sprint(err))
		for _, c := range from.Network().ConnsToPeer(to.ID()) {
			saw = append(saw, fmt.Sprintf("limited: %v", c.Stat().Limited))
		}
		return saw
	}},
	{name: "more than the limit", tell: func(t *testing.T, relay peer.AddrInfo) (saw []string) {
		to, from := holder(t, relay, "127.0.1.14"), relaytest.NewPeerAt(t, "127.0.1.15")
		got := make(chan string, 1)
		relaytest.AcceptRaw(to, func(s network.Stream) {
			n, err := io.Copy(io.Discard, s)
			got <- fmt.Sprintf("no more than the limit: %v, %s", n <= 1<<17, endOf(err))
		})
		relaytest.Must(t, from.Connect(relaytest.Context(t), relay))
		_, s := connect(t, from, relay, to.ID())
		_, _ = s.Write(make([]byte, 1<<17))
		_, _ = s.Write(make([]byte, 1))
		_ = s.CloseWrite()
		return append(saw, <-got)
	}, differs: map[string]string{
		// The specification: the relay resets the streams when the limit is exceeded.
		"no more than the limit: true, closed": "no more than the limit: true, reset with code 4098",
	}},
}

// denied is a peer that is served nothing.
var denied = func() (d struct {
	key crypto.PrivKey
	peer.AddrInfo
}) {
	d.key, _, _ = crypto.GenerateEd25519Key(rand.Reader)
	d.ID, _ = peer.IDFromPrivateKey(d.key)
	return d
}()

// deny has the library deny it.
type deny struct{}

func (deny) AllowReserve(p peer.ID, _ ma.Multiaddr) bool { return p != denied.ID }
func (deny) AllowConnect(src peer.ID, _ ma.Multiaddr, dest peer.ID) bool {
	return src != denied.ID && dest != denied.ID
}

// resetDiffers: a reset is passed on with its code.
var resetDiffers = map[string]string{"reset with code 0": "reset with code 77"}

// resets has one end reset a circuit, and tells what the other one sees.
func resets(t *testing.T, relay peer.AddrInfo, ip string, byAsker bool) []string {
	to, from := holder(t, relay, ip), relaytest.NewPeerAt(t, "127.0.1.250")
	saw := make(chan string, 1)
	see := func(s network.Stream) {
		_, err := io.Copy(io.Discard, s)
		saw <- endOf(err)
	}
	open := make(chan struct{}) // a reset would overtake the answer
	relaytest.AcceptRaw(to, func(s network.Stream) {
		if byAsker {
			see(s)
			return
		}
		<-open
		_ = s.ResetWithError(77)
	})
	relaytest.Must(t, from.Connect(relaytest.Context(t), relay))
	_, s := connect(t, from, relay, to.ID())
	close(open)
	if byAsker {
		_ = s.ResetWithError(77)
	} else {
		see(s)
	}
	return []string{<-saw}
}

// holder is a peer with a reservation.
func holder(t *testing.T, relay peer.AddrInfo, ip string) host.Host {
	t.Helper()
	h := relaytest.NewPeerAt(t, ip)
	_, err := relaytest.Reserve(t, h, relay)
	relaytest.Must(t, err)
	return h
}

// ask sends a request as it is, and no more. It tells the answer and how the stream ends.
func ask(t *testing.T, h host.Host, relay peer.AddrInfo, raw []byte) (*pbv2.HopMessage, string) {
	t.Helper()
	relaytest.Must(t, h.Connect(relaytest.Context(t), relay))
	s := hop(t, h, relay.ID)
	_, err := s.Write(raw)
	relaytest.Must(t, err)
	relaytest.Must(t, s.CloseWrite())
	var m pbv2.HopMessage
	if err := relaytest.ReadMessage(s, &m); err != nil {
		return nil, endOf(err)
	}
	_, err = io.Copy(io.Discard, s)
	return &m, endOf(err)
}

func hop(t *testing.T, h host.Host, relay peer.ID) network.Stream {
	t.Helper()
	s, err := h.NewStream(relaytest.Context(t), relay, proto.ProtoIDv2Hop)
	relaytest.Must(t, err)
	t.Cleanup(func() { _ = s.Reset() })
	relaytest.Must(t, s.SetDeadline(time.Now().Add(relaytest.Patience)))
	return s
}

// connect asks for a circuit, and returns the answer and the circuit.
func connect(t *testing.T, h host.Host, relay peer.AddrInfo, to peer.ID) (*pbv2.HopMessage, network.Stream) {
	t.Helper()
	s := hop(t, h, relay.ID)
	_, err := s.Write(connectMessage(t, to))
	relaytest.Must(t, err)
	var m pbv2.HopMessage
	relaytest.Must(t, relaytest.ReadMessage(s, &m))
	return &m, s
}

func connectMessage(t *testing.T, to peer.ID) []byte {
	return relaytest.Frame(t, &pbv2.HopMessage{Type: pbv2.HopMessage_CONNECT.Enum(), Peer: &pbv2.Peer{Id: []byte(to)}})
}

func stopMessage(t *testing.T, of pbv2.StopMessage_Type, status pbv2.Status) []byte {
	t.Helper()
	var raw bytes.Buffer
	relaytest.Must(t, util.NewDelimitedWriter(&raw).WriteMsg(&pbv2.StopMessage{Type: of.Enum(), Status: status.Enum()}))
	return raw.Bytes()
}

func accept(s network.Stream) {
	_ = util.NewDelimitedWriter(s).WriteMsg(&pbv2.StopMessage{Type: pbv2.StopMessage_STATUS.Enum(), Status: pbv2.Status_OK.Enum()})
}

// shown is an answer, but for what differs each time.
func shown(m *pbv2.HopMessage) string {
	if m == nil {
		return "no answer"
	}
	s := m.GetStatus().String()
	if m.GetType() != pbv2.HopMessage_STATUS || m.Type == nil {
		s += ", of type " + m.GetType().String()
	}
	if r := m.GetReservation(); r != nil {
		s += fmt.Sprintf(", with a reservation for %v", time.Until(time.Unix(int64(r.GetExpire()), 0)).Round(time.Hour))
	}
	if l := m.GetLimit(); l != nil {
		s += fmt.Sprintf(" and limit %d bytes, %d s", l.GetData(), l.GetDuration())
	}
	return s
}

// voucherOf says what is signed in a reservation.
func voucherOf(m *pbv2.HopMessage, relay, p peer.ID) string {
	envelope, rec, err := record.ConsumeEnvelope(m.GetReservation().GetVoucher(), proto.RecordDomain)
	if err != nil {
		return err.Error()
	}
	v, ok := rec.(*proto.ReservationVoucher)
	signer, err := peer.IDFromPublicKey(envelope.PublicKey)
	return fmt.Sprintf("a voucher: %v, signed by the relay: %v (%v), of the relay: %v, for the peer: %v, until the same moment: %v", ok, signer == relay, err, v.Relay == relay, v.Peer == p,
		uint64(v.Expiration.Unix()) == m.GetReservation().GetExpire())
}

// endOf is how a stream ended.
func endOf(err error) string {
	var reset *network.StreamError
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return "closed"
	case errors.As(err, &reset):
		return fmt.Sprintf("reset with code %d", reset.ErrorCode)
	case errors.Is(err, network.ErrReset):
		return "reset"
	}
	return err.Error()
}

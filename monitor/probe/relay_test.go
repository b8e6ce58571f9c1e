package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// The relays of these tests are known by this name.
const name = "relay.test"

// authority is a private CA: a root, and an intermediate that issues.
type authority struct {
	root, intermediate *x509.Certificate
	key                *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	rootKey, key := newKey(t), newKey(t)
	ca := func(cn string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: serial(), Subject: pkix.Name{CommonName: cn},
			NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
	}
	root := ca("test root")
	root = issue(t, root, root, rootKey.Public(), rootKey)
	return &authority{root, issue(t, ca("test intermediate"), root, key.Public(), rootKey), key}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func serial() *big.Int {
	n, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	return n
}

func issue(t testing.TB, template, parent *x509.Certificate, pub any, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// leaf makes a certificate for name; change may spoil it.
func (a *authority) leaf(t testing.TB, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "leaf"}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	cert := issue(t, template, a.intermediate, key.Public(), a.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw, a.intermediate.Raw}, PrivateKey: key}
}

// options trust the CA and find every relay under name.
func (a *authority) options() Options {
	return Options{
		ExtraCAs:     []*x509.Certificate{a.root},
		Resolve:      map[string]netip.Addr{name: netip.MustParseAddr("127.0.0.1")},
		AllowPrivate: true,
		Pace:         NewPace(0),
	}
}

// testRelay is a host that may be a relay, over tcp and wss.
type testRelay struct {
	host.Host
	Target
}

// newRelay starts a host on loopback with the certificate; hop says whether, and
// how, go-libp2p's relay service runs on it.
func newRelay(t testing.TB, cert tls.Certificate, hop bool, service []relayv2.Option, opts ...libp2p.Option) *testRelay {
	t.Helper()
	opts = append([]libp2p.Option{
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/tls/ws"),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(websocket.New, websocket.WithTLSConfig(&tls.Config{Certificates: []tls.Certificate{cert}})),
		libp2p.Security(noise.ID, noise.New),
		libp2p.DisableMetrics(),
		libp2p.UserAgent("test-relay/1"),
	}, opts...)
	if hop {
		opts = append(opts, libp2p.ForceReachabilityPublic(), libp2p.EnableRelayService(service...))
	}
	h, err := libp2p.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if hop {
		awaitHop(t, h)
	}
	return &testRelay{h, target(t, h)}
}

// awaitHop waits until the relay service, which starts beside the host, is there.
func awaitHop(t testing.TB, h host.Host) {
	t.Helper()
	sub, err := h.EventBus().Subscribe(new(event.EvtLocalProtocolsUpdated))
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	late := time.After(20 * time.Second)
	for {
		for _, p := range h.Mux().Protocols() {
			if p == proto.ProtoIDv2Hop {
				return
			}
		}
		select {
		case <-sub.Out():
		case <-late:
			t.Fatal("the relay service did not start")
		}
	}
}

// target is where h listens, with its wss port under name.
func target(t testing.TB, h host.Host) Target {
	t.Helper()
	tgt := Target{PeerID: h.ID()}
	for _, a := range h.Network().ListenAddresses() {
		port, err := a.ValueForProtocol(ma.P_TCP)
		if err != nil {
			continue
		}
		if _, err := a.ValueForProtocol(ma.P_WS); err == nil {
			tgt.WSS = ma.StringCast("/dns4/" + name + "/tcp/" + port + "/wss")
		} else {
			tgt.TCP4 = a
		}
	}
	return tgt
}

// everyAddr lets a relay on loopback list its addresses in a reservation.
var everyAddr = relayv2.WithReservationAddressFilter(func(ma.Multiaddr) bool { return true })

// hopHost is a relay that answers the hop protocol by a script.
func hopHost(t testing.TB, cert tls.Certificate, answer func(h host.Host, s network.Stream, request *pb.HopMessage) *pb.HopMessage, opts ...libp2p.Option) *testRelay {
	t.Helper()
	r := newRelay(t, cert, false, nil, opts...)
	r.SetStreamHandler(proto.ProtoIDv2Hop, func(s network.Stream) {
		defer s.Close()
		rd := util.NewDelimitedReader(s, maxHop)
		defer rd.Close()
		request := new(pb.HopMessage)
		if rd.ReadMsg(request) != nil {
			return
		}
		if m := answer(r.Host, s, request); m != nil {
			util.NewDelimitedWriter(s).WriteMsg(m)
		}
	})
	return r
}

// refuse answers everything with one status.
func refuse(status pb.Status) func(host.Host, network.Stream, *pb.HopMessage) *pb.HopMessage {
	return func(host.Host, network.Stream, *pb.HopMessage) *pb.HopMessage { return statusMessage(status) }
}

func statusMessage(status pb.Status) *pb.HopMessage {
	return &pb.HopMessage{Type: pb.HopMessage_STATUS.Enum(), Status: status.Enum()}
}

// boundSocket has a port of its own, on which nobody listens and nobody else can.
func boundSocket(t testing.TB) (fd, port int) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	addr, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, addr.(*syscall.SockaddrInet4).Port
}

func newID(t testing.TB) (peer.ID, crypto.PrivKey) {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id, key
}

// within bounds a probe in a test.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// rungOf finds a rung by name.
func rungOf(t testing.TB, a evidence.Attempt, name string) evidence.Rung {
	t.Helper()
	for _, r := range a.Rungs {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("no rung %s in %+v", name, a.Rungs)
	return evidence.Rung{}
}

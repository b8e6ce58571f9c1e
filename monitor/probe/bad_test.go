package probe

import (
	"bufio"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"crypto/rand"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/record"
	"github.com/libp2p/go-libp2p/core/transport"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// soon is the deadline of rungs that are meant to run into it.
const soon = 2 * time.Second

// badRelay is a relay with one fault: where it shows, and as what.
type badRelay struct {
	name    string
	rung    string
	outcome evidence.Outcome
	class   evidence.Class
	level   evidence.Level
	// meet starts the relay; o may be changed.
	meet func(t *testing.T, ca *authority, o *Options) Target
	// also, if not nil, looks at what else is to be in the attempt.
	also func(t *testing.T, a evidence.Attempt)
}

func TestBadRelays(t *testing.T) {
	t.Parallel()
	for _, bad := range badRelays {
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			ca := newAuthority(t)
			o := ca.options()
			tgt := bad.meet(t, ca, &o)
			a := Run(within(t), tgt, o)
			// On a busy machine a rung has not come as far as it is meant to: again, with more time.
			for d := 4 * o.Deadlines[bad.rung]; d > 0 && d < time.Minute && (rungOf(t, a, bad.rung).Class != bad.class || a.Level != bad.level); d *= 4 {
				o.Deadlines[bad.rung] = d
				a = Run(within(t), tgt, o)
			}
			got := rungOf(t, a, bad.rung)
			if got.Outcome != bad.outcome || got.Class != bad.class {
				t.Errorf("rung %s: %s (%s), want %s (%s); all: %+v", bad.rung, got.Outcome, got.Class, bad.outcome, bad.class, a.Rungs)
			}
			if got.Detail == "" || len(got.Detail) > maxDetail {
				t.Errorf("detail %q", got.Detail)
			}
			if a.Level != bad.level {
				t.Errorf("level %d, want %d", a.Level, bad.level)
			}
			checkShape(t, a)
			if bad.also != nil {
				bad.also(t, a)
			}
		})
	}
}

// checkShape checks what is true of every attempt.
func checkShape(t *testing.T, a evidence.Attempt) {
	t.Helper()
	failed := map[string]bool{}
	last := map[evidence.Component]evidence.Rung{}
	for _, r := range a.Rungs {
		failed[r.Name] = r.Outcome != evidence.OK && r.Outcome != evidence.Skipped
		if (r.Outcome == evidence.OK) != (r.Class == "") {
			t.Errorf("rung %s: %s with class %q", r.Name, r.Outcome, r.Class)
		}
		if r.Class != "" && (r.Class.Meaning() == "" || r.Class.Advice() == "") {
			t.Errorf("class %q is not documented", r.Class)
		}
		if _, climbed := last[r.Component]; r.Outcome != evidence.Skipped || !climbed {
			last[r.Component] = r
		}
	}
	for _, component := range evidence.Components {
		res, want := a.Results[component], last[component]
		if res.Outcome != want.Outcome || res.Class != want.Class {
			t.Errorf("component %s: %s (%s), but its last rung %s: %s (%s)", component, res.Outcome, res.Class, want.Name, want.Outcome, want.Class)
		}
	}
	// Neither of tcp4 and wss skips the other; the relay stands on both.
	if (failed["tcp4"] || failed["identify"] || failed["wss"]) && a.Results[evidence.Relay].Outcome != evidence.Skipped {
		t.Errorf("relay is %s although it had nothing to stand on", a.Results[evidence.Relay].Outcome)
	}
	for _, name := range []string{"tcp4", "wss"} {
		if r := rungOf(t, a, name); r.Class == evidence.BelowFailed {
			t.Errorf("rung %s was skipped because of another", name)
		}
	}
	b, err := evidence.Encode(a)
	if err != nil {
		t.Fatal(err)
	}
	var again evidence.Attempt
	if err := evidence.Decode(b, &again); err != nil {
		t.Errorf("the attempt cannot be read again: %v", err)
	}
}

// relayIs makes a relay from a certificate for name.
func relayIs(hop bool, service []relayv2.Option, opts ...libp2p.Option) func(*testing.T, *authority, *Options) Target {
	return func(t *testing.T, ca *authority, _ *Options) Target {
		return newRelay(t, ca.leaf(t, nil), hop, append(service, everyAddr), opts...).Target
	}
}

// scripted makes a relay that answers the hop protocol by a script.
func scripted(answer func(host.Host, network.Stream, *pb.HopMessage) *pb.HopMessage) func(*testing.T, *authority, *Options) Target {
	return func(t *testing.T, ca *authority, _ *Options) Target {
		return hopHost(t, ca.leaf(t, nil), answer).Target
	}
}

// hurried is for relays that are met by a deadline on one rung.
func hurried(rung string, meet func(*testing.T, *authority, *Options) Target) func(*testing.T, *authority, *Options) Target {
	return func(t *testing.T, ca *authority, o *Options) Target {
		o.Deadlines = map[string]time.Duration{rung: soon}
		return meet(t, ca, o)
	}
}

// certified makes a good relay with a certificate that is not.
func certified(cert func(t *testing.T, ca *authority) tls.Certificate) func(*testing.T, *authority, *Options) Target {
	return func(t *testing.T, ca *authority, _ *Options) Target {
		return newRelay(t, cert(t, ca), true, nil).Target
	}
}

// changed makes a certificate that the CA signs, but with a fault.
func changed(change func(*x509.Certificate)) func(*testing.T, *authority, *Options) Target {
	return certified(func(t *testing.T, ca *authority) tls.Certificate { return ca.leaf(t, change) })
}

// behind makes a good relay over tcp4 whose wss port is served by another server.
func behind(serve func(t *testing.T, l net.Listener, cert tls.Certificate)) func(*testing.T, *authority, *Options) Target {
	return func(t *testing.T, ca *authority, _ *Options) Target {
		cert := ca.leaf(t, nil)
		tgt := newRelay(t, cert, true, nil).Target
		tgt.WSS = wssAt(listenAnd(t, func(l net.Listener) { serve(t, l, cert) }))
		return tgt
	}
}

func listenAnd(t *testing.T, serve func(net.Listener)) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	serve(l)
	return l.Addr().(*net.TCPAddr).Port
}

func wssAt(port int) ma.Multiaddr {
	return ma.StringCast(fmt.Sprintf("/dns4/%s/tcp/%d/wss", name, port))
}

func tcp4At(port int) ma.Multiaddr {
	return ma.StringCast(fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port))
}

// accept hands every connection to handle, and closes it when the test is over.
func accept(t *testing.T, l net.Listener, handle func(net.Conn)) {
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go handle(c)
		}
	}()
}

func silent(net.Conn)      {}
func hangUp(conn net.Conn) { conn.Close() }

func https(t *testing.T, l net.Listener, cert tls.Certificate, handler http.HandlerFunc) {
	srv := &http.Server{Handler: handler, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, ErrorLog: log.New(io.Discard, "", 0)}
	t.Cleanup(func() { srv.Close() })
	go srv.ServeTLS(l, "", "")
}

func status(code int) func(*testing.T, net.Listener, tls.Certificate) {
	return func(t *testing.T, l net.Listener, cert tls.Certificate) {
		https(t, l, cert, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://"+name+"/")
			w.WriteHeader(code)
		})
	}
}

// overTLS handles connections after their TLS handshake.
func overTLS(handle func(conn *tls.Conn)) func(*testing.T, net.Listener, tls.Certificate) {
	return func(t *testing.T, l net.Listener, cert tls.Certificate) {
		accept(t, l, func(c net.Conn) {
			conn := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
			if conn.Handshake() == nil {
				handle(conn)
			}
		})
	}
}

// switching answers the upgrade properly, and then says something.
func switching(then string) func(conn *tls.Conn) {
	return func(conn *tls.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n%s",
			base64.StdEncoding.EncodeToString(sum[:]), then)
		io.Copy(io.Discard, conn)
	}
}

// handling replaces a protocol's handler on a good relay.
func handling(id string, handle func(network.Stream)) func(*testing.T, *authority, *Options) Target {
	return func(t *testing.T, ca *authority, _ *Options) Target {
		r := newRelay(t, ca.leaf(t, nil), true, nil)
		r.SetStreamHandler(protocol.ID(id), handle)
		return r.Target
	}
}

// grant answers RESERVE as a good relay does, or as change spoils it, and
// CONNECT by connect.
func grant(change func(h host.Host, r *pb.Reservation), connect func(h host.Host, s network.Stream) *pb.HopMessage) func(host.Host, network.Stream, *pb.HopMessage) *pb.HopMessage {
	return func(h host.Host, s network.Stream, request *pb.HopMessage) *pb.HopMessage {
		if request.GetType() == pb.HopMessage_CONNECT {
			if connect == nil {
				return statusMessage(pb.Status_CONNECTION_FAILED)
			}
			return connect(h, s)
		}
		expires := time.Now().Add(time.Hour)
		unix := uint64(expires.Unix())
		m := statusMessage(pb.Status_OK)
		m.Reservation = &pb.Reservation{Expire: &unix, Voucher: seal(h.Peerstore().PrivKey(h.ID()), h.ID(), s.Conn().RemotePeer(), expires)}
		if change != nil {
			change(h, m.Reservation)
		}
		return m
	}
}

func seal(key crypto.PrivKey, relay, reserving peer.ID, expires time.Time) []byte {
	env, err := record.Seal(&proto.ReservationVoucher{Relay: relay, Peer: reserving, Expiration: expires}, key)
	if err != nil {
		panic(err)
	}
	b, err := env.Marshal()
	if err != nil {
		panic(err)
	}
	return b
}

// voucher gives out another voucher than it should.
func voucher(make func(h host.Host) []byte) func(*testing.T, *authority, *Options) Target {
	return scripted(grant(func(h host.Host, r *pb.Reservation) { r.Voucher = make(h) }, nil))
}

// connecting grants the reservation and answers CONNECT like this.
func connecting(connect func(h host.Host, s network.Stream) *pb.HopMessage) func(*testing.T, *authority, *Options) Target {
	return scripted(grant(nil, connect))
}

func answering(status pb.Status) func(host.Host, network.Stream) *pb.HopMessage {
	return func(host.Host, network.Stream) *pb.HopMessage { return statusMessage(status) }
}

// resources is go-libp2p's default with a change.
func resources(change func(*relayv2.Resources)) []relayv2.Option {
	r := relayv2.DefaultResources()
	change(&r)
	return []relayv2.Option{relayv2.WithResources(r)}
}

func dataLimit(n int64) []relayv2.Option {
	return resources(func(r *relayv2.Resources) { r.Limit = &relayv2.RelayLimit{Duration: time.Minute, Data: n} })
}

type noCircuits struct{}

func (noCircuits) AllowReserve(peer.ID, ma.Multiaddr) bool          { return true }
func (noCircuits) AllowConnect(peer.ID, ma.Multiaddr, peer.ID) bool { return false }

type nobody struct{}

func (nobody) AllowReserve(peer.ID, ma.Multiaddr) bool          { return false }
func (nobody) AllowConnect(peer.ID, ma.Multiaddr, peer.ID) bool { return false }

var badRelays = []badRelay{
	// tcp4
	{name: "nobody listens", rung: "tcp4", outcome: evidence.Fail, class: evidence.Refused,
		meet: func(t *testing.T, _ *authority, _ *Options) Target {
			id, _ := newID(t)
			_, port := boundSocket(t)
			return Target{id, tcp4At(port), wssAt(port)}
		},
		also: func(t *testing.T, a evidence.Attempt) {
			if r := rungOf(t, a, "wss"); r.Outcome != evidence.Fail || r.Class != evidence.Refused {
				t.Errorf("wss %+v", r)
			}
		}},
	{name: "no answer to the connection", rung: "tcp4", outcome: evidence.Fail, class: evidence.ConnectTimeout,
		meet: hurried("tcp4", func(t *testing.T, ca *authority, _ *Options) Target {
			tgt := newRelay(t, ca.leaf(t, nil), true, nil).Target
			tgt.TCP4 = tcp4At(deafPort(t))
			return tgt
		}),
		also: wssIsOK},
	{name: "another peer", rung: "tcp4", outcome: evidence.Fail, class: evidence.WrongPeer,
		meet: func(t *testing.T, ca *authority, _ *Options) Target {
			tgt := newRelay(t, ca.leaf(t, nil), true, nil).Target
			tgt.PeerID, _ = newID(t)
			return tgt
		},
		also: func(t *testing.T, a evidence.Attempt) {
			if r := rungOf(t, a, "wss"); r.Outcome != evidence.Fail || r.Class != evidence.WrongPeer {
				t.Errorf("wss %+v", r)
			}
			if a.Facts.Certificate == nil || a.Facts.HTTPStatus != http.StatusSwitchingProtocols {
				t.Errorf("facts of the failed wss are gone: %+v", a.Facts)
			}
		}},
	{name: "accepts and says nothing", rung: "tcp4", outcome: evidence.Fail, class: evidence.HandshakeTimeout,
		meet: hurried("tcp4", tcp4Server(silent)), also: wssIsOK},
	{name: "accepts and hangs up", rung: "tcp4", outcome: evidence.Fail, class: evidence.Dropped,
		meet: tcp4Server(hangUp), also: wssIsOK},
	{name: "speaks something else", rung: "tcp4", outcome: evidence.Fail, class: evidence.HandshakeFailed,
		meet: tcp4Server(func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); c.Close() }), also: wssIsOK},
	{name: "only TLS, no Noise", rung: "tcp4", outcome: evidence.Fail, class: evidence.HandshakeFailed,
		meet: func(t *testing.T, ca *authority, _ *Options) Target {
			h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.Transport(tcp.NewTCPTransport),
				libp2p.Security(libp2ptls.ID, libp2ptls.New), libp2p.DisableMetrics())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { h.Close() })
			return target(t, h)
		}},

	// identify
	{name: "no identify", rung: "identify", outcome: evidence.Fail, class: evidence.IdentifyFailed,
		meet: func(t *testing.T, ca *authority, _ *Options) Target {
			r := newRelay(t, ca.leaf(t, nil), true, nil)
			r.RemoveStreamHandler(identify.ID)
			return r.Target
		}},
	{name: "identify hangs", rung: "identify", outcome: evidence.Fail, class: evidence.IdentifyTimeout,
		meet: hurried("identify", handling(identify.ID, func(network.Stream) {}))},
	{name: "drops the connection", rung: "identify", outcome: evidence.Fail, class: evidence.Dropped,
		meet: handling(identify.ID, func(s network.Stream) { s.Conn().Close() })},
	{name: "no ping", rung: "identify", outcome: evidence.Fail, class: evidence.PingFailed,
		meet: relayIs(true, nil, libp2p.Ping(false)),
		also: func(t *testing.T, a evidence.Attempt) {
			if a.Facts.AgentVersion == "" {
				t.Error("the agent version is gone")
			}
		}},
	{name: "ping answers something else", rung: "identify", outcome: evidence.Fail, class: evidence.PingFailed,
		meet: handling(ping.ID, func(s network.Stream) { io.CopyN(io.Discard, s, 32); s.Write(make([]byte, 32)) })},

	// wss: the name
	{name: "name not found", rung: "wss", outcome: evidence.Fail, class: evidence.NameNotFound, meet: named("gone.test")},
	{name: "no A record", rung: "wss", outcome: evidence.Fail, class: evidence.NoARecord, meet: named("six.test")},
	{name: "name servers fail", rung: "wss", outcome: evidence.Fail, class: evidence.NameLookup, meet: named("broken.test")},
	{name: "name servers are silent", rung: "wss", outcome: evidence.Blind, class: evidence.Resolver, meet: hurried("wss", named("silent.test"))},
	{name: "name of a private address", rung: "wss", outcome: evidence.Fail, class: evidence.NotPublic,
		meet: func(t *testing.T, ca *authority, o *Options) Target {
			tgt := named("private.test")(t, ca, o)
			tgt.TCP4, o.AllowPrivate = nil, false
			return tgt
		},
		also: func(t *testing.T, a evidence.Attempt) {
			if got := fmt.Sprint(a.Facts.ResolvedIPv4); got != "[127.0.0.1 198.41.0.4]" {
				t.Errorf("resolved %s", got)
			}
		}},

	// wss: TLS
	{name: "self-signed certificate", rung: "wss", outcome: evidence.Fail, class: evidence.CertSelfSigned,
		meet: certified(func(t *testing.T, ca *authority) tls.Certificate {
			key := newKey(t)
			c := &x509.Certificate{SerialNumber: serial(), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
			return tls.Certificate{Certificate: [][]byte{issue(t, c, c, key.Public(), key).Raw}, PrivateKey: key}
		}), also: certificateIsKept},
	{name: "wrong SAN", rung: "wss", outcome: evidence.Fail, class: evidence.CertWrongName,
		meet: changed(func(c *x509.Certificate) { c.DNSNames = []string{"other.test"} }), also: certificateIsKept},
	{name: "missing intermediate", rung: "wss", outcome: evidence.Fail, class: evidence.CertMissingIntermediate,
		meet: certified(func(t *testing.T, ca *authority) tls.Certificate {
			c := ca.leaf(t, nil)
			c.Certificate = c.Certificate[:1]
			return c
		}), also: certificateIsKept},
	{name: "unknown CA", rung: "wss", outcome: evidence.Fail, class: evidence.CertUntrusted,
		meet: certified(func(t *testing.T, _ *authority) tls.Certificate { return newAuthority(t).leaf(t, nil) }), also: certificateIsKept},
	{name: "expired", rung: "wss", outcome: evidence.Fail, class: evidence.CertExpired,
		meet: changed(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), also: certificateIsKept},
	{name: "not yet valid", rung: "wss", outcome: evidence.Fail, class: evidence.CertNotYetValid,
		meet: changed(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), also: certificateIsKept},
	{name: "certificate for clients", rung: "wss", outcome: evidence.Fail, class: evidence.CertInvalid,
		meet: changed(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), also: certificateIsKept},
	{name: "plain ws", rung: "wss", outcome: evidence.Fail, class: evidence.NotTLS,
		meet: func(t *testing.T, ca *authority, _ *Options) Target {
			r := newRelay(t, ca.leaf(t, nil), true, nil)
			plain, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0/ws"), libp2p.Transport(websocket.New), libp2p.DisableMetrics())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { plain.Close() })
			r.WSS = target(t, plain).WSS
			return r.Target
		}},
	{name: "no certificate yet", rung: "wss", outcome: evidence.Fail, class: evidence.TLSAlert,
		meet: behind(func(t *testing.T, l net.Listener, _ tls.Certificate) {
			accept(t, l, func(c net.Conn) {
				tls.Server(c, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("none") }}).Handshake()
			})
		})},
	{name: "TLS hangs", rung: "wss", outcome: evidence.Fail, class: evidence.TLSTimeout,
		meet: hurried("wss", behind(func(t *testing.T, l net.Listener, _ tls.Certificate) { accept(t, l, silent) }))},
	{name: "accepts and hangs up before TLS", rung: "wss", outcome: evidence.Fail, class: evidence.Dropped,
		meet: behind(func(t *testing.T, l net.Listener, _ tls.Certificate) { accept(t, l, hangUp) })},
	{name: "hangs up in TLS", rung: "wss", outcome: evidence.Fail, class: evidence.TLSFailed,
		meet: behind(func(t *testing.T, l net.Listener, _ tls.Certificate) {
			accept(t, l, func(c net.Conn) {
				io.ReadFull(c, make([]byte, 5)) // the head of a record
				c.Write([]byte{22, 3, 3, 0, 100})
				c.Close()
			})
		})},

	// wss: the upgrade
	{name: "HTTP 200 instead of an upgrade", rung: "wss", outcome: evidence.Fail, class: evidence.NoUpgrade,
		meet: behind(status(http.StatusOK)), also: httpStatus(http.StatusOK)},
	{name: "a redirect instead of an upgrade", rung: "wss", outcome: evidence.Fail, class: evidence.NoUpgrade,
		meet: behind(status(http.StatusFound)), also: httpStatus(http.StatusFound)},
	{name: "403 when an Origin is present", rung: "wss", outcome: evidence.Fail, class: evidence.OriginRefused,
		meet: behind(func(t *testing.T, l net.Listener, cert tls.Certificate) {
			https(t, l, cert, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Origin") == "" {
					w.WriteHeader(http.StatusOK) // no such class as is wanted
					return
				}
				w.WriteHeader(http.StatusForbidden)
			})
		}), also: httpStatus(http.StatusForbidden)},
	{name: "HTTP hangs", rung: "wss", outcome: evidence.Fail, class: evidence.UpgradeTimeout,
		meet: hurried("wss", behind(overTLS(func(c *tls.Conn) { io.Copy(io.Discard, c) })))},
	{name: "hangs up on the request", rung: "wss", outcome: evidence.Fail, class: evidence.UpgradeFailed,
		meet: behind(overTLS(func(c *tls.Conn) { c.Close() }))},
	{name: "wrong websocket accept key", rung: "wss", outcome: evidence.Fail, class: evidence.UpgradeFailed,
		meet: behind(overTLS(func(c *tls.Conn) {
			http.ReadRequest(bufio.NewReader(c))
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n")
		})), also: httpStatus(http.StatusSwitchingProtocols)},
	{name: "endless HTTP header", rung: "wss", outcome: evidence.Fail, class: evidence.UpgradeFailed,
		meet: behind(overTLS(func(c *tls.Conn) {
			http.ReadRequest(bufio.NewReader(c))
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n")
			for line := "X: " + strings.Repeat("x", 1000) + "\r\n"; ; {
				if _, err := io.WriteString(c, line); err != nil {
					return
				}
			}
		}))},
	{name: "websocket without libp2p", rung: "wss", outcome: evidence.Fail, class: evidence.HandshakeTimeout,
		meet: hurried("wss", behind(overTLS(switching(""))))},
	{name: "text over the websocket", rung: "wss", outcome: evidence.Fail, class: evidence.HandshakeFailed,
		meet: behind(overTLS(switching("\x81\x05hello")))},

	// reserve
	{name: "no HOP", rung: "reserve", outcome: evidence.Fail, class: evidence.NoHop, meet: relayIs(false, nil)},
	{name: "refuses reservations", rung: "reserve", outcome: evidence.Busy, class: evidence.ReserveRefused,
		meet: relayIs(true, resources(func(r *relayv2.Resources) { r.MaxReservations = 0 })), also: hopReserve(pb.Status_RESERVATION_REFUSED)},
	{name: "resource limit exceeded", rung: "reserve", outcome: evidence.Busy, class: evidence.ReserveLimit,
		meet: scripted(refuse(pb.Status_RESOURCE_LIMIT_EXCEEDED)), also: hopReserve(pb.Status_RESOURCE_LIMIT_EXCEEDED)},
	{name: "denies permission", rung: "reserve", outcome: evidence.Fail, class: evidence.ReserveDenied,
		meet: relayIs(true, []relayv2.Option{relayv2.WithACL(nobody{})}), also: hopReserve(pb.Status_PERMISSION_DENIED)},
	{name: "another status", rung: "reserve", outcome: evidence.Fail, class: evidence.ReserveFailed,
		meet: scripted(refuse(pb.Status_MALFORMED_MESSAGE)), also: hopReserve(pb.Status_MALFORMED_MESSAGE)},
	{name: "OK without a reservation", rung: "reserve", outcome: evidence.Fail, class: evidence.ReserveFailed, meet: scripted(refuse(pb.Status_OK))},
	{name: "answer without a status", rung: "reserve", outcome: evidence.Fail, class: evidence.ReserveFailed,
		meet: scripted(func(host.Host, network.Stream, *pb.HopMessage) *pb.HopMessage {
			return &pb.HopMessage{Type: pb.HopMessage_RESERVE.Enum()}
		})},
	{name: "closes the reservation's stream", rung: "reserve", outcome: evidence.Fail, class: evidence.ReserveFailed,
		meet: scripted(func(host.Host, network.Stream, *pb.HopMessage) *pb.HopMessage { return nil })},
	{name: "answers with garbage", rung: "reserve", outcome: evidence.Fail, class: evidence.ReserveFailed,
		meet: scripted(func(_ host.Host, s network.Stream, _ *pb.HopMessage) *pb.HopMessage {
			s.Write([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
			return nil
		})},
	{name: "drops the reserving peer", rung: "reserve", outcome: evidence.Fail, class: evidence.Dropped,
		meet: scripted(func(_ host.Host, s network.Stream, _ *pb.HopMessage) *pb.HopMessage { s.Conn().Close(); return nil })},
	{name: "slow to reserve", rung: "reserve", outcome: evidence.Fail, class: evidence.ReserveTimeout,
		meet: hurried("reserve", scripted(func(_ host.Host, s network.Stream, _ *pb.HopMessage) *pb.HopMessage {
			io.Copy(io.Discard, s)
			return nil
		}))},
	{name: "reservation that has expired", rung: "reserve", outcome: evidence.Fail, class: evidence.ReserveExpired,
		meet: scripted(grant(func(_ host.Host, r *pb.Reservation) {
			past := uint64(time.Now().Add(-time.Minute).Unix())
			r.Expire = &past
		}, nil))},
	{name: "voucher of garbage", rung: "reserve", outcome: evidence.Fail, class: evidence.VoucherInvalid,
		meet: voucher(func(host.Host) []byte { return []byte("signed, the relay") }),
		also: func(t *testing.T, a evidence.Attempt) {
			if string(a.Facts.Reservation.Voucher) != "signed, the relay" {
				t.Error("the voucher's bytes are gone")
			}
		}},
	{name: "voucher of another signer", rung: "reserve", outcome: evidence.Fail, class: evidence.VoucherInvalid,
		meet: voucher(func(h host.Host) []byte {
			key, _, _ := crypto.GenerateEd25519Key(rand.Reader)
			return seal(key, h.ID(), h.Network().Peers()[0], time.Now().Add(time.Hour))
		})},
	{name: "voucher of another relay", rung: "reserve", outcome: evidence.Fail, class: evidence.VoucherInvalid,
		meet: voucher(func(h host.Host) []byte {
			return seal(h.Peerstore().PrivKey(h.ID()), h.Network().Peers()[0], h.Network().Peers()[0], time.Now().Add(time.Hour))
		})},
	{name: "voucher for another peer", rung: "reserve", outcome: evidence.Fail, class: evidence.VoucherInvalid,
		meet: voucher(func(h host.Host) []byte {
			return seal(h.Peerstore().PrivKey(h.ID()), h.ID(), h.ID(), time.Now().Add(time.Hour))
		})},
	{name: "voucher that has expired", rung: "reserve", outcome: evidence.Fail, class: evidence.VoucherInvalid,
		meet: scripted(func(h host.Host, s network.Stream, request *pb.HopMessage) *pb.HopMessage {
			return grant(func(h host.Host, r *pb.Reservation) {
				r.Voucher = seal(h.Peerstore().PrivKey(h.ID()), h.ID(), s.Conn().RemotePeer(), time.Now().Add(-time.Minute))
			}, nil)(h, s, request)
		})},

	// circuit
	{name: "256 bytes", rung: "circuit", outcome: evidence.Fail, class: evidence.LimitTooSmall, level: evidence.LevelConnected,
		meet: relayIs(true, dataLimit(256)),
		also: func(t *testing.T, a evidence.Attempt) {
			if a.Facts.HopConnect != int32(pb.Status_OK) || a.Facts.Reservation.LimitBytes != 256 {
				t.Errorf("facts %+v, reservation %+v", a.Facts, a.Facts.Reservation)
			}
		}},
	{name: "4 KiB", rung: "circuit", outcome: evidence.Fail, class: evidence.LimitTooSmall, level: evidence.LevelHandshake,
		meet: relayIs(true, dataLimit(4096))},
	{name: "denies circuits", rung: "circuit", outcome: evidence.Fail, class: evidence.CircuitDenied, level: evidence.LevelReserved,
		meet: relayIs(true, []relayv2.Option{relayv2.WithACL(noCircuits{})}), also: hopConnect(pb.Status_PERMISSION_DENIED)},
	{name: "at its limit of circuits", rung: "circuit", outcome: evidence.Busy, class: evidence.CircuitBusy, level: evidence.LevelReserved,
		meet: relayIs(true, resources(func(r *relayv2.Resources) { r.MaxCircuits = 0 })), also: hopConnect(pb.Status_RESOURCE_LIMIT_EXCEEDED)},
	{name: "forgets the reservation", rung: "circuit", outcome: evidence.Fail, class: evidence.CircuitNoReservation, level: evidence.LevelReserved,
		meet: connecting(answering(pb.Status_NO_RESERVATION)), also: hopConnect(pb.Status_NO_RESERVATION)},
	{name: "cannot reach the peer", rung: "circuit", outcome: evidence.Fail, class: evidence.CircuitNotConnected, level: evidence.LevelReserved,
		meet: connecting(answering(pb.Status_CONNECTION_FAILED)), also: hopConnect(pb.Status_CONNECTION_FAILED)},
	{name: "another status to connect", rung: "circuit", outcome: evidence.Fail, class: evidence.CircuitFailed, level: evidence.LevelReserved,
		meet: connecting(answering(pb.Status_UNEXPECTED_MESSAGE)), also: hopConnect(pb.Status_UNEXPECTED_MESSAGE)},
	{name: "slow to connect", rung: "circuit", outcome: evidence.Fail, class: evidence.CircuitTimeout, level: evidence.LevelReserved,
		meet: hurried("circuit", connecting(func(_ host.Host, s network.Stream) *pb.HopMessage { io.Copy(io.Discard, s); return nil }))},
	{name: "a circuit into nothing", rung: "circuit", outcome: evidence.Fail, class: evidence.CircuitTimeout, level: evidence.LevelConnected,
		meet: hurried("circuit", connecting(func(_ host.Host, s network.Stream) *pb.HopMessage {
			util.NewDelimitedWriter(s).WriteMsg(statusMessage(pb.Status_OK))
			io.Copy(io.Discard, s)
			return nil
		}))},
	{name: "a circuit that is cut", rung: "circuit", outcome: evidence.Fail, class: evidence.CircuitCut, level: evidence.LevelConnected,
		meet: connecting(answering(pb.Status_OK))},
	{name: "a circuit to another peer", rung: "circuit", outcome: evidence.Fail, class: evidence.CircuitWrongPeer, level: evidence.LevelConnected,
		meet: connecting(func(_ host.Host, s network.Stream) *pb.HopMessage {
			// What comes through the circuit is answered by the relay itself.
			back, err := net.Dial("tcp4", addrPort(s.Conn().LocalMultiaddr()).String())
			if err != nil {
				return nil
			}
			defer back.Close()
			util.NewDelimitedWriter(s).WriteMsg(statusMessage(pb.Status_OK))
			go io.Copy(back, s)
			io.Copy(s, back)
			return nil
		})},
	{name: "reached directly", rung: "circuit", outcome: evidence.Blind, class: evidence.NotRelayed, level: evidence.LevelConnected,
		meet: func(t *testing.T, ca *authority, o *Options) Target {
			o.meddle = func(a, b *peerHost) { connectDirectly(t, a, b) }
			return relayIs(true, nil)(t, ca, o)
		}},
	{name: "echo altered", rung: "circuit", outcome: evidence.Blind, class: evidence.EchoAltered, level: evidence.LevelHandshake,
		meet: func(t *testing.T, ca *authority, o *Options) Target {
			o.meddle = func(a, _ *peerHost) {
				a.SetStreamHandler(ping.ID, func(s network.Stream) { s.Write(make([]byte, echoed)); io.Copy(io.Discard, s) })
			}
			return relayIs(true, nil)(t, ca, o)
		}},
	{name: "the peer's own fault", rung: "circuit", outcome: evidence.Blind, class: evidence.OwnFault, level: evidence.LevelReserved,
		meet: func(t *testing.T, ca *authority, o *Options) Target {
			o.meddle = func(_, b *peerHost) { panic("a bug") }
			return relayIs(true, nil)(t, ca, o)
		}},
}

func wssIsOK(t *testing.T, a evidence.Attempt) {
	if got := a.Results[evidence.WSS]; got.Outcome != evidence.OK {
		t.Errorf("wss %+v although only tcp4 is bad", got)
	}
}

func certificateIsKept(t *testing.T, a evidence.Attempt) {
	if c := a.Facts.Certificate; c == nil || len(c.SHA256) != 64 || len(c.DNSNames) != 1 || !c.NotBefore.Before(c.NotAfter.Time) {
		t.Errorf("certificate %+v", c)
	}
	if got := a.Results[evidence.TCP4]; got.Outcome != evidence.OK {
		t.Errorf("tcp4 %+v although only the certificate is bad", got)
	}
}

func httpStatus(want int) func(*testing.T, evidence.Attempt) {
	return func(t *testing.T, a evidence.Attempt) {
		if a.Facts.HTTPStatus != want {
			t.Errorf("HTTP status %d, want %d", a.Facts.HTTPStatus, want)
		}
	}
}

func hopReserve(want pb.Status) func(*testing.T, evidence.Attempt) {
	return func(t *testing.T, a evidence.Attempt) {
		if a.Facts.HopReserve != int32(want) {
			t.Errorf("status %d, want %d", a.Facts.HopReserve, want)
		}
		if r := rungOf(t, a, "circuit"); r.Class != evidence.BelowFailed {
			t.Errorf("circuit %+v", r)
		}
	}
}

func hopConnect(want pb.Status) func(*testing.T, evidence.Attempt) {
	return func(t *testing.T, a evidence.Attempt) {
		if a.Facts.HopConnect != int32(want) || a.Facts.HopReserve != int32(pb.Status_OK) {
			t.Errorf("status %d, want %d; reserve %d", a.Facts.HopConnect, want, a.Facts.HopReserve)
		}
	}
}

// tcp4Server makes a good relay over wss with another server on its tcp4 port.
func tcp4Server(handle func(net.Conn)) func(*testing.T, *authority, *Options) Target {
	return func(t *testing.T, ca *authority, _ *Options) Target {
		tgt := newRelay(t, ca.leaf(t, nil), true, nil).Target
		tgt.TCP4 = tcp4At(listenAnd(t, func(l net.Listener) { accept(t, l, handle) }))
		return tgt
	}
}

// deafPort listens, but its queue is full: the kernel answers no SYN.
func deafPort(t *testing.T) int {
	t.Helper()
	fd, port := boundSocket(t)
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		c, err := net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", port), soon)
		if err != nil {
			return port
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the queue does not fill")
	return 0
}

// connectDirectly gives A a listener, and B a connection to it.
func connectDirectly(t *testing.T, a, b *peerHost) {
	t.Helper()
	tpt, err := tcp.NewTCPTransport(a.upgrader, a.rcmgr, nil)
	if err != nil {
		t.Error(err)
		return
	}
	l, err := tpt.Listen(ma.StringCast("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		t.Error(err)
		return
	}
	go func() {
		var accepted transport.CapableConn
		if accepted, err = l.Accept(); err == nil {
			_ = accepted
		}
	}()
	t.Cleanup(func() { l.Close() })
	conn, err := net.Dial("tcp4", addrPort(l.Multiaddr()).String())
	if err != nil {
		t.Error(err)
		return
	}
	b.Peerstore().AddAddr(a.ID(), l.Multiaddr(), peerstore.TempAddrTTL)
	if _, err := b.adopt(within(t), located{conn, l.Multiaddr()}, a.ID()); err != nil {
		t.Error(err)
	}
}

// A relay with an RSA key has a Qm... peer ID, as older nodes do.
func TestRSARelay(t *testing.T) {
	t.Parallel()
	raw, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key, err := crypto.UnmarshalRsaPrivateKey(x509.MarshalPKCS1PrivateKey(raw))
	if err != nil {
		t.Fatal(err)
	}
	ca := newAuthority(t)
	a := Run(within(t), newRelay(t, ca.leaf(t, nil), true, []relayv2.Option{everyAddr}, libp2p.Identity(key)).Target, ca.options())
	if a.Level != evidence.LevelEchoed || !strings.HasPrefix(a.PeerID, "Qm") {
		t.Errorf("%s: level %d: %+v", a.PeerID, a.Level, a.Rungs)
	}
}

// Circuit v2 leaves the voucher open: a relay that gives none serves its users
// all the same.
func TestReservationWithoutVoucher(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r := hopHost(t, ca.leaf(t, nil), grant(func(_ host.Host, r *pb.Reservation) { r.Voucher = nil }, nil))
	a := Run(within(t), r.Target, ca.options())
	if got := rungOf(t, a, "reserve"); got.Outcome != evidence.OK || a.Facts.Reservation == nil || a.Facts.Reservation.Voucher != nil {
		t.Errorf("reserve %+v, reservation %+v", got, a.Facts.Reservation)
	}
}

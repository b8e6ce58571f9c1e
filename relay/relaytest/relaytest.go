// Package relaytest has what the tests of the relay share: configurations, peers and what
// they do to a relay, a network of their own.
package relaytest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	relayproto "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	webrtc "github.com/libp2p/go-libp2p/p2p/transport/webrtc"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	webtransport "github.com/libp2p/go-libp2p/p2p/transport/webtransport"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"

	"github.com/psf-relay/relay-appliance/relay/config"
)

// patience bounds what a test waits for; nothing is measured by it.
const Patience = 2 * time.Minute

func Context(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Eventually waits until ok says so.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func Multiaddrs(t testing.TB, s ...string) []ma.Multiaddr {
	t.Helper()
	var out []ma.Multiaddr
	for _, a := range s {
		m, err := ma.NewMultiaddr(a)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// LabConfig is a relay on loopback without a domain.
func LabConfig(t testing.TB) config.Config {
	t.Helper()
	c := config.DefaultConfig()
	c.DataDir = filepath.Join(t.TempDir(), "relayd")
	c.Listen = config.Listen{TCP: Multiaddrs(t, "/ip4/127.0.0.2/tcp/0")}
	c.Network.AllowPrivate = true
	c.PSF.Bootstrap, c.PSF.BootstrapList = nil, ""
	c.Metrics.Listen = ""
	c.Test.CloseTime = Patience
	return c
}

// testLog writes to the test's own log, until the test is over.
func Log(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// patientDials is for peers on a busy machine: the library gives up after five seconds
// on a loopback address, and after fifteen elsewhere.
var PatientDials = libp2p.SwarmOpts(swarm.WithDialTimeout(Patience), swarm.WithDialTimeoutLocal(Patience))

// NewPeer is an ordinary libp2p host that listens nowhere. root is the CA it
// trusts for WSS besides the system's.
func NewPeer(t testing.TB, root []byte, opts ...libp2p.Option) host.Host {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	h, err := libp2p.New(append([]libp2p.Option{
		libp2p.NoListenAddrs,
		libp2p.EnableRelay(),
		libp2p.DisableMetrics(),
		PatientDials,
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(quic.NewTransport),
		libp2p.Transport(webtransport.New),
		libp2p.Transport(webrtc.New),
		libp2p.Transport(websocket.New, websocket.WithTLSClientConfig(&tls.Config{RootCAs: pool})),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// Echo opens a circuit from one peer to another that holds a reservation, and
// has n random bytes come back.
func Echo(t testing.TB, from, to host.Host, relay peer.AddrInfo, n int) error {
	t.Helper()
	ctx := Context(t)
	to.SetStreamHandler("/test/echo", func(s network.Stream) {
		defer s.Close()
		_, _ = io.Copy(s, s)
	})
	circuit := relay.Addrs[0].Encapsulate(Multiaddrs(t, "/p2p/"+relay.ID.String()+"/p2p-circuit")[0])
	if err := from.Connect(network.WithForceDirectDial(ctx, "test"), relay); err != nil && from.Network().Connectedness(relay.ID) != network.Connected {
		return fmt.Errorf("connect to the relay: %w", err)
	}
	if err := from.Connect(ctx, peer.AddrInfo{ID: to.ID(), Addrs: []ma.Multiaddr{circuit}}); err != nil {
		return fmt.Errorf("connect through the relay: %w", err)
	}
	s, err := from.NewStream(network.WithAllowLimitedConn(ctx, "test"), to.ID(), "/test/echo")
	if err != nil {
		return fmt.Errorf("open a stream through the relay: %w", err)
	}
	defer s.Reset()
	if _, err := s.Conn().RemoteMultiaddr().ValueForProtocol(ma.P_CIRCUIT); err != nil {
		return fmt.Errorf("reached without the relay, by %s", s.Conn().RemoteMultiaddr())
	}
	deadline, _ := ctx.Deadline()
	if err := s.SetDeadline(deadline); err != nil {
		return err
	}
	want := make([]byte, n)
	_, _ = rand.Read(want)
	go func() {
		if _, err := s.Write(want); err == nil {
			_ = s.CloseWrite()
		}
	}()
	got := make([]byte, n)
	if _, err := io.ReadFull(s, got); err != nil {
		return fmt.Errorf("read the echo: %w", err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the echo differs")
	}
	return nil
}

func Reserve(t testing.TB, h host.Host, relay peer.AddrInfo) (*client.Reservation, error) {
	t.Helper()
	return client.Reserve(Context(t), h, relay)
}

func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// LimitConfig is a relay whose limits hold on loopback too, outside the PSF
// network.
func LimitConfig(t testing.TB) config.Config {
	c := LabConfig(t)
	c.PSF.Enabled = false
	c.Test.LoopbackCounts = true
	c.Test.NewcomerTime = 1          // nobody is a newcomer
	c.Test.StrangerStays = time.Hour // however long the others take to come
	return c
}

// newClientAt is a small host that dials from the given loopback address.
func NewPeerAt(t testing.TB, ip string, opts ...libp2p.Option) host.Host {
	t.Helper()
	h, err := libp2p.New(append([]libp2p.Option{
		libp2p.NoListenAddrs, libp2p.EnableRelay(), libp2p.DisableMetrics(), libp2p.Ping(false),
		libp2p.DisableIdentifyAddressDiscovery(), libp2p.ResourceManager(&network.NullResourceManager{}), PatientDials,
		libp2p.Transport(tcp.NewTCPTransport, tcp.WithDialerForAddr(func(ma.Multiaddr) (tcp.ContextDialer, error) {
			return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}, nil
		})),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// Club is a membership that a test decides about.
type Club struct {
	mu      sync.Mutex
	members map[peer.ID]bool
}

func (c *Club) IsMember(p peer.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.members[p]
}

func (c *Club) Admit(ids ...peer.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.members == nil {
		c.members = map[peer.ID]bool{}
	}
	for _, id := range ids {
		c.members[id] = true
	}
}

// WantStatus checks the status with which a relay refused.
func WantStatus(t testing.TB, err error, want pbv2.Status) {
	t.Helper()
	var refused *client.ReservationError
	if re := (client.ReservationError{}); errors.As(err, &re) {
		refused = &re
	} else if !errors.As(err, &refused) {
		t.Fatalf("got %v, want status %s", err, want)
	}
	if refused.Status != want {
		t.Fatalf("got status %s, want %s", refused.Status, want)
	}
}

// ConnectStatus asks a relay for a circuit and returns its answer as it came.
func ConnectStatus(t testing.TB, h host.Host, relay peer.AddrInfo, dest peer.ID) *pbv2.HopMessage {
	t.Helper()
	ctx := Context(t)
	Must(t, h.Connect(ctx, relay))
	s, err := h.NewStream(ctx, relay.ID, relayproto.ProtoIDv2Hop)
	Must(t, err)
	defer s.Reset()
	deadline, _ := ctx.Deadline()
	Must(t, s.SetDeadline(deadline))
	Must(t, util.NewDelimitedWriter(s).WriteMsg(&pbv2.HopMessage{
		Type: pbv2.HopMessage_CONNECT.Enum(), Peer: &pbv2.Peer{Id: []byte(dest)},
	}))
	var m pbv2.HopMessage
	rd := util.NewDelimitedReader(s, 4096)
	defer rd.Close()
	Must(t, rd.ReadMsg(&m))
	return &m
}

func Frame(t testing.TB, m *pbv2.HopMessage) []byte {
	t.Helper()
	var raw bytes.Buffer
	Must(t, util.NewDelimitedWriter(&raw).WriteMsg(m))
	return raw.Bytes()
}

// Talk sends a few bytes through a raw circuit whose other end sends them back.
func Talk(s network.Stream) error {
	const word = "still here"
	_ = s.SetDeadline(time.Now().Add(Patience))
	if _, err := io.WriteString(s, word); err != nil {
		return err
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(s, got); err != nil {
		return err
	}
	if string(got) != word {
		return fmt.Errorf("got %q, want %q", got, word)
	}
	return nil
}

func SendBack(s network.Stream) { _, _ = io.Copy(s, s); _ = s.Close() }

// AcceptRaw has h take circuits and hand each to serve as it comes, without a
// libp2p connection in it.
func AcceptRaw(h host.Host, serve func(network.Stream)) {
	h.SetStreamHandler(relayproto.ProtoIDv2Stop, func(s network.Stream) {
		_ = s.SetDeadline(time.Now().Add(Patience))
		var m pbv2.StopMessage
		if err := ReadMessage(s, &m); err != nil {
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

// RelayAnswer is a status other than OK, as an error.
type RelayAnswer pbv2.Status

func (a RelayAnswer) Error() string { return "the relay answers " + pbv2.Status(a).String() }

// OpenRaw opens a circuit from a peer that is connected to the relay. Unlike
// libp2p's client it opens as many to one peer as it is told.
func OpenRaw(ctx context.Context, from host.Host, relay, to peer.ID) (network.Stream, error) {
	s, err := from.NewStream(ctx, relay, relayproto.ProtoIDv2Hop)
	if err != nil {
		return nil, err
	}
	_ = s.SetDeadline(time.Now().Add(Patience))
	var m pbv2.HopMessage
	err = util.NewDelimitedWriter(s).WriteMsg(&pbv2.HopMessage{
		Type: pbv2.HopMessage_CONNECT.Enum(), Peer: &pbv2.Peer{Id: []byte(to)},
	})
	if err == nil {
		err = ReadMessage(s, &m)
	}
	if err == nil && m.GetStatus() != pbv2.Status_OK {
		err = RelayAnswer(m.GetStatus())
	}
	if err != nil {
		_ = s.Reset()
		return nil, err
	}
	return s, nil
}

func MustOpenRaw(t testing.TB, from host.Host, relay, to peer.ID) network.Stream {
	t.Helper()
	s, err := OpenRaw(Context(t), from, relay, to)
	Must(t, err)
	return s
}

type Endless struct{}

func (Endless) Read(p []byte) (int, error) { return len(p), nil }

// ReadMessage reads one message, and not a byte behind it.
func ReadMessage(r io.Reader, m proto.Message) error {
	rd := util.NewDelimitedReader(r, 4096)
	defer rd.Close()
	return rd.ReadMsg(m)
}

// LogPage is a log that a test reads while it is written.
type LogPage struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (p *LogPage) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(b)
}

func (p *LogPage) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}

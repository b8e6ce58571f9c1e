package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/coder/websocket"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/psf-relay/relay-appliance/internal/bench/lab"
)

// ServerName is the name in the certificates of the programs under test.
const ServerName = "relay.test"

// dial connects and secures, and nothing more.
func dial(ctx context.Context, key crypto.PrivKey, to Target, over string, n int) (transport.CapableConn, error) {
	base, security, _ := strings.Cut(over, "/")
	at, ok := to.Addrs[base]
	if !ok {
		return nil, fmt.Errorf("%s does not listen on %s", to.Name, base)
	}
	if base == "quic" {
		return dialQUIC(ctx, key, to, at, n)
	}
	raw, err := DialTCP(ctx, at, n)
	if err != nil {
		return nil, err
	}
	suffix := ""
	if base == "wss" {
		suffix = "/tls/ws"
		if raw, err = upgradeWSS(ctx, raw, to.CA); err != nil {
			return nil, err
		}
	}
	addr, err := ma.NewMultiaddr(fmt.Sprintf("/ip4/%s/tcp/%d%s", at.Addr(), at.Port(), suffix))
	if err != nil {
		return nil, err
	}
	local, err := ma.NewMultiaddr(fmt.Sprintf("/ip4/%s/tcp/4001%s", lab.Client(n), suffix))
	if err != nil {
		return nil, err
	}
	up, err := newUpgrader(key, security)
	if err != nil {
		return nil, err
	}
	// There is no transport to belong to: nobody asks for it.
	conn, err := up.Upgrade(ctx, nil, located{raw, local, addr}, network.DirOutbound, to.ID, &network.NullScope{})
	if err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

// DialTCP connects from the address of the nth client.
func DialTCP(ctx context.Context, to netip.AddrPort, n int) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(lab.Client(n), 0))}
	return d.DialContext(ctx, "tcp4", to.String())
}

func newUpgrader(key crypto.PrivKey, security string) (transport.Upgrader, error) {
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
	var st sec.SecureTransport
	var err error
	switch security {
	case "noise":
		st, err = noise.New(noise.ID, key, muxers)
	case "tls":
		st, err = libp2ptls.New(libp2ptls.ID, key, muxers)
	default:
		err = fmt.Errorf("no security is called %q: want noise or tls", security)
	}
	if err != nil {
		return nil, err
	}
	return upgrader.New([]sec.SecureTransport{st}, muxers, nil, nil, nil)
}

// located is a connection that knows its ends as multiaddrs.
type located struct {
	net.Conn
	local, remote ma.Multiaddr
}

func (l located) LocalMultiaddr() ma.Multiaddr  { return l.local }
func (l located) RemoteMultiaddr() ma.Multiaddr { return l.remote }

var _ manet.Conn = located{}

// upgradeWSS makes a secure websocket of a connection. As a browser does, and
// unlike go-libp2p's own dialer, it sends each message in one frame.
func upgradeWSS(ctx context.Context, raw net.Conn, ca string) (net.Conn, error) {
	conf, err := clientTLS(ca)
	if err != nil {
		return nil, err
	}
	secured := tls.Client(raw, conf)
	if err := secured.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	once := &http.Transport{DisableKeepAlives: true, DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return secured, nil }}
	ws, _, err := websocket.Dial(ctx, "wss://"+ServerName+"/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: once}})
	if err != nil {
		raw.Close()
		return nil, err
	}
	ws.SetReadLimit(-1) // the noise messages within have one
	return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
}

// clientTLS trusts the CA and nobody else.
func clientTLS(ca string) (*tls.Config, error) {
	data, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no certificate", ca)
	}
	return &tls.Config{RootCAs: pool, ServerName: ServerName}, nil
}

// quicSources are the UDP sockets, one for each address that clients have.
var quicSources struct {
	sync.Mutex
	by map[netip.Addr]*quicreuse.ConnManager
}

func quicSource(from netip.Addr) (*quicreuse.ConnManager, error) {
	quicSources.Lock()
	defer quicSources.Unlock()
	if m := quicSources.by[from]; m != nil {
		return m, nil
	}
	m, err := quicreuse.NewConnManager([32]byte{}, [32]byte{},
		quicreuse.OverrideListenUDP(func(network string, _ *net.UDPAddr) (net.PacketConn, error) {
			return net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)))
		}))
	if err != nil {
		return nil, err
	}
	if quicSources.by == nil {
		quicSources.by = map[netip.Addr]*quicreuse.ConnManager{}
	}
	quicSources.by[from] = m
	return m, nil
}

// quicAddresses is from how many addresses QUIC clients come: enough that no
// limit per address is met.
const quicAddresses = 100

func dialQUIC(ctx context.Context, key crypto.PrivKey, to Target, at netip.AddrPort, n int) (transport.CapableConn, error) {
	m, err := quicSource(lab.Client(n % quicAddresses))
	if err != nil {
		return nil, err
	}
	t, err := libp2pquic.NewTransport(key, m, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	addr, err := ma.NewMultiaddr(fmt.Sprintf("/ip4/%s/udp/%d/quic-v1", at.Addr(), at.Port()))
	if err != nil {
		return nil, err
	}
	return t.Dial(ctx, addr, to.ID)
}

package config

import (
	"fmt"
	"slices"
	"strings"

	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	webrtc "github.com/libp2p/go-libp2p/p2p/transport/webrtc"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	webtransport "github.com/libp2p/go-libp2p/p2p/transport/webtransport"
	ma "github.com/multiformats/go-multiaddr"
)

// Transport is a way by which peers reach the relay.
type Transport struct {
	// Name is that of its list in [Listen]: listen.NAME in the configuration.
	Name string
	// New is the library's constructor.
	New any
	// ByDomain says that it is announced by the relay's domain, which its certificate
	// names, and that without a domain there is none.
	ByDomain bool
	// Requirement is what the bounty asks of it, as the doctor's title; empty: nothing.
	Requirement string

	form     string // what follows /ip4/A or /ip6/A in a listen address, with PORT in it
	variable string // of ipfs-service-provider's environment, for the port; empty: none
	addrs    func(*Listen) *[]ma.Multiaddr
}

// Transports has one entry for each transport, those first that most PSF peers can dial:
// they try a relay's addresses in order, and give each its time. A new transport is an
// entry here and a list in [Listen] and default.yaml; the tests name what else lacks it.
var Transports = []Transport{
	{
		Name: "tcp", New: tcp.NewTCPTransport, form: "tcp/PORT", variable: "IPFS_TCP_PORT",
		addrs:       func(l *Listen) *[]ma.Multiaddr { return &l.TCP },
		Requirement: "Reached by TCP",
	},
	{
		Name: "wss", New: websocket.New, form: "tcp/PORT/tls/ws", ByDomain: true,
		addrs:       func(l *Listen) *[]ma.Multiaddr { return &l.WSS },
		Requirement: "Reached by browsers (WSS)",
	},
	{
		Name: "quic", New: quic.NewTransport, form: "udp/PORT/quic-v1", variable: "IPFS_TCP_PORT",
		addrs: func(l *Listen) *[]ma.Multiaddr { return &l.QUIC },
	},
	{
		Name: "webtransport", New: webtransport.New, form: "udp/PORT/quic-v1/webtransport", variable: "IPFS_TCP_PORT",
		addrs: func(l *Listen) *[]ma.Multiaddr { return &l.WebTransport },
	},
	{
		Name: "webrtc", New: webrtc.New, form: "udp/PORT/webrtc-direct", variable: "IPFS_TCP_PORT",
		addrs: func(l *Listen) *[]ma.Multiaddr { return &l.WebRTC },
	},
}

// Listens says whether the relay listens by a transport with this configuration.
func (c Config) Listens(t Transport) bool {
	return len(*t.addrs(&c.Listen)) > 0 && (!t.ByDomain || c.Domain != "")
}

// protocols are those of an address behind the host and the port number.
func protocols(form string) (names []string) {
	for _, part := range strings.Split(form, "/") {
		if part != "PORT" {
			names = append(names, part)
		}
	}
	return names
}

// check says whether a is a listen address of this transport.
func (t Transport) check(a ma.Multiaddr) error {
	var names []string
	for i, c := range a {
		if i > 0 {
			names = append(names, c.Protocol().Name)
		}
	}
	if len(a) == 0 || a[0].Protocol().Code != ma.P_IP4 && a[0].Protocol().Code != ma.P_IP6 || !slices.Equal(names, protocols(t.form)) {
		return fmt.Errorf("want /ip4/ADDRESS/%s or the same with ip6, not %s", t.form, a)
	}
	return nil
}

// TransportOf is the index in [Transports] of the one that an address belongs to, be it
// listened on, announced, or a connection's; -1: to none, as one through another relay.
func TransportOf(a ma.Multiaddr) int {
	var names []string
	for i, c := range a {
		switch c.Protocol().Code {
		case ma.P_WSS:
			names = append(names, "tls", "ws")
		case ma.P_SNI, ma.P_CERTHASH, ma.P_P2P:
		default:
			if i > 0 {
				names = append(names, c.Protocol().Name)
			}
		}
	}
	return slices.IndexFunc(Transports, func(t Transport) bool { return slices.Equal(names, protocols(t.form)) })
}

// KindOf is the name of the transport that an address belongs to; empty: none.
func KindOf(a ma.Multiaddr) string {
	if i := TransportOf(a); i >= 0 {
		return Transports[i].Name
	}
	return ""
}

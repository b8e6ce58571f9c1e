package relay

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// A port that somebody else has is named, for each listener, at once.
func TestPortInUse(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.2:0")
	relaytest.Must(t, err)
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.2:0")
	relaytest.Must(t, err)
	defer udp.Close()
	c := relaytest.LabConfig(t)
	c.Listen.TCP = relaytest.Multiaddrs(t, fmt.Sprintf("/ip4/127.0.0.2/tcp/%d", tcp.Addr().(*net.TCPAddr).Port))
	c.Listen.QUIC = relaytest.Multiaddrs(t, fmt.Sprintf("/ip4/127.0.0.2/udp/%d/quic-v1", udp.LocalAddr().(*net.UDPAddr).Port))
	r, err := New(c, relaytest.Log(t))
	relaytest.Must(t, err)
	err = r.Run(relaytest.Context(t))
	for _, want := range []string{"listen.tcp: ", "listen.quic: ", tcp.Addr().String(), udp.LocalAddr().String(), "in use by another program"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
	c.Listen.TCP, c.Listen.QUIC, c.Metrics.Listen = relaytest.Multiaddrs(t, "/ip4/127.0.0.2/tcp/0"), nil, tcp.Addr().String()
	r, err = New(c, relaytest.Log(t))
	relaytest.Must(t, err)
	if err := r.Run(relaytest.Context(t)); err == nil || !strings.Contains(err.Error(), "metrics.listen: ") {
		t.Errorf("metrics: %v", err)
	}
}

func TestExplainListen(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{
		syscall.EADDRINUSE:    "ss -lntup",
		syscall.EACCES:        "CAP_NET_BIND_SERVICE",
		syscall.EADDRNOTAVAIL: "announce.ip4",
		syscall.ENOBUFS:       "listen on tcp 0.0.0.0:443",
	} {
		err := config.ExplainListen("tcp", "0.0.0.0:443", &net.OpError{Op: "listen", Err: errno})
		if !strings.Contains(err.Error(), want) || !errors.Is(err, errno) {
			t.Errorf("%s: %v", errno, err)
		}
	}
}

// A machine without IPv6 serves by IPv4; an IPv4 address that it does not have
// is a mistake.
func TestAddressesTheMachineLacks(t *testing.T) {
	c := relaytest.LabConfig(t)
	c.Listen.TCP = relaytest.Multiaddrs(t, "/ip4/127.0.0.2/tcp/0", "/ip6/2001:db8::1/tcp/0")
	addrs, err := c.ListenAddrs(relaytest.Log(t))
	if err != nil || len(addrs) != 1 {
		t.Errorf("listens on %v, %v", addrs, err)
	}
	c.Listen.TCP = relaytest.Multiaddrs(t, "/ip4/203.0.113.1/tcp/0")
	if _, err := c.ListenAddrs(relaytest.Log(t)); err == nil || !strings.Contains(err.Error(), "announce.ip4") {
		t.Errorf("a foreign address: %v", err)
	}
	c.Listen.TCP = relaytest.Multiaddrs(t, "/ip6/2001:db8::1/tcp/0")
	if _, err := c.ListenAddrs(relaytest.Log(t)); err == nil || !strings.Contains(err.Error(), "no address is left") {
		t.Errorf("IPv6 alone: %v", err)
	}
}

func TestListensOnIPv6(t *testing.T) {
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip("no IPv6 loopback here")
	} else {
		l.Close()
	}
	c := relaytest.LabConfig(t)
	c.PSF.Enabled = false
	c.Listen.TCP, c.Listen.QUIC = relaytest.Multiaddrs(t, "/ip6/::1/tcp/0"), relaytest.Multiaddrs(t, "/ip6/::1/udp/0/quic-v1")
	r := start(t, c)
	for kind, relay := range dialable(t, r.Relay) {
		if _, err := relaytest.Reserve(t, relaytest.NewPeer(t, nil), relay); err != nil {
			t.Errorf("by %s: %v", kind, err)
		}
	}
}

// WebRTC, WebTransport and QUIC share one UDP port, as the defaults have it.
func TestSharedUDPPort(t *testing.T) {
	port := freePort(t)
	c := relaytest.LabConfig(t)
	c.PSF.Enabled = false
	c.Listen.TCP = nil
	c.Listen.QUIC = relaytest.Multiaddrs(t, fmt.Sprintf("/ip4/127.0.0.2/udp/%d/quic-v1", port))
	c.Listen.WebTransport = relaytest.Multiaddrs(t, fmt.Sprintf("/ip4/127.0.0.2/udp/%d/quic-v1/webtransport", port))
	c.Listen.WebRTC = relaytest.Multiaddrs(t, fmt.Sprintf("/ip4/127.0.0.2/udp/%d/webrtc-direct", port))
	r := start(t, c)
	for kind, relay := range dialable(t, r.Relay) {
		if _, err := relaytest.Reserve(t, relaytest.NewPeer(t, nil), relay); err != nil {
			t.Errorf("by %s: %v", kind, err)
		}
	}
}

// What is announced: nothing private, the domain for WSS, the public address of
// a machine behind 1:1 NAT, and what PSF peers can dial first.
func TestAnnounced(t *testing.T) {
	listened := relaytest.Multiaddrs(t,
		"/ip4/10.0.0.5/udp/4001/quic-v1/webtransport/certhash/uEiA0IIDLQ_2QET53WfA12NSIkAiFU9QlI7AdPbM47AbZyQ",
		"/ip4/10.0.0.5/udp/4001/quic-v1",
		"/ip4/10.0.0.5/tcp/443/tls/ws",
		"/ip4/172.17.0.1/tcp/443/tls/ws",
		"/ip4/127.0.0.1/tcp/4001",
		"/ip4/10.0.0.5/tcp/4001",
		"/ip6/fe80::1/tcp/4001",
		"/ip6/2a00:1450::5/tcp/4001",
		"/ip4/8.8.4.4/tcp/4001",
	)
	for name, tc := range map[string]struct {
		change func(*config.Config)
		want   []string
	}{
		"public": {func(c *config.Config) {}, []string{
			"/ip4/8.8.4.4/tcp/4001", "/ip6/2a00:1450::5/tcp/4001", "/dns4/relay.example/tcp/443/tls/ws"}},
		"1:1 NAT": {func(c *config.Config) { relaytest.Must(t, c.Announce.IP4.UnmarshalText([]byte("8.8.8.8"))) }, []string{
			"/ip4/8.8.8.8/tcp/4001", "/ip6/2a00:1450::5/tcp/4001", "/dns4/relay.example/tcp/443/tls/ws",
			"/ip4/8.8.8.8/udp/4001/quic-v1", "/ip4/8.8.8.8/udp/4001/quic-v1/webtransport/certhash/uEiA0IIDLQ_2QET53WfA12NSIkAiFU9QlI7AdPbM47AbZyQ"}},
		"forwarded port": {func(c *config.Config) { c.Announce.Addrs = relaytest.Multiaddrs(t, "/ip4/8.8.8.8/tcp/14001") }, []string{
			"/ip4/8.8.4.4/tcp/4001", "/ip4/8.8.8.8/tcp/14001", "/ip6/2a00:1450::5/tcp/4001", "/dns4/relay.example/tcp/443/tls/ws"}},
	} {
		c := config.DefaultConfig()
		c.Domain = "relay.example"
		tc.change(&c)
		r := &Relay{cfg: c}
		var got []string
		for _, a := range byUse(r.announced(listened)) {
			got = append(got, a.String())
		}
		if strings.Join(got, "\n") != strings.Join(tc.want, "\n") {
			t.Errorf("%s: announced\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
		}
	}
}

// Addresses that PSF peers drop unseen are named to the operator.
func TestWarnings(t *testing.T) {
	c := config.DefaultConfig()
	key, err := newKey()
	relaytest.Must(t, err)
	r := &Relay{key: key}
	if w := config.Warnings(c, r.id); len(w) != 0 {
		t.Errorf("without a reason: %q", w)
	}
	c.Domain = "quick.example"
	relaytest.Must(t, c.Announce.IP4.UnmarshalText([]byte("172.104.3.4")))
	w := strings.Join(config.Warnings(c, r.id), "\n")
	for _, want := range []string{`"quic"`, "172.104.3.4", `"172.1"`} {
		if !strings.Contains(w, want) {
			t.Errorf("%s is missing in %q", want, w)
		}
	}
}

// A listener that could not be opened after all is not passed over.
func TestCheckListening(t *testing.T) {
	c := relaytest.LabConfig(t)
	r, err := New(c, relaytest.Log(t))
	relaytest.Must(t, err)
	h, err := r.newHost(config.MeasureCapacity(c.Limits), prometheus.NewRegistry())
	relaytest.Must(t, err)
	defer h.Close()
	relaytest.Must(t, r.checkListening(h, c.Listen.TCP))
	for _, more := range []string{"/ip4/127.0.0.2/tcp/0", "/ip4/127.0.0.2/udp/0/quic-v1"} {
		if err := r.checkListening(h, append(append([]ma.Multiaddr{}, c.Listen.TCP...), relaytest.Multiaddrs(t, more)...)); err == nil {
			t.Errorf("%s is not listened on, unnoticed", more)
		}
	}
}

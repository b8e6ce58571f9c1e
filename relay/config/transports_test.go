package config

import (
	"os"
	"strings"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
)

// Each transport is in the default configuration and in README.md. That the firewall lets it
// in is a test of internal/e2e/deb.
func TestTransportsAreComplete(t *testing.T) {
	c := DefaultConfig()
	c.Domain = "relay.example.org"
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Transports {
		addrs := *k.addrs(&c.Listen)
		if !c.Listens(k) || len(addrs) == 0 {
			t.Errorf("%s: the default configuration does not listen by it", k.Name)
		}
		for _, a := range addrs {
			if err := k.check(a); err != nil {
				t.Errorf("%s: %v", k.Name, err)
			}
			if got := KindOf(a); got != k.Name {
				t.Errorf("%s is of %q, want %s", a, got, k.Name)
			}
		}
		if !strings.Contains(string(readme), "listen."+k.Name) {
			t.Errorf("README.md does not name listen.%s", k.Name)
		}
	}
}

func TestKindOf(t *testing.T) {
	for addr, want := range map[string]string{
		"/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba":                      "tcp",
		"/dns4/relay.example.org/tcp/443/wss":                                                                   "wss",
		"/dns4/relay.example.org/tcp/443/tls/ws":                                                                "wss",
		"/ip4/192.0.2.1/tcp/443/tls/sni/relay.example.org/ws":                                                   "wss",
		"/ip4/192.0.2.1/tcp/80/ws":                                                                              "",
		"/ip6/2001:db8::1/udp/4001/quic-v1":                                                                     "quic",
		"/ip4/192.0.2.1/udp/4001/quic-v1/webtransport/certhash/uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g": "webtransport",
		"/ip4/192.0.2.1/udp/4001/webrtc-direct/certhash/uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g":        "webrtc",
		"/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba/p2p-circuit":          "",
	} {
		a, err := ma.NewMultiaddr(addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := KindOf(a); got != want {
			t.Errorf("%s: got %q, want %q", addr, got, want)
		}
	}
	if got := KindOf(nil); got != "" {
		t.Errorf("no address: got %q", got)
	}
}

package config

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
)

// Each transport is in the configuration, in the firewall's file, and in the README.
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

// The firewall lets in what the default configuration listens on, and nothing else.
func TestFirewallOpensWhatIsListenedOn(t *testing.T) {
	rules, err := os.ReadFile("../../image/rootfs/usr/share/relayd/relayd.nft")
	if err != nil {
		t.Fatal(err)
	}
	c := DefaultConfig()
	want := map[string][]string{"tcp": {strings.TrimPrefix(c.Listen.HTTP, ":")}}
	for _, k := range Transports {
		for _, a := range *k.addrs(&c.Listen) {
			protocol := a[1].Protocol().Name
			if port := a[1].Value(); !slices.Contains(want[protocol], port) {
				want[protocol] = append(want[protocol], port)
			}
		}
	}
	for _, use := range []string{"dport %s accept", "dport %s notrack", "sport %s notrack"} {
		for protocol, ports := range want {
			pattern := fmt.Sprintf(regexp.QuoteMeta(protocol+" "+use), `(\{[^}]*\}|\d+)`)
			m := regexp.MustCompile(pattern).FindSubmatch(rules)
			if m == nil {
				t.Errorf("relayd.nft has no %q", pattern)
				continue
			}
			got := regexp.MustCompile(`\d+`).FindAllString(string(m[1]), -1)
			slices.Sort(got)
			slices.Sort(ports)
			if !slices.Equal(got, ports) {
				t.Errorf("relayd.nft, %s %s: got ports %v, want %v", protocol, use, got, ports)
			}
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

package config

import (
	"testing"

	ma "github.com/multiformats/go-multiaddr"
)

func TestPrefixOf(t *testing.T) {
	for addr, want := range map[string]string{
		"/ip4/203.0.113.7/tcp/1":                 "203.0.113.7/32",
		"/ip6/2001:db8:1:2:3:4:5:6/udp/1":        "2001:db8:1:2::/64",
		"/ip6/::ffff:203.0.113.7/tcp/1":          "203.0.113.7/32",
		"/ip4/203.0.113.7/tcp/1/p2p-circuit":     "",
		"/dns4/relay.example/tcp/1":              "",
		"/ip4/203.0.113.7/udp/1/quic-v1":         "203.0.113.7/32",
		"/ip6/2001:db8:1:2::/tcp/443/tls/ws":     "2001:db8:1:2::/64",
		"/ip4/203.0.113.7/udp/1/webrtc-direct":   "203.0.113.7/32",
		"/ip6zone/eth0/ip6/fe80::1:2:3:4/tcp/80": "fe80::/64",
	} {
		got, err := PrefixOf(multiaddrs(t, addr)[0])
		if want == "" != (err != nil) || err == nil && got.String() != want {
			t.Errorf("%s: %s, %v, want %s", addr, got, err, want)
		}
	}
	if _, err := PrefixOf(ma.Multiaddr{}); err == nil {
		t.Error("nowhere has a prefix")
	}
}

package config

import (
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Warnings says what about this configuration makes PSF peers pass the relay by:
// helia-coord leaves out each address that contains one of a few strings, wherever
// in the address they stand.
func Warnings(c Config, id peer.ID) (out []string) {
	drop := func(what, part string) {
		out = append(out, fmt.Sprintf("PSF peers silently ignore %s, because it contains %q: %s", what, part,
			"helia-coord 2.0.2 takes every such address for one it cannot use"))
	}
	if part := Dropped(id.String()); part != "" {
		drop("every address of this relay, as its peer ID "+id.String()+" does", part)
	}
	if part := Dropped(c.Domain); part != "" {
		drop("the domain "+c.Domain, part)
	}
	if c.Announce.IP4.IsValid() {
		if part := DroppedIP4(c.Announce.IP4.String()); part != "" {
			drop("the address "+c.Announce.IP4.String(), part)
		}
	}
	return out
}

// Dropped names the part of an address for which helia-coord leaves the whole
// address out, whatever that part means there.
func Dropped(s string) string {
	for _, part := range []string{"udp", "quic"} {
		if strings.Contains(s, part) {
			return part
		}
	}
	return ""
}

// DroppedIP4 names the part of an IPv4 address for which PSF peers take it for a
// private one (they mean 172.16.0.0/12).
func DroppedIP4(s string) string {
	for _, part := range []string{"172.1", "172.2", "172.3"} {
		if strings.Contains(s, part) {
			return part
		}
	}
	return ""
}

package probe

import (
	"errors"
	"fmt"
	"net/netip"
)

// special are the IPv4 blocks of the IANA special-purpose registry (RFC 6890 and
// later) that are not for servers on the internet, and multicast.
var special = func() []netip.Prefix {
	var list []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
		"192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}()

// IsPublic says whether ip is a public unicast IPv4 address (rule R11).
func IsPublic(ip netip.Addr) bool {
	if !ip.Is4() {
		return false
	}
	for _, p := range special {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}

// Check refuses what may not be dialled, before anything is: a target without
// any address, and literal addresses that are not public unless AllowPrivate.
func (o Options) Check(t Target) error {
	var faults []error
	if t.TCP4 == nil && t.WSS == nil {
		faults = append(faults, errors.New("target has no address"))
	}
	if t.TCP4 != nil && !o.AllowPrivate && !IsPublic(t.tcp4().Addr()) {
		faults = append(faults, fmt.Errorf("address %s: %s is not a public IPv4 address: nobody else could reach it (--allow-private admits it for a test)",
			t.with(t.TCP4), t.tcp4().Addr()))
	}
	for name, ip := range o.Resolve {
		if !o.AllowPrivate && !IsPublic(ip) {
			faults = append(faults, fmt.Errorf("%s is pinned to %s, which is not a public IPv4 address (--allow-private admits it for a test)", name, ip))
		}
	}
	return errors.Join(faults...)
}

// Package publicip says which addresses the internet leads to.
package publicip

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
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

// Is4 says whether ip is a public unicast IPv4 address (rule R11).
func Is4(ip netip.Addr) bool {
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

// privateNames are the ends of names that lead nowhere outside: RFC 6762, RFC 8375, what ICANN
// reserved for private use, and what routers give.
var privateNames = []string{".local", ".home.arpa", ".internal", ".lan", ".localdomain", ".home", ".fritz.box"}

// Where says where a host is that the internet does not lead to, such as "on this machine";
// empty: elsewhere. A port may follow the host. Of a name its form tells: nobody is asked.
func Where(host string) string {
	host = strings.ToLower(strings.TrimSuffix((&url.URL{Host: host}).Hostname(), "."))
	ip, err := netip.ParseAddr(host)
	switch ip = ip.Unmap().WithZone(""); {
	case err == nil && (ip.IsLoopback() || ip.IsUnspecified()), host == "localhost", strings.HasSuffix(host, ".localhost"):
		return "on this machine"
	case host == "":
		return ""
	case ip.Is4() && !Is4(ip), ip.IsPrivate(), ip.IsLinkLocalUnicast():
		return "in a private network"
	case err != nil && (!strings.Contains(host, ".") || slices.ContainsFunc(privateNames, func(end string) bool { return strings.HasSuffix(host, end) })):
		return "in a private network"
	}
	return ""
}

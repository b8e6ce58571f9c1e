package lab

import "net/netip"

// network is 198.18.0.0/15, kept for benchmarks of network devices (RFC 2544).
var network = netip.MustParsePrefix("198.18.0.1/15")

// Subject is the address of the nth program under test. Each has its own, so that
// all can use the same ports.
func Subject(n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 0, byte(10 + n%200)}) }

// Client is the address of the nth client; there are 64,000 of them.
func Client(n int) netip.Addr {
	n %= 256 * 250
	return netip.AddrFrom4([4]byte{198, 19, byte(n / 250), byte(1 + n%250)})
}

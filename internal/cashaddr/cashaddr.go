// Package cashaddr checks payment addresses of the Bitcoin Cash chain (the CashAddr
// format): a mistyped one is found by its checksum, as long as it costs nothing.
package cashaddr

import (
	"fmt"
	"slices"
	"strings"
)

// prefixes are the kinds of address that PSF tokens, which are SLP tokens, can be
// sent to. Both are the same keys on the chain.
var prefixes = []string{"simpleledger", "bitcoincash"}

const alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

// Check says what is wrong with an address.
func Check(addr string) error {
	prefix, payload, ok := strings.Cut(addr, ":")
	if !ok || !slices.Contains(prefixes, prefix) {
		return fmt.Errorf("want an address that begins with %s:, not %q", strings.Join(prefixes, ": or "), addr)
	}
	var values []byte
	for _, r := range []byte(prefix) {
		values = append(values, r&0x1f)
	}
	values = append(values, 0)
	for _, r := range payload {
		v := strings.IndexRune(alphabet, r)
		if v < 0 {
			return fmt.Errorf("%q has a character that no address has: %q", addr, r)
		}
		values = append(values, byte(v))
	}
	// A version byte, a hash of 20 to 64 bytes and 40 bits of checksum.
	if len(payload) < 42 || checksum(values) != 0 {
		return fmt.Errorf("%q is mistyped: its checksum does not fit", addr)
	}
	return nil
}

// checksum is the format's BCH code over GF(32), 0 for a sound address.
func checksum(values []byte) uint64 {
	c := uint64(1)
	for _, d := range values {
		top := byte(c >> 35)
		c = (c&0x07ffffffff)<<5 ^ uint64(d)
		for i, g := range []uint64{0x98f2bc8e61, 0x79b76d99e2, 0xf33e5fb3c4, 0xae2eabe2a8, 0x1e4f43e470} {
			if top>>i&1 == 1 {
				c ^= g
			}
		}
	}
	return c ^ 1
}

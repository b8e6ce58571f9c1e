package relay

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// payoutPrefixes are the kinds of address that PSF tokens, which are SLP tokens,
// can be sent to. Both are the same keys on the Bitcoin Cash chain.
var payoutPrefixes = []string{"simpleledger", "bitcoincash"}

const cashaddrAlphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

// checkPayout finds a mistyped address by its checksum (the CashAddr format), as
// long as it costs nothing.
func checkPayout(addr string) error {
	if addr == "" {
		return errors.New("name the address to which payments go (simpleledger:...)")
	}
	prefix, payload, ok := strings.Cut(addr, ":")
	if !ok || !slices.Contains(payoutPrefixes, prefix) {
		return fmt.Errorf("payout: want an address that begins with %s:, not %q", strings.Join(payoutPrefixes, ": or "), addr)
	}
	var values []byte
	for _, r := range []byte(prefix) {
		values = append(values, r&0x1f)
	}
	values = append(values, 0)
	for _, r := range payload {
		v := strings.IndexRune(cashaddrAlphabet, r)
		if v < 0 {
			return fmt.Errorf("payout: %q has a character that no address has: %q", addr, r)
		}
		values = append(values, byte(v))
	}
	// A version byte, a hash of 20 to 64 bytes and 40 bits of checksum.
	if len(payload) < 42 || cashaddrSum(values) != 0 {
		return fmt.Errorf("payout: %q is mistyped: its checksum does not fit", addr)
	}
	return nil
}

// cashaddrSum is the format's BCH code over GF(32), 0 for a sound address.
func cashaddrSum(values []byte) uint64 {
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

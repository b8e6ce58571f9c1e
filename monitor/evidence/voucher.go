package evidence

import (
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Challenge makes the reserving peer's identity the nonce that a relay signs
// when it hands out a voucher.
type Challenge struct {
	Beacon     []byte  // a public randomness round, or none
	MonitorKey string  // the log's verifier key
	Relay      peer.ID // the relay that is asked
	Hour       Hour
	Salt       []byte // 32 secret bytes, published with the record
}

// Key is the identity with which to reserve.
func (c Challenge) Key() (crypto.PrivKey, error) { panic("being written") }

// VoucherState says what a relay's voucher is worth.
type VoucherState string

// The states of a voucher.
const (
	VoucherNone  VoucherState = "none"  // the attempt brought none
	VoucherBound VoucherState = "bound" // signed by the relay for this monitor and this hour
	VoucherOlder VoucherState = "older" // the same, for an identity made in an earlier hour of the last 24
	VoucherBad   VoucherState = "bad"   // does not show what it should
)

// VoucherCheck is the outcome of [VerifyVoucher].
type VoucherCheck struct {
	State  VoucherState
	Reason string // of none and bad
	Beacon bool   // a beacon went into the challenge and was verified
}

// BeaconVerifier checks a public randomness round and tells when it was published.
type BeaconVerifier interface {
	VerifyBeacon(beacon []byte) (published time.Time, err error)
}

// VerifyVoucher judges the voucher of an attempt that stands in the record of
// hour h of the log with key monitorKey. A nil verifier counts beacons as absent.
func VerifyVoucher(a Attempt, monitorKey string, h Hour, beacons BeaconVerifier) VoucherCheck {
	panic("being written")
}

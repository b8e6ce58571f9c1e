package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
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

const challengeDomain = "relaymon/probe-id/v1"

// Key is the identity with which to reserve: Ed25519 from the seed
//
//	SHA-256(f(domain) f(beacon) f(monitor key) f(relay) f(hour) f(salt))
//
// where f writes the length as 4 bytes, then the bytes; integers are big-endian,
// the hour is the number of hours since 1970 in 8 bytes, the relay its binary
// peer ID.
func (c Challenge) Key() (crypto.PrivKey, error) {
	if len(c.Salt) != saltSize {
		return nil, fmt.Errorf("challenge: salt of %d bytes, want %d", len(c.Salt), saltSize)
	}
	var seed []byte
	for _, field := range [][]byte{
		[]byte(challengeDomain),
		c.Beacon,
		[]byte(c.MonitorKey),
		[]byte(c.Relay),
		binary.BigEndian.AppendUint64(nil, uint64(c.Hour)),
		c.Salt,
	} {
		seed = binary.BigEndian.AppendUint32(seed, uint32(len(field)))
		seed = append(seed, field...)
	}
	sum := sha256.Sum256(seed)
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(sum[:]))
	if err != nil {
		return nil, fmt.Errorf("challenge: %w", err)
	}
	return key, nil
}

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
	Reason string // of bad
	// Expires is until when the relay let the reservation stand.
	Expires Time
	// Beacon: the round of the hour for which the identity was made went into the
	// challenge and was verified.
	Beacon bool
	// Witness is the verifier key of a witness whose cosignature went into the
	// challenge and was verified; empty: none did.
	Witness string
}

// BeaconVerifier knows a public source of randomness. It is called from several
// goroutines.
type BeaconVerifier interface {
	// VerifyBeacon returns nil if the beacon is the first round that the source
	// published at or after the given time.
	VerifyBeacon(beacon []byte, from time.Time) error
}

const (
	// maxReservation bounds the expiration that a voucher may state.
	maxReservation = 24 * time.Hour
	// maxChallengeAge is how many hours an identity may be used.
	maxChallengeAge = 24
)

// VerifyVoucher judges the voucher of an attempt that stands in the record of
// hour h of the log with key monitorKey. A nil verifier counts beacons as absent.
func VerifyVoucher(a Attempt, monitorKey string, h Hour, beacons BeaconVerifier) VoucherCheck {
	r := a.Facts.Reservation
	if r == nil || len(r.Voucher) == 0 {
		return VoucherCheck{State: VoucherNone}
	}
	made, err := checkVoucher(a, r, monitorKey, h)
	if err != nil {
		return VoucherCheck{State: VoucherBad, Reason: err.Error()}
	}
	check := VoucherCheck{State: VoucherBound}
	if made != h {
		check.State = VoucherOlder
	}
	if len(r.Beacon) > 0 && beacons != nil {
		if err := beacons.VerifyBeacon(r.Beacon, made.Start()); err != nil {
			return VoucherCheck{State: VoucherBad, Reason: fmt.Sprintf("beacon: %v", err)}
		}
		check.Beacon = true
	}
	return check
}

// checkVoucher returns the hour for which the reserving identity was made.
func checkVoucher(a Attempt, r *Reservation, monitorKey string, h Hour) (made Hour, err error) {
	relay, err := peer.Decode(a.PeerID)
	if err != nil {
		return 0, fmt.Errorf("relay: %w", err)
	}
	v, err := openVoucher(r.Voucher, relay)
	if err != nil {
		return 0, err
	}
	if v.Peer.String() != r.Peer {
		return 0, fmt.Errorf("voucher is for peer %s, the reservation was by %s", v.Peer, r.Peer)
	}
	started := a.Started.Time
	if v.Expiration.Before(started.Truncate(time.Second)) || v.Expiration.After(started.Add(maxReservation)) {
		return 0, fmt.Errorf("voucher expires at %s, want within %s after the attempt", TimeOf(v.Expiration), maxReservation)
	}
	made = h
	if r.Since != 0 {
		if made = r.Since; made >= h || made < h-maxChallengeAge {
			return 0, fmt.Errorf("identity was made in hour %s, want one of the %d before %s", made, maxChallengeAge, h)
		}
	}
	key, err := Challenge{r.Beacon, monitorKey, relay, made, r.Salt}.Key()
	if err != nil {
		return 0, err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return 0, err
	}
	if id != v.Peer {
		return 0, errors.New("voucher is not bound to this monitor, relay and hour: its peer ID does not follow from the salt")
	}
	return made, nil
}

const maxVoucher = 16 << 10

// openVoucher opens a signed envelope that holds a reservation voucher (circuit
// relay v2) and was signed by the relay itself.
func openVoucher(raw []byte, relay peer.ID) (*relayv2.ReservationVoucher, error) {
	if len(raw) > maxVoucher {
		return nil, fmt.Errorf("voucher of %d bytes is too long", len(raw))
	}
	var v relayv2.ReservationVoucher
	e, err := record.ConsumeTypedEnvelope(raw, &v)
	if err != nil {
		return nil, fmt.Errorf("voucher: %w", err)
	}
	if !bytes.Equal(e.PayloadType, relayv2.RecordCodec) {
		return nil, fmt.Errorf("voucher: payload type %x, want %x", e.PayloadType, relayv2.RecordCodec)
	}
	signer, err := peer.IDFromPublicKey(e.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("voucher: %w", err)
	}
	if signer != relay {
		return nil, fmt.Errorf("voucher is signed by %s, not by the relay", signer)
	}
	if v.Relay != relay {
		return nil, fmt.Errorf("voucher is of relay %s", v.Relay)
	}
	return &v, nil
}

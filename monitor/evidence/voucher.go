package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"golang.org/x/mod/sumdb/note"
)

// Challenge makes the reserving peer's identity the nonce that a relay signs
// when it hands out a voucher.
type Challenge struct {
	Beacon     []byte  // a public randomness round, or none
	Cosigned   string  // a checkpoint of the log and its cosignature, or none
	MonitorKey string  // the log's verifier key
	Relay      peer.ID // the relay that is asked
	Hour       Hour
	Salt       []byte // 32 secret bytes, published with the record
}

const challengeDomain = "relaymon/probe-id/v1"

// Key is the identity with which to reserve: Ed25519 from the seed
//
//	SHA-256(f(domain) f(beacon) f(cosigned) f(monitor key) f(relay) f(hour) f(salt))
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
		[]byte(c.Cosigned),
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
	VoucherBad   VoucherState = "bad"   // does not show what it should
)

// VoucherCheck is the outcome of [Vouchers.Verify].
type VoucherCheck struct {
	State  VoucherState
	Reason string // of bad
	// Expires is until when the relay let the reservation stand.
	Expires Time
	// Beacon: the hour's round went into the challenge and was verified.
	Beacon bool
	// Witness is the verifier key of the witness whose cosignature went into the
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

// Vouchers judges the vouchers that stand in one log. It may be used by several
// goroutines.
type Vouchers struct {
	log       string // verifier key
	origin    string
	witnesses []note.Verifier
	names     map[string]string // witness's key name and hash to its key as given
	beacon    BeaconVerifier
}

// NewVouchers parses the keys, once for all vouchers. Without a verifier for beacons
// they count as absent.
func NewVouchers(k Keys) (*Vouchers, error) {
	v := &Vouchers{log: k.Log, beacon: k.Beacon, names: make(map[string]string)}
	v.origin, _, _ = strings.Cut(k.Log, "+")
	var err error
	if v.witnesses, err = WitnessVerifiers(k.Witnesses); err != nil {
		return nil, err
	}
	for _, key := range k.Witnesses {
		w, err := WitnessVerifier(key)
		if err != nil {
			return nil, err
		}
		v.names[signerID(w.Name(), w.KeyHash())] = key
	}
	return v, nil
}

// maxReservation bounds the expiration that a voucher may state.
const maxReservation = 24 * time.Hour

// Verify judges the voucher of an attempt that stands in the record of hour h.
func (v *Vouchers) Verify(a Attempt, h Hour) VoucherCheck {
	r := a.Facts.Reservation
	if r == nil || len(r.Voucher) == 0 {
		return VoucherCheck{State: VoucherNone}
	}
	check, err := v.verify(a, r, h)
	if err != nil {
		return VoucherCheck{State: VoucherBad, Reason: err.Error()}
	}
	return check
}

func (v *Vouchers) verify(a Attempt, r *Reservation, h Hour) (VoucherCheck, error) {
	check := VoucherCheck{State: VoucherBound}
	relay, err := peer.Decode(a.PeerID)
	if err != nil {
		return check, fmt.Errorf("relay: %w", err)
	}
	if len(r.Cosigned) > MaxCosignedBytes {
		return check, fmt.Errorf("cosigned: note of %d bytes is too long", len(r.Cosigned))
	}
	envelope, err := openVoucher(r.Voucher, relay)
	if err != nil {
		return check, err
	}
	if envelope.Peer.String() != r.Peer {
		return check, fmt.Errorf("voucher is for peer %s, the reservation was by %s", envelope.Peer, r.Peer)
	}
	started := a.Started.Time
	if envelope.Expiration.Before(started.Truncate(time.Second)) || envelope.Expiration.After(started.Add(maxReservation)) {
		return check, fmt.Errorf("voucher expires at %s, want within %s after the attempt", TimeOf(envelope.Expiration), maxReservation)
	}
	check.Expires = TimeOf(envelope.Expiration)
	key, err := Challenge{r.Beacon, r.Cosigned, v.log, relay, h, r.Salt}.Key()
	if err != nil {
		return check, err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return check, err
	}
	if id != envelope.Peer {
		return check, errors.New("voucher is not bound to this monitor, relay and hour: its peer ID does not follow from the salt")
	}
	if len(r.Beacon) > 0 && v.beacon != nil {
		if err := v.beacon.VerifyBeacon(r.Beacon, h.Start()); err != nil {
			return check, fmt.Errorf("beacon: %w", err)
		}
		check.Beacon = true
	}
	if r.Cosigned != "" {
		witness, at, err := v.openCosigned(r.Cosigned)
		if err != nil {
			return check, fmt.Errorf("cosigned: %w", err)
		}
		if from, until := CosignedFrom(h), started.Add(maxWitnessLag); at.Before(from) || at.After(until) {
			return check, fmt.Errorf("cosigned: %s did so at %s, want from %s, the start of the hour before, to the attempt's start at %s",
				witness, TimeOf(at), TimeOf(from), a.Started)
		}
		check.Witness = witness
	}
	return check, nil
}

// CosignedFrom is the earliest time of a cosignature that shows that an identity of
// hour h is new: the start of the hour before, in which the last block was sealed.
func CosignedFrom(h Hour) time.Time { return (h - 1).Start() }

// openCosigned opens a note that is a checkpoint of the log with the cosignature of
// one of the witnesses and nothing else; it returns the witness's key as given.
func (v *Vouchers) openCosigned(raw string) (witness string, at time.Time, err error) {
	n, err := note.Open([]byte(raw), note.VerifierList(v.witnesses...))
	if err != nil {
		return "", at, err
	}
	again, err := FormatNote(n.Text, n.Sigs)
	if err != nil {
		return "", at, err
	}
	if len(n.Sigs) != 1 || string(again) != raw {
		return "", at, errors.New("want a checkpoint and one signature line, that of a witness, in the one spelling")
	}
	c, err := ParseCheckpoint(n.Text)
	if err != nil {
		return "", at, err
	}
	if c.Origin != v.origin {
		return "", at, fmt.Errorf("checkpoint is of log %s, not of %s", c.Origin, v.origin)
	}
	if at, err = CosignedAt(n.Sigs[0]); err != nil {
		return "", at, err
	}
	return v.names[signerID(n.Sigs[0].Name, n.Sigs[0].Hash)], at, nil
}

const maxVoucher = 16 << 10 // bytes of the envelope

// maxRSA and maxExponent bound the keys by which vouchers are signed.
const (
	maxRSA      = 4096 // bits
	maxExponent = 1<<16 + 1
)

// cheap refuses keys whose signatures take long to verify: a relay chooses its key, and
// every attempt on it has a signature. One of 8192 bits with a large exponent takes 6 ms.
func cheap(key crypto.PubKey) error {
	std, err := crypto.PubKeyToStdKey(key)
	if err != nil {
		return err
	}
	if k, ok := std.(*rsa.PublicKey); ok && (k.N.BitLen() > maxRSA || k.E > maxExponent) {
		return fmt.Errorf("the relay's RSA key has %d bits and the exponent %d, want %d and %d at most", k.N.BitLen(), k.E, maxRSA, maxExponent)
	}
	return nil
}

// openVoucher opens a signed envelope that holds a reservation voucher (circuit
// relay v2) and was signed by the relay itself.
func openVoucher(raw []byte, relay peer.ID) (*relayv2.ReservationVoucher, error) {
	if len(raw) > maxVoucher {
		return nil, fmt.Errorf("voucher of %d bytes is too long", len(raw))
	}
	e, err := record.UnmarshalEnvelope(raw)
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
	if err := cheap(e.PublicKey); err != nil {
		return nil, fmt.Errorf("voucher: %w", err)
	}
	var v relayv2.ReservationVoucher
	if _, err := record.ConsumeTypedEnvelope(raw, &v); err != nil {
		return nil, fmt.Errorf("voucher: %w", err)
	}
	if v.Relay != relay {
		return nil, fmt.Errorf("voucher is of relay %s", v.Relay)
	}
	return &v, nil
}

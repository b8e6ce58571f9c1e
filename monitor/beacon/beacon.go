// Package beacon checks rounds of drand, a public source of randomness
// (https://docs.drand.love). A round that went into a challenge proves that what
// answers the challenge is not older than the round.
//
// It is pure: no network, no clock. Whoever wants a round fetches it from any
// server he likes, since a round proves itself.
package beacon

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bls"
)

// Chain is a drand chain of the scheme bls-unchained-g1-rfc9380: each round is a
// signature of package bls, of the round's number alone.
type Chain struct {
	hash    string
	genesis time.Time
	period  time.Duration
	key     *bls.PublicKey

	verified sync.Map // rounds that were: all monitors use the same one in an hour
}

// NewChain is the chain that drand's API knows by the hash, with a public key, a
// compressed point of G2, and the time of round 1.
func NewChain(hash string, key []byte, genesis time.Time, period time.Duration) (*Chain, error) {
	k, err := bls.NewPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("drand chain %s: %w", hash, err)
	}
	return &Chain{hash: hash, genesis: genesis, period: period, key: k}, nil
}

// The League of Entropy's chain "quicknet", which makes a round every three seconds.
const (
	quicknetHash    = "52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971"
	quicknetKey     = "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d1064510d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a"
	quicknetGenesis = 1692803367
	quicknetPeriod  = 3 * time.Second
)

// Quicknet is the chain that monitors and auditors use.
func Quicknet() *Chain {
	key, err := hex.DecodeString(quicknetKey)
	if err != nil {
		panic(err) // the key is part of the program
	}
	c, err := NewChain(quicknetHash, key, time.Unix(quicknetGenesis, 0).UTC(), quicknetPeriod)
	if err != nil {
		panic(err)
	}
	return c
}

// Path is where a server of drand's HTTP API has a round of the chain.
func (c *Chain) Path(round uint64) string {
	return c.hash + "/public/" + strconv.FormatUint(round, 10)
}

// First is the number of the first round at or after t.
func (c *Chain) First(t time.Time) uint64 {
	after := t.Sub(c.genesis)
	if after <= 0 {
		return 1
	}
	return 1 + uint64((after+c.period-1)/c.period)
}

// Round is one round as a record keeps it: its number in 8 bytes, big-endian,
// then its signature, a compressed point of G1.
type Round struct {
	Number    uint64
	Signature [bls.SignatureSize]byte
}

// Size is the length of a round in bytes.
const Size = 8 + bls.SignatureSize

// Bytes is what goes into a challenge.
func (r Round) Bytes() []byte {
	return append(binary.BigEndian.AppendUint64(nil, r.Number), r.Signature[:]...)
}

// Parse reads what [Round.Bytes] writes. The signature is not looked at.
func Parse(b []byte) (Round, error) {
	if len(b) != Size {
		return Round{}, fmt.Errorf("beacon of %d bytes, want %d: a drand round and its signature", len(b), Size)
	}
	r := Round{Number: binary.BigEndian.Uint64(b)}
	copy(r.Signature[:], b[8:])
	return r, nil
}

// Decode reads a round as drand's HTTP API gives it. The signature is not looked at.
func Decode(answer []byte) (Round, error) {
	var in struct {
		Round      uint64 `json:"round"`
		Randomness string `json:"randomness"`
		Signature  string `json:"signature"`
	}
	if err := json.Unmarshal(answer, &in); err != nil {
		return Round{}, fmt.Errorf("drand round: %w", err)
	}
	sig, err := hex.DecodeString(in.Signature)
	if err != nil || len(sig) != bls.SignatureSize {
		return Round{}, errors.New("drand round: its signature is not one of quicknet's")
	}
	// The randomness follows from the signature; a server that says otherwise is broken.
	if sum := sha256.Sum256(sig); in.Randomness != "" && in.Randomness != hex.EncodeToString(sum[:]) {
		return Round{}, errors.New("drand round: its randomness is not the hash of its signature")
	}
	r := Round{Number: in.Round}
	copy(r.Signature[:], sig)
	return r, nil
}

// errForged says that a signature is no round of the chain.
var errForged = errors.New("its signature is not the chain's")

// Verify checks that the chain published the round.
func (c *Chain) Verify(r Round) error {
	if _, ok := c.verified.Load(r); ok {
		return nil
	}
	if err := c.verify(r); err != nil {
		return fmt.Errorf("drand round %d: %w", r.Number, err)
	}
	c.verified.Store(r, true)
	return nil
}

func (c *Chain) verify(r Round) error {
	if r.Number == 0 {
		return errors.New("there is no such round")
	}
	number := sha256.Sum256(binary.BigEndian.AppendUint64(nil, r.Number))
	if err := c.key.Verify(number[:], r.Signature[:]); err != nil {
		return errForged
	}
	return nil
}

// VerifyBeacon implements evidence.BeaconVerifier.
func (c *Chain) VerifyBeacon(beacon []byte, from time.Time) error {
	r, err := Parse(beacon)
	if err != nil {
		return err
	}
	if want := c.First(from); r.Number != want {
		return fmt.Errorf("drand round %d is not the first one after %s, which is %d", r.Number, from.UTC().Format(time.RFC3339), want)
	}
	return c.Verify(r)
}

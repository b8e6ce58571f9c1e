package bls

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/consensys/gnark-crypto/ecc"
	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"
)

// Signed is a message and what is said to be its signature.
type Signed struct {
	Message, Signature []byte
}

// groupSize is how many signatures are checked at once to find those that are not good.
const groupSize = 32

// VerifyBatch checks many signatures by the key and returns the positions of those
// that are not good, in order. When all are good it takes two pairings, where one by
// one would take two each. Only around a bad one they are checked one by one.
func (k *PublicKey) VerifyBatch(list []Signed) (bad []int) {
	points := make([]signed, len(list))
	var at []int // where those that can be read stand
	for i, s := range list {
		var err error
		if points[i], err = parse(s.Message, s.Signature); err != nil {
			bad = append(bad, i)
			continue
		}
		at = append(at, i)
	}
	times := coefficients(k, list)
	if k.sumHolds(points, at, times) {
		return bad
	}
	for group := range slices.Chunk(at, groupSize) {
		if k.sumHolds(points, group, times) {
			continue
		}
		for _, i := range group {
			if !k.holds(points[i].signature, points[i].hash) {
				bad = append(bad, i)
			}
		}
	}
	slices.Sort(bad)
	return bad
}

// coefficients are numbers of 128 bits, one for each place in the list, which follow
// from all that is checked. Without them two bad signatures could make up for each
// other. Who wants to find some that do so all the same must try 2^128 times.
func coefficients(k *PublicKey, list []Signed) []fr.Element {
	h := sha256.New()
	write := func(b []byte) {
		_ = binary.Write(h, binary.BigEndian, uint64(len(b)))
		h.Write(b)
	}
	write([]byte("relay-appliance/bls-batch/v1"))
	write(k.Bytes())
	for _, s := range list {
		write(s.Message)
		write(s.Signature)
	}
	seed := h.Sum(nil)
	out := make([]fr.Element, len(list))
	for i := range out {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(seed[:len(seed):len(seed)], uint64(i)))
		out[i].SetBytes(sum[:16])
	}
	return out
}

// sumHolds checks the sum of those at the given places, each times its coefficient.
func (k *PublicKey) sumHolds(points []signed, at []int, coefficients []fr.Element) bool {
	if len(at) == 0 {
		return true
	}
	signatures, hashes := make([]bls12381.G1Affine, len(at)), make([]bls12381.G1Affine, len(at))
	times := make([]fr.Element, len(at))
	for n, i := range at {
		signatures[n], hashes[n], times[n] = points[i].signature, points[i].hash, coefficients[i]
	}
	var signature, hash bls12381.G1Affine
	if _, err := signature.MultiExp(signatures, times, ecc.MultiExpConfig{}); err != nil {
		return false
	}
	if _, err := hash.MultiExp(hashes, times, ecc.MultiExpConfig{}); err != nil {
		return false
	}
	return k.holds(signature, hash)
}

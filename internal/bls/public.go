package bls

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"

	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
)

// PublicKey checks signatures.
type PublicKey struct {
	point bls12381.G2Affine // of the group of order r, not infinity
}

// NewPublicKey reads a key of [PublicKeySize] bytes.
func NewPublicKey(b []byte) (*PublicKey, error) {
	if len(b) != PublicKeySize {
		return nil, fmt.Errorf("BLS public key of %d bytes, want %d: a compressed point of G2", len(b), PublicKeySize)
	}
	k := new(PublicKey)
	// SetBytes also checks that the point is on the curve, and in the group of order r.
	if _, err := k.point.SetBytes(b); err != nil {
		return nil, fmt.Errorf("BLS public key: it is no compressed point of G2: %w", err)
	}
	if k.point.IsInfinity() {
		return nil, errors.New("BLS public key: it is the point at infinity, which signs nothing")
	}
	if !bytes.Equal(k.Bytes(), b) {
		return nil, errors.New("BLS public key: its point has another spelling")
	}
	return k, nil
}

// ParsePublicKey reads a key in base64, with padding.
func ParsePublicKey(text string) (*PublicKey, error) {
	if len(text) != base64.StdEncoding.EncodedLen(PublicKeySize) {
		return nil, fmt.Errorf("BLS public key of %d characters, want %d: %d bytes in base64", len(text), base64.StdEncoding.EncodedLen(PublicKeySize), PublicKeySize)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("BLS public key: %w", err)
	}
	k, err := NewPublicKey(b)
	if err == nil && k.String() != text { // base64 passes over line ends
		return nil, errors.New("BLS public key: its base64 has another spelling")
	}
	return k, err
}

// Bytes is the key as [NewPublicKey] reads it.
func (k *PublicKey) Bytes() []byte {
	b := k.point.Bytes()
	return b[:]
}

// String is the key as [ParsePublicKey] reads it.
func (k *PublicKey) String() string { return base64.StdEncoding.EncodeToString(k.Bytes()) }

// ErrForged says that a signature is not that of the key and the message.
var ErrForged = errors.New("the signature is not by the key")

// Verify checks that the signature is the one of the message.
func (k *PublicKey) Verify(message, signature []byte) error {
	s, err := parse(message, signature)
	if err != nil || !k.holds(s.signature, s.hash) {
		return ErrForged
	}
	return nil
}

// signed is a message, as a point, and what is said to be its signature.
type signed struct {
	hash, signature bls12381.G1Affine
}

// parse reads a signature in its one spelling: 48 bytes, of the group of order r, not
// infinity.
func parse(message, signature []byte) (s signed, err error) {
	if len(signature) != SignatureSize {
		return s, ErrForged
	}
	if _, err := s.signature.SetBytes(signature); err != nil || s.signature.IsInfinity() {
		return s, ErrForged
	}
	if again := s.signature.Bytes(); !bytes.Equal(again[:], signature) {
		return s, ErrForged
	}
	s.hash, err = bls12381.HashToG1(message, []byte(Suite))
	return s, err
}

// holds says whether e(signature, generator) = e(hash, key).
func (k *PublicKey) holds(signature, hash bls12381.G1Affine) bool {
	_, _, _, generator := bls12381.Generators()
	generator.Neg(&generator)
	ok, err := bls12381.PairingCheck([]bls12381.G1Affine{signature, hash}, []bls12381.G2Affine{generator, k.point})
	return err == nil && ok
}

package bls

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"

	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"
)

// SecretKey signs.
type SecretKey struct {
	scalar big.Int // 1 to r-1
}

// GenerateKey makes a new key at random.
func GenerateKey() (*SecretKey, error) {
	seed := make([]byte, SecretKeySize)
	if _, err := rand.Read(seed); err != nil {
		return nil, fmt.Errorf("make a BLS key: %w", err)
	}
	return KeyGen(seed)
}

// KeyGen derives a key from secret random bytes, 32 at least, by the draft's
// procedure KeyGen with an empty key_info.
func KeyGen(seed []byte) (*SecretKey, error) {
	if len(seed) < SecretKeySize {
		return nil, fmt.Errorf("a BLS key from %d bytes: %d random bytes at least are needed", len(seed), SecretKeySize)
	}
	const size = 48 // ceil(3 * ceil(log2(r)) / 16)
	salt := sha256.Sum256([]byte("BLS-SIG-KEYGEN-SALT-"))
	for {
		material := append(append([]byte{}, seed...), 0)
		expanded, err := hkdf.Key(sha256.New, material, salt[:], string([]byte{0, size}), size)
		if err != nil {
			return nil, fmt.Errorf("derive a BLS key: %w", err)
		}
		k := new(SecretKey)
		k.scalar.SetBytes(expanded)
		if k.scalar.Mod(&k.scalar, fr.Modulus()); k.scalar.Sign() != 0 {
			return k, nil
		}
		salt = sha256.Sum256(salt[:])
	}
}

// secretPrefix begins the text of a secret key, so that nobody takes it for a public one.
const secretPrefix = "PRIVATE+BLS12381G1+"

// Text is the key as one line, to be kept in a file that nobody else may read.
// [ParseSecretKey] reads it.
func (k *SecretKey) Text() string {
	return secretPrefix + base64.StdEncoding.EncodeToString(k.scalar.FillBytes(make([]byte, SecretKeySize)))
}

// String keeps the secret out of logs.
func (k *SecretKey) String() string { return "the secret key of " + k.Public().String() }

// errSecretKey does not repeat what was read: it may be most of a secret.
var errSecretKey = errors.New("a secret BLS key is " + secretPrefix + " and 32 bytes in base64, on one line")

// ParseSecretKey reads what [SecretKey.Text] writes.
func ParseSecretKey(text string) (*SecretKey, error) {
	coded, ok := strings.CutPrefix(text, secretPrefix)
	raw, err := base64.StdEncoding.Strict().DecodeString(coded)
	if !ok || err != nil || len(raw) != SecretKeySize {
		return nil, errSecretKey
	}
	k := new(SecretKey)
	k.scalar.SetBytes(raw)
	if k.scalar.Sign() == 0 || k.scalar.Cmp(fr.Modulus()) >= 0 || k.Text() != text {
		return nil, errSecretKey
	}
	return k, nil
}

// Public is the key with which others check what this one signs.
func (k *SecretKey) Public() *PublicKey {
	p := new(PublicKey)
	_, _, _, generator := bls12381.Generators()
	p.point.ScalarMultiplication(&generator, &k.scalar)
	return p
}

// Sign is the one signature of a message, [SignatureSize] bytes.
func (k *SecretKey) Sign(message []byte) []byte {
	point, err := bls12381.HashToG1(message, []byte(Suite))
	if err != nil {
		panic(err) // only a suite of more than 255 bytes does that
	}
	point.ScalarMultiplication(&point, &k.scalar)
	signature := point.Bytes()
	return signature[:]
}

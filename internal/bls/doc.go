// Package bls makes and checks BLS signatures on the curve BLS12-381, as of
// draft-irtf-cfrg-bls-signature: minimal-signature-size (a signature is a point of
// G1, a public key one of G2), basic scheme, suite [Suite]. It is also what the
// rounds of drand's chain quicknet are.
//
// For each key and message there is exactly one signature. Whoever has the key
// cannot choose it, and whoever has not cannot tell it beforehand. So the signature
// is a random number that everybody can check: a verifiable random function. For
// this the spelling must be unique, too: [PublicKey.Verify] takes a point in one
// spelling only.
//
// All curve arithmetic is that of gnark-crypto. Signing does not run in constant
// time: do not let strangers measure how long it takes.
package bls

// Suite is the name of the suite, and the domain separation tag of its hash.
const Suite = "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"

const (
	// SignatureSize is the length of a signature in bytes: a compressed point of G1.
	SignatureSize = 48
	// PublicKeySize is the length of a public key in bytes: a compressed point of G2.
	PublicKeySize = 96
	// SecretKeySize is the length of a secret key in bytes: a number, big-endian.
	SecretKeySize = 32
)

package evidence

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Timestamped cosignatures of C2SP tlog-cosignature, Ed25519 only. The signer of
// transparency-dev/formats is not used since it reads the clock itself.

// cosignMessage is what a witness signs: the time, then the checkpoint's text.
func cosignMessage(at uint64, checkpoint []byte) []byte {
	return fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, checkpoint)
}

// Cosigner makes cosignatures of the given time with a witness's key.
func (k SigningKey) Cosigner(at time.Time) note.Signer { return cosigner{k, at} }

// cosigner makes cosignatures of one time.
type cosigner struct {
	SigningKey
	at time.Time
}

func (s cosigner) Name() string    { return s.name }
func (s cosigner) KeyHash() uint32 { return s.public().hash() }

func (s cosigner) Sign(msg []byte) ([]byte, error) {
	at := s.at.Unix()
	if at < 0 {
		return nil, errors.New("cosign: the clock is before 1970")
	}
	sig := binary.BigEndian.AppendUint64(nil, uint64(at))
	return append(sig, ed25519.Sign(s.key, cosignMessage(uint64(at), msg))...), nil
}

// maxCosignTime is the last second of the year 9999: no later time can be written.
const maxCosignTime = 253402300799

// cosignVerifier checks cosignatures.
type cosignVerifier struct{ publicKey }

func (v cosignVerifier) Name() string    { return v.name }
func (v cosignVerifier) KeyHash() uint32 { return v.hash() }

func (v cosignVerifier) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	at := binary.BigEndian.Uint64(sig)
	return at <= maxCosignTime && ed25519.Verify(v.key, cosignMessage(at, msg), sig[8:])
}

// WitnessVerifier is the verifier for a witness's key as it stands in a roster.
// Witnesses publish their keys as type 4 or, older ones, as type 1; the
// cosignature's own key is of type 4 in either case.
func WitnessVerifier(vkey string) (note.Verifier, error) {
	k, err := parsePublicKey(vkey)
	if err != nil {
		return nil, err
	}
	k.alg = WitnessKeyType
	return cosignVerifier{k}, nil
}

// CosignedAt is the time in a cosignature that was verified.
func CosignedAt(s note.Signature) (time.Time, error) {
	raw, err := base64.StdEncoding.DecodeString(s.Base64)
	if err != nil || len(raw) != 4+8+ed25519.SignatureSize {
		return time.Time{}, fmt.Errorf("signature of %s is no cosignature", s.Name)
	}
	return time.Unix(int64(binary.BigEndian.Uint64(raw[4:])), 0).UTC(), nil
}

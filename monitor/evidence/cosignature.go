package evidence

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// Timestamped cosignatures of C2SP tlog-cosignature: Ed25519 and ML-DSA-44. They are
// verified by transparency-dev/formats. Its signer is not used, since it reads the clock
// itself; a witness of ours signs with Ed25519.

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

// cosignVerifier checks cosignatures, which have a time.
type cosignVerifier struct{ note.Verifier }

func (v cosignVerifier) Verify(msg, sig []byte) bool {
	if len(sig) < 8 {
		return false
	}
	at := binary.BigEndian.Uint64(sig)
	return at > 0 && at <= maxCosignTime && v.Verifier.Verify(msg, sig)
}

// WitnessVerifier is the verifier for a witness's key as it stands in a roster, in the
// one spelling: of type 4 (Ed25519), 6 (ML-DSA-44) or, as older witnesses publish theirs,
// 1; the cosignature's own key is of type 4 then.
func WitnessVerifier(vkey string) (note.Verifier, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	_, b64, _ := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.DecodeString(b64)
	if err != nil || len(raw) == 0 || !validKeyName(name) {
		return nil, fmt.Errorf("verifier key %q: want <name>+<hash>+<base64> of a witness's key", vkey)
	}
	if want := spellKey(name, raw); want != vkey {
		return nil, fmt.Errorf("verifier key %q: its hash or spelling is wrong, want %q", vkey, want)
	}
	v, err := formats.NewVerifierForCosignatureV1(vkey)
	if err != nil {
		return nil, fmt.Errorf("verifier key %q of type %#02x: want a witness's key, Ed25519 (type 0x01 or 0x04) or ML-DSA-44 (0x06): %w", vkey, raw[0], err)
	}
	return cosignVerifier{v}, nil
}

// CosignedAt is the time in a cosignature that was verified.
func CosignedAt(s note.Signature) (time.Time, error) {
	at, err := formats.CoSigV1Timestamp(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("signature of %s is no cosignature", s.Name)
	}
	return at.UTC(), nil
}

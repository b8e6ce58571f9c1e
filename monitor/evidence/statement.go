package evidence

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// The payload type of an in-toto statement in a DSSE envelope.
const statementType = "application/vnd.in-toto+json"

// dsseKey signs and verifies envelopes with a log's key. The key ID is the name and
// hash of the key, as in a note.
type dsseKey struct {
	publicKey
	secret ed25519.PrivateKey
}

func (k dsseKey) KeyID() (string, error)   { return signerID(k.name, k.hash()), nil }
func (k dsseKey) Public() crypto.PublicKey { return k.key }

func (k dsseKey) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(k.secret, data), nil
}

func (k dsseKey) Verify(_ context.Context, data, sig []byte) error {
	if !ed25519.Verify(k.key, data, sig) {
		return errors.New("signature is not good")
	}
	return nil
}

// SignStatement puts an in-toto statement into a DSSE envelope signed by the log's
// key. The envelope is canonical JSON.
func (l *Log) SignStatement(statement []byte) ([]byte, error) {
	s, err := dsse.NewEnvelopeSigner(dsseKey{l.key.public(), l.key.key})
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	e, err := s.SignPayload(context.Background(), statementType, statement)
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	return Encode(e)
}

// VerifyStatement opens an envelope that [Log.SignStatement] made and returns the
// statement. Another spelling of the envelope, or signatures beside the log's, are
// refused.
func VerifyStatement(envelope []byte, logKey string) ([]byte, error) {
	var e dsse.Envelope
	if err := Decode(envelope, &e); err != nil {
		return nil, fmt.Errorf("verify statement: %w", err)
	}
	k, err := parsePublicKey(logKey)
	if err != nil {
		return nil, fmt.Errorf("verify statement: %w", err)
	}
	if e.PayloadType != statementType {
		return nil, fmt.Errorf("verify statement: payload type %q, want %s", e.PayloadType, statementType)
	}
	if len(e.Signatures) != 1 {
		return nil, fmt.Errorf("verify statement: %d signatures, want the log's", len(e.Signatures))
	}
	v, err := dsse.NewEnvelopeVerifier(dsseKey{publicKey: k})
	if err != nil {
		return nil, fmt.Errorf("verify statement: %w", err)
	}
	_, statement, err := v.VerifyAndDecode(context.Background(), &e)
	if err != nil {
		return nil, fmt.Errorf("verify statement: %w", err)
	}
	// base64 has more than one spelling, and another key ID would pass unseen.
	id, _ := dsseKey{publicKey: k}.KeyID()
	if e.Signatures[0].KeyID != id {
		return nil, fmt.Errorf("verify statement: key ID %q, want %s", e.Signatures[0].KeyID, id)
	}
	for _, s := range []string{e.Payload, e.Signatures[0].Sig} {
		if raw, err := canonicalBase64(s); err != nil {
			return nil, fmt.Errorf("verify statement: %w", err)
		} else if s == e.Payload && !bytes.Equal(raw, statement) {
			return nil, errors.New("verify statement: payload is ambiguous")
		}
	}
	return statement, nil
}

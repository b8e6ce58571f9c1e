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

// SignStatement puts an in-toto statement into a DSSE envelope signed by a log's
// key. The envelope is canonical JSON.
func SignStatement(statement []byte, key SigningKey) ([]byte, error) {
	s, err := dsse.NewEnvelopeSigner(dsseKey{key.public(), key.key})
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	e, err := s.SignPayload(context.Background(), statementType, statement)
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	return Encode(e)
}

// What stands around the payload, the key ID and the signature in the one spelling
// of an envelope: canonical JSON, one signature.
const (
	envelopePayload = `{"payload":"`
	envelopeKeyID   = `","payloadType":"` + statementType + `","signatures":[{"keyid":"`
	envelopeSig     = `","sig":"`
	envelopeEnd     = `"}]}`
)

// cutEnvelope takes an envelope apart without decoding anything.
func cutEnvelope(envelope []byte) (e dsse.Envelope, err error) {
	payload, rest, ok1 := bytes.Cut(envelope, []byte(envelopeKeyID))
	payload, ok2 := bytes.CutPrefix(payload, []byte(envelopePayload))
	id, rest, ok3 := bytes.Cut(rest, []byte(envelopeSig))
	sig, ok4 := bytes.CutSuffix(rest, []byte(envelopeEnd))
	if !ok1 || !ok2 || !ok3 || !ok4 || len(id)+len(sig) > maxNote {
		return e, fmt.Errorf("this is no envelope in canonical form with a payload of type %s and one signature", statementType)
	}
	return dsse.Envelope{PayloadType: statementType, Payload: string(payload), Signatures: []dsse.Signature{{KeyID: string(id), Sig: string(sig)}}}, nil
}

// StatementKeyID is the [KeyID] of the log that an envelope says it is signed by.
// Nothing is verified.
func StatementKeyID(envelope []byte) (string, error) {
	e, err := cutEnvelope(envelope)
	if err != nil {
		return "", fmt.Errorf("read statement: %w", err)
	}
	return e.Signatures[0].KeyID, nil
}

// KeyID is how an envelope calls the verifier key of a log: by its name and hash.
func KeyID(logKey string) (string, error) {
	k, err := parsePublicKey(logKey)
	if err != nil {
		return "", err
	}
	return dsseKey{publicKey: k}.KeyID()
}

// VerifyStatement opens an envelope that [SignStatement] made and returns the
// statement. Another spelling of the envelope, or signatures beside the log's, are
// refused.
func VerifyStatement(envelope []byte, logKey string) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("verify statement: %w", err) }
	e, err := cutEnvelope(envelope)
	if err != nil {
		return fail(err)
	}
	k, err := parsePublicKey(logKey)
	if err != nil {
		return fail(err)
	}
	// Another key ID would pass unseen, and base64 has more than one spelling.
	key := dsseKey{publicKey: k}
	if id, _ := key.KeyID(); e.Signatures[0].KeyID != id {
		return fail(fmt.Errorf("key ID %q, want %s", e.Signatures[0].KeyID, id))
	}
	for _, s := range []string{e.Payload, e.Signatures[0].Sig} {
		if _, err := CanonicalBase64(s); err != nil {
			return fail(err)
		}
	}
	v, err := dsse.NewEnvelopeVerifier(key)
	if err != nil {
		return fail(err)
	}
	_, statement, err := v.VerifyAndDecode(context.Background(), &e)
	if err != nil {
		return fail(err)
	}
	return statement, nil
}

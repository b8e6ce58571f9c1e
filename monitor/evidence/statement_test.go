package evidence_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

func TestStatement(t *testing.T) {
	l, _ := newLog(t)
	other, _ := newLog(t)
	statement := []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[]}`)
	env, err := l.SignStatement(statement)
	evidencetest.Must(t, err)
	got, err := evidence.VerifyStatement(env, l.Key())
	evidencetest.Must(t, err)
	if !bytes.Equal(got, statement) {
		t.Fatalf("got %q", got)
	}
	again, err := l.SignStatement(statement)
	evidencetest.Must(t, err)
	if !bytes.Equal(env, again) {
		t.Fatal("two signatures of one statement differ")
	}
	if _, err := evidence.VerifyStatement(env, other.Key()); err == nil {
		t.Fatal("verified with the key of another log")
	}
	if _, err := evidence.VerifyStatement(env, "x"); err == nil {
		t.Fatal("verified with key x")
	}
	for i := range env {
		for _, flip := range []byte{1, 2, 0x80} {
			bad := bytes.Clone(env)
			bad[i] ^= flip
			if _, err := evidence.VerifyStatement(bad, l.Key()); err == nil {
				t.Fatalf("byte %d ^ %#x (%q) goes unseen", i, flip, around(env, i))
			}
		}
	}
	for name, change := range map[string]func(*dsse.Envelope){
		"url base64":      func(e *dsse.Envelope) { e.Payload = base64.URLEncoding.EncodeToString(append(statement, 0xff)) },
		"line break":      func(e *dsse.Envelope) { e.Payload = e.Payload[:4] + "\n" + e.Payload[4:] },
		"no signature":    func(e *dsse.Envelope) { e.Signatures = nil },
		"twice":           func(e *dsse.Envelope) { e.Signatures = append(e.Signatures, e.Signatures[0]) },
		"no key ID":       func(e *dsse.Envelope) { e.Signatures[0].KeyID = "" },
		"another type":    func(e *dsse.Envelope) { e.PayloadType = "text/plain" },
		"sig, line break": func(e *dsse.Envelope) { e.Signatures[0].Sig = "\n" + e.Signatures[0].Sig },
	} {
		var e dsse.Envelope
		evidencetest.Must(t, evidence.Decode(env, &e))
		change(&e)
		b, err := evidence.Encode(e)
		evidencetest.Must(t, err)
		if _, err := evidence.VerifyStatement(b, l.Key()); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
	// The library's own verifier agrees.
	k, err := evidence.StatementVerifier(l.Key())
	evidencetest.Must(t, err)
	v, err := dsse.NewEnvelopeVerifier(k)
	evidencetest.Must(t, err)
	var e dsse.Envelope
	evidencetest.Must(t, evidence.Decode(env, &e))
	if _, err := v.Verify(context.Background(), &e); err != nil {
		t.Fatal(err)
	}
}

func TestKeys(t *testing.T) {
	l, _ := newLog(t)
	for _, good := range []string{l.Key(), l.WitnessKey()} {
		k, err := evidence.ParsePublicKey(good)
		evidencetest.Must(t, err)
		if k.String() != good {
			t.Fatalf("%s became %s", good, k)
		}
		for i := range good {
			bad := []byte(good)
			bad[i] ^= 1
			if _, err := evidence.ParsePublicKey(string(bad)); err == nil {
				t.Errorf("took %s for %s", bad, good)
			}
			if _, err := evidence.ParsePublicKey(good[:i]); err == nil {
				t.Errorf("took %s for %s", good[:i], good)
			}
		}
	}
	if _, err := evidence.LogVerifier(l.WitnessKey()); err == nil {
		t.Error("took a witness's key for a log's")
	}
	secret := evidencetest.SecretOf(t, l.dir).String()
	for i := range secret {
		bad := []byte(secret)
		bad[i] ^= 1
		_, err := evidence.ParseSigningKey(string(bad))
		if err == nil {
			t.Errorf("took a changed byte %d of a secret key", i)
		} else if strings.Contains(err.Error(), secret[len(secret)-40:]) {
			t.Errorf("the error tells the key: %v", err)
		}
	}
	for _, s := range []string{"", "x", "a/relaymon/psf/x", "/relaymon/psf", "a/relaymon/psf\n", "A/relaymon/psf", "a/relaymon/relaymon/psf"} {
		if _, _, err := evidence.ParseOrigin(s); err == nil {
			t.Errorf("took origin %q", s)
		}
	}
}

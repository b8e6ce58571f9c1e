package statement

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
)

func newKey(t testing.TB, kind int) (crypto.PrivKey, string) {
	t.Helper()
	key, _, err := crypto.GenerateKeyPairWithReader(kind, 2048, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, id.String()
}

func example(id string) Statement {
	return Statement{
		Kind: Enrol, Network: "psf", PeerID: id, Operator: "alice",
		IPv4: "198.41.0.4", TCPPort: 4001, Domain: "relay.example.org", WSSPort: 443,
		Region: "SG", Payout: "bitcoincash:qq", From: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		Made: time.Date(2026, 10, 30, 12, 34, 56, 0, time.UTC),
	}
}

func TestSignOpen(t *testing.T) {
	for name, kind := range map[string]int{"ed25519": crypto.Ed25519, "rsa": crypto.RSA, "secp256k1": crypto.Secp256k1} {
		t.Run(name, func(t *testing.T) {
			key, id := newKey(t, kind)
			want := example(id)
			envelope, err := Sign(want, key)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := FromText(Text(envelope) + "\n")
			if err != nil {
				t.Fatal(err)
			}
			got, err := Open(raw)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestEveryByteCounts(t *testing.T) {
	key, id := newKey(t, crypto.Ed25519)
	envelope, err := Sign(example(id), key)
	if err != nil {
		t.Fatal(err)
	}
	for i := range envelope {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			bad := bytes.Clone(envelope)
			bad[i] ^= flip
			if _, err := Open(bad); err == nil {
				t.Errorf("byte %d changed by %#x: accepted", i, flip)
			}
		}
		if _, err := Open(envelope[:i]); err == nil {
			t.Errorf("cut after byte %d: accepted", i)
		}
	}
	if _, err := Open(append(bytes.Clone(envelope), 0)); err == nil {
		t.Error("a byte behind the end: accepted")
	}
}

// other is a record that libp2p could sign for another purpose.
type other struct {
	domain string
	codec  []byte
	body   []byte
}

func (o *other) Domain() string                 { return o.domain }
func (o *other) Codec() []byte                  { return o.codec }
func (o *other) MarshalRecord() ([]byte, error) { return o.body, nil }
func (o *other) UnmarshalRecord([]byte) error   { return nil }

func TestRefused(t *testing.T) {
	key, id := newKey(t, crypto.Ed25519)
	_, stranger := newKey(t, crypto.Ed25519)
	good, err := (&payload{example(id)}).MarshalRecord()
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := (&payload{example(stranger)}).MarshalRecord()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		rec  other
		want string
	}{
		"another domain":       {other{"libp2p-relay-rsvp", Codec, good}, "invalid signature"},
		"another type":         {other{Domain, []byte{3, 2}, good}, "payload type"},
		"signed by a stranger": {other{Domain, Codec, foreign}, "but " + id + " signed it"},
		"white space":          {other{Domain, Codec, append([]byte(" "), good...)}, "canonical"},
		"unknown field":        {other{Domain, Codec, bytes.Replace(good, []byte(`{"kind"`), []byte(`{"x":1,"kind"`), 1)}, "unknown field"},
		"half an hour":         {other{Domain, Codec, bytes.Replace(good, []byte("T00:00:00Z"), []byte("T00:30:00Z"), 1)}, "full UTC hour"},
		"another zone":         {other{Domain, Codec, bytes.Replace(good, []byte("T00:00:00Z"), []byte("T00:00:00+01:00"), 1)}, "full UTC hour"},
		"no country":           {other{Domain, Codec, bytes.Replace(good, []byte(`"SG"`), []byte(`"sg"`), 1)}, "region"},
		"no address":           {other{Domain, Codec, bytes.Replace(good, []byte("198.41.0.4"), []byte("::1"), 1)}, "ipv4"},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := record.Seal(&tc.rec, key)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := e.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Open(raw); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got error %v, want one that holds %q", err, tc.want)
			}
		})
	}
	if _, err := Sign(example(stranger), key); err == nil {
		t.Error("a statement about another relay was signed")
	}
	if _, err := Sign(Statement{}, key); err == nil {
		t.Error("an empty statement was signed")
	}
	if _, err := Open(make([]byte, maxBytes+1)); err == nil {
		t.Error("a huge envelope was read")
	}
}

func FuzzOpen(f *testing.F) {
	key, id := newKey(f, crypto.Ed25519)
	envelope, err := Sign(example(id), key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(envelope)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Open(b)
		if err == nil && s.validate() != nil {
			t.Errorf("accepted %+v", s)
		}
	})
}

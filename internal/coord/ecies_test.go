package coord

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// vector is one of testdata/ecies.json, which the library of upstream made
// (testdata/ecies.cjs says how).
type vector struct {
	Key, Public, Ephemeral, IV, Plain, Sealed string
	SealedByLibrary                           string `json:"sealed_by_library"`
}

func vectors(t testing.TB) []vector {
	t.Helper()
	data, err := os.ReadFile("testdata/ecies.json")
	if err != nil {
		t.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(data, &vs); err != nil {
		t.Fatal(err)
	}
	if len(vs) == 0 {
		t.Fatal("no vectors")
	}
	return vs
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCipherIsThatOfUpstream(t *testing.T) {
	leadingZero, byLibrary := false, false
	for i, v := range vectors(t) {
		key, err := ParseKey([]byte(v.Key + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		if key.Public() != v.Public {
			t.Errorf("vector %d: public key %s, want %s", i, key.Public(), v.Public)
		}
		public, err := parsePublic(v.Public)
		if err != nil {
			t.Fatal(err)
		}
		ephemeral := secp256k1.PrivKeyFromBytes(unhex(t, v.Ephemeral))
		leadingZero = leadingZero || secp256k1.GenerateSharedSecret(ephemeral, public)[0] == 0
		sealed, err := seal(public, ephemeral, unhex(t, v.IV), []byte(v.Plain))
		if err != nil || hex.EncodeToString(sealed) != v.Sealed {
			t.Errorf("vector %d: sealed %x, %v, want %s", i, sealed, err, v.Sealed)
		}
		for _, s := range []string{v.Sealed, v.SealedByLibrary} {
			if s == "" {
				continue
			}
			byLibrary = byLibrary || s == v.SealedByLibrary
			plain, err := key.decrypt(unhex(t, s))
			if err != nil || string(plain) != v.Plain {
				t.Errorf("vector %d: opened %q, %v, want %q", i, plain, err, v.Plain)
			}
		}
	}
	if !leadingZero || !byLibrary {
		t.Errorf("the vectors hold no shared secret with a leading zero (%v) or nothing sealed by the library alone (%v)", leadingZero, byLibrary)
	}
}

func TestDecryptCompressedEphemeralKey(t *testing.T) {
	v := vectors(t)[3]
	key, err := ParseKey([]byte(v.Key + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	public := key.private.PubKey()
	ephemeral := secp256k1.PrivKeyFromBytes(unhex(t, v.Ephemeral))
	// The mac covers the key as it is written.
	_, mac, err := ciphers(ephemeral, public)
	if err != nil {
		t.Fatal(err)
	}
	full := unhex(t, v.Sealed)
	short := ephemeral.PubKey().SerializeCompressed()
	iv, text := full[65:81], full[81:len(full)-32]
	sealed := bytes.Join([][]byte{short, iv, text, mac(iv, short, text)}, nil)
	plain, err := key.decrypt(sealed)
	if err != nil || string(plain) != v.Plain {
		t.Fatalf("opened %q, %v", plain, err)
	}
}

func TestDecryptRefusesEveryChange(t *testing.T) {
	v := vectors(t)[2]
	key, err := ParseKey([]byte(v.Key + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	sealed := unhex(t, v.Sealed)
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if plain, err := key.decrypt(changed); err == nil {
			t.Errorf("byte %d changed: opened %q", i, plain)
		}
		if plain, err := key.decrypt(sealed[:i]); err == nil {
			t.Errorf("cut to %d bytes: opened %q", i, plain)
		}
	}
}

func TestKeyRoundTrip(t *testing.T) {
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseKey(key.Encode())
	if err != nil || again.Public() != key.Public() {
		t.Fatalf("%v, %v", again, err)
	}
	line := string(key.Encode())
	for name, data := range map[string]string{
		"empty":      "",
		"cut":        line[:20] + "\n",
		"no newline": strings.TrimSpace(line),
		"zero":       strings.Repeat("0", 64) + "\n",
		"too large":  strings.Repeat("f", 64) + "\n",
		"not hex":    "x" + line[1:],
		"two lines":  line + line,
	} {
		if _, err := ParseKey([]byte(data)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzDecrypt(f *testing.F) {
	key, err := ParseKey([]byte(vectors(f)[0].Key + "\n"))
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range vectors(f) {
		f.Add(unhex(f, v.Sealed), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, sealIt bool) {
		if !sealIt {
			before := bytes.Clone(data)
			_, _ = key.decrypt(data)
			if !bytes.Equal(before, data) {
				t.Fatal("decrypt wrote to its input")
			}
			return
		}
		sealed, err := encrypt(key.private.PubKey(), data)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := key.decrypt(sealed)
		if err != nil || !bytes.Equal(plain, data) {
			t.Fatalf("%x came back as %x, %v", data, plain, err)
		}
	})
}

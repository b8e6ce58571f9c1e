package relay

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

func TestIdentityIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	key, err := CreateIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CreateIdentity(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second identity: %v", err)
	}
	again, err := LoadIdentity(dir)
	if err != nil || !again.Equals(key) {
		t.Errorf("read back: %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, identityFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// What is wrong with an identity stops the start, with what to do about it.
func TestIdentityFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, dir, file string)
		want  string
	}{
		"missing beside state": {func(t *testing.T, dir, file string) {
			relaytest.Must(t, os.Remove(file))
			relaytest.Must(t, os.Mkdir(filepath.Join(dir, "acme"), 0o700))
		}, "restore it from a backup"},
		"readable by others":  {func(t *testing.T, dir, file string) { relaytest.Must(t, os.Chmod(file, 0o644)) }, "chmod 600"},
		"writable by a group": {func(t *testing.T, dir, file string) { relaytest.Must(t, os.Chmod(file, 0o620)) }, "chmod 600"},
		"empty":               {func(t *testing.T, dir, file string) { relaytest.Must(t, os.Truncate(file, 0)) }, "damaged"},
		"cut short":           {func(t *testing.T, dir, file string) { relaytest.Must(t, os.Truncate(file, 40)) }, "damaged"},
		"a byte more": {func(t *testing.T, dir, file string) {
			raw, err := os.ReadFile(file)
			relaytest.Must(t, err)
			relaytest.Must(t, os.WriteFile(file, append(raw, 0), 0o600))
		}, "damaged"},
		"a folder": {func(t *testing.T, dir, file string) {
			relaytest.Must(t, os.Remove(file))
			relaytest.Must(t, os.Mkdir(file, 0o700))
		}, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			c := relaytest.LabConfig(t)
			_, err := CreateIdentity(c.DataDir)
			relaytest.Must(t, err)
			tc.spoil(t, c.DataDir, filepath.Join(c.DataDir, identityFile))
			if _, err := New(c, relaytest.Log(t)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// Each byte of a key file matters: none can be changed unseen, nor make it
// another relay's.
func TestIdentityEveryByte(t *testing.T) {
	key, err := newKey()
	relaytest.Must(t, err)
	raw, err := crypto.MarshalPrivateKey(key)
	relaytest.Must(t, err)
	for i := range raw {
		bad := append([]byte(nil), raw...)
		bad[i] ^= 0x10
		if _, err := parseKey(bad); err == nil {
			t.Errorf("byte %d changed: a key was read", i)
		}
	}
}

func TestIdentityMovesHouse(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	key, err := CreateIdentity(from)
	relaytest.Must(t, err)
	exported, err := ExportIdentity(from)
	relaytest.Must(t, err)
	if _, err := ImportIdentity(to, exported); err != nil {
		t.Fatal(err)
	}
	got, err := LoadIdentity(to)
	if err != nil || !got.Equals(key) {
		t.Errorf("imported another key: %v", err)
	}
	if _, err := ImportIdentity(to, exported); !errors.Is(err, fs.ErrExist) {
		t.Errorf("imported over an identity: %v", err)
	}

	// Other libp2p programs keep the bare protobuf.
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(exported)))
	relaytest.Must(t, err)
	if _, err := ImportIdentity(filepath.Join(t.TempDir(), "c"), raw); err != nil {
		t.Errorf("bare protobuf: %v", err)
	}
	rsa, _, err := crypto.GenerateKeyPairWithReader(crypto.RSA, 2048, rand.Reader)
	relaytest.Must(t, err)
	raw, err = crypto.MarshalPrivateKey(rsa)
	relaytest.Must(t, err)
	for name, data := range map[string][]byte{"empty": nil, "text": []byte("no key"), "an RSA key": raw, "long": make([]byte, 5000)} {
		if _, err := ImportIdentity(filepath.Join(t.TempDir(), "d"), data); err == nil {
			t.Errorf("%s: imported", name)
		}
	}
}

// Whatever is imported is either refused or kept and given back as it was.
func FuzzParseKey(f *testing.F) {
	key, err := newKey()
	if err != nil {
		f.Fatal(err)
	}
	raw, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(base64.StdEncoding.EncodeToString(raw) + "\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := parseKey(data)
		if err != nil {
			return
		}
		raw, err := crypto.MarshalPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseKey(raw); err != nil || !again.Equals(key) {
			t.Errorf("%x reads back as another key: %v", data, err)
		}
	})
}

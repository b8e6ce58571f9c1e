package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/archive"
	"github.com/psf-relay/relay-appliance/internal/cli"
)

// signing is with what, and as of when, packages and sums are signed.
type signing struct {
	Key   []string      `type:"existingfile" placeholder:"FILE" help:"A secret OpenPGP key; while one replaces another, give both. Default: the key in the environment variable RELEASE_KEY."`
	Date  time.Time     `format:"2006-01-02T15:04:05Z07:00" placeholder:"TIME" help:"The time that is signed, such as 2026-11-03T14:00:00Z; default: now."`
	Valid time.Duration `default:"1440h" help:"For how long clients trust what is signed; default: 60 days."`
}

// keys reads the keys; whoever calls closes them.
func (s *signing) keys(ctx context.Context) (*archive.Keys, error) {
	secrets, err := secrets(s.Key, "RELEASE_KEY")
	if err != nil {
		return nil, err
	}
	if len(secrets) == 0 {
		return nil, cli.BadInput(errors.New("nothing to sign packages with: give --key FILE, or the key itself in RELEASE_KEY (\"release keys\" makes one)"))
	}
	keys, err := archive.LoadKeys(ctx, secrets...)
	return keys, cli.BadInput(err)
}

func (s *signing) publication() archive.Publication {
	if s.Date.IsZero() {
		s.Date = time.Now()
	}
	return archive.Publication{At: s.Date.UTC().Truncate(time.Second), Valid: s.Valid}
}

// listSigning is with what the release list is signed.
type listSigning struct {
	ListKey []string `type:"existingfile" placeholder:"FILE" help:"A note's signing key for the release list; while one replaces another, give both. Default: the key in the environment variable RELEASE_LIST_KEY."`
}

// signers reads the keys, and returns their verifier keys, too.
func (s *listSigning) signers() (signers []note.Signer, public []string, err error) {
	secrets, err := secrets(s.ListKey, "RELEASE_LIST_KEY")
	if err != nil {
		return nil, nil, err
	}
	if len(secrets) == 0 {
		return nil, nil, cli.BadInput(errors.New("nothing to sign the release list with: give --list-key FILE, or the key itself in RELEASE_LIST_KEY (\"release keys\" makes one)"))
	}
	for i, secret := range secrets {
		key := strings.TrimSpace(string(secret))
		signer, err := note.NewSigner(key)
		if err != nil {
			return nil, nil, cli.BadInput(fmt.Errorf("list key %d: %w", i+1, err))
		}
		vkey, err := verifierKey(signer.Name(), key)
		if err != nil {
			return nil, nil, cli.BadInput(fmt.Errorf("list key %d: %w", i+1, err))
		}
		signers, public = append(signers, signer), append(public, vkey)
	}
	return signers, public, nil
}

// verifierKey is the public half of a note's signing key, which is written
// PRIVATE+KEY+name+hash+base64 of its kind (1: Ed25519) and seed.
func verifierKey(name, signingKey string) (string, error) {
	parts := strings.SplitN(signingKey, "+", 5)
	raw, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(raw) != 1+ed25519.SeedSize || raw[0] != 1 {
		return "", errors.New("want an Ed25519 key")
	}
	return note.NewEd25519VerifierKey(name, ed25519.NewKeyFromSeed(raw[1:]).Public().(ed25519.PublicKey))
}

// secrets are what the files hold or else, if there is one, the environment variable.
func secrets(files []string, env string) ([][]byte, error) {
	if value := os.Getenv(env); len(files) == 0 && value != "" {
		return [][]byte{[]byte(value)}, nil
	}
	var out [][]byte
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, cli.BadInput(err)
		}
		out = append(out, b)
	}
	return out, nil
}

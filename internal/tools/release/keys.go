package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/archive"
	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/internal/durable"
)

type keysCmd struct {
	Out  string    `required:"" type:"path" placeholder:"DIR" help:"The folder for the keys; what is there already is never written over."`
	Name string    `default:"relay-appliance" placeholder:"NAME" help:"The keys' name; letters, digits, dots and hyphens."`
	Date time.Time `format:"2006-01-02T15:04:05Z07:00" placeholder:"TIME" help:"When the keys are said to be made, such as 2026-11-01T00:00:00Z; default: now. Nothing older can be signed."`
}

// Help is what --help says besides.
func (keysCmd) Help() string {
	return `Writes, into the folder:

  archive.key  OpenPGP, secret: signs the apt repository and the sums
  archive.gpg  its public half, as a keyring for apt and gpgv
  list.key     a note's signing key (golang.org/x/mod/sumdb/note), secret: signs the release list
  list.pub     its verifier key, for relayd and relaymon

Keep the secret ones off the network, with a copy elsewhere.`
}

func (c *keysCmd) Run(ctx context.Context, out *cli.IO) error {
	if err := os.MkdirAll(c.Out, 0o700); err != nil {
		return err
	}
	if c.Date.IsZero() {
		c.Date = time.Now()
	}
	listKey, listPub, err := note.GenerateKey(rand.Reader, c.Name)
	if err == nil {
		_, err = note.NewVerifier(listPub) // refuses names that no note can carry
	}
	if err != nil {
		return cli.BadInput(fmt.Errorf("--name: %w", err))
	}
	secret, err := archive.GenerateKey(ctx, c.Name, c.Date)
	if err != nil {
		return err
	}
	keys, err := archive.LoadKeys(ctx, secret)
	if err != nil {
		return err
	}
	ring, err := keys.Keyring(ctx)
	if err = errors.Join(err, keys.Close()); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
		perm fs.FileMode
	}{
		{"archive.key", secret, 0o600}, {"archive.gpg", ring, 0o644},
		{"list.key", []byte(listKey + "\n"), 0o600}, {"list.pub", []byte(listPub + "\n"), 0o644},
	} {
		path := filepath.Join(c.Out, f.name)
		switch err := durable.Create(path, f.data, f.perm); {
		case errors.Is(err, fs.ErrExist):
			return cli.BadInput(fmt.Errorf("%s is there already: keys are made once; name another folder", path))
		case err != nil:
			return err
		}
		fmt.Fprintln(out.Stdout, path)
	}
	return nil
}

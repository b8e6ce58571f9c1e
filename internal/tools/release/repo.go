package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/psf-relay/relay-appliance/internal/archive"
	"github.com/psf-relay/relay-appliance/internal/cli"
)

// signing is with what and as of when something is signed.
type signing struct {
	Key   []string      `type:"existingfile" placeholder:"FILE" help:"A secret OpenPGP key that signs; while one replaces another, give both. Default: what $$RELEASE_KEY holds."`
	Date  time.Time     `format:"2006-01-02T15:04:05Z07:00" placeholder:"TIME" help:"The time that is signed, such as 2026-11-03T14:00:00Z; default: now."`
	Valid time.Duration `default:"1440h" help:"For how long clients trust what is signed; default: 60 days."`
}

// keys reads the keys; whoever calls closes them.
func (s *signing) keys(ctx context.Context) (*archive.Keys, error) {
	var secrets [][]byte
	for _, file := range s.Key {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, cli.BadInput(err)
		}
		secrets = append(secrets, b)
	}
	if env := os.Getenv("RELEASE_KEY"); len(secrets) == 0 && env != "" {
		secrets = append(secrets, []byte(env))
	}
	if len(secrets) == 0 {
		return nil, cli.BadInput(errors.New("nothing to sign with: give --key FILE, or the key itself in RELEASE_KEY (\"release keys\" makes one)"))
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

type repoCmd struct {
	signing
	Debs string `required:"" type:"existingdir" placeholder:"DIR" help:"The folder of the packages to add."`
	Out  string `required:"" type:"path" placeholder:"DIR" help:"The repository; made if there is none."`
	Keep int    `default:"3" help:"How many versions of each package stay."`
}

func (c *repoCmd) Run(ctx context.Context, out *cli.IO) (err error) {
	debs, err := filepath.Glob(filepath.Join(c.Debs, "*.deb"))
	if err != nil {
		return err
	}
	if len(debs) == 0 {
		return cli.BadInput(fmt.Errorf("%s holds no package (*.deb)", c.Debs))
	}
	keys, err := c.keys(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keys.Close()) }()
	p := c.publication()
	a := &archive.Archive{Dir: c.Out, Keys: keys}
	if err := a.Add(ctx, debs, c.Keep, p); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out.Stdout, "%s: %d packages added; valid until %s\n", c.Out, len(debs), p.At.Add(p.Valid).Format(time.RFC3339))
	return err
}

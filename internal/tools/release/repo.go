package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/psf-relay/relay-appliance/internal/archive"
	"github.com/psf-relay/relay-appliance/internal/cli"
)

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

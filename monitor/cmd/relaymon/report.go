package main

import (
	"context"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor"
)

type reportCmd struct{ bundleCmd }

func (c *reportCmd) Run(ctx context.Context, out *cli.IO) error {
	cfg, q, file, err := c.request(out)
	if err != nil {
		return err
	}
	text, err := monitor.Report(ctx, cfg, q, file)
	if err != nil {
		return atFault(err)
	}
	_, err = out.Stdout.Write(text)
	return err
}

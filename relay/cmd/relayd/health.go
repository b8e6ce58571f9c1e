package main

import (
	"context"
	"fmt"
	"time"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/relay/doctor"
)

type healthCmd struct {
	configFlag
	Timeout time.Duration `default:"5s" help:"How long it may take."`
}

// Help is what --help says besides.
func (healthCmd) Help() string {
	return `Asks the relay on this machine (on metrics.listen, else on its WSS port), as a container's health check does. Nothing of the relay is touched.

Exit code 0: it serves; 1: it does not, or does not answer; 2: the configuration is at fault.`
}

func (c *healthCmd) Run(ctx context.Context, out *cli.IO) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if err := doctor.Health(ctx, cfg); err != nil {
		return fmt.Errorf("the relay: %w", err)
	}
	_, err = fmt.Fprintln(out.Stdout, "ok")
	return err
}

package main

import (
	"context"
	"fmt"

	"github.com/psf-relay/relay-appliance/internal/alert/alertcmd"
	"github.com/psf-relay/relay-appliance/internal/cli"
)

type alertCmd struct {
	Test alertTestCmd `cmd:"" help:"Send a test message to each receiver, and say whether it took it."`
}

type alertTestCmd struct {
	configFlag
	alertcmd.Test
}

func (c *alertTestCmd) Run(ctx context.Context, out *cli.IO) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	if err := cfg.Alerts.CheckFile(c.Config); err != nil {
		fmt.Fprintf(out.Stderr, "relayd: %v\n", err)
	}
	return c.Test.Send(ctx, out, "relayd", c.Config, cfg.Alerts)
}

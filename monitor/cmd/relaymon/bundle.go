package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

type bundleCmd struct {
	configFlag
	Month string   `placeholder:"YYYY-MM" help:"The month; without it the running one, as far as it has come."`
	Relay string   `required:"" placeholder:"ID" help:"The relay's peer ID."`
	From  []string `placeholder:"DIR_OR_URL" sep:"none" help:"Another monitor's log, to be merged: its data folder, a mirror, a bundle of the same month, or the URL of one. Repeatable."`
	Out   string   `type:"path" placeholder:"FILE" help:"Where to write; without it relay-ID-YYYY-MM.zip in this folder."`
}

// request is what the flags ask for.
func (c *bundleCmd) request() (cfg monitor.Config, q monitor.BundleRequest, file string, err error) {
	if cfg, err = c.load(); err != nil {
		return cfg, q, "", err
	}
	now := time.Now()
	q = monitor.BundleRequest{Relay: c.Relay, Month: evidence.MonthOf(now), AsOf: now, From: c.From}
	if c.Month != "" {
		if q.Month, err = evidence.ParseMonth(c.Month); err != nil {
			return cfg, q, "", cli.BadInput(err)
		}
	}
	if file = c.Out; file == "" {
		file = bundle.Name(c.Relay, q.Month)
	}
	return cfg, q, file, nil
}

func (c *bundleCmd) Run(ctx context.Context, out *cli.IO) error {
	cfg, q, file, err := c.request()
	if err != nil {
		return err
	}
	if _, err := monitor.WriteBundle(ctx, cfg, q, file); err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	fmt.Fprintf(out.Stdout, "wrote %s, %d bytes\n", file, info.Size())
	return nil
}

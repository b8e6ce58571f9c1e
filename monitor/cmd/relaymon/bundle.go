package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
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
	From  []string `placeholder:"DIR_OR_URL" sep:"none" help:"Another monitor's log, to be merged: its data folder, a mirror, a bundle of the same month or its URL, or the URL of a bucket that the log is in. Repeatable; of two copies of one log that which reaches further is taken."`
	Out   string   `type:"path" placeholder:"FILE" help:"Where to write; without it relay-ID-YYYY-MM.zip in this folder. Of files that are there already, only a bundle of the same relay and month is replaced."`
}

// request is what the flags ask for.
func (c *bundleCmd) request(out *cli.IO) (cfg monitor.Config, q monitor.BundleRequest, file string, err error) {
	if cfg, err = c.load(); err != nil {
		return cfg, q, "", err
	}
	now := time.Now()
	q = monitor.BundleRequest{Relay: c.Relay, Month: evidence.MonthOf(now), AsOf: now, From: c.From, Tell: func(s string) { fmt.Fprintln(out.Stderr, s) }}
	if c.Month != "" {
		if q.Month, err = evidence.ParseMonth(c.Month); err != nil {
			return cfg, q, "", cli.BadInput(fmt.Errorf("--month: %w", err))
		}
		if this := evidence.MonthOf(now); q.Month > this {
			return cfg, q, "", cli.BadInput(fmt.Errorf("--month %s: it has not begun, so there is nothing to judge: name %s or one before", q.Month, this))
		}
	}
	if file = c.Out; file == "" {
		file = bundle.Name(c.Relay, q.Month)
	}
	return cfg, q, file, cli.BadInput(replaceable(file, q))
}

// replaceable refuses to write over a file, unless it is a bundle of the same relay and
// month: a key would be gone, or evidence.
func replaceable(file string, q monitor.BundleRequest) error {
	info, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	refused := fmt.Errorf("--out %s: it is there already and no bundle of this relay and %s, so it is not written over: name a new file", file, q.Month)
	if !info.Mode().IsRegular() {
		return refused
	}
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	defer f.Close()
	logs, _, err := bundle.Logs(f, info.Size())
	if err != nil || len(logs) == 0 || slices.ContainsFunc(logs, func(m evidence.MonitorMonth) bool { return m.Relay != q.Relay || m.Month != q.Month }) {
		return refused
	}
	return nil
}

func (c *bundleCmd) Run(ctx context.Context, out *cli.IO) error {
	cfg, q, file, err := c.request(out)
	if err != nil {
		return err
	}
	if _, err := monitor.WriteBundle(ctx, cfg, q, file); err != nil {
		return atFault(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	fmt.Fprintf(out.Stdout, "wrote %s, %d bytes\n", file, info.Size())
	return nil
}

// atFault gives what is wrong with the request the exit code of bad input.
func atFault(err error) error {
	var input *bundle.InputError
	if errors.As(err, &input) {
		return cli.BadInput(err)
	}
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

type initCmd struct{ configFlag }

func (c *initCmd) Run(out *cli.IO) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	err = monitor.Init(cfg)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: it stays as it is", err)
	}
	if err != nil {
		return durable.Denied(cfg.DataDir, err)
	}
	fmt.Fprintf(out.Stdout, "made the evidence log in %s; back it up now: its keys cannot be made again\n", cfg.DataDir)
	return nil
}

type runCmd struct{ configFlag }

func (c *runCmd) Run(ctx context.Context, out *cli.IO) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	log := logger(cfg, out.Stderr)
	if err := cfg.Alerts.CheckFile(c.Config); err != nil {
		log.Warn(err.Error())
	}
	return monitor.Watch(ctx, cfg, log)
}

type onceCmd struct {
	configFlag
	JSON bool `help:"Print the attempts as JSON."`
}

func (c *onceCmd) Run(ctx context.Context, out *cli.IO) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	// What matters is in the table; the log is for what goes wrong.
	cfg.LogLevel = max(cfg.LogLevel, slog.LevelWarn)
	m, err := monitor.Open(cfg, logger(cfg, out.Stderr))
	if err != nil {
		return err
	}
	attempts, err := m.Once(ctx)
	if err = errors.Join(err, m.Close()); err != nil {
		return err
	}
	if c.JSON {
		err = out.JSON(attempts)
	} else {
		for _, a := range attempts {
			printAttempt(out.Stdout, a)
		}
	}
	if err == nil && !allOK(attempts) {
		return cli.Exit(cli.Failed, nil)
	}
	return err
}

// allOK says whether every rung of every attempt was ok. No attempt at all is
// not ok: there was something to look at.
func allOK(attempts []evidence.Attempt) bool {
	for _, a := range attempts {
		for _, r := range a.Rungs {
			if r.Outcome != evidence.OK {
				return false
			}
		}
	}
	return len(attempts) > 0
}

type configCmd struct {
	File string `arg:"" optional:"" type:"path" help:"The configuration to check; without it the defaults are printed."`
}

func (c *configCmd) Run(out *cli.IO) error {
	if c.File == "" {
		_, err := out.Stdout.Write(monitor.DefaultConfig)
		return err
	}
	if _, err := monitor.LoadConfig(c.File); err != nil {
		return cli.BadInput(err)
	}
	fmt.Fprintf(out.Stdout, "%s: no fault found\n", c.File)
	return nil
}

type keysCmd struct {
	configFlag
	JSON bool `help:"Print JSON."`
}

func (c *keysCmd) Run(out *cli.IO) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	keys, err := monitor.Keys(cfg)
	if err != nil {
		return err
	}
	if c.JSON {
		return out.JSON(keys)
	}
	fmt.Fprintf(out.Stdout, "log_key: %s\nplan_key: %s\nwitness_key: %s\n", keys.LogKey, keys.PlanKey, keys.WitnessKey)
	return nil
}

package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/relay"
	"github.com/psf-relay/relay-appliance/relay/config"
)

type runCmd struct{ configFlag }

func (c *runCmd) Run(out *cli.IO) error {
	o, err := c.origin()
	if err != nil {
		return err
	}
	cfg := o.Config
	level := new(slog.LevelVar)
	level.Set(cfg.Log.Level)
	log := relay.NewLogger(cfg.Log, level, out.Stderr)
	for _, n := range o.Notes {
		log.Warn(n)
	}
	if err := cfg.Alerts.CheckFile(c.Config); err != nil {
		log.Warn(err.Error())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	file, started := filepath.Join(cfg.DataDir, alert.StartsFile), time.Now()
	count, err := alert.Starts(file, started)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // without the folder there is more to say
		log.Error("starts of the program cannot be counted", "error", err)
	}
	labels := map[string]string{"relay": cmp.Or(cfg.Name, cfg.Domain)}
	r, err := relay.New(cfg, log)
	if err == nil {
		labels["relay"] = r.ID().String()
		r.CountStarts(count, started)
		err = c.serve(ctx, r, level, log)
	}
	if err != nil {
		cfg.Alerts.CannotStart(ctx, file, "relayd", log, labels, err)
	}
	return err
}

// serve runs the relay until ctx ends.
func (c *runCmd) serve(ctx context.Context, r *relay.Relay, level *slog.LevelVar, log *slog.Logger) error {
	config.LimitMemory()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
				c.reload(r, level, log)
			}
		}
	}()
	return r.Run(ctx)
}

// reload reads the configuration again. A fault leaves the one in force.
func (c *runCmd) reload(r *relay.Relay, level *slog.LevelVar, log *slog.Logger) {
	cfg, err := c.read()
	var restart []string
	if err == nil {
		restart, err = r.Reload(cfg)
	}
	if err != nil {
		log.Error("not reloaded, the configuration in force stays", "error", err)
		return
	}
	level.Set(cfg.Log.Level)
	log.Info("configuration reloaded")
	if len(restart) > 0 {
		log.Warn("some changes need a restart", "keys", strings.Join(restart, " "))
	}
}

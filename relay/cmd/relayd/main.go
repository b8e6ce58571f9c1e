// Command relayd is a public libp2p relay that PSF software finds by itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/relay"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	return cli.Main("relayd", "A public libp2p relay that PSF software finds by itself.", &grammar{}, args, stdout, stderr)
}

type grammar struct {
	Run    runCmd    `cmd:"" help:"Serve until told to stop."`
	Init   initCmd   `cmd:"" help:"Make the data folder and the relay's identity, once."`
	ID     idCmd     `cmd:"" name:"id" help:"Print the relay's peer ID."`
	Config configCmd `cmd:"" help:"Check a configuration, or print the defaults with their description."`
}

// configFlag is what every command that knows a relay takes.
type configFlag struct {
	Config string `required:"" type:"path" placeholder:"FILE" help:"The configuration (YAML); \"relayd config\" prints one to start from."`
}

func (f configFlag) read() (relay.Config, error) {
	cfg, err := relay.ReadConfig(f.Config)
	return cfg, cli.BadInput(err)
}

type runCmd struct{ configFlag }

func (c *runCmd) Run(out *cli.IO) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	r, err := relay.New(cfg, logger(cfg.Log, out.Stderr))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return r.Run(ctx)
}

func logger(cfg relay.Log, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: cfg.Level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

type initCmd struct{ configFlag }

func (c *initCmd) Run(out *cli.IO) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	key, err := relay.CreateIdentity(cfg.DataDir)
	if err != nil {
		return err
	}
	return printID(out, key)
}

type idCmd struct{ configFlag }

func (c *idCmd) Run(out *cli.IO) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	key, err := relay.LoadIdentity(cfg.DataDir)
	if err != nil {
		return err
	}
	return printID(out, key)
}

func printID(out *cli.IO, key crypto.PrivKey) error {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out.Stdout, id)
	return err
}

type configCmd struct {
	Config string `type:"path" placeholder:"FILE" help:"Check this file instead of printing the defaults."`
}

func (c *configCmd) Run(out *cli.IO) error {
	if c.Config == "" {
		_, err := out.Stdout.Write(relay.DefaultYAML)
		return err
	}
	if _, err := (configFlag{c.Config}).read(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out.Stdout, "%s: no fault found\n", c.Config)
	return errors.Join(err)
}

package main

import (
	"fmt"
	"io"
	"os"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/relay"
)

type initCmd struct {
	configFlag
	Import string `type:"path" placeholder:"FILE" help:"Take this libp2p private key, as \"relayd export\" prints it, instead of making one; - reads stdin."`
}

func (c *initCmd) Run(out *cli.IO) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	if c.Import == "" {
		key, err := relay.CreateIdentity(cfg.DataDir)
		if err != nil {
			return err
		}
		return printID(out, key)
	}
	data, err := readKey(c.Import)
	if err != nil {
		return cli.BadInput(fmt.Errorf("read the key to import: %w", err))
	}
	key, err := relay.ImportIdentity(cfg.DataDir, data)
	if err != nil {
		return err
	}
	return printID(out, key)
}

func readKey(path string) ([]byte, error) {
	in := os.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	return io.ReadAll(io.LimitReader(in, 1<<16))
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

type exportCmd struct{ configFlag }

func (c *exportCmd) Run(out *cli.IO) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	data, err := relay.ExportIdentity(cfg.DataDir)
	if err != nil {
		return err
	}
	fmt.Fprintln(out.Stderr, "relayd: this is the relay's secret key: whoever has it can stand in for the relay")
	_, err = out.Stdout.Write(data)
	return err
}

func printID(out *cli.IO, key crypto.PrivKey) error {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out.Stdout, id)
	return err
}

package main

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/relay/circuit"
)

type banCmd struct {
	configFlag
	Remove bool     `help:"Take off the list instead."`
	Who    []string `arg:"" optional:"" name:"peer-or-cidr" help:"Peer IDs, networks (203.0.113.0/24) or addresses. None: print the list."`
}

func (c *banCmd) Run(out *cli.IO) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	if len(c.Who) == 0 {
		list, err := circuit.ReadBans(cfg.DataDir)
		if err != nil {
			return err
		}
		for _, e := range list.Entries() {
			fmt.Fprintln(out.Stdout, e)
		}
		return nil
	}
	edit := circuit.Ban
	if c.Remove {
		edit = circuit.Unban
	}
	var faults []error
	for _, who := range c.Who {
		faults = append(faults, edit(cfg.DataDir, who))
	}
	err = errors.Join(faults...)
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return err // the disk's fault, not the input's
	}
	return cli.BadInput(err)
}

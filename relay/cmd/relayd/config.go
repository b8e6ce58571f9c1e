package main

import (
	"io"
	"os"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/relay/config"
)

type configCmd struct {
	configFlag
	Defaults bool `help:"Print the defaults with the description of every field, to start a file from."`
	JSON     bool `name:"json" help:"Print JSON: key, value, source (default, environment, file) and where in it."`
}

// Help is what --help says besides.
func (configCmd) Help() string {
	return `Prints the configuration in force as YAML, with the source of each value behind it. Exit code 2 names every fault.

The file wins over the environment, the environment over the defaults. Of the environment, the variables of ipfs-service-provider are read that concern a relay, so that its .env starts a relayd:

` + config.EnvironmentHelp()
}

func (c *configCmd) Run(out *cli.IO) error {
	if c.Defaults {
		_, err := out.Stdout.Write(config.DefaultYAML)
		return err
	}
	o, err := config.ReadOrigin(c.Config, os.Getenv)
	if err != nil {
		return cli.BadInput(err)
	}
	if c.JSON {
		return out.JSON(map[string]any{"notes": append([]string{}, o.Notes...), "values": o.Values()})
	}
	text, err := o.YAML()
	if err != nil {
		return err
	}
	_, err = io.WriteString(out.Stdout, text)
	return err
}

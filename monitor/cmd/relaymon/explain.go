package main

import (
	"fmt"
	"time"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

type explainCmd struct {
	configFlag
	Relay string `required:"" placeholder:"ID" help:"The relay's peer ID."`
	Hour  string `required:"" placeholder:"TIME" help:"The hour (UTC), such as 2026-11-03T14:00:00Z or 2026-11-03T14."`
	JSON  bool   `help:"Print JSON, with all that was recorded."`
}

func (c *explainCmd) Run(out *cli.IO) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	hour, err := evidence.HourGiven(c.Hour)
	if err != nil {
		return cli.BadInput(err)
	}
	story, err := monitor.Explain(cfg, c.Relay, hour, time.Now())
	if err != nil {
		return err
	}
	if c.JSON {
		return out.JSON(story)
	}
	for _, words := range story.Words {
		if _, err := fmt.Fprintln(out.Stdout, words); err != nil {
			return err
		}
	}
	return nil
}

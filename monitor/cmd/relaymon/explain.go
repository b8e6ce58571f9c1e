package main

import (
	"fmt"
	"io"
	"strings"
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
	var b strings.Builder
	for i, p := range story.Parts() {
		if len(p.Words) == 0 {
			continue
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s\n  %s\n", p.Title, strings.Join(p.Words, "\n  "))
	}
	_, err = io.WriteString(out.Stdout, b.String())
	return err
}

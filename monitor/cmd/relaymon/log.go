package main

import (
	"fmt"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor"
)

type logCmd struct {
	Check logCheckCmd `cmd:"" help:"Verify the whole evidence log, without changing it."`
}

type logCheckCmd struct {
	configFlag
	JSON bool `help:"Print JSON."`
}

func (c *logCheckCmd) Run(out *cli.IO) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	report, err := monitor.CheckLog(cfg)
	if err != nil {
		return err
	}
	if c.JSON {
		err = out.JSON(report)
	} else {
		fmt.Fprintf(out.Stdout, "%s: %d sealed hours since %s (%d ok, %d partial, %d gaps), %d records, %d attempts, %d checkpoints\n",
			report.Origin, report.Blocks, report.First, report.OK, report.Partial, report.Gaps, report.Records, report.Attempts, report.Checkpoints)
		for _, f := range report.Faults {
			fmt.Fprintf(out.Stdout, "fault: %s\n", f)
		}
	}
	if err == nil && len(report.Faults) > 0 {
		return fmt.Errorf("the log has %d faults: restore it from a backup, and let the committee know", len(report.Faults))
	}
	return err
}

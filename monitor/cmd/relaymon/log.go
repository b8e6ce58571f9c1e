package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor"
	"github.com/psf-relay/relay-appliance/monitor/bucket"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

type logCmd struct {
	Check   logCheckCmd   `cmd:"" help:"Verify the whole evidence log, without changing it."`
	Export  logExportCmd  `cmd:"" help:"Write the log as anybody may read it, as plain files for any web server."`
	Push    logPushCmd    `cmd:"" help:"Bring a bucket to where the log is."`
	Adopt   logAdoptCmd   `cmd:"" help:"Bring in what a newer copy of the log has beyond this one."`
	Release logReleaseCmd `cmd:"" help:"Say that this is the newest copy of a log that came out of a backup; only for one without witnesses to ask."`
}

type logAdoptCmd struct {
	configFlag
	Copy string `arg:"" type:"existingdir" help:"The folder of the newer copy: the data folder's log, from the old disk or a later backup."`
}

func (c *logAdoptCmd) Run(out *cli.IO) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	blocks, err := monitor.AdoptLog(cfg, c.Copy)
	if err != nil {
		return err
	}
	fmt.Fprintf(out.Stdout, "%d sealed hours brought in; at its next start the monitor asks the witnesses whether any is still missing\n", blocks)
	return nil
}

type logReleaseCmd struct{ configFlag }

func (c *logReleaseCmd) Run(out *cli.IO) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if err := monitor.ReleaseLog(cfg); err != nil {
		return err
	}
	fmt.Fprintln(out.Stdout, "the log goes on from here")
	return nil
}

type logExportCmd struct {
	configFlag
	Dir  string `arg:"" type:"path" help:"A folder of its own; it is made if it is not there."`
	JSON bool   `help:"Print JSON."`
}

// Help is what --help says besides.
func (logExportCmd) Help() string {
	return `Writes the same files that a running monitor serves under /log/ (C2SP tlog-tiles, with records and certificates beside it): nothing secret, and nothing of an hour that is not sealed. The next time only what is new is written. The monitor may run meanwhile.`
}

func (c *logExportCmd) Run(ctx context.Context, out *cli.IO) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	r, err := monitor.ExportLog(ctx, cfg, c.Dir, progress(out.Stderr))
	if errors.Is(err, tiles.ErrTaken) {
		return cli.BadInput(err)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return out.JSON(r)
	}
	fmt.Fprintf(out.Stdout, "%s: %d hours in %s, %d of them new; %d new files of records, %d certificates, %d checkpoints written\n",
		r.Origin, r.Size, c.Dir, r.Blocks, r.Records, r.Certificates, r.Checkpoints)
	return nil
}

type logPushCmd struct {
	configFlag
	Bucket string `arg:"" optional:"" placeholder:"URL" help:"Where to, such as s3://NAME?region=REGION; without it publish.bucket of the configuration."`
	All    bool   `help:"Compare all that the log has with what is there, and write anew what is missing or differs."`
	JSON   bool   `help:"Print JSON."`
}

// Help is what --help says besides.
func (logPushCmd) Help() string {
	return `Writes the files of "relaymon log export" into an object store: S3 and what is compatible with it, Google Cloud Storage, Azure. A monitor with publish.bucket does it by itself. It may be killed at any moment; the next time it goes on. Files come before the checkpoint that they are under, and the checkpoint never goes backwards: a bucket that shows more than this log, or another one, stays as it is.

Credentials come from the environment, as the providers' own programs take them.`
}

func (c *logPushCmd) Run(ctx context.Context, out *cli.IO) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if c.Bucket == "" {
		c.Bucket = cfg.Publish.Bucket
	}
	if c.Bucket == "" {
		return cli.BadInput(errors.New("name a bucket, or set publish.bucket in the configuration"))
	}
	if err := bucket.CheckTarget(c.Bucket); err != nil {
		return cli.BadInput(err)
	}
	r, err := monitor.PushLog(ctx, cfg, c.Bucket, c.All, progress(out.Stderr))
	if errors.Is(err, tiles.ErrTaken) || errors.Is(err, bucket.ErrAll) {
		return cli.BadInput(err)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return out.JSON(r)
	}
	fmt.Fprintf(out.Stdout, "%s: %d hours in %s, %d of them new; %d objects written\n", r.Origin, r.Size, c.Bucket, r.Blocks, r.Written)
	return nil
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
		fmt.Fprintf(out.Stdout, "%s: %d sealed hours since %s (%d watched, %d gaps), %d records, %d attempts, %d checkpoints\n",
			report.Origin, report.Blocks, report.First, report.Watched, report.Gaps, report.Records, report.Attempts, report.Checkpoints)
		for _, f := range report.Faults {
			fmt.Fprintf(out.Stdout, "fault: %s\n", f)
		}
	}
	if err == nil && len(report.Faults) > 0 {
		return fmt.Errorf("the log has %d faults: restore it from a backup, and let the committee know", len(report.Faults))
	}
	return err
}

package main

import (
	"fmt"
	"io"

	"github.com/psf-relay/relay-appliance/internal/agefile"
	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor"
)

type backupCmd struct {
	configFlag
	agefile.OutputFlags
}

// Help is what --help says besides.
func (backupCmd) Help() string {
	return `Writes the evidence log into one archive (tar, gzip): blocks, records, checkpoints, certificates, the hours that are open, what was cosigned for others, and the secret keys. The monitor may run meanwhile.

Whoever has the file can sign as this monitor. Only its owner may read it; keep it off the monitor's own machine, and encrypted: with --encrypt-to it is a file of age, which restore reads with --identity.`
}

func (c *backupCmd) Run(out *cli.IO) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	err = c.Write(out.Stdout, func(w io.Writer) error { return monitor.BackupLog(cfg, w) })
	if err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	return c.Told(out, "the log of "+cfg.Name+" with its secret keys")
}

type restoreCmd struct {
	configFlag
	agefile.InputFlags
}

// Help is what --help says besides.
func (restoreCmd) Help() string {
	return `Makes the evidence log of a backup in the data folder (data_dir), where there must be none: nothing is overwritten.

A backup knows nothing of what was signed after it was made. Going on from it would give one log two histories, which voids the month. So the monitor signs nothing before all its witnesses have told what they cosigned last, however long that takes. If they know of more, bring it in from the newer copy ("relaymon log adopt"); if there is none left, start a log with a new key and tell the committee. Where a witness is gone for good, or none remembers the log, say yourself that this is the newest copy ("relaymon log release").`
}

func (c *restoreCmd) Run(out *cli.IO) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if err := c.Read(func(r io.Reader) error { return monitor.RestoreLog(cfg, r) }); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out.Stdout, "%s holds the log again; nothing is signed before the witnesses were asked whether it is the newest copy\n", cfg.DataDir)
	return err
}

package main

import (
	"fmt"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/relay"
)

type backupCmd struct {
	configFlag
	File string `arg:"" type:"path" help:"A new file."`
}

// Help is what --help says besides.
func (backupCmd) Help() string {
	return `Writes what the relay keeps in its data folder into one archive (tar, gzip): the identity, the certificate and the account at the CA, the key for private messages, the ban list, the month's counter. The relay may run meanwhile.

The private key is in it: whoever has the file can stand in for the relay. Only its owner may read it; keep it off the relay's own machine.`
}

func (c *backupCmd) Run(out *cli.IO) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	info, err := relay.Backup(cfg.DataDir, c.File)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out.Stdout, "%s: relay %s, %s; it holds the private key, keep it safe\n", c.File, info.PeerID, info.Made.Format("2006-01-02 15:04 MST"))
	return err
}

type restoreCmd struct {
	configFlag
	File string `arg:"" type:"existingfile" help:"A backup."`
}

// Help is what --help says besides.
func (restoreCmd) Help() string {
	return `Unpacks a backup into the data folder (data_dir), which must hold no relay: nothing is overwritten. A restore that was interrupted is done again; no relay starts on half of one.

Never run two relays with one identity: stop the old one first. If the address changes, tell the committee before ("relayd move").`
}

func (c *restoreCmd) Run(out *cli.IO) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	info, err := relay.Restore(cfg.DataDir, c.File)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out.Stdout, "%s: relay %s as of %s\n", cfg.DataDir, info.PeerID, info.Made.Format("2006-01-02 15:04 MST"))
	return err
}

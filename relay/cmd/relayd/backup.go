package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/psf-relay/relay-appliance/internal/agefile"
	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/relay"
)

type backupCmd struct {
	configFlag
	agefile.OutputFlags
}

// Help is what --help says besides.
func (backupCmd) Help() string {
	return `Writes what the relay keeps in its data folder into one archive (tar, gzip): the identity, the certificate and the account at the CA, the key for private messages, the ban list, the month's counter. The relay may run meanwhile.

The private key is in it: whoever has the file can stand in for the relay. Only its owner may read it; keep it off the relay's own machine, and encrypted: with --encrypt-to it is a file of age, which restore reads with --identity.`
}

func (c *backupCmd) Run(out *cli.IO) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	var info relay.BackupInfo
	err = c.Write(out.Stdout, func(w io.Writer) (err error) {
		info, err = relay.Backup(cfg.DataDir, w)
		return err
	})
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("back up: %s exists, it is left as it is: choose a new name: %w", c.File, fs.ErrExist)
	}
	if err != nil {
		return err
	}
	return c.Told(out, fmt.Sprintf("relay %s, %s", info.PeerID, info.Made.Format("2006-01-02 15:04 MST")))
}

type restoreCmd struct {
	configFlag
	agefile.InputFlags
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
	var info relay.BackupInfo
	err = c.Read(func(r io.Reader) (err error) {
		info, err = relay.Restore(cfg.DataDir, r)
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out.Stdout, "%s: relay %s as of %s\n", cfg.DataDir, info.PeerID, info.Made.Format("2006-01-02 15:04 MST"))
	return err
}

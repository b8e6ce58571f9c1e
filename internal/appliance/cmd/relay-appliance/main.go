// Command relay-appliance sets a machine up as a relay, a monitor or both, and says
// how it is.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"

	"github.com/psf-relay/relay-appliance/internal/agefile"
	"github.com/psf-relay/relay-appliance/internal/alert/alertcmd"
	"github.com/psf-relay/relay-appliance/internal/appliance"
	"github.com/psf-relay/relay-appliance/internal/appliance/bucket"
	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/internal/upgrade"
)

const description = `Sets this machine up as a relay, a monitor or both, from ` + appliance.SettingsPath + `, and says how it is.`

type grammar struct {
	FirstBoot firstBootCmd `cmd:"" help:"Put the settings into effect: at each boot, and after a change of them."`
	Status    statusCmd    `cmd:"" help:"Say how the appliance is."`
	Settings  settingsCmd  `cmd:"" help:"Check the settings, or print the defaults with their description."`
	Fetch     fetchCmd     `cmd:"" help:"Look for a newer roster and newer rules where the settings name them by URL."`
	Backup    backupCmd    `cmd:"" help:"Write an encrypted backup of this machine, to where the settings say or into a file."`
	Alert     alertCmd     `cmd:"" help:"Look whether alerts arrive."`
	Pages     pagesCmd     `cmd:"" help:"Show the status where one logs in (console, message of the day)."`

	Gate    upgrade.GateCmd    `cmd:"" help:"Judge what became of an update, and take a bad one back."`
	Updates upgrade.UpdatesCmd `cmd:"" help:"How this machine is kept up to date."`
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	return cli.Main("relay-appliance", description, &grammar{}, args, stdout, stderr,
		kong.BindSingletonProvider(func(out *cli.IO) (*upgrade.Settings, error) {
			s, err := new(appliance.Machine).UpdateSettings()
			if err != nil {
				fmt.Fprintf(out.Stderr, "relay-appliance: updates go by what there is of the settings, else by the defaults: %v\n", err)
			}
			return &s, nil
		}))
}

type firstBootCmd struct{}

// Help is what --help says besides.
func (firstBootCmd) Help() string {
	return `Validates the settings, writes the configuration of relayd and relaymon, makes their identities, opens the firewall for just the role, starts the services and waits until they are ready. What is so already stays; files that were changed by hand are left alone. Without settings nothing is changed.

Exit code 0: all is so, or there are no settings; 1: it failed, and the message says at what.`
}

func (*firstBootCmd) Run(ctx context.Context, out *cli.IO) error {
	m, err := machine()
	if err != nil {
		return err
	}
	return m.FirstBoot(ctx, say(out))
}

// machine is this one, which only root may look into and change.
func machine() (*appliance.Machine, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("only root can: put sudo before it")
	}
	return &appliance.Machine{Bucket: bucket.Open}, nil
}

func say(out *cli.IO) func(string, ...any) {
	return func(format string, args ...any) { fmt.Fprintf(out.Stdout, format+"\n", args...) }
}

type alertCmd struct {
	Test alertTestCmd `cmd:"" help:"Send a test message to each receiver of this machine's relay and monitor, and say whether it took it."`
}

type alertTestCmd struct{ alertcmd.Test }

// Help is what --help says besides.
func (alertTestCmd) Help() string {
	return `Sends one message to each receiver that relayd and relaymon of this machine know, now, also in the quiet hours, and says whether it took the message. Look then whether the message has arrived: a mail server may take one and drop it later.

The receivers stand below "alerts" in ` + appliance.SettingsPath + `; "relay-appliance first-boot" writes them from there into the programs' configurations.

Exit code 0: all took it; 1: one did not; 2: there is no receiver, or a configuration is at fault.`
}

func (c *alertTestCmd) Run(ctx context.Context, out *cli.IO) error {
	m, err := machine()
	if err != nil {
		return err
	}
	all, remarks, err := m.Alerts()
	if err != nil {
		return cli.BadInput(err)
	}
	for _, r := range remarks {
		fmt.Fprintf(out.Stderr, "relay-appliance: %v\n", r)
	}
	return c.Send(ctx, out, "relay-appliance", appliance.SettingsPath+", and run \"relay-appliance first-boot\"", all)
}

type fetchCmd struct{}

func (*fetchCmd) Run(ctx context.Context, out *cli.IO) error {
	m, err := machine()
	if err != nil {
		return err
	}
	return m.Fetch(ctx, say(out))
}

type backupCmd struct {
	File      string   `arg:"" optional:"" type:"path" help:"A new file; -: standard output; without it, to where the settings say (backup.to)."`
	EncryptTo []string `sep:"none" placeholder:"KEY" help:"Encrypt the file with age to this public key (age1..., or a line of SSH) instead of those in the settings; more than one if you like."`
}

// Help is what --help says besides.
func (backupCmd) Help() string {
	return `Writes the identities and data of relayd and relaymon, and the settings, into one file that is encrypted with age. They may run meanwhile. A new machine is made of it by "restore" in its settings.

Without FILE the backup is verified where it was written, and older ones of this machine's than are to be kept (backup.keep) are removed; relay-appliance-backup.timer does that each night. Whoever has the file and the secret key can stand in for this machine.`
}

func (c *backupCmd) Run(ctx context.Context, out *cli.IO) error {
	m, err := machine()
	if err != nil {
		return err
	}
	if c.File == "" {
		if len(c.EncryptTo) > 0 {
			return cli.BadInput(errors.New("--encrypt-to is for a file: name it, or write backup.encrypt_to into the settings"))
		}
		return m.Backup(ctx, say(out))
	}
	s, err := m.Settings()
	if err != nil {
		return err
	}
	to := agefile.OutputFlags{File: c.File, EncryptTo: c.EncryptTo}
	if len(to.EncryptTo) == 0 {
		to.EncryptTo = s.Backup.EncryptTo
	}
	if len(to.EncryptTo) == 0 {
		return cli.BadInput(errors.New("say who is to read it: --encrypt-to age1...; age-keygen makes a key"))
	}
	if err := to.Write(out.Stdout, func(w io.Writer) error { return m.WriteBackup(ctx, w) }); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return to.Told(out, "the backup of this machine")
}

type statusCmd struct {
	JSON  bool `name:"json" help:"Print JSON."`
	Fault bool `help:"Print only why the machine is not set up, if so."`
}

func (c *statusCmd) Run(ctx context.Context, out *cli.IO) error {
	m, err := machine()
	if err != nil {
		return err
	}
	if c.Fault {
		fault, err := m.Fault()
		if err == nil && fault != "" {
			fmt.Fprintln(out.Stdout, fault)
		}
		return err
	}
	s, err := m.Status(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return out.JSON(s)
	}
	_, err = io.WriteString(out.Stdout, s.Text())
	return err
}

type settingsCmd struct {
	File string `arg:"" optional:"" type:"path" help:"The settings to check; without it the defaults are printed."`
}

func (c *settingsCmd) Run(out *cli.IO) error {
	if c.File == "" {
		_, err := out.Stdout.Write(appliance.DefaultYAML)
		return err
	}
	data, err := os.ReadFile(c.File)
	if err != nil {
		return cli.BadInput(fmt.Errorf("read the settings: %w", err))
	}
	if _, err := appliance.ParseSettings(c.File, data); err != nil {
		return cli.BadInput(err)
	}
	_, err = fmt.Fprintf(out.Stdout, "%s: no fault found\n", c.File)
	return err
}

type pagesCmd struct{}

// Help is what --help says besides.
func (pagesCmd) Help() string {
	return `While the machine starts it shows how far that has come, anew whenever something has changed, for a quarter of an hour at most; then once what "status" says. A first boot that lacked the network is run again when there is one. relay-appliance-status.service runs this at each boot, and every ten minutes.`
}

func (*pagesCmd) Run(ctx context.Context, out *cli.IO) error {
	m, err := machine()
	if err != nil {
		return err
	}
	return m.Follow(ctx, say(out))
}

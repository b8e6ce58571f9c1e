// Command relaymon watches relays from outside and writes evidence.
package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor"
)

const description = `Watches libp2p relays from outside and writes evidence that cannot be quietly edited.

A quick look at any relay, without any set-up: relaymon probe DOMAIN`

type grammar struct {
	Probe        probeCmd        `cmd:"" help:"Look at one relay now. Needs no configuration; counts nowhere."`
	BrowserCheck browserCheckCmd `cmd:"" help:"Let a real browser try relays now. Counts nowhere."`
	Discover     discoverCmd     `cmd:"" help:"List the relays that announce themselves to the PSF network, ready to be enrolled."`
	Init         initCmd         `cmd:"" help:"Make the evidence log and its keys, once."`
	Run          runCmd          `cmd:"" help:"Watch the roster's relays until told to stop."`
	Health       healthCmd       `cmd:"" help:"Say whether the monitor that runs judges, for those who watch over it."`
	Once         onceCmd         `cmd:"" help:"Look at each of the roster's relays once and record it (lab only)."`
	Bundle       bundleCmd       `cmd:"" help:"Write the bundle of a relay's month, for relayaudit."`
	Report       reportCmd       `cmd:"" help:"Write the bundle and print its report as Markdown, for a forum post."`
	Explain      explainCmd      `cmd:"" help:"Tell the story of one relay's hour: what was seen, and how it counts."`
	Log          logCmd          `cmd:"" help:"Look into the evidence log."`
	Mirror       mirrorCmd       `cmd:"" help:"Follow another monitor's log: copy it, and check every part of it."`
	Committee    committeeCmd    `cmd:"" help:"Judge all relays by many monitors' logs."`
	Backup       backupCmd       `cmd:"" help:"Write the evidence log and its keys into a file, also while the monitor runs."`
	Restore      restoreCmd      `cmd:"" help:"Make the evidence log of a backup."`
	Alert        alertCmd        `cmd:"" help:"Look whether alerts arrive."`
	Keys         keysCmd         `cmd:"" help:"Print the public keys that the committee enters in its roster."`
	Roster       rosterCmd       `cmd:"" help:"Keep the committee's roster: its key, relays' statements, signatures."`
	Config       configCmd       `cmd:"" help:"Check a configuration, or print the defaults with their description."`
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	return cli.Main("relaymon", description, &grammar{}, args, stdout, stderr)
}

// configFlag is what every command has that knows a monitor.
type configFlag struct {
	Config string `required:"" type:"path" placeholder:"FILE" help:"The configuration (YAML); \"relaymon config\" prints one to start from."`
}

func (f configFlag) load() (monitor.Config, error) {
	cfg, err := monitor.LoadConfig(f.Config)
	return cfg, cli.BadInput(err)
}

func logger(cfg monitor.Config, w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: cfg.LogLevel}))
}

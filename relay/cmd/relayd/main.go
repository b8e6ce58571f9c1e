// Command relayd is a public libp2p relay that PSF software finds by itself.
package main

import (
	"errors"
	"io"
	"os"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/relay/config"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	return cli.Main("relayd", "A public libp2p relay that PSF software finds by itself.", &grammar{}, args, stdout, stderr)
}

type grammar struct {
	Run    runCmd    `cmd:"" help:"Serve until told to stop."`
	Init   initCmd   `cmd:"" help:"Make the data folder and the relay's identity, once."`
	ID     idCmd     `cmd:"" name:"id" help:"Print the relay's peer ID."`
	Export exportCmd `cmd:"" help:"Print the relay's secret key, to move it to another machine with \"relayd init --import\"."`
	Ban    banCmd    `cmd:"" help:"Serve a peer or a network no longer; a running relay takes note within seconds."`
	Config configCmd `cmd:"" help:"Check and print the configuration in force, with each value's source."`

	Doctor doctorCmd `cmd:"" help:"Say what of the bounty's requirements is met here, and how to mend the rest."`
	Health healthCmd `cmd:"" help:"Say whether the relay that runs serves, for those who watch over it."`

	Alert alertCmd `cmd:"" help:"Try out who is told of alerts."`

	CloudInit cloudInitCmd `cmd:"" name:"cloud-init" help:"Print user-data for a machine that sets itself up."`

	Enrol   enrolCmd   `cmd:"" help:"Sign that the relay enters the bounty, for the committee."`
	Move    moveCmd    `cmd:"" help:"Sign that the relay's address changes, for the committee."`
	Appeal  appealCmd  `cmd:"" help:"Sign an objection to how a month was counted or decided, for the committee."`
	Backup  backupCmd  `cmd:"" help:"Write the relay's identity and state into a file."`
	Restore restoreCmd `cmd:"" help:"Put a backup into an empty data folder."`
}

// configFlag is what every command that knows a relay takes.
type configFlag struct {
	Config string `type:"path" placeholder:"FILE" help:"The configuration (YAML), over environment and defaults; \"relayd config --defaults\" prints one to start from."`
}

func (f configFlag) read() (config.Config, error) {
	o, err := f.origin()
	return o.Config, err
}

// origin reads the configuration. Neither a file nor an environment is taken for
// a slip: what is at stake lies in a folder that somebody should have named.
func (f configFlag) origin() (config.Origin, error) {
	o, err := config.ReadOrigin(f.Config, os.Getenv)
	if err == nil && !o.Given() {
		err = errors.New("no configuration: give --config FILE, or an environment (\"relayd config --help\")")
	}
	return o, cli.BadInput(err)
}

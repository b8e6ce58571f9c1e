// Command demo runs relay, monitor and audit on the loopback, end to end. It is
// what `make run` calls.
package main

import (
	"context"
	"io"
	"os"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/internal/demo"
)

type grammar struct {
	Run runCmd `cmd:"" default:"withargs" help:"Run it (the default)."`
}

type runCmd struct {
	Programs string `required:"" type:"existingdir" placeholder:"DIR" help:"Folder of relayd, relaymon and relayaudit."`
	State    string `default:".demo" type:"path" placeholder:"DIR" help:"Folder of the state that a later run goes on from (default: .demo)."`
	Once     bool   `help:"End after the verdict; exit 0 only if every rung was ok and the bundle verified."`
}

func (c *runCmd) Run(ctx context.Context, out *cli.IO) error {
	return demo.Run(ctx, demo.Options{Programs: c.Programs, State: c.State, Once: c.Once, Out: out.Stdout})
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	return cli.Main("demo", "Relay, monitor and audit on the loopback, end to end.", &grammar{}, args, stdout, stderr)
}

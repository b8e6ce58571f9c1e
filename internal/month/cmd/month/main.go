// Command month simulates a month of a lab through the real code. It is what
// `make month` calls.
package main

import (
	"context"
	"io"
	"os"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/internal/month"
)

type grammar struct {
	Run runCmd `cmd:"" default:"withargs" help:"Run it (the default)."`
}

type runCmd struct {
	Programs string `required:"" type:"existingdir" placeholder:"DIR" help:"Folder of relayaudit."`
	Dir      string `default:".month" type:"path" placeholder:"DIR" help:"Folder of what is handed over, made anew (default: .month)."`
	Once     bool   `help:"End after the verdicts, without serving the status page; exit 0 only if every bundle verified."`
	Days     int    `help:"Tell only so many days at the end of the month."`
}

func (c *runCmd) Run(ctx context.Context, out *cli.IO) error {
	return month.Run(ctx, month.Options{Programs: c.Programs, Dir: c.Dir, Once: c.Once, Days: c.Days, Out: out.Stdout})
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	return cli.Main("month", "LAB: a month of relays and monitors in a minute, through the real code.", &grammar{}, args, stdout, stderr)
}

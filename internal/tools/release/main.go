// Command release makes what is published: the programs for whom they are, and
// the folder of static files from which appliances update themselves. RELEASING.md
// says how it is used.
package main

import (
	"io"
	"os"

	"github.com/psf-relay/relay-appliance/internal/cli"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

type commands struct {
	Keys    keysCmd    `cmd:"" help:"Make the keys that sign, once: one for packages and sums, one for the release list."`
	Build   buildCmd   `cmd:"" help:"Build a version: programs, packages, notices, sums."`
	Publish publishCmd `cmd:"" help:"Put a version that was built into the site from which appliances update."`
	Refresh refreshCmd `cmd:"" help:"Sign the site anew, so that it holds for longer."`
	Repo    repoCmd    `cmd:"" help:"Add packages to an apt repository and sign it; for tests."`
}

func run(args []string, stdout, stderr io.Writer) int {
	return cli.Main("release", "Makes and signs what is published.", &commands{}, args, stdout, stderr)
}

// Command relayaudit checks evidence bundles and applies the bounty's rules, and keeps the
// committee's log of decisions. It needs no network, and no clock but to date what it enters
// in that log: the same files give the same answer everywhere.
package main

import (
	"io"
	"os"

	"github.com/psf-relay/relay-appliance/internal/cli"
)

const description = `Checks the evidence of a relay's month and recomputes the verdict, with no network and no clock.

Exit codes: 0 verified (or done); 1 the evidence is bad; 2 usage, or your own files are bad; 3 verified, but not what --require asks for.`

type grammar struct {
	Verify  verifyCmd  `cmd:"" help:"Check a bundle and print the verdict."`
	Explain explainCmd `cmd:"" help:"Check a bundle and say who saw what in one hour."`

	Decide    decideCmd    `cmd:"" help:"Check a bundle and enter in the committee's log what was decided about it."`
	Appeal    appealCmd    `cmd:"" help:"Enter an operator's appeal in the committee's log."`
	Decisions decisionsCmd `cmd:"" help:"Check a committee's log and print its decisions and open appeals."`

	Judge judgeCmd `cmd:"" help:"Apply the rules to bare votes, to try rules out."`
	Diff  diffCmd  `cmd:"" help:"Say in what two rules files differ, and which difference would change a verdict."`
	Rules rulesCmd `cmd:"" help:"Print the default rules, with what each means."`
}

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return cli.Main("relayaudit", description, &grammar{Judge: judgeCmd{stdin: stdin}}, args, stdout, stderr)
}

// Command bench measures the relay side by side with what else there is. It is
// what `make bench` calls.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/psf-relay/relay-appliance/internal/bench"
	"github.com/psf-relay/relay-appliance/internal/bench/lab"
	"github.com/psf-relay/relay-appliance/internal/bench/load"
	"github.com/psf-relay/relay-appliance/internal/bench/subject"
	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/internal/npm"
)

type grammar struct {
	Run   runCmd   `cmd:"" default:"withargs" help:"Measure, and print the table of goals (the default)."`
	Table tableCmd `cmd:"" help:"Print the table of results that were measured before."`
	Load  loadCmd  `cmd:"" hidden:"" help:"Do one repetition (run calls this)."`
	Serve serveCmd `cmd:"" hidden:"" help:"Be a subject (run calls this)."`
}

type runCmd struct {
	Programs string   `required:"" type:"existingdir" placeholder:"DIR" help:"Folder of relayd."`
	Scale    string   `enum:"short,full,smoke" default:"short" help:"short: two minutes; full: about half an hour; smoke: for the program's own test."`
	Only     []string `placeholder:"NAME[:PART]" help:"Only these experiments (${experiments}), of these only variants with PART in their name."`
	Rounds   int      `placeholder:"N" help:"How often each variant is measured, in place of the scale's number."`
	JSON     string   `type:"path" placeholder:"FILE" help:"Append each repetition to this file as a line of JSON."`
	NoJS     bool     `name:"no-js" help:"Leave the js-libp2p relay out."`
}

func (c *runCmd) Run(ctx context.Context, out *cli.IO) error {
	if !lab.Inside() {
		return c.enter(ctx, out)
	}
	if err := lab.Furnish(); err != nil {
		return err
	}
	results := io.Discard
	if c.JSON != "" {
		f, err := os.OpenFile(c.JSON, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		results = f
	}
	samples, err := bench.Run(ctx, bench.Options{
		Scale: map[string]bench.Scale{"short": bench.Short, "full": bench.Full, "smoke": bench.Smoke}[c.Scale],
		Only:  c.Only, Rounds: c.Rounds,
		Relayd: filepath.Join(c.Programs, "relayd"), Modules: os.Getenv(envModules), Dir: os.Getenv(envDir),
		Results: results, Progress: out.Stderr,
	})
	if len(samples) > 0 {
		err = errors.Join(bench.Table(out.Stdout, samples), err)
	}
	return err
}

// What the program in the namespace is told by the one outside.
const (
	envDir     = "RELAY_BENCH_DIR"
	envModules = "RELAY_BENCH_MODULES"
)

// enter does what needs the network outside, and leaves nothing behind.
func (c *runCmd) enter(ctx context.Context, out *cli.IO) error {
	dir, err := os.MkdirTemp("", "relay-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Setenv(envDir, dir); err != nil {
		return err
	}
	if !c.NoJS {
		project := filepath.Join(dir, "js")
		if err := subject.JSProject(project); err != nil {
			return err
		}
		modules, err := npm.Modules(project)
		if err != nil {
			fmt.Fprintf(out.Stderr, "bench: the js-libp2p relay is left out: %v\n", err)
		} else if err := os.Setenv(envModules, modules); err != nil {
			return err
		}
	}
	err = lab.Enter(ctx)
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return cli.Exit(exit.ExitCode(), nil) // it has said why
	}
	return err
}

type tableCmd struct {
	Files []string `arg:"" type:"existingfile" help:"Files that run --json wrote."`
}

func (c *tableCmd) Run(out *cli.IO) error {
	var all []bench.Sample
	for _, name := range c.Files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		samples, err := bench.Read(f)
		f.Close()
		if err != nil {
			return cli.BadInput(fmt.Errorf("%s: %w", name, err))
		}
		all = append(all, samples...)
	}
	return bench.Table(out.Stdout, all)
}

type loadCmd struct {
	Job string `arg:""`
}

func (c *loadCmd) Run(ctx context.Context, out *cli.IO) error {
	var job load.Job
	if err := json.Unmarshal([]byte(c.Job), &job); err != nil {
		return cli.BadInput(err)
	}
	enc := json.NewEncoder(out.Stdout)
	values, err := job.Do(ctx, func(r load.Ready) error { return enc.Encode(r) })
	if err != nil {
		return err
	}
	return enc.Encode(values)
}

type serveCmd struct {
	What   string     `arg:"" enum:"library,proxy"`
	IP     netip.Addr `required:""`
	Cert   string     `required:""`
	Limits bool
}

func (c *serveCmd) Run(ctx context.Context, out *cli.IO) error {
	if c.What == "proxy" {
		return subject.ServeProxy(ctx, c.IP, c.Cert, out.Stdout)
	}
	return subject.ServeLibrary(ctx, c.IP, c.Cert, c.Limits, out.Stdout)
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	return cli.Main("bench", "The relay, measured side by side with what else there is.", &grammar{}, args, stdout, stderr, kong.Vars{"experiments": strings.Join(bench.Names(), ", ")})
}

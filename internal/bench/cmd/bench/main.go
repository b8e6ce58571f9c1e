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
	"time"

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
	Soak  soakCmd  `cmd:"" help:"Keep a relay busy with a little of everything, and see whether it grows."`
	Load  loadCmd  `cmd:"" hidden:"" help:"Do one repetition (run calls this)."`
	Serve serveCmd `cmd:"" hidden:"" help:"Be a subject (run calls this)."`
}

// lasting is what the commands that measure share.
type lasting struct {
	Programs string `required:"" type:"existingdir" placeholder:"DIR" help:"Folder of relayd."`
	JSON     string `type:"path" placeholder:"FILE" help:"Append what is measured to this file, a line of JSON each."`
}

type runCmd struct {
	lasting
	Scale  string   `enum:"short,full,smoke" default:"short" help:"short: two minutes; full: half an hour; smoke: for the program's own test."`
	Only   []string `placeholder:"NAME[:PART]" help:"Only these experiments (${experiments}), of these only variants with PART in their name."`
	Rounds int      `placeholder:"N" help:"How often each variant is measured, in place of the scale's number."`
	NoJS   bool     `name:"no-js" help:"Leave the js-libp2p relay out."`
}

func (c *runCmd) Run(ctx context.Context, out *cli.IO) error {
	if !lab.Inside() {
		return enter(ctx, out, !c.NoJS)
	}
	return c.inside(out, func(o bench.Options) error {
		o.Scale = map[string]bench.Scale{"short": bench.Short, "full": bench.Full, "smoke": bench.Smoke}[c.Scale]
		o.Only, o.Rounds = c.Only, c.Rounds
		samples, err := bench.Run(ctx, o)
		if len(samples) > 0 {
			err = errors.Join(bench.Table(out.Stdout, samples), err)
		}
		return err
	})
}

type soakCmd struct {
	lasting
	For time.Duration `default:"30m" help:"How long."`
}

func (c *soakCmd) Run(ctx context.Context, out *cli.IO) error {
	if !lab.Inside() {
		return enter(ctx, out, false)
	}
	return c.inside(out, func(o bench.Options) error { return bench.Soak(ctx, o, c.For, out.Stdout) })
}

// inside measures in the namespace.
func (c *lasting) inside(out *cli.IO, measure func(bench.Options) error) error {
	if err := lab.Furnish(); err != nil {
		return err
	}
	o := bench.Options{
		Relayd: filepath.Join(c.Programs, "relayd"), Modules: os.Getenv(envModules), Dir: os.Getenv(envDir),
		Results: io.Discard, Progress: out.Stderr,
	}
	if c.JSON != "" {
		f, err := os.OpenFile(c.JSON, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		o.Results = f
	}
	return measure(o)
}

// What the program in the namespace is told by the one outside.
const (
	envDir     = "RELAY_BENCH_DIR"
	envModules = "RELAY_BENCH_MODULES"
)

// enter does what needs the network outside, and leaves nothing behind.
func enter(ctx context.Context, out *cli.IO, js bool) error {
	dir, err := os.MkdirTemp("", "relay-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Setenv(envDir, dir); err != nil {
		return err
	}
	if js {
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
	ChaCha bool `name:"chacha"`
}

func (c *serveCmd) Run(ctx context.Context, out *cli.IO) error {
	if c.What == "proxy" {
		return subject.ServeProxy(ctx, c.IP, c.Cert, c.ChaCha, out.Stdout)
	}
	return subject.ServeLibrary(ctx, c.IP, c.Cert, c.Limits, out.Stdout)
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	return cli.Main("bench", "The relay, measured side by side with what else there is.", &grammar{}, args, stdout, stderr, kong.Vars{"experiments": strings.Join(bench.Names(), ", ")})
}

// Command scale makes the logs of a fleet of relays and monitors, and measures what they
// cost.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/internal/scale"
)

type grammar struct {
	Run   runCmd   `cmd:"" default:"withargs" help:"Make a fleet's logs, and measure them (the default)."`
	Table tableCmd `cmd:"" help:"Print the table of results that were measured before, in the order of the files."`
	Step  stepCmd  `cmd:"" hidden:"" help:"Do one step of a measurement (run calls this)."`
}

type runCmd struct {
	Relays    int      `default:"100" placeholder:"N" help:"Relays (default: 100)."`
	Monitors  int      `default:"50" placeholder:"N" help:"Monitors, of which 7 are due for each relay and hour (default: 50)."`
	Hours     int      `default:"24" placeholder:"N" help:"Hours from the month's first on (default: 24; a month: 720)."`
	Witnesses int      `placeholder:"N" help:"Other monitors that cosign each checkpoint (default: half of the monitors, as the default rules require)."`
	Seed      uint64   `placeholder:"N" help:"The same seed makes the same logs."`
	Dir       string   `required:"" type:"path" placeholder:"DIR" help:"Folder for the fleet, new. One that holds this fleet already is measured as it is. Every attempt waits for the disk: a folder in memory (/dev/shm) is fast."`
	Measure   bool     `help:"Measure it."`
	Only      []string `placeholder:"STEP" help:"Measure only these steps."`
	Rounds    int      `default:"1" placeholder:"N" help:"How often each step is measured; what counts is the median by CPU."`
	JSON      string   `type:"path" placeholder:"FILE" help:"Append what was measured to this file, as a line of JSON."`
}

func (c *runCmd) options() scale.Options {
	o := scale.Options{Relays: c.Relays, Monitors: c.Monitors, Hours: c.Hours, Witnesses: c.Witnesses, Seed: c.Seed}
	if o.Witnesses == 0 {
		o.Witnesses = o.Monitors / 2
	}
	return o
}

func (c *runCmd) Run(ctx context.Context, out *cli.IO) error {
	o := c.options()
	if err := o.Validate(); err != nil {
		return cli.BadInput(err)
	}
	f, err := scale.Open(c.Dir)
	switch {
	case err != nil:
		tell := func(hours int) { fmt.Fprintf(out.Stderr, "%d of %d hours\n", hours, o.Hours) }
		if f, err = scale.Make(ctx, c.Dir, o, tell); err != nil {
			return err
		}
	case f.Options != o:
		return cli.BadInput(fmt.Errorf("%s holds another fleet (%+v): name a new folder, or the same numbers", c.Dir, f.Options))
	}
	fmt.Fprintf(out.Stderr, "%d records of %d attempts, made in %.0f s with %.0f s of CPU\n", f.Made.Records, f.Made.Attempts, f.Made.Seconds, f.Made.CPU)
	if !c.Measure {
		return nil
	}
	var samples []scale.Sample
	for range c.Rounds {
		for _, step := range scale.Steps() {
			if len(c.Only) > 0 && !slices.Contains(c.Only, step) {
				continue
			}
			s, err := c.step(ctx, out, step)
			if err != nil {
				return err
			}
			fmt.Fprintf(out.Stderr, "%s: %.1f s, %.1f s of CPU, %d MB\n", step, s.Seconds, s.CPU, s.Peak/1e6)
			samples = append(samples, s)
		}
	}
	r := scale.NewResult(f, samples)
	if c.JSON != "" {
		if err := write(c.JSON, r); err != nil {
			return err
		}
	}
	return scale.Table(out.Stdout, []scale.Result{r})
}

// step measures in a process of its own.
func (c *runCmd) step(ctx context.Context, out *cli.IO, name string) (s scale.Sample, err error) {
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	cmd := exec.CommandContext(ctx, self, "step", name, "--dir", c.Dir)
	cmd.Stderr = out.Stderr
	b, err := cmd.Output()
	if err != nil {
		return s, fmt.Errorf("measure %s: %w", name, err)
	}
	return s, json.Unmarshal(b, &s)
}

// write appends a result to a file.
func write(name string, r scale.Result) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

type stepCmd struct {
	Step string `arg:""`
	Dir  string `required:"" type:"existingdir"`
}

func (c *stepCmd) Run(ctx context.Context, out *cli.IO) error {
	f, err := scale.Open(c.Dir)
	if err != nil {
		return err
	}
	s, err := f.Measure(ctx, c.Step)
	if err != nil {
		return err
	}
	return out.JSON(s)
}

type tableCmd struct {
	Files []string `arg:"" type:"existingfile" placeholder:"FILE" help:"What --json has written."`
}

func (c *tableCmd) Run(out *cli.IO) error {
	var all bytes.Buffer
	for _, name := range c.Files {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		all.Write(b)
	}
	results, err := scale.Read(all.Bytes())
	if err != nil {
		return cli.BadInput(err)
	}
	return scale.Table(out.Stdout, results)
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	return cli.Main("scale", "LAB: the logs of a fleet of relays and monitors, and what they cost.", &grammar{}, args, stdout, stderr)
}

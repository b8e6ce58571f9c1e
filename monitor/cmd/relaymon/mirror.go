package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/mirror"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

// exitFork says that the log has two histories.
const exitFork = 3

type mirrorCmd struct {
	From      string        `arg:"" placeholder:"URL" help:"Where the log's checkpoint is, such as https://example.org/monitor/log/, the URL of a bucket, such as s3://NAME?region=REGION, or a folder that was exported or mirrored."`
	Dir       string        `arg:"" type:"path" help:"The copy: a folder of its own; it is made if it is not there."`
	Key       string        `placeholder:"VKEY" help:"The log's verifier key. Take it from the committee, not from the log." xor:"keys" required:""`
	Roster    string        `type:"existingfile" placeholder:"FILE" help:"The committee's roster, instead of keys." xor:"keys" required:""`
	Monitor   string        `placeholder:"NAME" help:"With --roster: whose log it is."`
	Committee string        `placeholder:"VKEY" help:"With --roster: who must have signed it."`
	Witness   []string      `placeholder:"VKEY" sep:"none" help:"A witness, whose cosignatures are verified. Repeatable; those of the roster are known."`
	Once      bool          `help:"Look once, and end."`
	Every     time.Duration `default:"10m" help:"Without --once: how often the log is looked at."`
	JSON      bool          `help:"Print a line of JSON about each look."`
}

// Help is what --help says besides.
func (mirrorCmd) Help() string {
	return `Copies another's log and checks every part of it: the signature, that the log goes on from the copy, every hour, record, certificate and cosignature. The next time it goes on from there; it may be killed at any moment. The folder can be served by any web server, mirrored again, and given to "relaymon bundle --from".

If the log has two histories, the copy stays as it is, the proof is kept in the copy's folder "forks", and the exit code is 3: send the proof to the committee.`
}

func (c *mirrorCmd) Run(ctx context.Context, out *cli.IO) error {
	o, err := c.options()
	if err != nil {
		return cli.BadInput(err)
	}
	if c.Every < time.Minute && !c.Once {
		return cli.BadInput(fmt.Errorf("--every %s: want a minute at least: the log grows once an hour", c.Every))
	}
	o.Progress = progress(out.Stderr)
	m, err := mirror.New(o)
	if errors.Is(err, tiles.ErrTaken) || errors.Is(err, mirror.ErrFrom) {
		return cli.BadInput(err)
	}
	if err != nil {
		return err
	}
	defer m.Close()
	if c.Once {
		var r mirror.Report
		if r, err = m.Sync(ctx); err == nil {
			err = c.tell(out, r)
		}
	} else {
		err = m.Follow(ctx, c.Every, func(r mirror.Report, err error) {
			if err == nil {
				err = c.tell(out, r)
			}
			if err != nil {
				fmt.Fprintf(out.Stderr, "relaymon: %v\n", err)
			}
		})
	}
	var fork *mirror.ForkError
	if errors.As(err, &fork) {
		return cli.Exit(exitFork, err)
	}
	return err
}

func (c *mirrorCmd) tell(out *cli.IO, r mirror.Report) error {
	if c.JSON {
		return out.JSON(r)
	}
	if c.Once || r.Blocks > 0 || r.Checkpoints > 0 {
		fmt.Fprintf(out.Stdout, "%s: %d hours, %d of them new; %d new files of records, %d certificates, %d checkpoints written\n",
			r.Origin, r.Size, r.Blocks, r.Records, r.Certificates, r.Checkpoints)
	}
	return nil
}

// options are what the flags say.
func (c *mirrorCmd) options() (mirror.Options, error) {
	o := mirror.Options{From: c.From, Dir: c.Dir, Key: c.Key, Witnesses: c.Witness, Agent: buildinfo.Agent("relaymon")}
	if c.Roster == "" {
		return o, evidence.CheckKeys(o.Key, o.Witnesses...)
	}
	file, err := bounded.ReadFile(c.Roster, bounty.MaxBytes)
	if err != nil {
		return o, fmt.Errorf("read the roster: %w", err)
	}
	roster, _, err := bounty.OpenRoster(c.Roster, file, c.Committee)
	if err != nil {
		return o, err
	}
	now := evidence.HourOf(time.Now())
	for _, m := range roster.Monitors {
		if m.Name == c.Monitor && (o.Key == "" || m.From <= now) { // of several terms the last that has begun
			o.Key = m.LogKey
		}
		if m.WitnessKey != "" {
			o.Witnesses = append(o.Witnesses, m.WitnessKey)
		}
	}
	for _, w := range roster.Witnesses {
		o.Witnesses = append(o.Witnesses, w.Key)
	}
	if o.Key == "" {
		return o, fmt.Errorf("no monitor %q is in the roster %s: say with --monitor whose log it is", c.Monitor, c.Roster)
	}
	return o, evidence.CheckKeys(o.Key, o.Witnesses...)
}

// progress tells of what takes long, now and then.
func progress(w io.Writer) func(done, size int64) {
	const pause = 5 * time.Second
	last := time.Now()
	return func(done, size int64) {
		if now := time.Now(); now.Sub(last) >= pause && done < size {
			last = now
			fmt.Fprintf(w, "%d of %d hours\n", done, size)
		}
	}
}

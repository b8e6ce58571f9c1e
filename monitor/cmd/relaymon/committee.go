package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"text/tabwriter"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/site"
)

type committeeCmd struct {
	Run     committeeRunCmd     `cmd:"" help:"Take in the logs and judge all relays, again and again."`
	Table   committeeTableCmd   `cmd:"" help:"Print a month's table: each relay and how it stands."`
	Site    committeeSiteCmd    `cmd:"" help:"Write the committee's site as files, for any web server or bucket."`
	Rebuild committeeRebuildCmd `cmd:"" help:"Empty the database and take all in anew."`
}

type committeeRunCmd struct {
	configFlag
	Once bool `help:"Look once, and end."`
	JSON bool `help:"Print a line of JSON about each look."`
}

// Help is what --help says besides.
func (committeeRunCmd) Help() string {
	return `Takes in what is new in the logs that the configuration names (verdicts.logs), and judges each relay of each month that is kept. Each part of a log is verified as relayaudit does. It may be killed at any moment and goes on; several of them may work on one database. Who is paid is decided by bundles, see docs/committee.md.`
}

func (c *committeeRunCmd) Run(ctx context.Context, out *cli.IO) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	return c.run(ctx, cfg, out)
}

func (c *committeeRunCmd) run(ctx context.Context, cfg monitor.Config, out *cli.IO) (err error) {
	k, err := monitor.OpenCommittee(ctx, cfg, logger(cfg, out.Stderr))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	tell := func(s string) { fmt.Fprintln(out.Stderr, s) }
	if !c.Once {
		stop, err := k.Serve()
		if err != nil {
			return err
		}
		defer stop()
		k.Run(ctx, func(r monitor.LookReport, err error) {
			if err := errors.Join(err, c.tell(out, r)); err != nil {
				fmt.Fprintf(out.Stderr, "relaymon: %v\n", err)
			}
		}, tell)
		return nil
	}
	r, err := k.Look(ctx, tell)
	if err := errors.Join(err, c.tell(out, r)); err != nil {
		return err
	}
	if r.Failed() {
		return cli.Exit(cli.Failed, nil)
	}
	return nil
}

func (c *committeeRunCmd) tell(out *cli.IO, r monitor.LookReport) error {
	if c.JSON {
		return out.JSON(r)
	}
	for _, l := range r.Logs {
		switch {
		case l.Fault != "":
			fmt.Fprintf(out.Stdout, "! %s: %s\n", l.Source, l.Fault)
		case l.Busy:
			fmt.Fprintf(out.Stdout, "%s: another process goes on with it\n", l.Source)
		case l.Blocks > 0 || c.Once:
			fmt.Fprintf(out.Stdout, "%s: %d hours and %d records are new\n", l.Source, l.Blocks, l.Records)
		}
		if l.Cut != "" {
			fmt.Fprintf(out.Stdout, "! %s: it ends early: %s\n", l.Source, l.Cut)
		}
	}
	for _, m := range r.Months {
		if m.Relays > 0 || c.Once {
			fmt.Fprintf(out.Stdout, "%s: %d relays judged\n", m.Month, m.Relays)
		}
		for _, fault := range m.Faults {
			fmt.Fprintf(out.Stdout, "! %s: %s\n", m.Month, fault)
		}
	}
	for _, fault := range r.Faults {
		fmt.Fprintf(out.Stdout, "! %s\n", fault)
	}
	return nil
}

// committee opens the database of the configuration.
func (f configFlag) committee(ctx context.Context, out *cli.IO) (*monitor.Committee, error) {
	cfg, err := f.load()
	if err != nil {
		return nil, err
	}
	return monitor.OpenCommittee(ctx, cfg, logger(cfg, out.Stderr))
}

type committeeSiteCmd struct {
	configFlag
	Dir string `arg:"" name:"folder" help:"Where the files are written. What is there and is not of the site stays."`
}

func (c *committeeSiteCmd) Run(ctx context.Context, out *cli.IO) (err error) {
	k, err := c.committee(ctx, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	return site.Export(ctx, k.Reader(), k.Site(), c.Dir)
}

type committeeRebuildCmd struct {
	configFlag
}

func (c *committeeRebuildCmd) Run(ctx context.Context, out *cli.IO) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if err := monitor.DropCommittee(ctx, cfg); err != nil {
		return err
	}
	return (&committeeRunCmd{Once: true}).run(ctx, cfg, out)
}

type committeeTableCmd struct {
	configFlag
	Month string `placeholder:"YYYY-MM" help:"The month; without it the newest."`
	JSON  bool   `help:"Print JSON." xor:"form"`
	CSV   bool   `help:"Print CSV." xor:"form" name:"csv"`
}

func (c *committeeTableCmd) Run(ctx context.Context, out *cli.IO) (err error) {
	k, err := c.committee(ctx, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	months, err := k.Reader().Months(ctx)
	if err != nil {
		return err
	}
	if len(months) == 0 {
		return errors.New("nothing was taken in yet: \"relaymon committee run\" does")
	}
	month := months[0]
	if c.Month != "" {
		if month, err = evidence.ParseMonth(c.Month); err != nil {
			return cli.BadInput(fmt.Errorf("--month: %w", err))
		}
	}
	for suffix, wanted := range map[string]bool{".json": c.JSON, ".csv": c.CSV} {
		if !wanted {
			continue
		}
		b, err := site.File(ctx, k.Reader(), k.Site(), month.String()+"/table"+suffix)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("nothing is known of %s: verdicts.months says how many months are kept", month)
		}
		if err != nil {
			return err
		}
		_, err = out.Stdout.Write(b)
		return err
	}
	table, err := k.Reader().Table(ctx, month)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "relay\toperator\tverdict\tup\tdown\tunknown\tassured\tleft\tas of\n")
	for _, r := range table {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", r.Relay, r.Operator, r.Headline, r.Hours.Up, r.Hours.Down, r.Hours.Unknown, r.Assured, r.Left, r.AsOf)
	}
	return w.Flush()
}

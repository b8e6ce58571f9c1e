package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor/browser"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
)

type browserCheckCmd struct {
	JSON    bool     `help:"Print JSON: the page's report, and each relay's rung as the evidence log has it."`
	Program string   `placeholder:"FILE" help:"The browser, a Chromium. Without it the first on the PATH is taken."`
	CA      string   `name:"ca" placeholder:"FILE" help:"Trust the CA certificates in this PEM file as well (needs certutil)."`
	Resolve []string `placeholder:"NAME:ADDR" sep:"none" help:"Take ADDR for NAME instead of asking DNS. Repeatable."`
	Addr    []string `arg:"" help:"Addresses of relays, such as /dns4/../tcp/../wss/p2p/ID. Those with the same peer ID are one relay's."`
}

// Help is the long part of `relaymon browser-check --help`.
func (browserCheckCmd) Help() string {
	return `A headless Chromium opens the check page, as a visitor of /check would, and tries each relay: connect,
identify, reserve, reach a second peer through the relay, send bytes there and back.

Exit code 0: browsers can use all of the relays; 1: not all of them, or it could not be found out.`
}

// browserCheckJSON is what --json prints.
type browserCheckJSON struct {
	browser.Report
	Rungs map[string]evidence.Rung `json:"rungs"` // by peer ID
}

func (c *browserCheckCmd) Run(ctx context.Context, out *cli.IO) error {
	o, err := c.read()
	if err != nil {
		return cli.BadInput(err)
	}
	b, err := browser.Start(ctx, o)
	if err != nil {
		return err
	}
	defer b.Close()
	report, err := b.Check(ctx, c.Addr...)
	if err != nil {
		return err
	}
	if c.JSON {
		all := browserCheckJSON{report, map[string]evidence.Rung{}}
		for _, r := range report.Relays {
			all.Rungs[r.PeerID] = r.Rung(report.Version)
		}
		err = out.JSON(all)
	} else {
		err = printReport(out.Stdout, report)
	}
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	for _, r := range report.Relays {
		if !r.OK {
			return cli.Exit(cli.Failed, nil) // what failed stands in the result
		}
	}
	return nil
}

// read checks all that was handed in, and reports all faults at once.
func (c *browserCheckCmd) read() (browser.Options, error) {
	o := browser.Options{Program: c.Program, Resolve: map[string]netip.Addr{}}
	var faults []error
	for _, a := range c.Addr {
		if _, err := peer.AddrInfoFromString(a); err != nil {
			faults = append(faults, fmt.Errorf("address %q: %w: want a multiaddr that ends in /p2p/ID", a, err))
		}
	}
	for _, s := range c.Resolve {
		name, ip, err := probe.ParsePin(s)
		if err == nil {
			o.Resolve[name] = ip
		}
		faults = append(faults, err)
	}
	if c.CA != "" {
		_, err := readCAs(c.CA)
		if err == nil {
			o.RootsPEM, err = os.ReadFile(c.CA)
		}
		faults = append(faults, err)
	}
	return o, errors.Join(faults...)
}

func printReport(w io.Writer, report browser.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s\n", report.Version, evidence.TimeOf(report.Started))
	for _, r := range report.Relays {
		word := "browsers can use this relay"
		if !r.OK {
			word = "browsers cannot use this relay"
		}
		fmt.Fprintf(&b, "\n%s: %s\n  %s\n", r.Name, word, r.PeerID)
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, s := range r.Steps {
			took, outcome := "", string(s.Outcome)
			if s.DurationMS > 0 {
				took = fmt.Sprintf("%.1f ms", s.DurationMS)
			}
			if s.Outcome == evidence.Fail {
				outcome = fmt.Sprintf("failed (%s)", s.Class)
			}
			fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", s.Name, outcome, took, s.Detail)
		}
		table.Flush()
		for _, s := range r.Steps {
			if s.Advice != "" {
				fmt.Fprintf(&b, "  to do about %s: %s\n", s.Name, s.Advice)
			}
		}
	}
	_, err := io.WriteString(w, trimLines(b.String()))
	return err
}

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/relay"
	"github.com/psf-relay/relay-appliance/relay/doctor"
	"github.com/psf-relay/relay-appliance/relay/status"
)

type doctorCmd struct {
	configFlag
	Resolver string        `placeholder:"ADDR" help:"The DNS server to ask for the domain; default: the system's."`
	Timeout  time.Duration `default:"45s" help:"How long it may take in all."`
	JSON     bool          `name:"json" help:"Print JSON."`
}

// Help is what --help says besides.
func (doctorCmd) Help() string {
	return `Goes through what the bounty wants of a relay, on the relay's own machine: what is met, what is not and how to mend it, what cannot be told from here. The status page shows the same list.

It asks the relay that runs (on metrics.listen, else on its WSS port) and looks for itself: at the domain's records, at the certificate where the domain leads, at clock and disk; it reserves on trial; and it listens on the PSF network, as another node, for the relay's announcement. Without a running relay it says what it can.

"met" needs evidence of that very thing: what comes in over IPv6 shows nothing of IPv4, which the bounty asks for, and what others have shown counts for 24 hours. Without it the outcome is "unknown".

What the monitors judge from outside, the uptime and the region, stays unknown here; what those say that stand in the configuration (monitors) is passed on below the requirements, as their claim. "relaymon probe" on another machine is the second opinion.

Exit code 0: nothing is unmet; 1: something is; 2: the configuration is at fault.`
}

func (c *doctorCmd) Run(ctx context.Context, out *cli.IO) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	d, err := relay.Examine(ctx, cfg, doctor.Examination{Resolver: c.Resolver, Time: c.Timeout})
	if err != nil {
		return err
	}
	if c.JSON {
		err = out.JSON(d)
	} else {
		err = printDiagnosis(out.Stdout, d)
	}
	if err == nil && d.NotMet > 0 {
		return cli.Exit(cli.Failed, nil)
	}
	return err
}

func printDiagnosis(w io.Writer, d status.Diagnosis) error {
	fmt.Fprintf(w, "Relay %s", d.PeerID)
	if d.Lab {
		fmt.Fprint(w, ", in a lab (network.allow_private): private addresses and a private CA pass")
	}
	fmt.Fprint(w, "\n\n")
	for _, r := range d.Requirements {
		fmt.Fprintf(w, "%-8s %s\n         %s\n", r.Outcome, r.Title, r.Found)
		if r.Cure != "" {
			fmt.Fprintf(w, "         -> %s\n", r.Cure)
		}
	}
	for _, said := range d.Warnings() {
		fmt.Fprintf(w, "warning  %s\n", said)
	}
	if d.Status != nil {
		for _, m := range d.Status.Monitors {
			fmt.Fprintf(w, "monitor  %s\n         %s\n", m.Host(), m.Words())
			if m.Claim == nil {
				continue
			}
			for _, warns := range m.Warnings {
				fmt.Fprintf(w, "         %s: the relay %s\n", warns.Severity, warns.Words)
			}
		}
	}
	_, err := fmt.Fprintf(w, "\n%d met, %d not met, %d unknown\n", d.Met, d.NotMet, d.Unknown)
	return err
}

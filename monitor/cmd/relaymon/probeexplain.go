package main

import (
	"fmt"
	"strings"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// lessons say of each rung what it tests, and which part of BOUNTY.md is about it.
var lessons = []struct{ rung, tests, bounty string }{
	{"tcp4", "dial the literal IPv4 address; Noise; the peer ID is the one asked for",
		"term 1: a permanent public IPv4 address (R3; its changes: R11)"},
	{"identify", "the relay says who it is and answers libp2p pings",
		"part of tcp4 (R3); the version is what R13 goes by, and the round trips show the region (R14)"},
	{"wss", "the name's A record, a certificate that browsers trust, a websocket upgrade with an Origin header, Noise and yamux, the peer ID",
		"term 2: a domain with a certificate that browsers accept (R3; the certificate: R12; browsers: R15)"},
	{"reserve", "a first peer, connected over wss, gets a reservation",
		"term 3: anybody may reserve (R3); with the voucher the relay signs for the hour (R6)"},
	{"circuit", "a second peer, connected over tcp4, dials the first one through the relay; 4 KiB come back",
		"term 3: and be reached through the relay (R3: level 4)"},
	{"announce", "the relay's announcement was heard (with --announce)",
		"no term: it is a fact that changes no vote"},
}

// outcomes say what each one means for a monitor, whose tries count.
var outcomes = []struct {
	outcome evidence.Outcome
	means   string
}{
	{evidence.OK, "the rung was passed"},
	{evidence.Fail, "the relay did not do it. A monitor votes down only if it sees that again some minutes later, and its own line works (R5, R6)"},
	{evidence.Busy, "the relay says that it is full. It is not down, and a number of such hours counts as up (R8)"},
	{evidence.Blind, "this machine could not tell. Such an hour of a monitor is unknown: never up and never down (R5, R6)"},
	{evidence.Skipped, "the rung was not tried, since another one had failed or no address was given"},
}

// teach says of every rung what it tests and what came of it.
func teach(b *strings.Builder, a evidence.Attempt) {
	for _, r := range a.Rungs {
		fmt.Fprintf(b, "\n%s: %s\n", r.Name, word(r))
		for _, l := range lessons {
			if l.rung == r.Name {
				fmt.Fprintf(b, "  tests: %s\n  bounty: %s\n", l.tests, l.bounty)
			}
		}
		if r.Class != "" {
			fmt.Fprintf(b, "  means: %s\n", r.Class.Meaning())
		}
		if r.Detail != "" {
			fmt.Fprintf(b, "  seen: %s\n", r.Detail)
		}
		if r.Class != "" {
			fmt.Fprintf(b, "  to do: %s\n", r.Class.Advice())
		}
	}
	b.WriteString("\nWhat the outcomes mean (BOUNTY.md has the terms and the rules, R1 to R21):\n")
	for _, o := range outcomes {
		name := string(o.outcome)
		if o.outcome == evidence.Fail {
			name = "failed" // as the table has it
		}
		fmt.Fprintf(b, "  %-8s %s\n", name, o.means)
	}
	b.WriteString("This try counts nowhere: only the monitors on the committee's roster vote, each once an hour.\n")
}

package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
)

// announceWait is how long `probe --announce` listens: relays of the network
// announce themselves every two minutes.
const announceWait = 130 * time.Second

type probeCmd struct {
	JSON         bool           `xor:"form" help:"Print JSON; with --watch one object a line."`
	Explain      bool           `xor:"form,times" help:"Say of every rung what it tests, what its outcome means and which term of the bounty it is about."`
	Watch        bool           `xor:"times" help:"Try again and again, until Ctrl-C; one line for each try."`
	Every        *time.Duration `placeholder:"1m" help:"With --watch: how often to try, at least every 10s."`
	Announce     bool           `help:"Wait for the relay's announcement on the coordination topic, too (up to 130 s)."`
	CA           string         `name:"ca" placeholder:"FILE" help:"Trust the CA certificates in this PEM file as well."`
	Resolve      []string       `placeholder:"NAME:ADDR" sep:"none" help:"Take ADDR for NAME instead of asking DNS (NAME:PORT:ADDR: for this port only). Repeatable."`
	AllowPrivate bool           `help:"Admit loopback and private addresses. Such a result is never evidence."`
	Addr         []string       `arg:"" help:"The relay's domain, such as relay.example.org, or its addresses: /ip4/../tcp/../p2p/ID and /dns4/../tcp/../wss/p2p/ID. One of the two may be missing; its component is then skipped."`
}

// Help is the long part of `relaymon probe --help`.
func (probeCmd) Help() string {
	var b strings.Builder
	fmt.Fprintf(&b, `Climbs the ladder once: %s.

`, strings.Join(probe.Rungs(), ", "))
	for _, l := range lessons {
		fmt.Fprintf(&b, "  %-9s %s\n", l.rung, l.tests)
	}
	b.WriteString(`
A domain (NAME, NAME:PORT or https://NAME) is asked for the addresses: relayd gives them to everybody in
https://NAME/status.json. They are the relay's own claim, and so the ladder tests what the relay claims. A
certificate that is not valid does not keep the addresses from being read; the rung wss then fails. A relay of
other software has no such page: give its addresses.

Outcomes are raw: no controls run, so a fault of this machine's own line looks like one of the relay. Only the
name is looked up at other resolvers, too, when wss fails and it is not pinned.

The component relay has a level: 0 none, 1 reserved, 2 connect answered ok, 3 end-to-end handshake done, 4 bytes echoed.

With --watch each line has the time (UTC), each component's outcome and time, the latest 30 tries and how many
of all were ok: + (or ▲) is ok, - (or ▼) is not ok, ? means that this machine could not tell. What to do stands
below the line when it is new. A domain is asked again after a try that was not ok. All tries reserve under one
identity, so that they take one place on the relay. "relaymon run" is the watch that counts.

Exit code: 0 all that was asked for is ok, 1 something is not, 2 usage or bad input. With --watch it is that of
the last try.

Classes, each with what it means and what whoever runs the relay can do:

`)
	for _, c := range evidence.Classes() {
		fmt.Fprintf(&b, "  %s: %s; %s\n", c, c.Meaning(), c.Advice())
	}
	return b.String()
}

// Run probes one relay and prints what came of it.
func (p *probeCmd) Run(ctx context.Context, out *cli.IO) error {
	l, err := p.read()
	if err != nil {
		return cli.BadInput(err)
	}
	if isTerminal(out.Stderr) {
		l.opts.OnRung = func(r evidence.Rung) {
			if r.Outcome == "" {
				fmt.Fprintf(out.Stderr, "\r\033[K%s ...", r.Name)
			} else {
				fmt.Fprint(out.Stderr, "\r\033[K")
			}
		}
	}
	if p.Watch {
		return p.watch(ctx, out, l)
	}
	t := l.try(ctx)
	switch {
	case p.JSON:
		err = out.JSON(t.inJSON())
	case t.err != nil:
		return t.err
	default:
		err = t.print(out.Stdout, p.Explain)
	}
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if t.outcome() != evidence.OK {
		return cli.Exit(cli.Failed, nil) // what failed stands in the result
	}
	return nil
}

// read checks all that was handed in, and reports all faults at once.
func (p *probeCmd) read() (*look, error) {
	l := &look{announce: p.Announce, opts: probe.Options{
		AllowPrivate: p.AllowPrivate, Resolve: map[string]netip.Addr{}, Pace: probe.NewPace(probe.OneOffPace),
	}}
	var faults []error
	for _, s := range p.Resolve {
		name, ip, err := probe.ParsePin(s)
		if err == nil {
			l.opts.Resolve[name] = ip
		}
		faults = append(faults, err)
	}
	var err error
	if l.opts.Second, err = monitor.DefaultResolvers(); err != nil {
		faults = append(faults, err)
	}
	if p.CA != "" {
		l.opts.ExtraCAs, err = readCAs(p.CA)
		faults = append(faults, err)
	}
	faults = append(faults, l.read(p.Addr), p.readTimes())
	return l, errors.Join(faults...)
}

func readCAs(name string) ([]*x509.Certificate, error) {
	data, err := bounded.ReadFile(name, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("read the CA file: %w", err)
	}
	list, err := probe.ParseCAs(data)
	if err != nil {
		return nil, fmt.Errorf("CA file %s: %w", name, err)
	}
	return list, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// The JSON of `probe --json`. It is for scripts, and so has milliseconds and no
// binary fields that only evidence needs.
type (
	resultJSON struct {
		Error        string                               `json:"error,omitempty"`          // why there was nothing to try; with --watch
		From         *pageJSON                            `json:"addresses_from,omitempty"` // null: they were given
		PeerID       string                               `json:"peer_id"`
		AgentVersion string                               `json:"agent_version"`
		Started      evidence.Time                        `json:"started"`
		TCP4Addr     string                               `json:"tcp4_addr,omitempty"`
		WSSAddr      string                               `json:"wss_addr,omitempty"`
		Components   map[evidence.Component]componentJSON `json:"components"`
		Rungs        []rungJSON                           `json:"rungs"`
		Facts        evidence.Facts                       `json:"facts"`
	}
	pageJSON struct {
		URL string `json:"url"`
		// Unverified is the class of what is wrong with the page's certificate.
		Unverified evidence.Class `json:"unverified,omitempty"`
		Missing    []string       `json:"missing,omitempty"`
	}
	componentJSON struct {
		Outcome    evidence.Outcome `json:"outcome"`
		Class      evidence.Class   `json:"class"`
		DurationMS float64          `json:"duration_ms"`
		Level      *evidence.Level  `json:"level,omitempty"` // of relay only
	}
	rungJSON struct {
		Name       string             `json:"name"`
		Component  evidence.Component `json:"component,omitempty"`
		Outcome    evidence.Outcome   `json:"outcome"`
		Class      evidence.Class     `json:"class"`
		Detail     string             `json:"detail,omitempty"`
		Advice     string             `json:"advice,omitempty"`
		OffsetMS   float64            `json:"offset_ms"`
		DurationMS float64            `json:"duration_ms"`
	}
)

func inJSON(a evidence.Attempt) resultJSON {
	r := resultJSON{
		PeerID: a.PeerID, AgentVersion: a.Facts.AgentVersion, Started: a.Started,
		TCP4Addr: a.TCP4Addr, WSSAddr: a.WSSAddr,
		Components: map[evidence.Component]componentJSON{}, Rungs: []rungJSON{}, Facts: a.Facts,
	}
	for name, c := range a.Results {
		j := componentJSON{Outcome: c.Outcome, Class: c.Class, DurationMS: millis(c.DurationUS)}
		if name == evidence.Relay {
			j.Level = &a.Level
		}
		r.Components[name] = j
	}
	for _, g := range a.Rungs {
		r.Rungs = append(r.Rungs, rungJSON{
			Name: g.Name, Component: g.Component, Outcome: g.Outcome, Class: g.Class, Detail: g.Detail,
			Advice: g.Class.Advice(), OffsetMS: millis(g.OffsetUS), DurationMS: millis(g.DurationUS),
		})
	}
	return r
}

func millis(us int64) float64 { return float64(us) / 1000 }

// printAttempt writes the ladder as a table, and below it what to do about each rung
// that was not passed.
func printAttempt(w io.Writer, a evidence.Attempt) error { return writeAttempt(w, a, cures) }

// writeAttempt writes the ladder as a table, and below it what tell says.
func writeAttempt(w io.Writer, a evidence.Attempt, tell func(*strings.Builder, evidence.Attempt)) error {
	var b strings.Builder
	b.WriteString(addresses(a) + "\n")
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range a.Rungs {
		took := ""
		if r.Outcome != evidence.Skipped {
			took = fmt.Sprintf("%.1f ms", millis(r.DurationUS))
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", r.Name, word(r), took, note(a, r))
	}
	table.Flush()
	tell(&b, a)
	if len(a.Facts.Lookups) > 0 {
		b.WriteString("\nwhat resolvers say of the name:\n")
		for _, l := range a.Facts.Lookups {
			fmt.Fprintf(&b, "  %s: %s\n", l.Resolver, l.Words())
		}
	}
	_, err := io.WriteString(w, trimLines(b.String()))
	return err
}

// addresses says what was tried.
func addresses(a evidence.Attempt) string {
	text := "relay " + a.PeerID + "\n"
	for _, addr := range []string{a.TCP4Addr, a.WSSAddr} {
		if addr != "" {
			text += "  " + strings.TrimSuffix(addr, "/p2p/"+a.PeerID) + "\n"
		}
	}
	return text
}

// cures says what to do about each rung that was not passed.
func cures(b *strings.Builder, a evidence.Attempt) {
	for _, r := range a.Rungs {
		if r.Outcome != evidence.OK && r.Outcome != evidence.Skipped {
			fmt.Fprintf(b, "\n%s %s: %s\n  seen: %s\n  to do: %s\n", r.Name, word(r), r.Class.Meaning(), r.Detail, r.Class.Advice())
		}
	}
}

// word is a rung's outcome as the table shows it.
func word(r evidence.Rung) string {
	switch r.Outcome {
	case evidence.OK, evidence.Skipped:
		return string(r.Outcome)
	case evidence.Fail:
		return "failed (" + string(r.Class) + ")"
	}
	return string(r.Outcome) + " (" + string(r.Class) + ")"
}

// note is the last column: what a rung saw, or why it was skipped.
func note(a evidence.Attempt, r evidence.Rung) string {
	f := a.Facts
	switch {
	case r.Outcome == evidence.Skipped:
		return r.Class.Meaning()
	case r.Outcome != evidence.OK:
		return ""
	case r.Detail != "":
		return r.Detail
	}
	switch r.Name {
	case "identify":
		return fmt.Sprintf("%s, round trip %.1f ms", f.AgentVersion, millis(slices.Min(f.PingUS)))
	case "wss":
		return fmt.Sprintf("%s, certificate until %s", strings.Join(f.ResolvedIPv4, " "), f.Certificate.NotAfter.Format(time.DateOnly))
	case "reserve":
		if f.Reservation.LimitBytes > 0 {
			return fmt.Sprintf("circuits of %d bytes", f.Reservation.LimitBytes)
		}
		return "circuits without a limit"
	case "circuit":
		return fmt.Sprintf("level %d: bytes came back", a.Level)
	case "announce":
		return "broadcast at " + f.Announced
	}
	return ""
}

func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

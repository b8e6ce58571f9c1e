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
	JSON         bool     `help:"Print JSON."`
	Announce     bool     `help:"Wait for the relay's announcement on the coordination topic, too (up to 130 s)."`
	CA           string   `name:"ca" placeholder:"FILE" help:"Trust the CA certificates in this PEM file as well."`
	Resolve      []string `placeholder:"NAME:ADDR" sep:"none" help:"Take ADDR for NAME instead of asking DNS (NAME:PORT:ADDR: for this port only). Repeatable."`
	AllowPrivate bool     `help:"Admit loopback and private addresses. Such a result is never evidence."`
	Addr         []string `arg:"" help:"The relay's addresses: /ip4/../tcp/../p2p/ID and /dns4/../tcp/../wss/p2p/ID. One of the two may be missing; its component is then skipped."`
}

// Help is the long part of `relaymon probe --help`.
func (probeCmd) Help() string {
	var b strings.Builder
	fmt.Fprintf(&b, `Climbs the ladder once: %s.

  tcp4      dial the literal IPv4 address; Noise; the peer ID is the one asked for
  identify  the relay says who it is and answers libp2p pings
  wss       the name's A record, a certificate that browsers trust, a websocket upgrade with an Origin
            header, Noise and yamux, the peer ID
  reserve   a first peer, connected over wss, gets a reservation
  circuit   a second peer, connected over tcp4, dials the first one through the relay; 4 KiB come back
  announce  the relay's announcement was heard (with --announce)

Outcomes are raw: no controls run, so a fault of this machine's own line looks like one of the relay. Only the
name is looked up at other resolvers, too, when wss fails and it is not pinned.

The component relay has a level: 0 none, 1 reserved, 2 connect answered ok, 3 end-to-end handshake done, 4 bytes echoed.

Exit code: 0 all that was asked for is ok, 1 something is not, 2 usage or bad input.

Classes, each with what it means and what whoever runs the relay can do:

`, strings.Join(probe.Rungs(), ", "))
	for _, c := range evidence.Classes() {
		fmt.Fprintf(&b, "  %s: %s; %s\n", c, c.Meaning(), c.Advice())
	}
	return b.String()
}

// Run probes one relay and prints what came of it.
func (p *probeCmd) Run(ctx context.Context, out *cli.IO) error {
	target, opts, err := p.read()
	if err != nil {
		return cli.BadInput(err)
	}
	opts.Pace = probe.NewPace(probe.OneOffPace)
	if p.Announce {
		listener, err := probe.NewListener(nil, opts)
		if err != nil {
			return err
		}
		defer listener.Close()
		listener.Watch([]probe.Target{target})
		opts.Listener, opts.AnnounceWait = listener, announceWait
	}
	if isTerminal(out.Stderr) {
		opts.OnRung = func(r evidence.Rung) {
			if r.Outcome == "" {
				fmt.Fprintf(out.Stderr, "\r\033[K%s ...", r.Name)
			} else {
				fmt.Fprint(out.Stderr, "\r\033[K")
			}
		}
	}
	attempt := probe.Run(ctx, target, opts)
	if p.JSON {
		err = out.JSON(inJSON(attempt))
	} else {
		err = printAttempt(out.Stdout, attempt)
	}
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	for _, r := range attempt.Rungs {
		if r.Outcome != evidence.OK && r.Class != evidence.NotAsked {
			return cli.Exit(cli.Failed, nil) // what failed stands in the result
		}
	}
	return nil
}

// read checks all that was handed in, and reports all faults at once.
func (p *probeCmd) read() (probe.Target, probe.Options, error) {
	opts := probe.Options{AllowPrivate: p.AllowPrivate, Resolve: map[string]netip.Addr{}}
	target, err := probe.ParseTarget(p.Addr)
	faults := []error{err}
	for _, s := range p.Resolve {
		name, ip, err := probe.ParsePin(s)
		if err == nil {
			opts.Resolve[name] = ip
		}
		faults = append(faults, err)
	}
	if opts.Second, err = monitor.DefaultResolvers(); err != nil {
		faults = append(faults, err)
	}
	if p.CA != "" {
		opts.ExtraCAs, err = readCAs(p.CA)
		faults = append(faults, err)
	}
	if target.PeerID != "" {
		faults = append(faults, opts.Check(target))
	}
	return target, opts, errors.Join(faults...)
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
		PeerID       string                               `json:"peer_id"`
		AgentVersion string                               `json:"agent_version"`
		Started      evidence.Time                        `json:"started"`
		TCP4Addr     string                               `json:"tcp4_addr,omitempty"`
		WSSAddr      string                               `json:"wss_addr,omitempty"`
		Components   map[evidence.Component]componentJSON `json:"components"`
		Rungs        []rungJSON                           `json:"rungs"`
		Facts        evidence.Facts                       `json:"facts"`
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
		Components: map[evidence.Component]componentJSON{}, Facts: a.Facts,
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
func printAttempt(w io.Writer, a evidence.Attempt) error {
	var b strings.Builder
	fmt.Fprintf(&b, "relay %s\n", a.PeerID)
	for _, addr := range []string{a.TCP4Addr, a.WSSAddr} {
		if addr != "" {
			fmt.Fprintf(&b, "  %s\n", strings.TrimSuffix(addr, "/p2p/"+a.PeerID))
		}
	}
	b.WriteString("\n")
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range a.Rungs {
		took := ""
		if r.Outcome != evidence.Skipped {
			took = fmt.Sprintf("%.1f ms", millis(r.DurationUS))
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", r.Name, word(r), took, note(a, r))
	}
	table.Flush()
	for _, r := range a.Rungs {
		if r.Outcome == evidence.OK || r.Outcome == evidence.Skipped {
			continue
		}
		fmt.Fprintf(&b, "\n%s %s: %s\n  seen: %s\n  to do: %s\n", r.Name, word(r), r.Class.Meaning(), r.Detail, r.Class.Advice())
	}
	if len(a.Facts.Lookups) > 0 {
		b.WriteString("\nwhat resolvers say of the name:\n")
		for _, l := range a.Facts.Lookups {
			fmt.Fprintf(&b, "  %s: %s\n", l.Resolver, l.Words())
		}
	}
	_, err := io.WriteString(w, trimLines(b.String()))
	return err
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

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor/decision"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

type decisionsCmd struct {
	Folder    string   `arg:"" type:"path" help:"The log, or a copy of it."`
	Committee string   `required:"" placeholder:"VKEY" help:"The committee's verifier key."`
	Witness   []string `sep:"none" placeholder:"VKEY" help:"The verifier key of a witness that you trust: say when it cosigned the log. Repeatable."`
	Month     *string  `placeholder:"YYYY-MM" help:"Print this month only."`
	Relay     *string  `placeholder:"ID" help:"Print this relay only."`
	JSON      bool     `help:"Print JSON."`
}

// Help is what --help says besides.
func (decisionsCmd) Help() string {
	return `Checks a committee's whole log: its signature, its root and all its files, every entry, and that each month was decided once, that replacements name what they replace, that decisions answer the appeals that stood open, and that the relay's key signed each appeal. Then it prints the decisions, those that were replaced, and the appeals that stand open.

A log that was cut to an older checkpoint is good, too: this program cannot know that there was more. A witness that you name with --witness says when it had seen how much, and another copy of the log says the rest.`
}

// decisionsReport is what --json prints.
type decisionsReport struct {
	Verified bool             `json:"verified"`
	Error    string           `json:"error,omitempty"`
	Log      string           `json:"log,omitempty"` // its origin
	Network  evidence.Network `json:"network,omitempty"`
	Entries  int64            `json:"entries"`
	Root     string           `json:"root,omitempty"`
	Cosigned []seenBy         `json:"cosigned"`
	Months   []monthReport    `json:"months"`
}

// seenBy is a witness that had seen the log at that time.
type seenBy struct {
	Witness string        `json:"witness"`
	At      evidence.Time `json:"at"`
}

// monthReport is a relay's month.
type monthReport struct {
	*decision.Month
	// Standing is the hash of the decision that stands, Open the SHA-256 of each appeal that does.
	Standing string   `json:"standing,omitempty"`
	Open     []string `json:"open_appeals"`
}

func (c *decisionsCmd) Run(out *cli.IO) error {
	if err := evidence.CheckKeys(c.Committee, c.Witness...); err != nil {
		return cli.BadInput(err)
	}
	if _, err := os.Stat(c.Folder); err != nil {
		return cli.BadInput(err)
	}
	var month evidence.Month
	if c.Month != nil {
		var err error
		if month, err = evidence.ParseMonth(*c.Month); err != nil {
			return cli.BadInput(fmt.Errorf("--month: %w", err))
		}
	}
	report := decisionsReport{Cosigned: []seenBy{}, Months: []monthReport{}}
	l, err := decision.Read(c.Folder, c.Committee, c.Witness...)
	if err != nil {
		err = cli.Exit(cli.Failed, fmt.Errorf("not good evidence: %s", oneLine(err)))
		if c.JSON {
			report.Error = err.Error()
			return errors.Join(err, out.JSON(report))
		}
		return err
	}
	report.Verified, report.Log, report.Network = true, l.Origin, l.Network
	report.Entries, report.Root = l.Checkpoint.Size, l.Checkpoint.Root.String()
	for _, s := range l.Checkpoint.Cosignatures {
		at, err := evidence.CosignedAt(s)
		if err != nil {
			return err
		}
		report.Cosigned = append(report.Cosigned, seenBy{fmt.Sprintf("%s+%08x", s.Name, s.Hash), evidence.TimeOf(at)})
	}
	for _, m := range l.Months() {
		if c.Month != nil && m.Month != month || c.Relay != nil && m.Relay != *c.Relay {
			continue
		}
		r := monthReport{Month: m, Open: []string{}}
		if d := m.Standing(); d != nil {
			r.Standing = d.Hash
		}
		for _, a := range m.Open() {
			r.Open = append(r.Open, a.SHA256)
		}
		report.Months = append(report.Months, r)
	}
	if c.JSON {
		return out.JSON(report)
	}
	c.print(out.Stdout, report)
	return nil
}

func (c *decisionsCmd) print(w io.Writer, r decisionsReport) {
	fmt.Fprintf(w, "log       %s, verified: %d entries, root %s\n", r.Log, r.Entries, r.Root)
	for _, s := range r.Cosigned {
		fmt.Fprintf(w, "cosigned  by %s at %s\n", plain(s.Witness), s.At)
	}
	switch {
	case len(r.Cosigned) > 0:
	case len(c.Witness) > 0:
		fmt.Fprintln(w, "cosigned  by none of the witnesses that you named: this may be an older copy, or not what others are shown")
	default:
		fmt.Fprintln(w, "cosigned  not looked at: name a witness with --witness")
	}
	if len(r.Months) == 0 {
		fmt.Fprintln(w, "\nnothing was decided or objected to")
	}
	for _, m := range r.Months {
		fmt.Fprintf(w, "\n%s  %s\n", m.Month.Month, m.Relay)
		if m.Standing == "" {
			fmt.Fprintln(w, "  not decided")
		}
		for i := range m.Decisions {
			printDecision(w, m.Decisions[len(m.Decisions)-1-i]) // the one that stands first
		}
		for _, a := range m.Appeals {
			state := "OPEN APPEAL"
			if a.AnsweredBy != "" {
				state = "answered appeal"
			}
			fmt.Fprintf(w, "  %s %s\n    by operator %s, signed %s, entered %s\n", state, a.SHA256, plain(a.Says.Operator), evidence.TimeOf(a.Says.Made), a.At)
			if a.AnsweredBy != "" {
				fmt.Fprintf(w, "    answered by %s\n", a.AnsweredBy)
			}
			quote(w, a.Says.Text)
		}
	}
}

func printDecision(w io.Writer, d *decision.Decided) {
	what := "decided "
	if d.ReplacedBy != "" {
		what = "replaced"
	}
	provisional := ""
	if d.Provisional {
		provisional = ", PROVISIONAL"
	}
	fmt.Fprintf(w, "  %s %s\n    hash    %s, entered %s\n    verdict %s%s as of %s\n    bundle  %s\n    rules   %s\n    roster  %s\n",
		what, plain(d.Words()), d.Hash, d.At, d.Verdict, provisional, d.AsOf, d.Bundle, d.Rules, d.Roster)
	if len(d.Without) > 0 {
		fmt.Fprintf(w, "    without %s\n", plain(strings.Join(d.Without, ", ")))
	}
	if d.Pay != nil && !d.Pay.Signed {
		fmt.Fprintln(w, "    payout  not signed by the relay's own key")
	}
	if d.Replaces != "" {
		fmt.Fprintf(w, "    instead of %s\n", d.Replaces)
	}
	for _, a := range d.Answers {
		fmt.Fprintf(w, "    answers %s\n", a)
	}
	quote(w, d.Why)
}

// quote prints what a person wrote so that no line of it looks like one of ours.
func quote(w io.Writer, text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintf(w, "    | %s\n", plain(strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", "    ")))
	}
}

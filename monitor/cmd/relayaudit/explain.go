package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

type explainCmd struct {
	Bundle string `arg:"" type:"existingfile" help:"The bundle, relay-ID-YYYY-MM.zip."`
	trust  `embed:""`
	Hour   string `required:"" placeholder:"TIME" help:"The hour, such as 2026-11-03T14:00:00Z."`
	JSON   bool   `help:"Print JSON."`
}

// explanation is who saw what in an hour, and what proves it.
type explanation struct {
	Relay    string            `json:"relay"`
	Hour     bounty.HourReport `json:"hour"`
	Why      string            `json:"why"`
	Notes    []bounty.Note     `json:"notes"`
	Monitors []testimony       `json:"monitors"`
}

type testimony struct {
	Monitor   string             `json:"monitor"`
	Operator  string             `json:"operator"`
	Vote      string             `json:"vote"`
	State     evidence.State     `json:"state,omitempty"` // of the hour in its log
	Due       string             `json:"due,omitempty"`   // when the first attempt was, if the log shows it (R2)
	PlanFault string             `json:"plan_fault,omitempty"`
	Attempts  []evidence.Attempt `json:"attempts"`
	Vouchers  []string           `json:"vouchers"`
	Software  string             `json:"software,omitempty"`
	Clock     *evidence.Clock    `json:"clock,omitempty"`  // how the monitor's went in the hour (R9)
	Missed    int64              `json:"missed,omitempty"` // attempts on all relays for which it had no place
	SealedAt  string             `json:"sealed_at,omitempty"`
	Leaf      string             `json:"records_root,omitempty"` // root of the hour's records, in the log's leaf
	LogSize   int64              `json:"log_size,omitempty"`
	LogRoot   string             `json:"log_root,omitempty"`
	Cosigned  []cosigned         `json:"cosigned"`
}

type cosigned struct {
	Witness string `json:"witness"`
	At      string `json:"at"`
	After   string `json:"after_the_hour"`
}

func (c *explainCmd) Run(out *cli.IO) error {
	hour, err := evidence.HourGiven(c.Hour)
	if err != nil {
		return cli.BadInput(fmt.Errorf("--hour: %w", err))
	}
	res, done, err := c.open(c.Bundle)
	if err != nil {
		return err
	}
	defer done()
	if !res.Verdict.Month.Contains(hour) {
		return cli.BadInput(fmt.Errorf("--hour: %s is not in %s, the month of this bundle", hour, res.Verdict.Month))
	}
	e, err := explain(res, hour)
	if err != nil {
		return badBundle(c.Bundle, err)
	}
	if c.JSON {
		return out.JSON(e)
	}
	e.print(out.Stdout)
	return nil
}

func explain(res bundle.Result, hour evidence.Hour) (explanation, error) {
	v, roster := res.Counts(), res.Case.Roster
	relay := roster.Relay(v.Relay.PeerID)
	e := explanation{Relay: relay.PeerID, Notes: []bounty.Note{}, Monitors: []testimony{}}
	for _, h := range v.EveryHour() {
		if h.Hour == hour {
			e.Hour = h
		}
	}
	e.Why = whyOf(e.Hour)
	for _, n := range v.Notes {
		if n.From <= hour && hour < n.Until {
			e.Notes = append(e.Notes, n)
		}
	}
	read := map[string]testimony{} // by the log's key; the logs are gone through once
	for _, log := range res.Case.Logs {
		t := testimony{Attempts: []evidence.Attempt{}, Vouchers: []string{}, Cosigned: []cosigned{}}
		if err := t.read(roster, log, hour); err != nil {
			return e, err
		}
		read[log.Key] = t
	}
	for i := range roster.Monitors {
		m := &roster.Monitors[i]
		if !m.Holds(hour) {
			continue
		}
		t, ok := read[m.LogKey]
		if !ok {
			t = testimony{Attempts: []evidence.Attempt{}, Vouchers: []string{}, Cosigned: []cosigned{}}
		}
		t.Monitor, t.Operator = m.Name, m.Operator
		t.Vote = e.Hour.Votes[m.Name]
		if e.Hour.Tally.Of > 0 && t.Vote == "" {
			t.Vote = bounty.NotDue.String() + ": " + bounty.NotDue.Meaning()
		}
		if m.Recused(relay) {
			t.Vote = "recused: run by the relay's operator (R7)"
		}
		e.Monitors = append(e.Monitors, t)
	}
	return e, nil
}

// read adds what the monitor's log holds of the hour.
func (t *testimony) read(roster *bounty.Roster, log bounty.Log, hour evidence.Hour) error {
	month, err := log.Read(func(h evidence.VerifiedHour) error {
		if h.Header.Hour == hour {
			t.sealed(roster, &h)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if t.State != "" {
		t.LogSize, t.LogRoot = month.Size, month.Root.String()
	}
	return nil
}

// sealed adds what stands in the hour's block.
func (t *testimony) sealed(roster *bounty.Roster, h *evidence.VerifiedHour) {
	t.State, t.Software, t.SealedAt = h.Header.State, h.Header.Software, h.Header.SealedAt.String()
	t.Clock, t.Missed = &h.Header.Clock, h.Header.Missed
	t.Leaf = h.Header.Root.String()
	if h.Record != nil {
		t.Attempts = h.Record.Attempts
	}
	t.PlanFault = h.PlanFault
	if !h.Due.IsZero() {
		t.Due = evidence.TimeOf(h.Due).String()
	}
	for _, v := range h.Vouchers {
		words := string(v.State)
		if v.Reason != "" {
			words += ": " + v.Reason
		}
		t.Vouchers = append(t.Vouchers, words)
	}
	for _, c := range h.Cosigned {
		t.Cosigned = append(t.Cosigned, cosigned{witnessName(roster, c.Witness), evidence.TimeOf(c.At).String(), c.At.Sub(h.Header.Hour.End()).Round(time.Second).String()})
	}
}

func witnessName(roster *bounty.Roster, key string) string {
	for _, m := range roster.Monitors {
		if m.WitnessKey == key {
			return m.Name
		}
	}
	for _, w := range roster.Witnesses {
		if w.Key == key {
			return w.Name
		}
	}
	return key
}

// whyOf says by which rule the hour counts as it does.
func whyOf(h bounty.HourReport) string {
	t := h.Tally
	if t.Of > 0 {
		h.Tally.Of = 0
		return fmt.Sprintf("the hour's drand round chose %d of %d monitors (R21): %s", t.Bench, t.Of, whyOf(h))
	}
	switch {
	case h.State == bounty.NotEnrolled:
		return "the relay was not enrolled in this hour (R10)"
	case h.State == bounty.Remaining:
		return "the hour had not ended when this was judged (R10)"
	case h.Busy:
		return fmt.Sprintf("%d up and %d busy of %d make BUSY, which needs %d; it counts as %s by its place in the month (R8)", t.Up, t.Busy, t.Bench, t.Quorum(), h.State)
	case t.Bench == 0:
		return "no monitor was in force that may judge this relay (R7)"
	case h.State == bounty.StateUp:
		return fmt.Sprintf("%d of %d monitors saw it up, %d are needed (R7)", t.Up, t.Bench, t.Quorum())
	case h.State == bounty.StateDown:
		return fmt.Sprintf("%d of %d monitors saw it down, %d are needed (R7)", t.Down, t.Bench, t.Quorum())
	default:
		return fmt.Sprintf("%d up, %d down and %d busy of %d: no %d of them agree (R7)", t.Up, t.Down, t.Busy, t.Bench, t.Quorum())
	}
}

// plain keeps what a relay or a monitor wrote from steering the terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

func (e explanation) print(w io.Writer) {
	fmt.Fprintf(w, "relay %s\nhour  %s: %s", e.Relay, e.Hour.Hour, e.Hour.State)
	if e.Hour.Grade != "" {
		fmt.Fprintf(w, ", grade %s", e.Hour.Grade)
	}
	if e.Hour.Disputed {
		fmt.Fprint(w, ", disputed: the relay signed for a monitor in this hour")
	}
	fmt.Fprintf(w, "\nwhy   %s\n", e.Why)
	for _, n := range e.Notes {
		fmt.Fprintf(w, "note  %s: %s\n", n.Kind, n.Text)
	}
	for _, t := range e.Monitors {
		fmt.Fprintf(w, "\n%s (%s): %s\n", t.Monitor, t.Operator, t.Vote)
		if t.Due != "" {
			fmt.Fprintf(w, "  by its plan, which nobody else knew, the first attempt was due at %s\n", t.Due)
		}
		if t.PlanFault != "" {
			fmt.Fprintf(w, "  nothing proves when the first attempt was due (R2): %s\n", t.PlanFault)
		}
		if t.Clock != nil {
			for _, step := range t.Clock.Steps {
				fmt.Fprintf(w, "  its clock was set by %+.1f s, to %s (R9)\n", float64(step.ByMS)/1000, step.At)
			}
		}
		if t.Missed > 0 {
			fmt.Fprintf(w, "  it was overloaded: %d attempts on all its relays together were not made\n", t.Missed)
		}
		for i, a := range t.Attempts {
			fmt.Fprintf(w, "  attempt at %s, level %d\n", a.Started, a.Level)
			if a.Stepped {
				fmt.Fprintln(w, "    the monitor's clock was set, or its machine slept, meanwhile: it counts for nothing (R9)")
			}
			for _, r := range a.Rungs {
				fmt.Fprintf(w, "    %-10s %-8s %8.1f ms  %s\n", plain(r.Name), r.Outcome, float64(r.DurationUS)/1000, plain(strings.TrimSpace(string(r.Class)+" "+r.Detail)))
			}
			for _, l := range a.Facts.Lookups {
				fmt.Fprintf(w, "    of the name %s says: %s\n", plain(l.Resolver), plain(l.Words()))
			}
			passed := 0
			var sent, resent int64
			for _, c := range a.Controls {
				sent, resent = sent+c.Sent, resent+c.Resent
				if c.Outcome == evidence.OK {
					passed++
				}
			}
			if len(a.Controls) > 0 {
				fmt.Fprintf(w, "    controls   %d of %d passed, %d of %d packets to them were sent again\n", passed, len(a.Controls), resent, sent)
			}
			if i < len(t.Vouchers) {
				fmt.Fprintf(w, "    the relay's signature for this hour: %s\n", t.Vouchers[i])
			}
		}
		if len(t.Attempts) == 0 {
			fmt.Fprintln(w, "  no attempt in its log")
		}
		if t.SealedAt != "" {
			fmt.Fprintf(w, "  sealed %s", t.SealedAt)
			if t.State != "" {
				fmt.Fprintf(w, " (%s), records root %s\n  under log root %s of %d hours", t.State, t.Leaf, t.LogRoot, t.LogSize)
			}
			fmt.Fprintln(w)
		}
		for _, c := range t.Cosigned {
			fmt.Fprintf(w, "  cosigned by %s at %s, %s after the hour\n", c.Witness, c.At, c.After)
		}
	}
}

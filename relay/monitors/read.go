package monitors

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// What is kept of an answer at the most.
const (
	maxNumber   = 1_000_000
	maxName     = 64  // bytes
	maxWords    = 300 // bytes
	maxCostly   = 5
	maxWarnings = 8
)

// answer is what is read of a monitor's answer; what else stands there is not looked at.
type answer struct {
	Monitor string `json:"monitor"`
	Network string `json:"network"`
	PeerID  string `json:"peer_id"`
	Count   *struct {
		Month     string `json:"month"`
		Up        int    `json:"up"`
		Down      int    `json:"down"`
		Unknown   int    `json:"unknown"`
		Remaining int    `json:"remaining"`
		Required  int    `json:"required"`
		Needed    int    `json:"needed"`
		Spare     int    `json:"spare"`
	} `json:"count"`
	// Forecast is nil from a monitor that makes none.
	Forecast *struct {
		Possible    int       `json:"possible"`
		Slack       int       `json:"slack"`
		Used        int       `json:"used"`
		Left        int       `json:"left"`
		UsedPercent int       `json:"used_percent"`
		RunsOut     time.Time `json:"runs_out"`
		Costly      []struct {
			From  hour   `json:"from"`
			Until hour   `json:"until"`
			Hours int    `json:"hours"`
			Why   string `json:"why"`
		} `json:"costly"`
	} `json:"forecast"`
	Warnings []status.MonitorWarning `json:"warnings"`
}

// hour is the start of an hour, as evidence has it (2026-11-03T14:00:00Z) or shorter
// (2026-11-03T14).
type hour time.Time

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hour) UnmarshalText(b []byte) error {
	t, err := time.Parse("2006-01-02T15", string(b))
	if err != nil {
		t, err = time.Parse(time.RFC3339, string(b))
	}
	*h = hour(t.UTC())
	return err
}

var (
	monthForm = regexp.MustCompile(`^20[0-9]{2}-(0[1-9]|1[0-2])$`)
)

// read makes a claim about the relay of a monitor's answer.
func read(data []byte, relay string) (*status.Claim, error) {
	var a answer
	if err := json.Unmarshal(data, &a); err != nil {
		return nil, fmt.Errorf("what it answers is no count of a relay's month: %w", err)
	}
	switch {
	case a.PeerID != relay:
		return nil, errors.New("it answers about another relay")
	case a.Count == nil || !monthForm.MatchString(a.Count.Month):
		return nil, errors.New("what it answers counts no month")
	}
	c := a.Count
	claim := &status.Claim{
		Name: clean(a.Monitor, maxName), Network: clean(a.Network, maxName), Month: c.Month,
		Up: c.Up, Down: c.Down, Unknown: c.Unknown, Required: c.Required, Needed: c.Needed, Left: c.Spare, Possible: c.Up + c.Unknown + c.Remaining,
	}
	if f := a.Forecast; f != nil {
		claim.Possible = f.Possible
		claim.Slack, claim.Used, claim.Left, claim.UsedPercent, claim.RunsOut = f.Slack, f.Used, f.Left, f.UsedPercent, f.RunsOut.UTC()
		for _, t := range f.Costly {
			claim.Costly = append(claim.Costly, status.Costly{From: time.Time(t.From), Until: time.Time(t.Until), Hours: t.Hours, Why: clean(t.Why, maxWords)})
		}
		slices.SortStableFunc(claim.Costly, func(a, b status.Costly) int { return cmp.Compare(b.Hours, a.Hours) })
		claim.Costly = claim.Costly[:min(len(claim.Costly), maxCostly)]
	} else {
		claim.Slack = c.Up + c.Down + c.Unknown + c.Remaining - c.Required
		claim.Used = claim.Slack - claim.Left
		if claim.Slack > 0 {
			claim.UsedPercent = int(100 * int64(claim.Used) / int64(claim.Slack))
		}
	}
	for _, w := range a.Warnings {
		if len(claim.Warnings) == maxWarnings || !slices.Contains(alert.AboutRelays, w.Name) {
			continue
		}
		if w.Severity != "critical" {
			w.Severity = "warning"
		}
		w.Words = clean(w.Words, maxWords)
		claim.Warnings = append(claim.Warnings, w)
	}
	return claim, inRange(claim, c.Remaining)
}

// inRange refuses numbers that count no hours of a month, and times that are not in it.
func inRange(c *status.Claim, more ...int) error {
	begins, err := time.Parse("2006-01", c.Month)
	if err != nil {
		return fmt.Errorf("the month that it counts: %w", err)
	}
	const day = 24 * time.Hour
	of := func(t time.Time) bool {
		return t.IsZero() || t.After(begins.Add(-day)) && t.Before(begins.AddDate(0, 1, 0).Add(day))
	}
	ok := of(c.RunsOut)
	for _, t := range c.Costly {
		ok = ok && of(t.From) && of(t.Until)
	}
	if !ok {
		return fmt.Errorf("times stand in its answer that are not of %s", c.Month)
	}
	all := append(more, c.Up, c.Down, c.Unknown, c.Required, c.Needed, c.Possible, c.Slack, c.Used, c.Left, c.UsedPercent)
	for _, t := range c.Costly {
		all = append(all, t.Hours)
	}
	for _, n := range all {
		if n < -maxNumber || n > maxNumber {
			return fmt.Errorf("%d stands in its answer where hours are counted", n)
		}
	}
	return nil
}

// clean makes one line of what a stranger wrote, without what steers a terminal or the
// direction of letters, and not longer than most bytes.
func clean(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) { // Go's: letters, marks, numbers, signs and the space alone
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

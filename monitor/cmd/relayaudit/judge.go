package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

type judgeCmd struct {
	Votes  string `arg:"" placeholder:"VOTES.jsonl" help:"One vote a line: {\"relay\":\"ID\",\"monitor\":\"m1\",\"hour\":\"2026-11-03T14:00:00Z\",\"vote\":\"up|down|busy|unknown\"}. A missing line is unknown. \"-\" reads stdin."`
	Rules  string `type:"existingfile" placeholder:"FILE" help:"Rules other than the defaults."`
	Month  string `required:"" placeholder:"YYYY-MM" help:"The month (UTC)."`
	Roster string `required:"" type:"existingfile" placeholder:"FILE" help:"YAML: monitors with name, from, until; relays with peer_id, enrolled; both may have an operator."`
	Now    string `placeholder:"TIME" help:"Judge as of this time (RFC 3339); without it, when the verdict is final."`
	JSON   bool   `help:"Print one JSON object a relay and line."`

	stdin io.Reader
}

// judged is what judge says of a relay: uptime alone, none of the other rules.
type judged struct {
	Relay   string         `json:"relay"`
	Month   evidence.Month `json:"month"`
	Uptime  bounty.Outcome `json:"uptime"`
	Final   bool           `json:"final"`
	Hours   bounty.Hours   `json:"hours"`
	Reasons []string       `json:"reasons"`
}

func (c *judgeCmd) Run(out *cli.IO) error {
	results, err := c.judge()
	if err != nil {
		return cli.BadInput(err)
	}
	w := bufio.NewWriter(out.Stdout)
	if c.JSON {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		for _, r := range results {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return w.Flush()
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "RELAY\tUPTIME\tFINAL\tUP\tDOWN\tBUSY\tUNKNOWN\tNOT ENROLLED\tREMAINING\tTOTAL\tWHY")
	for _, r := range results {
		h := r.Hours
		final := "yes"
		if !r.Final {
			final = "no"
		}
		for i, reason := range r.Reasons {
			if i == 0 {
				fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", r.Relay, r.Uptime, final,
					h.Up, h.Down, h.Busy, h.Unknown, h.NotEnrolled, h.Remaining, h.Total, reason)
			} else {
				fmt.Fprintf(t, "\t\t\t\t\t\t\t\t\t\t%s\n", reason)
			}
		}
	}
	return errors.Join(t.Flush(), w.Flush())
}

func (c *judgeCmd) judge() ([]judged, error) {
	month, err := evidence.ParseMonth(c.Month)
	if err != nil {
		return nil, fmt.Errorf("--month: %w", err)
	}
	rules := bounty.Defaults()
	if c.Rules != "" {
		if rules, err = readRules(c.Rules); err != nil {
			return nil, err
		}
	}
	now := month.End().Start().Add(rules.FinalAfter)
	if c.Now != "" {
		if now, err = time.Parse(time.RFC3339, c.Now); err != nil {
			return nil, fmt.Errorf("--now %q: want a time such as 2026-11-20T12:00:00Z", c.Now)
		}
	}
	file, err := bounded.ReadFile(c.Roster, bounty.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("read the roster: %w", err)
	}
	roster, err := bounty.ParseTerms(c.Roster, file)
	if err != nil {
		return nil, err
	}
	in, name := c.stdin, "stdin"
	if c.Votes != "-" {
		f, err := os.Open(c.Votes)
		if err != nil {
			return nil, fmt.Errorf("open the votes: %w", err)
		}
		defer f.Close()
		in, name = f, c.Votes
	}
	votes, err := readVotes(name, in, roster, month)
	if err != nil {
		return nil, err
	}
	var out []judged
	for i := range roster.Relays {
		relay := &roster.Relays[i]
		sheet := votes[relay.PeerID]
		if sheet == nil {
			sheet = bounty.NewSheet(month)
		}
		u := bounty.CountUptime(rules, roster, relay, sheet, now)
		out = append(out, judged{relay.PeerID, month, u.Outcome, u.Final, u.Hours, u.Reasons})
	}
	return out, nil
}

func readRules(name string) (*bounty.Rules, error) {
	file, err := bounded.ReadFile(name, bounty.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	rules, _, err := bounty.OpenRules(name, file, "")
	return rules, err
}

// voteLine is a line of the votes file.
type voteLine struct {
	Relay   *string `json:"relay"`
	Monitor *string `json:"monitor"`
	Hour    *string `json:"hour"`
	Vote    *string `json:"vote"`
}

const (
	maxLine   = 64 << 10
	maxFaults = 20
)

// readVotes reads a line a vote. Its error names every line that is wrong, up to
// the first maxFaults.
func readVotes(name string, in io.Reader, roster *bounty.Roster, month evidence.Month) (map[string]*bounty.Sheet, error) {
	b := ballotBox{roster: roster, month: month, sheets: map[string]*bounty.Sheet{}, relays: map[string]*bounty.Relay{}, hours: map[string]evidence.Hour{}}
	for i := range roster.Relays {
		b.relays[roster.Relays[i].PeerID] = &roster.Relays[i]
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, maxLine), maxLine)
	var faults []error
	n := 0
	for lines.Scan() {
		n++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		if err := b.cast(lines.Bytes()); err != nil {
			faults = append(faults, fmt.Errorf("%s:%d: %w", name, n, err))
			if len(faults) == maxFaults {
				faults = append(faults, fmt.Errorf("%s: not read beyond line %d", name, n))
				break
			}
		}
	}
	if err := lines.Err(); err != nil {
		faults = append(faults, fmt.Errorf("%s:%d: %w", name, n+1, err))
	}
	return b.sheets, errors.Join(faults...)
}

// ballotBox takes votes and refuses those that cannot be.
type ballotBox struct {
	roster *bounty.Roster
	month  evidence.Month
	sheets map[string]*bounty.Sheet
	relays map[string]*bounty.Relay
	hours  map[string]evidence.Hour // spellings that were parsed
}

// parseLine reads a line. Millions of them have the usual order and no escapes,
// and take the short way.
func parseLine(line []byte) (voteLine, error) {
	if v, ok := usualLine(string(line)); ok {
		return v, nil
	}
	var v voteLine
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return v, fmt.Errorf("want an object with relay, monitor, hour and vote: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return v, errors.New("want one object a line: there is more behind it")
	}
	if v.Relay == nil || v.Monitor == nil || v.Hour == nil || v.Vote == nil {
		return v, errors.New("want all of relay, monitor, hour and vote")
	}
	return v, nil
}

// usualLine reads exactly {"relay":"..","monitor":"..","hour":"..","vote":".."}.
func usualLine(s string) (v voteLine, ok bool) {
	values := [4]string{}
	for i, before := range [...]string{`{"relay":"`, `","monitor":"`, `","hour":"`, `","vote":"`} {
		if i > 0 {
			if values[i-1], s, ok = strings.Cut(s, before); !ok {
				return v, false
			}
		} else if s, ok = strings.CutPrefix(s, before); !ok {
			return v, false
		}
	}
	if values[3], ok = strings.CutSuffix(s, `"}`); !ok {
		return v, false
	}
	for _, value := range values {
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r == utf8.RuneError }) {
			return v, false
		}
	}
	return voteLine{&values[0], &values[1], &values[2], &values[3]}, true
}

func (b *ballotBox) cast(line []byte) error {
	v, err := parseLine(line)
	if err != nil {
		return err
	}
	var value bounty.Value
	if err := value.UnmarshalText([]byte(*v.Vote)); err != nil {
		return err
	}
	h, known := b.hours[*v.Hour]
	if !known {
		if h, err = evidence.ParseHour(*v.Hour); err != nil {
			return err
		}
		if !b.month.Contains(h) {
			return fmt.Errorf("hour %s is not in %s", h, b.month)
		}
		b.hours[*v.Hour] = h
	}
	relay := b.relays[*v.Relay]
	if relay == nil {
		return fmt.Errorf("relay %q is not in the roster", *v.Relay)
	}
	if b.roster.Monitor(*v.Monitor, h) == nil {
		return b.whyNoMonitor(*v.Monitor, h)
	}
	if !relay.EnrolledAt(h) {
		return fmt.Errorf("relay %s is not enrolled in hour %s: its term begins %s%s", relay.PeerID, h, relay.Enrolled, untilWords(relay.Until))
	}
	sheet := b.sheets[relay.PeerID]
	if sheet == nil {
		sheet = bounty.NewSheet(b.month)
		b.sheets[relay.PeerID] = sheet
	}
	if sheet.Vote(*v.Monitor, h).Why != bounty.Missing {
		return fmt.Errorf("monitor %s has voted on relay %s for hour %s before", *v.Monitor, relay.PeerID, h)
	}
	sheet.Set(*v.Monitor, h, bounty.Vote{Value: value})
	return nil
}

func (b *ballotBox) whyNoMonitor(name string, h evidence.Hour) error {
	for _, m := range b.roster.Monitors {
		if m.Name == name {
			return fmt.Errorf("monitor %s is not in force in hour %s: its term begins %s%s", name, h, m.From, untilWords(m.Until))
		}
	}
	return fmt.Errorf("monitor %q is not in the roster", name)
}

func untilWords(until *evidence.Hour) string {
	if until == nil {
		return ""
	}
	return fmt.Sprintf(" and ends %s", *until)
}

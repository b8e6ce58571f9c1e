package site

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/chart"
	"github.com/psf-relay/relay-appliance/monitor/decision"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// relayPage is what its template sees.
type relayPage struct {
	*bounty.Verdict
	Row        *row // nil: the month's table does not have it
	Look       look
	Answers    []bundle.Answer
	Caution    string
	Heat       chart.Heatmap
	Votes      bundle.Votes
	Runs       []run
	Decided    *decision.Month // nil: there is no log of decisions
	Appeals    []appeal
	Doubts     []string // about the decision
	BundleName string
	BundleAt   string // empty: nobody says where it is
}

// appeal is one whose text keeps its lines.
type appeal struct {
	*decision.Appealed
	Text string
}

// run are hours that follow each other and are alike.
type run struct {
	bounty.HourReport
	Hours []evidence.Hour
	Said  []said
}

// said is a vote and who cast it.
type said struct {
	Vote  string
	Names []string
	More  int // who else did
	All   int // so many, and nobody said anything else
}

// mostNames are named for one vote.
const mostNames = 12

// Span is when it was.
func (r run) Span() bounty.Span {
	return bounty.Span{From: r.Hours[0], Until: r.Hours[len(r.Hours)-1] + 1}
}

// Class is the style of what the hours count as.
func (r run) Class() string {
	if r.State == bounty.StateUp || r.State == bounty.StateDown {
		return r.State.String()
	}
	return "unknown"
}

// Sign tells them apart without colour.
func (r run) Sign() string {
	switch r.State {
	case bounty.StateUp:
		return "▲"
	case bounty.StateDown:
		return "▼"
	}
	return "·"
}

// anchor names an hour's place on the page.
func anchor(h evidence.Hour) string { return "h" + h.Start().Format("2006-01-02T15") }

func runsOf(v *bounty.Verdict) (runs []run) {
	for _, h := range v.EveryHour() {
		if h.State == bounty.NotEnrolled || h.State == bounty.Remaining {
			continue
		}
		at := h.Hour
		h.Hour = 0
		if n := len(runs); n > 0 && runs[n-1].Span().Until == at && reflect.DeepEqual(runs[n-1].HourReport, h) {
			runs[n-1].Hours = append(runs[n-1].Hours, at)
			continue
		}
		runs = append(runs, run{h, []evidence.Hour{at}, saidOf(h.Votes)})
	}
	return runs
}

// lead takes each hour to its run: a month without trouble has few links to get past.
func (p *relayPage) lead() func(bounty.HourReport) (href, words string) {
	of := map[evidence.Hour]run{}
	for _, r := range p.Runs {
		for _, h := range r.Hours {
			of[h] = r
		}
	}
	return func(h bounty.HourReport) (href, words string) {
		r := of[h.Hour]
		return "#" + anchor(r.Hours[0]), r.Span().String() + ": " + bundle.HourWords(h)
	}
}

// saidOf puts the monitors together that said the same.
func saidOf(votes map[string]string) (list []said) {
	by := map[string][]string{}
	for name, vote := range votes {
		by[vote] = append(by[vote], cut(name, mostName))
	}
	rank := func(vote string) int {
		value, _, _ := strings.Cut(vote, ": ")
		return slices.Index([]string{bounty.Up.String(), bounty.Down.String(), bounty.Busy.String(), bounty.Unknown.String()}, value)
	}
	for vote, names := range by {
		if len(by) == 1 && len(names) > 1 {
			return []said{{Vote: vote, All: len(names)}}
		}
		slices.Sort(names)
		more := max(0, len(names)-mostNames)
		list = append(list, said{Vote: vote, Names: names[:len(names)-more], More: more})
	}
	slices.SortFunc(list, func(a, b said) int {
		return cmp.Or(cmp.Compare(rank(a.Vote), rank(b.Vote)), strings.Compare(a.Vote, b.Vote))
	})
	return list
}

// relay makes a file of a relay's month.
func (s *site) relay(ctx context.Context, t *month, name string) (file, error) {
	id, kind, _ := strings.Cut(name, ".")
	if !isID(id) || kind != "html" && kind != "json" && kind != "svg" {
		return file{}, fs.ErrNotExist
	}
	row := t.byID[id]
	if kind == "svg" {
		if row == nil {
			return file{}, fs.ErrNotExist
		}
		return file{svg, row.badge(t.Month)}, nil
	}
	v, err := s.reader.Verdict(ctx, t.Month, id)
	if err == nil && v == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return file{}, fmt.Errorf("the verdict of %s in %s: %w", id, t.Month, err)
	}
	if kind == "json" {
		b, err := evidence.Encode(v)
		return file{"application/json", b}, err
	}
	v = cleaned(v)
	p := relayPage{Verdict: v, Row: row, Answers: bundle.Summary(v), Votes: bundle.VotesOf(v), Runs: runsOf(v), BundleName: bundle.Name(id, t.Month)}
	p.Caution = bundle.Caution(p.Answers)
	p.Heat = bundle.Heatmap(v, p.lead())
	p.Look = standing(v.Result).Look()
	if row != nil {
		p.Look = row.Standing.Look()
	}
	if s.Bundles != "" {
		p.BundleAt = s.Bundles + p.BundleName
		if !strings.Contains(s.Bundles, "://") && !strings.HasPrefix(s.Bundles, "/") {
			p.BundleAt = "../../" + p.BundleAt
		}
	}
	if row != nil && row.Decided != nil {
		p.decided(row.Decided)
	}
	operator := cut(v.Relay.Operator, mostName)
	return s.draw("relay.html", "../../", fmt.Sprintf("%s, relay %s, %s", operator, short(id), t.Month), p)
}

// decided shows what the log says of the month, and where it does not go with the verdict.
func (p *relayPage) decided(m *decision.Month) {
	p.Decided = cleaned(m)
	for i, a := range p.Decided.Appeals {
		p.Appeals = append(p.Appeals, appeal{a, lines(m.Appeals[i].Says.Text)})
	}
	d := m.Standing()
	if d == nil {
		return
	}
	doubt := func(format string, args ...any) { p.Doubts = append(p.Doubts, fmt.Sprintf(format, args...)) }
	if string(d.Verdict) != string(p.Result) {
		doubt("The decision rests on the verdict %s. From the logs that are known today the verdict is %s.", d.Verdict, p.Result)
	}
	if d.Pay != nil && d.Pay.Payout != p.Relay.Payout {
		doubt("The address that was paid is not the one in the roster of this page.")
	}
}

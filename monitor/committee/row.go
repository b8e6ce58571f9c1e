package committee

import (
	"context"
	"strings"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Row is a relay's line in the table of a month.
type Row struct {
	Relay    string        `json:"relay"` // peer ID
	Operator string        `json:"operator"`
	Region   string        `json:"region"`
	Domain   string        `json:"domain"`
	AsOf     evidence.Time `json:"as_of"`
	Result   bounty.Result `json:"result"`
	Final    bool          `json:"final"`
	Headline string        `json:"headline"`
	Hours    bounty.Hours  `json:"hours"`
	Coverage int           `json:"coverage_percent"`
	Signed   int           `json:"signed_hours"`
	Assured  int           `json:"assured_hours"`
	Required int           `json:"hours_required"`
	Left     int           `json:"hours_left"` // that may still be lost; below 0: the month cannot be won
	RunsOut  evidence.Time `json:"runs_out,omitzero"`
	Payout   string        `json:"payout"`
	Rules    []RuleOutcome `json:"rules"` // in the order of their numbers
}

// RuleOutcome is what one rule says of the month.
type RuleOutcome struct {
	Rule    string         `json:"rule"` // "R8"
	Outcome bounty.Outcome `json:"outcome"`
}

// RowOf draws a line from a verdict, by whose rules it was judged.
func RowOf(v *bounty.Verdict, rules *bounty.Rules) Row {
	f := v.Forecast(rules)
	r := Row{
		Relay: v.Relay.PeerID, Operator: v.Relay.Operator, Region: v.Relay.Region, Domain: domainOf(v.Relay.WSS),
		AsOf: v.AsOf, Result: v.Result, Final: v.Final, Headline: v.Headline, Hours: v.Hours, Coverage: v.Coverage,
		Signed: v.Signed, Assured: v.Assured, Required: rules.HoursRequired, Left: f.Left, RunsOut: f.RunsOut, Payout: v.Relay.Payout,
		Rules: []RuleOutcome{},
	}
	for _, finding := range v.Findings {
		r.Rules = append(r.Rules, RuleOutcome{finding.Rule, finding.Outcome})
	}
	return r
}

// domainOf is the name in a relay's address for browsers.
func domainOf(wss string) string {
	parts := strings.Split(wss, "/")
	for i, p := range parts[:max(len(parts)-1, 0)] {
		if strings.HasPrefix(p, "dns") {
			return parts[i+1]
		}
	}
	return ""
}

// Vantage is a monitor of a month, as far as its log was taken in.
type Vantage struct {
	Monitor   string        `json:"monitor"`
	Operator  string        `json:"operator"`
	Committee bool          `json:"committee"`
	Place     *bounty.Place `json:"place,omitempty"`
	Key       string        `json:"key"` // its log's verifier key
	// Reaches is the first hour that its log does not tell, as far as it was taken in; nil:
	// nothing of it is known.
	Reaches *evidence.Hour `json:"reaches,omitempty"`
	// Void says why nothing in it counts; Trouble why no more of it was taken in.
	Void    string `json:"void,omitempty"`
	Trouble string `json:"trouble,omitempty"`
}

// Reader is what the committee's site needs to know.
type Reader interface {
	// Months are those of which anything is known, the newest first.
	Months(ctx context.Context) ([]evidence.Month, error)
	// Table has all relays of a month, in the order of their peer IDs.
	Table(ctx context.Context, m evidence.Month) ([]Row, error)
	// Verdict is that of one relay; an error that wraps fs.ErrNotExist: there is none.
	Verdict(ctx context.Context, m evidence.Month, relay string) (*bounty.Verdict, error)
	// Vantages are the monitors of a month, in the order of the roster.
	Vantages(ctx context.Context, m evidence.Month) ([]Vantage, error)
}

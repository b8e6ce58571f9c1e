package bounty

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Forecast says how a month can still end (rule R10). The slack of a month are the hours
// that may be lost in it: those for which the relay is enrolled, less those required. An
// hour that is down uses up an hour of it. An unknown hour does not: whether it is lost,
// the other monitors' votes decide.
type Forecast struct {
	// Possible is how many hours are up if all that are unknown or to come will be.
	Possible int `json:"possible"`
	// Slack is below 0 if the relay was enrolled too late to reach the hours required.
	Slack int `json:"slack"`
	// Used and Left make Slack; Left is below 0 if the month can no longer be won.
	Used        int `json:"used"`
	Left        int `json:"left"`
	UsedPercent int `json:"used_percent"`
	// RunsOut is when the slack is used up if the relay goes on losing hours as in the last
	// days; absent: not before the month ends.
	RunsOut evidence.Time `json:"runs_out,omitzero"`
	// PaceUnknown says that of most of the last days nothing is known: no RunsOut then does
	// not say that the relay loses fewer hours.
	PaceUnknown bool `json:"-"`
	// Costly are the longest runs of hours that are down, Causes what made most hours down.
	Costly []Loss  `json:"costly"`
	Causes []Cause `json:"causes"`
}

// Loss is a run of hours that are down for one reason.
type Loss struct {
	Span
	Hours int    `json:"hours"`
	Why   string `json:"why"`
}

// Cause is a reason for which hours are down.
type Cause struct {
	Why   string `json:"why"`
	Hours int    `json:"hours"`
}

const (
	// paceHours is how far back the pace is measured, paceLeast the shortest time over which
	// it is: a single bad hour on the first day makes no pace.
	paceHours, paceLeast = 7 * 24, 3 * 24
	// paceDown is how many hours must be down to make a pace.
	paceDown = 6
	// maxCostly bounds each list.
	maxCostly = 3
)

// Forecast looks ahead from hour now, the current one. why says what made an hour down.
func (u *Uptime) Forecast(rules *Rules, now evidence.Hour, why func(evidence.Hour) string) Forecast {
	h := u.Hours
	f := Forecast{Possible: h.Up + h.Unknown + h.Remaining, Slack: h.Total - h.NotEnrolled - rules.HoursRequired, Used: h.Down}
	f.Left = f.Slack - f.Used
	switch {
	case f.Slack > 0:
		f.UsedPercent = min(100, 100*f.Used/f.Slack)
	case f.Used > 0:
		f.UsedPercent = 100
	}
	f.RunsOut, f.PaceUnknown = u.runsOut(f.Left, now)
	f.Costly, f.Causes = u.losses(why)
	return f
}

// runsOut is when so many hours more are lost, at the pace of the last days; unsure says
// that most of those are not known.
func (u *Uptime) runsOut(left int, now evidence.Hour) (at evidence.Time, unsure bool) {
	due, down, unknown := 0, 0, 0
	var month evidence.Month
	for _, c := range u.Counts {
		month = c.Hour.Month()
		if c.Hour >= now-paceHours && c.State == StateUnknown {
			unknown++
		}
		if c.Hour < now-paceHours || c.State != StateUp && c.State != StateDown {
			continue // of an hour that is not known nothing follows for those to come
		}
		due++
		if c.State == StateDown {
			down++
		}
	}
	if unsure = unknown > due && unknown+due >= paceLeast; down < paceDown || left < 0 {
		return at, unsure
	}
	// One hour more than is left ends it.
	in := time.Duration(left+1) * time.Hour * time.Duration(max(due, paceLeast)) / time.Duration(down)
	if out := now.Start().Add(in); out.Before(month.End().Start()) {
		at = evidence.TimeOf(out)
	}
	return at, unsure
}

// losses are the longest runs of hours that are down, and what cost most hours.
func (u *Uptime) losses(why func(evidence.Hour) string) ([]Loss, []Cause) {
	runs, causes := []Loss{}, []Cause{}
	for _, c := range u.Counts {
		if c.State != StateDown {
			continue
		}
		reason := why(c.Hour)
		if n := len(runs); n > 0 && runs[n-1].Until == c.Hour && runs[n-1].Why == reason {
			runs[n-1].Until++
			runs[n-1].Hours++
		} else {
			runs = append(runs, Loss{Span{c.Hour, c.Hour + 1}, 1, reason})
		}
		i := slices.IndexFunc(causes, func(k Cause) bool { return k.Why == reason })
		if i < 0 {
			i = len(causes)
			causes = append(causes, Cause{Why: reason})
		}
		causes[i].Hours++
	}
	// The latest first among equals: it is the one that somebody still remembers.
	slices.SortStableFunc(runs, func(a, b Loss) int { return cmp.Or(b.Hours-a.Hours, int(b.From-a.From)) })
	slices.SortStableFunc(causes, func(a, b Cause) int { return b.Hours - a.Hours })
	return runs[:min(maxCostly, len(runs))], causes[:min(maxCostly, len(causes))]
}

// Forecast looks ahead in a month that goes on. The verdict must be judged by these rules.
func (v *Verdict) Forecast(rules *Rules) Forecast {
	u := Uptime{Hours: v.Hours}
	reports := v.EveryHour()
	now := v.Month.End()
	for _, h := range reports {
		u.Counts = append(u.Counts, HourCount{Hour: h.Hour, State: h.State})
		if h.State == Remaining {
			now = min(now, h.Hour)
		}
	}
	return u.Forecast(rules, now, func(h evidence.Hour) string {
		return strings.Join(reports[h-v.Month.First()].Causes, ", ")
	})
}

// Words are the forecast in sentences, of a month in which so many hours must be up.
func (f Forecast) Words(required int) (list []string) {
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	switch {
	case f.Slack < 0:
		say("The relay is enrolled for too few hours of the month to reach %d.", required)
	case f.Left < 0:
		say("%d hours are out of reach: %d are down, and %d may be lost.", required, f.Used, f.Slack)
	default:
		say("%d hours must be up, and up to %d can be.", required, f.Possible)
		say("%d hours may be lost; %d are (%d %%), %d are left.", f.Slack, f.Used, f.UsedPercent, f.Left)
	}
	if !f.RunsOut.IsZero() {
		say("At the pace of the last days the month is lost on %s.", f.RunsOut.UTC().Format(time.DateOnly))
	}
	var causes, runs []string
	for _, c := range f.Causes {
		causes = append(causes, fmt.Sprintf("%s %d h", c.Why, c.Hours))
	}
	for _, l := range f.Costly {
		runs = append(runs, l.Span.String())
	}
	if len(causes) > 0 {
		say("What cost hours: %s. The longest times: %s.", strings.Join(causes, ", "), strings.Join(runs, ", "))
	}
	return list
}

// Software applies rule R13 to what one monitor heard in the part of a month that has
// passed: a FAIL says that the month still lacks an hour with a release that is new enough.
func Software(rules *Rules, releases *release.List, month evidence.Month, agents []AgentSeen) Finding {
	return judgeSoftware(rules, releases, month, agents)
}

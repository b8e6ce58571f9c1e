package bounty

import (
	"fmt"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// BrowserRung is the name of the rung that a real browser climbs. It is
// recorded beside the ladder and part of no vote.
const BrowserRung = "browser"

// browserCheck is one look through a real browser.
type browserCheck struct {
	monitor *Monitor
	at      evidence.Time
	ok      bool
}

// BrowserCounts says whether a rung of an attempt in hour h is a look through a real
// browser that says something of the relay, and when it began. The verdict asks, and
// whoever warns of it: so nobody is warned of a look that counts for nothing.
func (r *Rules) BrowserCounts(roster *Roster, relay *Relay, h evidence.Hour, a *evidence.Attempt, rung evidence.Rung) (at evidence.Time, counts bool) {
	if rung.Name != BrowserRung || a.Stepped { // no time in that can be compared (rule R9)
		return at, false
	}
	began, ended := timeIn(a, rung.OffsetUS), timeIn(a, rung.OffsetUS+rung.DurationUS)
	// A browser that fails for want of a line says nothing of the relay (rule R5).
	return evidence.TimeOf(began), rung.Outcome == evidence.OK ||
		rung.Outcome == evidence.Fail && r.lineWorked(roster, relay, h, evidence.WSS, began, ended, a.Controls) == controlsOK
}

// judgeBrowser applies rule R15. A browser look leaves nothing behind that the relay
// signed, so one that failed counts if the committee's own monitor made it, or if
// monitors of two operators made such looks.
func judgeBrowser(rules *Rules, checks []browserCheck, withoutWSS []Span) Finding {
	f := Finding{Rule: "R15", Subject: "browsers"}
	if len(withoutWSS) > 0 {
		f.note(Review, "in %d h that count up no monitor reached the relay as a browser does: %s", count(withoutWSS), words(withoutWSS, 6))
		f.Hours = append(f.Hours, withoutWSS...)
	}
	var (
		failed    int
		open      []browserCheck // failed, and not repeated with success
		operators = map[string]bool{}
		committee bool
	)
	for _, c := range checks {
		if c.ok {
			continue
		}
		failed++
		if !repeated(checks, c, rules.BrowserRepeat) {
			open = append(open, c)
			operators[operatorOf(c.monitor)] = true
			committee = committee || c.monitor.Committee
		}
	}
	for _, c := range open {
		said := fmt.Sprintf("the browser check of %s at %s failed and was not repeated with success within %s", c.monitor.Name, c.at, hoursWords(rules.BrowserRepeat))
		if !committee && len(operators) < 2 {
			f.note(Pass, "one operator's monitors alone, which decide nothing: %s", said)
			continue
		}
		f.note(Review, "%s", said)
		h := evidence.HourOf(c.at.Time)
		f.Hours = addOnce(f.Hours, h)
	}
	if f.Outcome == "" || f.Outcome == Pass {
		what := "no check by a real browser was recorded"
		if len(checks) > 0 {
			what = fmt.Sprintf("%d checks by a real browser, %d failed, of which %d were repeated with success", len(checks), failed, failed-len(open))
		}
		f.Reasons = append([]string{"every hour that counts up has a secure websocket connection as a browser makes it; " + what}, f.Reasons...)
		f.Outcome = Pass
	}
	return f
}

// repeated says whether a check was repeated with success, by the same monitor or by one
// of the committee's.
func repeated(checks []browserCheck, failed browserCheck, within time.Duration) bool {
	for _, c := range checks {
		if c.ok && (c.monitor.Name == failed.monitor.Name || c.monitor.Committee) && c.at.After(failed.at.Time) && !c.at.After(failed.at.Add(within)) {
			return true
		}
	}
	return false
}

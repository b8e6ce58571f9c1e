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
	at evidence.Time
	ok bool
}

// judgeBrowser applies rule R15.
func judgeBrowser(rules *Rules, checks []browserCheck, withoutWSS []Span, now time.Time) Finding {
	f := Finding{Rule: "R15", Subject: "browsers"}
	if len(withoutWSS) > 0 {
		f.note(Review, "in %d h that count up no monitor reached the relay as a browser does: %s", count(withoutWSS), words(withoutWSS, 6))
		f.Hours = append(f.Hours, withoutWSS...)
	}
	failed := 0
	for _, c := range checks {
		if c.ok {
			continue
		}
		failed++
		if !repeated(checks, c.at.Time, rules.BrowserRepeat) {
			h := evidence.HourOf(c.at.Time)
			f.note(Review, "the browser check at %s failed and was not repeated with success within %s", c.at, hoursWords(rules.BrowserRepeat))
			f.Hours = append(f.Hours, Span{h, h + 1})
		}
	}
	if f.Outcome == "" {
		what := "no check by a real browser was recorded"
		if len(checks) > 0 {
			what = fmt.Sprintf("%d checks by a real browser, %d failed and repeated with success", len(checks), failed)
		}
		f.note(Pass, "every hour that counts up has a secure websocket connection as a browser makes it; %s", what)
	}
	return f
}

func repeated(checks []browserCheck, failed time.Time, within time.Duration) bool {
	for _, c := range checks {
		if c.ok && c.at.After(failed) && !c.at.After(failed.Add(within)) {
			return true
		}
	}
	return false
}

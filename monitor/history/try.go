package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// try says what came of attempt i: what failed first, what that means and what to do,
// and whether it was the monitor's own line.
func (s *Story) try(f Facts, i int) Try {
	a := &f.Record.Attempts[i]
	alone := bounty.Alone(f.Rules, f.Roster, f.monitor(), f.Relay, f.Record, i, f.Vouchers)
	t := Try{Started: a.Started, Outcome: evidence.Blind, why: alone.Why}
	switch alone.Value {
	case bounty.Up:
		t.Outcome = evidence.OK
	case bounty.Down:
		t.Outcome = evidence.Fail
	case bounty.Busy:
		t.Outcome = evidence.Busy
	}
	t.Fault = firstFault(a, alone.Causes)
	t.result(f, a)
	if a.Stepped {
		say(&t.Words, "The monitor's clock was set, or its machine slept, while the attempt was under way: it counts for nothing (R9).")
	}
	t.others(a)
	if a.Level > evidence.LevelNone && a.Level < evidence.LevelEchoed {
		say(&t.Words, "The relaying came as far as level %d of %d: %s (R3).", a.Level, evidence.LevelEchoed, levelWords[a.Level])
	}
	if len(a.Facts.Lookups) > 0 {
		var words []string
		for _, l := range a.Facts.Lookups {
			words = append(words, l.Resolver+": "+printable(l.Words()))
		}
		say(&t.Words, "The monitor asked other resolvers for the name, to tell the relay's failure from one of the monitor's own resolver: %s (R5).", strings.Join(words, "; "))
	}
	t.controls(a)
	if i < len(f.Vouchers) {
		t.voucher(f, a, f.Vouchers[i])
	}
	return t
}

// firstFault is the first rung that failed for one of these causes or, if none did, the
// first that failed.
func firstFault(a *evidence.Attempt, causes []string) *evidence.Rung {
	var first *evidence.Rung
	for i := range a.Rungs {
		r := &a.Rungs[i]
		if r.Component == "" || r.Outcome == evidence.OK || r.Outcome == evidence.Skipped {
			continue
		}
		if slices.Contains(causes, string(r.Component)+" "+string(r.Class)) {
			return r
		}
		if first == nil {
			first = r
		}
	}
	return first
}

// result is what came of the attempt, and what to do.
func (t *Try) result(f Facts, a *evidence.Attempt) {
	began := "The attempt began at " + f.clock(a.Started.Time)
	if t.Fault == nil {
		switch {
		case a.Stepped:
			say(&t.Words, "%s.", began)
		case t.Outcome == evidence.OK || voucherAdvice[t.why] != "":
			say(&t.Words, "%s and found all three components ok.", began)
		case t.Outcome == evidence.Blind:
			say(&t.Words, "%s. It does not count: %s.", began, t.why.Meaning())
		default:
			say(&t.Words, "%s and failed.", began)
		}
		return
	}
	r := t.Fault
	took := time.Duration(r.OffsetUS+r.DurationUS) * time.Microsecond
	verb := map[evidence.Outcome]string{evidence.Busy: "was refused for want of room", evidence.Blind: "came to nothing"}[r.Outcome]
	if verb == "" {
		verb = "failed"
	}
	say(&t.Words, "%s and %s at the rung %s after %.1f s: %s.", began, verb, printable(r.Name), took.Seconds(), meaning(*r))
	if r.Detail != "" {
		say(&t.Words, "The detail: %s.", strings.TrimSuffix(printable(r.Detail), "."))
	}
	if advice := r.Class.Advice(); advice != "" {
		what := "What to do"
		switch {
		case r.Outcome == evidence.Blind:
			what = "What the monitor's operator can do"
		case t.Outcome == evidence.Blind:
			what = "What to do, if it was the relay"
		}
		say(&t.Words, "%s: %s.", what, advice)
	}
}

// means says what was seen at a rung.
func means(r evidence.Rung) string {
	return cmp.Or(r.Class.Meaning(), printable(string(r.Class)), "the reason is not known")
}

// meaning says it with the word that stands in the record.
func meaning(r evidence.Rung) string {
	words := means(r)
	if r.Class.Meaning() == "" {
		return words
	}
	if before, ok := strings.CutSuffix(words, ")"); ok {
		return fmt.Sprintf("%s, %s)", before, r.Class)
	}
	return fmt.Sprintf("%s (%s)", words, r.Class)
}

// others says what came of the rungs beside the one that failed first.
func (t *Try) others(a *evidence.Attempt) {
	if t.Fault == nil {
		return
	}
	names := map[evidence.Outcome][]string{}
	for i := range a.Rungs {
		if r := &a.Rungs[i]; r != t.Fault && r.Component != "" {
			word := r.Outcome
			if word != evidence.OK && word != evidence.Skipped {
				word = evidence.Fail
			}
			name := printable(r.Name)
			if word == evidence.Fail && r.Class != "" {
				name += " (" + printable(string(r.Class)) + ")"
			}
			names[word] = append(names[word], name)
		}
	}
	if ok := names[evidence.OK]; len(ok) > 0 {
		say(&t.Words, "Rungs that were ok: %s.", strings.Join(ok, ", "))
	}
	if failed := names[evidence.Fail]; len(failed) > 0 {
		say(&t.Words, "Rungs that failed, too: %s.", strings.Join(failed, ", "))
	}
	if skipped := names[evidence.Skipped]; len(skipped) > 0 {
		say(&t.Words, "Rungs that were skipped, since they stand on one that failed or were not asked for: %s.", strings.Join(skipped, ", "))
	}
}

var levelWords = map[evidence.Level]string{
	evidence.LevelReserved:  "a place was reserved, no circuit came about",
	evidence.LevelConnected: "a circuit was opened, the two peers did not finish their handshake through it",
	evidence.LevelHandshake: "two peers shook hands through the relay, the test bytes did not come back",
}

// controls says what the controls did near the attempt, and whose fault that makes it.
func (t *Try) controls(a *evidence.Attempt) {
	if len(a.Controls) > 0 {
		type sum struct{ ok, all int }
		sums := map[evidence.Component]*sum{}
		var sent, resent int64
		for _, c := range a.Controls {
			sent, resent = sent+c.Sent, resent+c.Resent
			if sums[c.Component] == nil {
				sums[c.Component] = &sum{}
			}
			sums[c.Component].all++
			if c.Outcome == evidence.OK {
				sums[c.Component].ok++
			}
		}
		var words []string
		for _, c := range evidence.Components {
			if x := sums[c]; x != nil {
				words = append(words, fmt.Sprintf("%s %d of %d ok", c, x.ok, x.all))
			}
		}
		lost := ""
		if sent > 0 {
			lost = fmt.Sprintf("; %d of %d packets to them were sent again", resent, sent)
		}
		say(&t.Words, "The controls said: %s%s.", strings.Join(words, ", "), lost)
	}
	switch {
	case t.Outcome == evidence.Fail:
		say(&t.Words, "So the monitor's own line worked: the failure is the relay's (R5).")
	case t.why == bounty.BlindLine && t.Fault != nil && t.Fault.Outcome == evidence.Blind:
		say(&t.Words, "So nobody can tell whether the relay failed or the monitor's own machine or resolver: this failure does not count (R5).")
	case t.why == bounty.BlindLine:
		say(&t.Words, "So it is not shown that the monitor's own line worked: this failure does not count (R5).")
	case t.why == bounty.NoControls:
		say(&t.Words, "The roster names no controls, so it is not shown that the monitor's own line worked: this failure does not count (R5).")
	}
}

// voucher says what the relay's signature in an attempt shows, and what to do if that is
// too little.
func (t *Try) voucher(f Facts, a *evidence.Attempt, v evidence.VoucherCheck) {
	if a.Level == evidence.LevelNone {
		return // it was not asked for a place, or gave none
	}
	switch why := f.Rules.Unproven(f.Roster, f.monitor(), a, v); why {
	case bounty.None:
		say(&t.Words, "The relay's own signature, a voucher, shows that it answered in this very hour (R6).")
	case bounty.BadVoucher:
		say(&t.Words, "The attempt makes nothing up, since %s: %s (R6).", why.Meaning(), printable(v.Reason))
		say(&t.Words, "What to do: %s.", voucherAdvice[why])
	default:
		say(&t.Words, "The attempt makes nothing up, since %s (R6).", why.Meaning())
		say(&t.Words, "What to do: %s.", voucherAdvice[why])
	}
}

var voucherAdvice = map[bounty.Why]string{
	bounty.Unsigned:   "the relay's operator runs a relay that signs a voucher for each reservation, as relayd and js-libp2p do",
	bounty.BadVoucher: "the relay's operator checks the relay's clock, and that one relay alone has its host key",
	bounty.Presigned:  "the relay's operator lets reservations last for less time, as relayd and js-libp2p do by default",
	bounty.NotFresh:   "the monitor's operator checks the setting drand, the machine's way to the internet, and that a witness of another operator cosigns",
}

package history

import (
	"fmt"
	"slices"
	"strings"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// answer says in a few sentences what the hour counts as, why, whose fault it was and
// what to do; up is the attempt that makes it up.
func (s *Story) answer(f Facts, up int) {
	head := "This hour counts as"
	switch {
	case !s.Enrolled:
		say(&s.Answer, "This hour counts for nothing: %s was not enrolled in it (R10).", s.Name)
		head = "It would count as"
	case f.recused():
		say(&s.Answer, "This monitor's vote counts nowhere: one operator runs it and %s (R7).", s.Name)
		head = "The hour would count as"
	case f.open():
		head = "So far, this hour counts as"
	}
	say(&s.Answer, "%s %s for %s in the log of monitor %s: %s.", head, strings.ToUpper(s.Vote.String()), s.Name, s.Monitor, s.reason(f, up))
	switch s.Vote {
	case bounty.Up:
		s.restart(f, up)
	case bounty.Down:
		say(&s.Answer, "The relay failed, not the monitor: the controls worked at the same time.")
		s.mend()
	case bounty.Busy:
		say(&s.Answer, "The relay was there, but it had no room for the monitor.")
		s.mend()
	default:
		if s.was != bounty.Unknown {
			say(&s.Answer, "By what the monitor saw its vote was %s, but this vote does not count.", s.was)
		}
		say(&s.Answer, "Unknown is neither up nor down: this monitor's word decides nothing in this hour (R6).")
		s.unknown(f)
	}
	if f.open() {
		say(&s.Answer, "The hour is not over: this may still change.")
	}
}

// reason says why the hour counts as it does.
func (s *Story) reason(f Facts, up int) string {
	switch s.Vote {
	case bounty.Up:
		return fmt.Sprintf("attempt %d, at %s, found all three components ok", up+1, f.clock(s.Tries[up].Started.Time))
	case bounty.Down:
		return s.faults(evidence.Fail) + ", while the monitor's own line worked"
	case bounty.Busy:
		return "the relay answered, but " + s.faults(evidence.Busy)
	}
	switch {
	case s.Why != bounty.Missing:
		return s.Why.Meaning()
	case f.Verified != nil:
		return "the monitor was off, and nobody watched"
	case f.Now.Before(f.Hour.Start()):
		return "it has not begun"
	case f.open():
		return "the monitor has not tried the relay yet"
	}
	return "the monitor was not running when the hour closed, or could not write its log"
}

// faults sums up the attempts of an outcome: how many there were and what failed first.
func (s *Story) faults(o evidence.Outcome) string {
	var list []string
	times := map[string]int{}
	n := 0
	for _, t := range s.Tries {
		if t.Outcome != o {
			continue
		}
		n++
		words := "for a reason that is not known"
		if t.Fault != nil {
			words = fmt.Sprintf("at the rung %s because %s", printable(t.Fault.Name), means(*t.Fault))
		}
		if times[words]++; times[words] == 1 {
			list = append(list, words)
		}
	}
	verb := map[evidence.Outcome]string{evidence.Fail: "failed", evidence.Busy: "found no room"}[o]
	if len(list) == 1 {
		return fmt.Sprintf("%s %s %s", count(n, "attempt"), verb, list[0])
	}
	for i, words := range list {
		list[i] = fmt.Sprintf("%d %s", times[words], words)
	}
	return fmt.Sprintf("%s %s, %s", count(n, "attempt"), verb, strings.Join(list, " and "))
}

// restart says of an hour that is up what failed before, and which software was
// installed meanwhile.
func (s *Story) restart(f Facts, up int) {
	agent, before := s.Attempts[up].Facts.AgentVersion, f.AgentBefore
	var failed []string
	for i, t := range s.Tries[:up] {
		if a := s.Attempts[i].Facts.AgentVersion; a != "" {
			before = a
		}
		words := fmt.Sprintf("attempt %d, at %s, ", i+1, f.clock(t.Started.Time))
		switch {
		case t.Fault != nil && t.Fault.Outcome == evidence.Busy:
			words += "found no room: " + meaning(*t.Fault)
		case t.Fault != nil:
			words += "failed: " + meaning(*t.Fault)
		default:
			words += "does not count"
		}
		failed = append(failed, words)
	}
	if len(failed) > 0 {
		say(&s.Answer, "Before, %s.", strings.Join(failed, "; "))
		say(&s.Answer, "One good attempt makes the hour up: a restart costs nothing (R6).")
	}
	if agent != "" && before != "" && agent != before {
		say(&s.Answer, "Before, the relay said that it ran %s; in the good attempt it said %s. So another version was installed meanwhile, as by an update.", printable(before), printable(agent))
	}
}

// mend says what the relay's operator can do, for each thing that failed first.
func (s *Story) mend() {
	var seen []string
	for _, t := range s.Tries {
		if t.Fault == nil || t.Outcome != evidence.Fail && t.Outcome != evidence.Busy || slices.Contains(seen, string(t.Fault.Class)) {
			continue
		}
		seen = append(seen, string(t.Fault.Class))
		if advice := t.Fault.Class.Advice(); advice != "" {
			say(&s.Answer, "What to do about %s: %s.", t.Fault.Class, advice)
		}
	}
}

// unknown says whose fault it is that nobody knows, and what to do.
func (s *Story) unknown(f Facts) {
	switch s.Why {
	case bounty.OneFailure:
		say(&s.Answer, "That is too little to blame the relay. Its operator should look at it all the same.")
		s.mend()
	case bounty.BlindLine, bounty.NoControls:
		say(&s.Answer, "Nobody can tell whether the relay failed or the monitor's own line, so the relay is not blamed.")
	case bounty.OtherAddr, bounty.NotAsked:
		say(&s.Answer, "The relay is not blamed. The monitor's operator should compare its roster with the committee's.")
	case bounty.Unsigned, bounty.BadVoucher, bounty.Presigned:
		say(&s.Answer, "The relay was there, but it did not prove it by its signature.")
		say(&s.Answer, "What to do: %s.", voucherAdvice[s.Why])
	case bounty.NotDue:
		say(&s.Answer, "Nothing is wrong. Where there are many monitors, only some are due at a relay in an hour.")
	case bounty.NotFresh:
		say(&s.Answer, "The reason lies with the monitor, so the relay is not blamed.")
		say(&s.Answer, "What to do: %s.", voucherAdvice[s.Why])
	default:
		if !f.open() {
			say(&s.Answer, "The reason lies with the monitor, so the relay is not blamed.")
		}
		if slices.ContainsFunc(s.Tries, func(t Try) bool { return t.Outcome == evidence.Fail }) {
			say(&s.Answer, "The relay's operator should look at what failed all the same.")
			s.mend()
		}
	}
}

// cost says what the hour costs the relay.
func (s *Story) cost(f Facts) {
	month := f.Hour.Month().First().Start().Format("January")
	bench := len(f.due())
	switch {
	case !s.Enrolled:
		say(&s.Cost, "It costs nothing: the relay was not enrolled in this hour (R10).")
		return
	case f.recused():
		say(&s.Cost, "It costs nothing: this monitor's votes on this relay count nowhere (R7).")
		return
	case f.spared():
		say(&s.Cost, "By itself it costs nothing: the votes of other monitors make this hour (R21).")
		return
	case s.Vote == bounty.Up:
		say(&s.Cost, "It costs nothing.")
	case s.Vote == bounty.Down && bench == 1:
		say(&s.Cost, "It costs one hour of those that the month may lose (R10).")
	case s.Vote == bounty.Down:
		say(&s.Cost, "It costs one hour of those that the month may lose, if most monitors say the same (R7, R10).")
	case s.Vote == bounty.Busy:
		say(&s.Cost, "The first %d busy hours of a month count as up. Later ones count as down if most monitors were refused or found nobody, and else as unknown (R8).", f.Rules.BusyCap)
		if f.Month != nil {
			say(&s.Cost, "By this monitor's votes %s has %s so far.", month, count(f.Month.Busy, "busy hour"))
		}
	case bench == 1:
		say(&s.Cost, "It is not lost, but it is missing among the %d that must be up (R10).", f.Rules.HoursRequired)
	default:
		say(&s.Cost, "By itself it costs nothing: the month counts the votes of all monitors (R7).")
		say(&s.Cost, "If most of them do not know either, the hour is missing among the %d that must be up (R10).", f.Rules.HoursRequired)
	}
	if f.Month == nil {
		return
	}
	m := *f.Month
	if lose := m.Total - m.NotEnrolled - f.Rules.HoursRequired; lose < 0 {
		say(&s.Cost, "The relay is enrolled for too few hours of %s to reach %d.", month, f.Rules.HoursRequired)
	} else {
		say(&s.Cost, "%s may lose %d hours. By this monitor's votes the month has lost %d so far; unknown hours: %d.", month, lose, m.Down, m.Unknown)
	}
}

// doubts say where to go with the hour if it seems wrong.
func (s *Story) doubts(f Facts) {
	var others []string
	for _, m := range f.due() {
		if m.Name != f.Monitor {
			others = append(others, m.Name)
		}
	}
	say(&s.Doubts, "This is the word of one monitor.")
	if len(others) > 0 {
		say(&s.Doubts, "These monitors judge the relay, too: %s. Their pages of this hour say what they saw.", strings.Join(others, ", "))
	}
	say(&s.Doubts, "Compare the times of the attempts with the relay's own log.")
	say(&s.Doubts, "A bundle of the month holds what the monitors signed. A monitor's operator can make it, with copies of the other monitors' logs (--from). Anybody can judge this hour anew from it, without a network.")
	say(&s.Doubts, "Send the committee the name of the hour, and what the relay's log says of it. The committee decides (R16).")
	start := f.Hour.Start().Format("2006-01-02T15:04:05Z")
	trust := "--committee KEY"
	if f.Roster.Network == evidence.Lab {
		trust = "--unsigned"
	}
	s.Commands = []string{
		fmt.Sprintf("relaymon bundle --relay %s --month %s", f.Relay.PeerID, f.Hour.Month()),
		fmt.Sprintf("relayaudit explain relay-%s-%s.zip --rules rules.yaml --roster roster.yaml %s --hour %s", f.Relay.PeerID, f.Hour.Month(), trust, start),
	}
}

// AgentBefore is the software that the relay reported last before an hour; empty: none is
// known.
func (s Seen) AgentBefore(h evidence.Hour) (agent string) {
	for _, a := range s.Agents {
		if a.From < h {
			agent = a.Agent
		}
	}
	return agent
}

package history

import (
	"fmt"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Facts are what is known of one relay's hour.
type Facts struct {
	Monitor string
	Rules   *bounty.Rules
	Roster  *bounty.Roster
	Relay   *bounty.Relay
	Hour    evidence.Hour
	Now     time.Time
	// Verified is the hour under the log's root; nil: it is not sealed. Its
	// cosignatures may be missing where nobody looked at them; its vouchers are not used.
	Verified *evidence.VerifiedHour
	// Clock is what the clock did so far in an hour that is not sealed; nil: it is not known.
	Clock *evidence.Clock
	// Record is what was recorded; nil: nothing. Vouchers are those of its attempts.
	Record   *evidence.Record
	Vouchers []evidence.VoucherCheck
	// Cosigned says that Verified tells who has cosigned, so that rule R9 can be applied.
	Cosigned bool
}

// Story is one hour, in words and in facts.
type Story struct {
	Monitor  string           `json:"monitor"`
	Network  evidence.Network `json:"network"`
	Relay    string           `json:"relay"`
	Operator string           `json:"operator"`
	Hour     evidence.Hour    `json:"hour"`
	Enrolled bool             `json:"enrolled"`
	// State is that of the hour's block; empty: it is not sealed.
	State    evidence.State     `json:"state,omitempty"`
	SealedAt evidence.Time      `json:"sealed_at,omitzero"`
	Software string             `json:"software,omitempty"`
	Vote     bounty.Value       `json:"vote"`
	Why      bounty.Why         `json:"why"`
	Causes   []string           `json:"causes"`
	Attempts []evidence.Attempt `json:"attempts"`
	// Witnesses are those whose cosignatures came in time.
	Witnesses []string `json:"witnesses,omitempty"`
	// Words tell it all to a person, a sentence each.
	Words []string `json:"words"`
}

// Tell judges an hour as the auditor does and says how that came about.
func Tell(f Facts) Story {
	s := Story{
		Monitor: f.Monitor, Network: f.Roster.Network, Relay: f.Relay.PeerID, Operator: f.Relay.Operator, Hour: f.Hour,
		Enrolled: f.Relay.EnrolledAt(f.Hour), Causes: []string{}, Attempts: []evidence.Attempt{}, Words: []string{},
	}
	s.say("%s is the hour of relay %s, run by %s, as monitor %s saw it.", f.Hour, f.Relay.PeerID, f.Relay.Operator, f.Monitor)
	if !s.Enrolled {
		s.say("The relay was not enrolled in this hour: whatever was seen counts nowhere.")
	}
	if m := f.Roster.Monitor(f.Monitor, f.Hour); m != nil && m.Recused(f.Relay) {
		s.say("One operator runs the relay and this monitor: its votes on it count nowhere (R7).")
	}
	s.watched(f)
	monitor := f.Roster.Monitor(f.Monitor, f.Hour)
	if f.Record == nil {
		s.Why = bounty.Missing
		if f.Verified != nil {
			s.Why = bounty.Unrecorded(f.Verified.Header)
		}
	} else {
		s.Attempts = f.Record.Attempts
		for i, a := range f.Record.Attempts {
			s.attempt(i, a)
			if i < len(f.Vouchers) {
				s.voucher(f, &a, f.Vouchers[i])
			}
		}
		ballot := bounty.VoteOf(f.Rules, f.Roster, monitor, f.Relay, f.Record, f.Vouchers)
		vote := ballot.Vote
		if f.Verified != nil {
			vote = vote.Overload(f.Rules, f.Verified.Header, len(f.Record.Attempts))
		}
		s.Vote, s.Why = vote.Value, vote.Why
		s.Causes = append(s.Causes, ballot.Causes...)
	}
	s.voted(f)
	switch {
	case f.Verified != nil && f.Rules.OffPlan(f.Roster, f.Verified) != bounty.None && s.Vote != bounty.Unknown:
		s.becomes(bounty.Vote{Why: f.Rules.OffPlan(f.Roster, f.Verified)})
	case f.Verified == nil && f.Clock == nil:
	case f.Verified == nil:
		s.becomes(f.Rules.ByClock(*f.Clock, s.ballot()))
	case f.Cosigned:
		s.sealed(f)
	default:
		s.becomes(f.Rules.ByClock(f.Verified.Header.Clock, s.ballot()))
	}
	return s
}

func (s *Story) say(format string, args ...any) {
	s.Words = append(s.Words, fmt.Sprintf(format, args...))
}

func (s *Story) watched(f Facts) {
	if f.Verified == nil {
		switch closes := f.Hour.End().Add(evidence.CloseAfter); {
		case f.Now.Before(f.Hour.Start()):
			s.say("It has not begun.")
		case f.Now.Before(closes):
			s.say("It is not sealed yet: it closes at %s, when the last retries have ended (R2).", clock(closes))
		default:
			s.say("It is not sealed, although it closed at %s: the monitor was not running then, or could not write its log.", clock(closes))
		}
		if f.Clock != nil {
			s.steps(*f.Clock)
		}
		return
	}
	h := f.Verified.Header
	s.State, s.SealedAt, s.Software = h.State, h.SealedAt, h.Software
	switch h.State {
	case evidence.StateOK:
		s.say("The monitor (%s) was watching.", h.Software)
	default:
		s.say("Nobody watched: the monitor was off. A gap is neither up nor down.")
	}
	s.steps(h.Clock)
	if h.Missed > 0 {
		s.say("It was overloaded: %d attempts on all its relays together, due in this hour, were not made.", h.Missed)
	}
}

func (s *Story) steps(c evidence.Clock) {
	for _, step := range c.Steps {
		s.say("Its clock was set by %+.1f s, to %s.", float64(step.ByMS)/1000, clock(step.At.Time))
	}
}

func (s *Story) attempt(i int, a evidence.Attempt) {
	s.say("Attempt %d began at %s.", i+1, clock(a.Started.Time))
	if a.Stepped {
		s.say("  The monitor's clock was set, or its machine slept, while it was under way: it counts for nothing (R9).")
	}
	for _, r := range a.Rungs {
		words := fmt.Sprintf("%s: %s", r.Name, r.Outcome)
		if r.Class != "" {
			words += fmt.Sprintf(" (%s): %s", r.Class, r.Class.Meaning())
		} else if r.DurationUS > 0 {
			words += fmt.Sprintf(" in %.1f ms", float64(r.DurationUS)/1000)
		}
		if r.Detail != "" {
			words += "; " + r.Detail
		}
		if r.Outcome == evidence.Fail || r.Outcome == evidence.Busy {
			if advice := r.Class.Advice(); advice != "" {
				words += ". What to do: " + advice
			}
		}
		s.say("  %s.", words)
	}
	if a.Level > evidence.LevelNone && a.Level < evidence.LevelEchoed {
		s.say("  The relaying came as far as level %d of %d: %s.", a.Level, evidence.LevelEchoed, levelWords[a.Level])
	}
	if len(a.Facts.Lookups) > 0 {
		var words []string
		for _, l := range a.Facts.Lookups {
			words = append(words, l.Resolver+": "+l.Words())
		}
		s.say("  What resolvers say of the name, to tell the relay's failure from one of the monitor's own resolver: %s.", strings.Join(words, "; "))
	}
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
		s.say("  Controls, to tell the relay's failure from one of the monitor's own line: %s; %d of %d packets to them were sent again.", strings.Join(words, ", "), resent, sent)
	}
}

var levelWords = map[evidence.Level]string{
	evidence.LevelReserved:  "a place was reserved, no circuit came about",
	evidence.LevelConnected: "a circuit was opened, the two peers did not finish their handshake through it",
	evidence.LevelHandshake: "two peers shook hands through the relay, the test bytes did not come back",
}

// voucher says what the relay's signature in an attempt shows, and what to do if that is
// too little.
func (s *Story) voucher(f Facts, a *evidence.Attempt, v evidence.VoucherCheck) {
	if a.Level == evidence.LevelNone {
		return // it was not asked for a place, or gave none
	}
	switch why := f.Rules.Unproven(f.Roster, f.Roster.Monitor(f.Monitor, f.Hour), a, v); why {
	case bounty.None:
		s.say("  The relay's own signature shows that it answered in this very hour.")
	case bounty.BadVoucher:
		s.say("  The attempt makes nothing up, since %s: %s. What to do: %s.", why.Meaning(), v.Reason, voucherAdvice[why])
	default:
		s.say("  The attempt makes nothing up, since %s. What to do: %s.", why.Meaning(), voucherAdvice[why])
	}
}

var voucherAdvice = map[bounty.Why]string{
	bounty.Unsigned:   "the relay's operator runs a relay that signs a voucher for each reservation, as relayd and js-libp2p do",
	bounty.BadVoucher: "the relay's operator checks the relay's clock, and that one relay alone has its host key",
	bounty.Presigned:  "the relay's operator lets reservations last for less time, as relayd and js-libp2p do by default",
	bounty.NotFresh:   "the monitor's operator checks the setting drand, the machine's way to the internet, and that a witness of another operator cosigns",
}

// voted says what the hour comes to, for this monitor.
func (s *Story) voted(f Facts) {
	causes := ""
	if len(s.Causes) > 0 {
		causes = ": " + strings.Join(s.Causes, ", ")
	}
	switch s.Vote {
	case bounty.Up:
		s.say("This monitor's vote is up: one attempt found all three components ok (R6).")
	case bounty.Down:
		s.say("This monitor's vote is down: at least %d attempts, %.0f minutes or more apart, failed while the monitor's own line worked (R5, R6)%s.",
			f.Rules.DownAttempts, f.Rules.DownSpacing.Minutes(), causes)
	case bounty.Busy:
		s.say("This monitor's vote is busy: the relay answered, and had no place to give (R4)%s.", causes)
	default:
		s.say("This monitor's vote is unknown (%s): %s.", s.Why, s.Why.Meaning())
	}
}

// sealed applies rule R9 to the vote.
func (s *Story) sealed(f Facts) {
	n := len(f.Roster.Bench(f.Relay, f.Hour))
	monitor := f.Roster.Monitor(f.Monitor, f.Hour)
	if monitor == nil {
		monitor = &bounty.Monitor{Name: f.Monitor}
	}
	seal := bounty.Sealed(f.Rules, f.Roster, monitor, n, f.Verified)
	s.Witnesses = seal.Witnesses
	if required := f.Rules.WitnessesRequired.Of(n); required == 0 || len(seal.Witnesses) == 0 && seal.Why == bounty.None {
		s.say("It was sealed at %s; no witness is required (R9), %d cosigned it in time.", clock(s.SealedAt.Time), len(seal.Witnesses))
	} else {
		s.say("It was sealed at %s and cosigned by %d witnesses before %s; %d are required (R9).",
			clock(s.SealedAt.Time), len(seal.Witnesses), clock(f.Hour.End().Add(f.Rules.SealWithin)), required)
	}
	s.becomes(seal.Of(f.Rules, s.ballot()))
}

func (s *Story) ballot() bounty.Ballot {
	return bounty.Ballot{Vote: bounty.Vote{Value: s.Vote, Why: s.Why}, Causes: s.Causes}
}

// becomes takes over what rules R2 and R9 make of the vote.
func (s *Story) becomes(v bounty.Vote) {
	if v.Value != s.Vote || v.Why != s.Why {
		s.Vote, s.Why = v.Value, v.Why
		rule := " (R9)"
		if s.Why == bounty.Early || s.Why == bounty.Unplanned {
			rule = "" // the words have it
		}
		s.say("So the vote does not count, and is unknown (%s): %s%s.", s.Why, s.Why.Meaning(), rule)
	}
}

func clock(t time.Time) string {
	return t.UTC().Format("15:04:05") + " UTC on " + t.UTC().Format(time.DateOnly)
}

package history

import (
	"fmt"
	"strings"
	"time"
	"unicode"

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
	// Month is the month as this monitor alone counts it; nil: it is not known.
	Month *bounty.Hours
	// AgentBefore is the software that the relay reported last before the hour; empty: it
	// is not known.
	AgentBefore string
}

// Story is one hour: told for a person, and in facts.
type Story struct {
	Monitor  string           `json:"monitor"`
	Network  evidence.Network `json:"network"`
	Relay    string           `json:"relay"`
	Operator string           `json:"operator"`
	// Name is the relay's domain, by which people know it.
	Name     string        `json:"name"`
	Hour     evidence.Hour `json:"hour"`
	Enrolled bool          `json:"enrolled"`
	// State is that of the hour's block; empty: it is not sealed.
	State    evidence.State     `json:"state,omitempty"`
	SealedAt evidence.Time      `json:"sealed_at,omitzero"`
	Software string             `json:"software,omitempty"`
	Clock    *evidence.Clock    `json:"clock,omitempty"` // how the monitor's went
	Vote     bounty.Value       `json:"vote"`
	Why      bounty.Why         `json:"why"`
	Causes   []string           `json:"causes"`
	Attempts []evidence.Attempt `json:"attempts"`
	// Witnesses are those whose cosignatures came in time.
	Witnesses []string `json:"witnesses,omitempty"`

	// What follows is for a person: sentences, in the order in which they are read.
	Intro []string `json:"intro"` // whose hour it is
	// Answer says what the hour counts as, why, whose fault it was and what to do.
	Answer []string `json:"answer"`
	Cost   []string `json:"cost"`
	// Watch says what the monitor itself did, Tries what came of each attempt.
	Watch []string `json:"watch"`
	Tries []Try    `json:"tries"`
	Steps []string `json:"steps"` // how the vote follows from that, rule by rule
	// Doubts say where to go with the hour if it seems wrong, Commands judge it anew.
	Doubts   []string `json:"doubts"`
	Commands []string `json:"commands"`
	// Terms are the words and rules that the sentences name.
	Terms []Term `json:"terms"`
	// Words tell it all to a person, a sentence each.
	Words []string `json:"words"`

	was bounty.Value // the vote before rules R2 and R9 made it unknown
}

// Try is what came of an attempt.
type Try struct {
	Started evidence.Time `json:"started"`
	// Outcome is what it brought to the vote: [evidence.OK], [evidence.Fail] or
	// [evidence.Busy]; [evidence.Blind]: nothing.
	Outcome evidence.Outcome `json:"outcome"`
	// Fault is the rung that failed first; nil: none did.
	Fault *evidence.Rung `json:"fault,omitempty"`
	Words []string       `json:"words"`
	why   bounty.Why     // of an outcome that is blind
}

// Part is a piece of a story, under its heading.
type Part struct {
	Title string
	Words []string
}

// Parts are the story in the order in which it is read.
func (s *Story) Parts() []Part {
	parts := []Part{
		{"The hour", s.Intro}, {"The answer", s.Answer}, {"What it costs", s.Cost}, {"What the monitor did", s.Watch},
	}
	for i, t := range s.Tries {
		parts = append(parts, Part{fmt.Sprintf("Attempt %d", i+1), t.Words})
	}
	parts = append(parts, Part{"How this became the vote", s.Steps}, Part{"If you think that this is wrong", append(s.Doubts[:len(s.Doubts):len(s.Doubts)], s.Commands...)})
	var terms []string
	for _, t := range s.Terms {
		terms = append(terms, t.Word+": "+t.Means)
	}
	return append(parts, Part{"Words and rules", terms})
}

// Tell judges an hour as the auditor does and says how that came about.
func Tell(f Facts) Story {
	s := Story{
		Monitor: f.Monitor, Network: f.Roster.Network, Relay: f.Relay.PeerID, Operator: f.Relay.Operator, Name: f.Relay.At(f.Hour).Domain, Hour: f.Hour,
		Enrolled: f.Relay.EnrolledAt(f.Hour), Clock: f.Clock, Causes: []string{}, Attempts: []evidence.Attempt{}, Tries: []Try{},
	}
	if v := f.Verified; v != nil {
		s.State, s.SealedAt, s.Software, s.Clock = v.Header.State, v.Header.SealedAt, v.Header.Software, &v.Header.Clock
	}
	s.watch(f)
	up := -1
	if f.Record == nil {
		s.Why = bounty.Missing
		if f.Verified != nil {
			s.Why = bounty.Unrecorded(f.Verified.Header)
		}
		if f.spared() {
			s.Why = bounty.NotDue
		}
	} else {
		s.Attempts = f.Record.Attempts
		for i := range f.Record.Attempts {
			s.Tries = append(s.Tries, s.try(f, i))
		}
		ballot := bounty.VoteOf(f.Rules, f.Roster, f.monitor(), f.Relay, f.Record, f.Vouchers)
		vote := ballot.Vote
		if f.Verified != nil {
			vote = vote.Overload(f.Rules, f.Verified.Header, len(f.Record.Attempts))
		}
		s.Vote, s.Why, up = vote.Value, vote.Why, ballot.UpAttempt
		s.Causes = append(s.Causes, ballot.Causes...)
	}
	s.voted(f, up)
	switch {
	case f.Verified != nil && f.Rules.OffPlan(f.Roster, f.Verified) != bounty.None && s.Vote != bounty.Unknown:
		s.becomes(bounty.Vote{Why: f.Rules.OffPlan(f.Roster, f.Verified)})
	case f.Verified == nil && f.Clock == nil:
	case f.Verified == nil:
		s.becomes(f.Rules.ByClock(*f.Clock, s.ballot()))
	case f.Cosigned:
		s.sealed(f)
	default:
		say(&s.Steps, "The hour was sealed at %s. A vote counts only if enough witnesses cosigned it in time: relaymon explain tells who did (R9).", f.clock(s.SealedAt.Time))
		s.becomes(f.Rules.ByClock(f.Verified.Header.Clock, s.ballot()))
	}
	if f.spared() && s.Why != bounty.NotDue {
		s.becomes(bounty.Vote{Why: bounty.NotDue})
	}
	s.fleet(f)
	s.intro(f)
	s.answer(f, up)
	s.cost(f)
	s.doubts(f)
	s.terms(f)
	for _, p := range s.Parts() {
		s.Words = append(s.Words, p.Words...)
	}
	return s
}

// monitor is the roster's entry of whose log it is; nil: it is not in force.
func (f Facts) monitor() *bounty.Monitor { return f.Roster.Monitor(f.Monitor, f.Hour) }

// recused says whether one operator runs the relay and the monitor.
func (f Facts) recused() bool {
	m := f.monitor()
	return m != nil && m.Recused(f.Relay)
}

// due are those whose votes make the hour. Before it is sealed, all are (rule R21).
func (f Facts) due() []*bounty.Monitor {
	var round []byte
	if f.Verified != nil {
		round = f.Verified.Round
	}
	return f.Rules.Due(f.Roster, f.Relay, f.Hour, round)
}

// spared says whether others were chosen, and the monitor may judge the relay.
func (f Facts) spared() bool {
	return !f.recused() && f.monitor() != nil && f.Verified != nil && f.Rules.Spared(f.Roster, f.Relay, f.Hour, f.Verified.Round, f.Monitor)
}

// closes is when the hour's last retry has ended.
func (f Facts) closes() time.Time { return f.Hour.End().Add(evidence.CloseAfter) }

// open says whether more may come.
func (f Facts) open() bool { return f.Verified == nil && f.Now.Before(f.closes()) }

// clock is a time of the hour. The date stands there only where it is another one.
func (f Facts) clock(t time.Time) string {
	if day := t.UTC().Format(time.DateOnly); day != f.Hour.Start().Format(time.DateOnly) {
		return day + " " + t.UTC().Format(time.TimeOnly)
	}
	return t.UTC().Format(time.TimeOnly)
}

// say adds a sentence to a part of the story.
func say(part *[]string, format string, args ...any) {
	*part = append(*part, fmt.Sprintf(format, args...))
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// printable keeps what a relay wrote from steering a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

func (s *Story) intro(f Facts) {
	say(&s.Intro, "This is the hour from %s %s to %s. All times are UTC.", f.Hour.Start().Format(time.DateOnly), f.Hour.Start().Format("15:04"), f.Hour.End().Format("15:04"))
	say(&s.Intro, "Relay %s is run by %s. Monitor %s watches it.", s.Name, f.Relay.Operator, f.Monitor)
	if f.Roster.Network == evidence.Lab {
		say(&s.Intro, "This is a lab: nothing here counts for a bounty.")
	}
}

// watch says what the monitor itself did.
func (s *Story) watch(f Facts) {
	switch {
	case f.Verified == nil && f.Now.Before(f.Hour.Start()):
		say(&s.Watch, "The hour has not begun.")
	case f.open():
		say(&s.Watch, "The hour is not sealed yet: it closes at %s, when the last retries have ended (R2).", f.clock(f.closes()))
	case f.Verified == nil:
		say(&s.Watch, "The hour is not sealed, although it closed at %s: the monitor was not running then, or could not write its log.", f.clock(f.closes()))
	case s.State == evidence.StateOK:
		say(&s.Watch, "The monitor (%s) was watching.", s.Software)
	default:
		say(&s.Watch, "Nobody watched: the monitor was off. Such a gap is neither up nor down.")
	}
	if s.Clock != nil {
		for _, step := range s.Clock.Steps {
			say(&s.Watch, "The monitor's clock was set by %+.1f s, to %s (R9).", float64(step.ByMS)/1000, f.clock(step.At.Time))
		}
	}
	if f.Verified != nil && f.Verified.Header.Missed > 0 {
		say(&s.Watch, "The monitor was overloaded: %s on all its relays together, due in this hour, were not made (R2).", count(int(f.Verified.Header.Missed), "attempt"))
	}
}

// voted says what the attempts come to, for this monitor.
func (s *Story) voted(f Facts, up int) {
	if n := len(s.Tries); n > 0 {
		say(&s.Steps, "The monitor made %s in this hour (R2).", count(n, "attempt"))
	}
	if f.Verified != nil && !f.Verified.Due.IsZero() && len(s.Attempts) > 0 {
		say(&s.Steps, "By the monitor's plan, which nobody else knew, the first one was due at %s (R2).", f.clock(f.Verified.Due))
	}
	counted, blind := 0, 0
	for _, t := range s.Tries {
		switch {
		case t.Outcome == evidence.Fail:
			counted++
		case t.why == bounty.BlindLine || t.why == bounty.NoControls:
			blind++
		}
	}
	if counted > 0 {
		say(&s.Steps, "%s failed while the monitor's own line worked: this is held against the relay (R5).", count(counted, "attempt"))
	}
	if blind > 0 {
		say(&s.Steps, "%s failed, and it is not shown that the monitor's own line worked: this is held against nobody (R5).", count(blind, "attempt"))
	}
	switch s.Vote {
	case bounty.Up:
		say(&s.Steps, "This monitor's vote is up: one attempt found all three components ok, and one is enough (R6).")
		if up > 0 {
			say(&s.Steps, "So a restart costs nothing, if the relay is back before the last attempt of the hour.")
		}
	case bounty.Down:
		say(&s.Steps, "This monitor's vote is down: at least %d attempts that count as failures are needed, and the first and the last of them must have started at least %.0f minutes apart (R6). The causes: %s.",
			f.Rules.DownAttempts, f.Rules.DownSpacing.Minutes(), strings.Join(s.Causes, ", "))
	case bounty.Busy:
		say(&s.Steps, "This monitor's vote is busy: the relay answered, and had no place to give (R4, R6). The causes: %s.", strings.Join(s.Causes, ", "))
	default:
		say(&s.Steps, "This monitor's vote is unknown (%s): %s.", s.Why, s.Why.Meaning())
	}
}

// sealed applies rule R9 to the vote.
func (s *Story) sealed(f Facts) {
	n := len(f.Roster.Bench(f.Relay, f.Hour))
	monitor := f.monitor()
	if monitor == nil {
		monitor = &bounty.Monitor{Name: f.Monitor}
	}
	seal := bounty.Sealed(f.Rules, f.Roster, monitor, n, f.Verified)
	s.Witnesses = seal.Witnesses
	if required := f.Rules.WitnessesRequired.Of(n); required == 0 || len(seal.Witnesses) == 0 && seal.Why == bounty.None {
		say(&s.Steps, "The hour was sealed at %s; no witness is required, %d cosigned it in time (R9).", f.clock(s.SealedAt.Time), len(seal.Witnesses))
	} else {
		say(&s.Steps, "The hour was sealed at %s. Witnesses that cosigned it before %s: %d; required: %d (R9).",
			f.clock(s.SealedAt.Time), f.clock(f.Hour.End().Add(f.Rules.SealWithin)), len(seal.Witnesses), required)
	}
	s.becomes(seal.Of(f.Rules, s.ballot()))
}

func (s *Story) ballot() bounty.Ballot {
	return bounty.Ballot{Vote: bounty.Vote{Value: s.Vote, Why: s.Why}, Causes: s.Causes}
}

// becomes takes over what rules R2 and R9 make of the vote.
func (s *Story) becomes(v bounty.Vote) {
	if v.Value != s.Vote || v.Why != s.Why {
		s.was = s.Vote
		s.Vote, s.Why = v.Value, v.Why
		rule := " (R9)"
		if s.Why == bounty.Early || s.Why == bounty.Unplanned || s.Why == bounty.NotDue {
			rule = "" // the words have it
		}
		say(&s.Steps, "So the vote does not count, and is unknown (%s): %s%s.", s.Why, s.Why.Meaning(), rule)
	}
}

// fleet says how the monitors' votes make the hour.
func (s *Story) fleet(f Facts) {
	due, bench := len(f.due()), len(f.Roster.Bench(f.Relay, f.Hour))
	switch {
	case !s.Enrolled:
		say(&s.Steps, "The relay was not enrolled in this hour: the hour counts for nothing, whatever was seen (R10).")
	case f.recused():
		say(&s.Steps, "One operator runs the relay and this monitor: its votes on this relay count nowhere (R7).")
	case due < bench:
		say(&s.Steps, "The month counts what most of those say who were due: the hour's drand round chose %d of the %d monitors that judge this relay, and %d of them must agree (R7, R21).", due, bench, bounty.Tally{Bench: due}.Quorum())
		if f.spared() {
			say(&s.Steps, "This monitor was not due.")
		}
	case bench == 1:
		say(&s.Steps, "No other monitor judges this relay, so this vote alone decides (R7).")
	default:
		say(&s.Steps, "The month counts what most monitors say: %d of the %d that judge this relay must agree (R7).", bounty.Tally{Bench: bench}.Quorum(), bench)
	}
}

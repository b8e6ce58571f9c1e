package bounty

import (
	"fmt"
	"slices"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// survey goes once through all records and keeps what the rules ask about.
type survey struct {
	votes    *Sheet
	logs     map[string]map[evidence.Hour]*seen // by monitor's name and hour
	members  []*Monitor                         // the month's, in the roster's order
	monitors []MonitorReport                    // theirs
	browser  []browserCheck
	disks    []Disk
	days     map[string]*dayTimes
	notes    []Note

	certificates []CertificateSeen
	leaves       map[string]int // index in certificates by hash

	// what count adds, once it is known how each hour counts
	hourly      []HourReport
	grades      map[Grade]int
	disputed    []Span
	otherRecord []Span
	withoutWSS  []Span
	tight       []Span // hours down in which circuits were too narrow for a handshake
	tightBytes  int64  // the narrowest
	agents      []AgentSeen
	assurance   assurance
	dissents    dissents
	overruled   []Span // hours that count up although the committee's voted down
	undecided   []Span // hours that are unknown although it did
	signed      int    // hours for which the relay signed, whoever shows it
	asOf        time.Time
	// until is how far the logs of the committee's monitors tell; zero: there are none.
	until time.Time
}

// seen is what one monitor saw in one hour, judged.
type seen struct {
	ballot    Ballot
	vote      Vote  // the ballot's, unless it was sealed too late
	said      Value // the ballot's
	witnesses []string
	signed    bool // some attempt holds the relay's signature for this hour, made in it
	agent     string
	resolved  []string
	tight     int64 // bytes a circuit was limited to, if that is why none came about
}

// tightLimit is a data limit that two peers cannot shake hands within.
const tightLimit = 2048

type dayTimes struct {
	attempts int
	ping     []int64
	ladder   []int64
}

func surveyOf(c *Case, relay *Relay) (*survey, error) {
	s := &survey{
		votes: NewSheet(c.Month), logs: map[string]map[evidence.Hour]*seen{}, days: map[string]*dayTimes{},
		leaves: map[string]int{}, grades: map[Grade]int{},
		asOf: c.Month.First().Start(), // where no log tells anything yet
	}
	for _, n := range c.Roster.Notes {
		if (n.Relay == "" || n.Relay == relay.PeerID) && n.From < c.Month.End() && n.Until > c.Month.First() {
			s.notes = append(s.notes, n)
		}
	}
	whole := Term{From: c.Month.First(), Until: ptr(c.Month.End())}
	places := map[string]int{} // of the monitors of the month in s.monitors, by log key
	for i := range c.Roster.Monitors {
		m := &c.Roster.Monitors[i]
		if !m.overlaps(whole) {
			continue
		}
		places[m.LogKey] = len(s.members)
		s.members = append(s.members, m)
		s.monitors = append(s.monitors, MonitorReport{
			Name: m.Name, Operator: m.Operator, Committee: m.Committee, Place: m.Place,
			Recused: m.Recused(relay), Votes: map[Value]int{},
		})
	}
	for k := range c.Logs {
		log := &c.Logs[k]
		i, known := places[log.Key]
		if !known {
			return nil, fmt.Errorf("the log of %s is by no monitor that is in the roster in %s", log.Monitor, c.Month)
		}
		m, report := s.members[i], &s.monitors[i]
		if report.Log {
			return nil, fmt.Errorf("the log of monitor %s is there twice", m.Name)
		}
		if err := s.read(c, relay, m, log, report); err != nil {
			return nil, err
		}
	}
	for i, m := range s.members {
		if us := s.monitors[i].PingUS; us > 0 && m.Place != nil {
			s.disks = append(s.disks, c.Rules.disk(m, us))
		}
	}
	s.tally(c, relay)
	slices.SortFunc(s.certificates, func(a, b CertificateSeen) int {
		if a.First != b.First {
			return int(a.First - b.First)
		}
		return compare(a.SHA256, b.SHA256)
	})
	slices.SortStableFunc(s.browser, func(a, b browserCheck) int { return a.at.Compare(b.at.Time) })
	return s, nil
}

// tally counts what each monitor said. It comes when all logs are read: any of them may
// hold the beacon by which others were due.
func (s *survey) tally(c *Case, relay *Relay) {
	for h := c.Month.First(); h < c.Month.End(); h++ {
		due := c.Rules.Due(c.Roster, relay, h, s.votes.beacons[h])
		for i, m := range s.members {
			x, report := s.logs[m.Name][h], &s.monitors[i]
			if x == nil || !m.Holds(h) {
				continue
			}
			over := !h.End().After(s.asOf)
			if over && x.signed {
				report.Vouchers++
			}
			switch {
			case !report.Recused && !slices.Contains(due, m):
				x.vote = Vote{Why: NotDue}
				if over {
					report.NotDue++
				}
				continue
			case over:
				report.Votes[x.vote.Value]++
			}
			if x.said != Unknown && x.vote.Value == Unknown && report.Void == "" {
				report.void(x.vote.Why, x.said)
			}
		}
	}
}

func checkLog(c *Case, m *evidence.VerifiedMonth) error {
	switch {
	case m.Network != c.Roster.Network:
		return fmt.Errorf("the log of %s is of network %s, the roster of %s: lab and real are never mixed", m.Origin, m.Network, c.Roster.Network)
	case m.Relay != c.Relay:
		return fmt.Errorf("the log of %s is about relay %s", m.Origin, m.Relay)
	case m.Month != c.Month:
		return fmt.Errorf("the log of %s is about %s", m.Origin, m.Month)
	}
	return nil
}

// read goes through one monitor's month.
func (s *survey) read(c *Case, relay *Relay, m *Monitor, log *Log, report *MonitorReport) error {
	if s.logs[m.Name] == nil {
		s.logs[m.Name] = map[evidence.Hour]*seen{}
	}
	report.Log, report.Void = true, log.Void
	var plan ScheduleReport
	reach := c.reachOf(m)
	month, err := log.Read(func(vh evidence.VerifiedHour) error {
		reach.add(vh.Cosigned, vh.Header.Hour+1)
		if vh.Round != nil {
			s.votes.Choose(vh.Header.Hour, vh.Round)
		}
		s.hour(c, relay, m, &vh, report, &plan)
		return nil
	})
	if err != nil {
		return err
	}
	if err := checkLog(c, &month); err != nil {
		return err
	}
	reach.add(month.Tip.Cosigned, month.Tip.End)
	if !report.Recused && log.Void == "" {
		if reach.at.After(s.asOf) {
			s.asOf = reach.at
		}
		if m.Committee && reach.at.After(s.until) {
			s.until = reach.at
		}
	}
	report.Origin, report.Size, report.Root, report.Digest, report.ends = month.Origin, month.Size, month.Root.String(), month.Digest, month.Tip.End
	if plan.Checked+plan.Unplanned > 0 {
		report.Schedule = &plan
	}
	return nil
}

// hour judges one monitor's hour.
func (s *survey) hour(c *Case, relay *Relay, m *Monitor, vh *evidence.VerifiedHour, report *MonitorReport, plan *ScheduleReport) {
	h := vh.Header.Hour
	if !m.Holds(h) || !c.Month.Contains(h) || !relay.EnrolledAt(h) {
		return
	}
	x := &seen{vote: Vote{Why: Unrecorded(vh.Header)}}
	if vh.Record != nil {
		x.ballot = VoteOf(c.Rules, c.Roster, m, relay, vh.Record, vh.Vouchers)
		x.vote = x.ballot.Vote.Overload(c.Rules, vh.Header, len(vh.Record.Attempts))
		s.facts(c, relay, m, report, x, vh.Record.Attempts, vh.Vouchers, h)
	}
	seal := Sealed(c.Rules, c.Roster, m, len(c.Roster.Bench(relay, h)), vh)
	x.witnesses = seal.Witnesses
	off := c.Rules.OffPlan(c.Roster, vh)
	if c.Roster.Network != evidence.Lab {
		plan.add(c.Rules, vh, off)
	}
	said := x.vote.Value
	switch {
	case report.Void != "":
		x.vote = Vote{Why: Void}
	case off != None && said != Unknown:
		x.vote = Vote{Why: off}
	default:
		x.vote = seal.Of(c.Rules, Ballot{Vote: x.vote, Causes: x.ballot.Causes})
	}
	x.said = said
	s.logs[m.Name][h] = x
	s.votes.Set(m.Name, h, x.vote)
}

// facts keeps what the attempts of an hour saw besides the vote.
func (s *survey) facts(c *Case, relay *Relay, m *Monitor, report *MonitorReport, x *seen, attempts []evidence.Attempt, vouchers []evidence.VoucherCheck, h evidence.Hour) {
	for i := range attempts {
		a := &attempts[i]
		report.Attempts++
		x.signed = x.signed || c.Rules.Unproven(c.Roster, m, a, voucher(vouchers, i)) == None
		if report.Recused || report.Void != "" {
			continue // the relay's signature holds whoever shows it; what else it says counts nowhere
		}
		day := s.day(h)
		day.attempts++
		if a.Facts.AgentVersion != "" {
			x.agent = a.Facts.AgentVersion
		}
		if differs(a.Facts.ResolvedIPv4, relay.At(h).IPv4) {
			x.resolved = a.Facts.ResolvedIPv4
		}
		// Only the holder of the key can answer a ping; a shorter one is nearer.
		if a.Results[evidence.TCP4].Outcome == evidence.OK && len(a.Facts.PingUS) > 0 {
			if p := slices.Min(a.Facts.PingUS); p > 0 {
				day.ping = append(day.ping, p)
				if report.PingUS == 0 || p < report.PingUS {
					report.PingUS = p
				}
			}
		}
		if r := a.Facts.Reservation; r != nil && a.Level == evidence.LevelConnected && a.Results[evidence.Relay].Outcome == evidence.Fail &&
			r.LimitBytes > 0 && r.LimitBytes < tightLimit {
			x.tight = r.LimitBytes
		}
		if i == x.ballot.UpAttempt {
			day.ladder = append(day.ladder, duration(a))
		}
		if cert := a.Facts.Certificate; cert != nil {
			s.certificate(cert, h, a.Results[evidence.WSS].Outcome == evidence.OK)
		}
		for _, r := range a.Rungs {
			if at, counts := c.Rules.BrowserCounts(c.Roster, relay, h, a, r); counts {
				s.browser = append(s.browser, browserCheck{m, at, r.Outcome == evidence.OK})
			}
		}
	}
}

// day is where the times of the hour's day are kept.
func (s *survey) day(h evidence.Hour) *dayTimes {
	name := h.Start().Format(time.DateOnly)
	if s.days[name] == nil {
		s.days[name] = &dayTimes{}
	}
	return s.days[name]
}

func (s *survey) certificate(c *evidence.Certificate, h evidence.Hour, accepted bool) {
	i, ok := s.leaves[c.SHA256]
	if !ok {
		i = len(s.certificates)
		s.leaves[c.SHA256] = i
		s.certificates = append(s.certificates, CertificateSeen{SHA256: c.SHA256, Issuer: c.Issuer, NotBefore: c.NotBefore, NotAfter: c.NotAfter, First: h, Last: h})
	}
	leaf := &s.certificates[i]
	leaf.First, leaf.Last = min(leaf.First, h), max(leaf.Last, h)
	leaf.Accepted = leaf.Accepted || accepted
}

// count goes through the hours as they count and draws from what was seen in each.
func (s *survey) count(c *Case, relay *Relay, up *Uptime) {
	for _, hc := range up.Counts {
		if hc.State == NotEnrolled || hc.State == Remaining {
			continue
		}
		out := HourReport{Hour: hc.Hour, State: hc.State, Busy: hc.Busy, Tally: hc.Tally, Votes: map[string]string{}}
		var (
			voters            []voter
			heard             []named
			wss               bool
			signed, overruled bool
		)
		for _, log := range s.logs { // also of those who may not vote
			signed = signed || log[hc.Hour] != nil && log[hc.Hour].signed
		}
		for _, m := range c.Rules.Due(c.Roster, relay, hc.Hour, s.votes.beacons[hc.Hour]) {
			x := s.logs[m.Name][hc.Hour]
			if x == nil {
				out.Votes[m.Name] = "unknown: " + Missing.String()
				continue
			}
			out.Votes[m.Name] = voteWords(x.vote)
			if x.resolved != nil {
				s.otherRecord = addOnce(s.otherRecord, hc.Hour)
			}
			if x.tight > 0 && hc.State == StateDown {
				s.tight = addOnce(s.tight, hc.Hour)
				if s.tightBytes == 0 || x.tight < s.tightBytes {
					s.tightBytes = x.tight
				}
			}
			if x.vote.Value != Unknown && x.agent != "" {
				heard = append(heard, named{m, x.agent})
			}
			switch x.vote.Value {
			case Up:
				voters = append(voters, voter{m, len(x.witnesses) > 0})
				wss = wss || x.ballot.WSS
				if hc.State == StateDown {
					s.dissents.add(m, Up, hc.State, hc.Hour)
				}
			case Busy:
				wss = wss || x.ballot.WSS
			case Down:
				if hc.State != StateDown {
					s.dissents.add(m, Down, hc.State, hc.Hour)
					overruled = overruled || m.Committee
				}
			}
			if x.vote.Value == Down || x.vote.Value == Busy {
				for _, cause := range x.ballot.Causes {
					if !contains(out.Causes, cause) {
						out.Causes = append(out.Causes, cause)
					}
				}
			}
		}
		slices.Sort(out.Causes)
		if signed {
			s.signed++
		}
		switch hc.State {
		case StateUp:
			if hc.Busy {
				voters = nil // a relay that refuses signs nothing
			}
			out.Grade = s.assurance.add(c.Rules, voters)
			s.grades[out.Grade]++
			if !wss {
				s.withoutWSS = addOnce(s.withoutWSS, hc.Hour)
			}
			if overruled {
				s.overruled = addOnce(s.overruled, hc.Hour)
			}
			if agent := agreed(heard); agent != "" {
				s.agent(agent, hc.Hour)
			}
		case StateUnknown:
			if overruled {
				s.undecided = addOnce(s.undecided, hc.Hour)
			}
		case StateDown:
			if signed {
				out.Disputed = true
				s.disputed = addOnce(s.disputed, hc.Hour)
			}
		}
		s.hourly = append(s.hourly, out)
	}
}

func (s *survey) agent(agent string, h evidence.Hour) {
	if n := len(s.agents); n > 0 && s.agents[n-1].Agent == agent && s.agents[n-1].Until == h {
		s.agents[n-1].Until++
		return
	}
	s.agents = append(s.agents, AgentSeen{agent, Span{h, h + 1}})
}

func (s *survey) latency() []DayLatency {
	var out []DayLatency
	for day, t := range s.days {
		d := DayLatency{Day: day, Attempts: t.attempts, PingUS: median(t.ping), LadderUS: median(t.ladder)}
		if len(t.ladder) > 0 {
			d.SlowUS = slices.Max(t.ladder)
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b DayLatency) int { return compare(a.Day, b.Day) })
	return out
}

func median(v []int64) int64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func voteWords(v Vote) string {
	if v.Why == None {
		return v.Value.String()
	}
	return v.Value.String() + ": " + v.Why.String()
}

func addOnce(spans []Span, h evidence.Hour) []Span {
	if n := len(spans); n > 0 && spans[n-1].Until > h {
		return spans
	}
	return addHour(spans, h)
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func ptr[T any](v T) *T { return &v }

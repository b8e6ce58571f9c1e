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
	monitors []MonitorReport
	open     []OpenAttempt
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
}

// seen is what one monitor saw in one hour, judged.
type seen struct {
	ballot    Ballot
	vote      Vote // the ballot's, unless it was sealed too late
	witnesses []string
	bound     bool // some attempt holds the relay's signature for this hour
	boundUp   bool // the attempt that makes it up does
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
	}
	for _, n := range c.Roster.Notes {
		if (n.Relay == "" || n.Relay == relay.PeerID) && n.From < c.Month.End() && n.Until > c.Month.First() {
			s.notes = append(s.notes, n)
		}
	}
	whole := Term{From: c.Month.First(), Until: ptr(c.Month.End())}
	places := map[string]int{} // of the monitors of the month in s.monitors, by log key
	var members []*Monitor
	for i := range c.Roster.Monitors {
		m := &c.Roster.Monitors[i]
		if !m.overlaps(whole) {
			continue
		}
		places[m.LogKey] = len(members)
		members = append(members, m)
		s.monitors = append(s.monitors, MonitorReport{
			Name: m.Name, Operator: m.Operator, Committee: m.Committee, Place: m.Place,
			Recused: m.Recused(relay), Votes: map[Value]int{},
		})
	}
	for log, err := range c.Logs {
		if err != nil {
			return nil, err
		}
		i, known := places[log.Key]
		if !known {
			return nil, fmt.Errorf("the log of %s is by no monitor that is in the roster in %s", log.Month.Origin, c.Month)
		}
		m, report := members[i], &s.monitors[i]
		if report.Log {
			return nil, fmt.Errorf("the log of monitor %s is there twice", m.Name)
		}
		if err := checkLog(c, log); err != nil {
			return nil, err
		}
		report.Log, report.Void, report.Origin = true, log.Void, log.Month.Origin
		report.Size, report.Root, report.Digest = log.Month.Size, log.Month.Root.String(), log.Month.Digest
		s.read(c, relay, m, log, report)
	}
	for i, m := range members {
		if us := s.monitors[i].PingUS; us > 0 && m.Place != nil {
			s.disks = append(s.disks, c.Rules.disk(m.Name, *m.Place, us))
		}
	}
	slices.SortFunc(s.certificates, func(a, b CertificateSeen) int {
		if a.First != b.First {
			return int(a.First - b.First)
		}
		return compare(a.SHA256, b.SHA256)
	})
	slices.SortStableFunc(s.browser, func(a, b browserCheck) int { return a.at.Compare(b.at.Time) })
	return s, nil
}

func checkLog(c *Case, log *Log) error {
	switch {
	case log.Month.Network != c.Roster.Network:
		return fmt.Errorf("the log of %s is of network %s, the roster of %s: lab and real are never mixed", log.Month.Origin, log.Month.Network, c.Roster.Network)
	case log.Month.Relay != c.Relay:
		return fmt.Errorf("the log of %s is about relay %s", log.Month.Origin, log.Month.Relay)
	case log.Month.Month != c.Month:
		return fmt.Errorf("the log of %s is about %s", log.Month.Origin, log.Month.Month)
	}
	return nil
}

// read goes through one monitor's month.
func (s *survey) read(c *Case, relay *Relay, m *Monitor, log *Log, report *MonitorReport) {
	hours := s.logs[m.Name]
	if hours == nil {
		hours = map[evidence.Hour]*seen{}
		s.logs[m.Name] = hours
	}
	var plan ScheduleReport
	for i := range log.Month.Hours {
		vh := &log.Month.Hours[i]
		h := vh.Header.Hour
		if !m.Holds(h) || !c.Month.Contains(h) || !relay.EnrolledAt(h) || h.End().After(c.AsOf) {
			continue
		}
		x := &seen{vote: Vote{Why: Unrecorded(vh.Header)}}
		if vh.Record != nil {
			x.ballot = VoteOf(c.Rules, c.Roster, m, relay, vh.Record, vh.Vouchers)
			x.vote = x.ballot.Vote.Overload(c.Rules, vh.Header, len(vh.Record.Attempts))
			s.facts(c, relay, report, x, vh.Record.Attempts, vh.Vouchers, h)
		}
		n := len(c.Roster.Bench(relay, h))
		seal := Sealed(c.Rules, c.Roster, m.Name, n, vh)
		x.witnesses = seal.Witnesses
		// Only a lab may choose its moment. A clock that was set may show a retry
		// before the first attempt.
		early := c.Roster.Network != evidence.Lab && !vh.Header.Clock.Moved(c.Rules.ClockDrift) && plan.early(c.Rules, vh)
		switch {
		case log.Void != "":
			x.vote = Vote{Why: Void}
		case early && x.vote.Value != Unknown:
			x.vote = Vote{Why: Early}
		default:
			x.vote = seal.Of(c.Rules, Ballot{Vote: x.vote, Causes: x.ballot.Causes})
		}
		hours[h] = x
		s.votes.Set(m.Name, h, x.vote)
		report.Votes[x.vote.Value]++
		if x.bound {
			report.Vouchers++
		}
	}
	if plan.Checked > 0 {
		report.Schedule = &plan
	}
	for _, rec := range log.Month.Open {
		for _, a := range rec.Attempts {
			o := OpenAttempt{Monitor: m.Name, Hour: rec.Hour, Started: a.Started, Level: a.Level, Results: map[evidence.Component]evidence.Outcome{}}
			for comp, r := range a.Results {
				o.Results[comp] = r.Outcome
			}
			s.open = append(s.open, o)
		}
	}
}

// facts keeps what the attempts of an hour saw besides the vote.
func (s *survey) facts(c *Case, relay *Relay, report *MonitorReport, x *seen, attempts []evidence.Attempt, vouchers []evidence.VoucherCheck, h evidence.Hour) {
	for i := range attempts {
		a := &attempts[i]
		report.Attempts++
		if i < len(vouchers) && vouchers[i].State == evidence.VoucherBound {
			x.bound = true
			x.boundUp = x.boundUp || i == x.ballot.UpAttempt
		}
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
			if r.Name != BrowserRung || a.Stepped { // no time in that can be compared (rule R9)
				continue
			}
			at := timeIn(a, r.OffsetUS)
			ok := r.Outcome == evidence.OK
			// A browser that fails for want of a line says nothing of the relay (rule R5).
			if ok || r.Outcome == evidence.Fail && c.Rules.lineWorked(c.Roster, relay, h, evidence.WSS, at, timeIn(a, r.OffsetUS+r.DurationUS), a.Controls) == controlsOK {
				s.browser = append(s.browser, browserCheck{evidence.TimeOf(at), ok})
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
	s.assurance.operators, s.assurance.committee = map[string]bool{}, map[string]bool{}
	for _, hc := range up.Counts {
		if hc.State == NotEnrolled || hc.State == Remaining {
			continue
		}
		out := HourReport{Hour: hc.Hour, State: hc.State, Busy: hc.Busy, Tally: hc.Tally}
		bench := c.Roster.Bench(relay, hc.Hour)
		var (
			backing         []*Monitor // their votes make the hour up
			bound, anyBound bool
			wss, witnessed  bool
			agent           string
		)
		out.Votes = map[string]string{}
		witnessed = true
		for _, m := range bench {
			x := s.logs[m.Name][hc.Hour]
			if x == nil {
				out.Votes[m.Name] = "unknown: " + Missing.String()
				continue
			}
			out.Votes[m.Name] = voteWords(x.vote)
			anyBound = anyBound || x.bound
			if x.resolved != nil {
				s.otherRecord = addOnce(s.otherRecord, hc.Hour)
			}
			if x.tight > 0 && hc.State == StateDown {
				s.tight = addOnce(s.tight, hc.Hour)
				s.tightBytes = x.tight
			}
			if x.vote.Value == Unknown {
				continue
			}
			if x.vote.Value == Down || x.vote.Value == Busy {
				for _, cause := range x.ballot.Causes {
					if !contains(out.Causes, cause) {
						out.Causes = append(out.Causes, cause)
					}
				}
			}
			if x.vote.Value == Up || x.vote.Value == Busy {
				backing = append(backing, m)
				wss = wss || x.ballot.WSS
				witnessed = witnessed && len(x.witnesses) > 0
				bound = bound || x.boundUp && x.vote.Value == Up && len(x.witnesses) > 0
				if agent == "" || x.vote.Value == Up {
					agent = x.agent
				}
			}
		}
		slices.Sort(out.Causes)
		switch hc.State {
		case StateUp:
			out.Grade = s.grade(c.Rules, bench, backing, bound && !hc.Busy, witnessed)
			if !wss {
				s.withoutWSS = addOnce(s.withoutWSS, hc.Hour)
			}
			if agent != "" {
				s.agent(agent, hc.Hour)
			}
		case StateDown:
			if anyBound {
				out.Disputed = true
				s.disputed = addOnce(s.disputed, hc.Hour)
			}
		}
		s.hourly = append(s.hourly, out)
	}
}

// grade grades an hour that counts up, and adds it to what rule R19 asks about.
func (s *survey) grade(rules *Rules, bench, backing []*Monitor, bound, witnessed bool) Grade {
	a := &s.assurance
	g := GradeC
	if len(bench) >= rules.MinMonitors {
		g = GradeB
		if bound {
			g = GradeA
		}
		a.graded++
		if rules.suffices(bench) {
			a.assured++
			for _, m := range backing {
				a.operators[operatorOf(m)] = true
				if m.Committee {
					a.committee[m.Name] = true
				}
			}
		}
	}
	a.alone = a.alone || len(bench) == 1
	a.unwitnessed = a.unwitnessed || !witnessed
	s.grades[g]++
	return g
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

// duration of an attempt: from its start to the end of its last rung.
func duration(a *evidence.Attempt) int64 {
	var end int64
	for _, r := range a.Rungs {
		if r.Component != "" && r.Outcome != evidence.Skipped {
			end = max(end, r.OffsetUS+r.DurationUS)
		}
	}
	return end
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

package bounty

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// ReportVersion is the version of [Verdict] as it is written. Every version that
// was released stays recomputable.
const ReportVersion = 1

// Result is what the month comes to (rule R16).
type Result string

// The results. A lab's never says more than LAB.
const (
	Eligible    Result = "ELIGIBLE"
	NotEligible Result = "NOT_ELIGIBLE"
	ForReview   Result = "REVIEW"
	LabResult   Result = "LAB"
)

// Case is all that is judged: one relay, one month.
type Case struct {
	Rules    *Rules
	Roster   *Roster
	Releases *release.List // nil: none was given
	Geo      Geo           // nil: none was given
	Relay    string
	Month    evidence.Month
	// Logs are what the monitors' logs prove. A monitor of the roster that is not
	// among them knows nothing.
	Logs []Log
	// SignedBy names the keys that rules and roster say they are signed by.
	RulesSignedBy, RosterSignedBy []string
}

// Log is a monitor's month.
type Log struct {
	// Monitor is its name in the roster, Key the key with which the evidence is verified.
	Monitor string
	Key     string
	// Void says why nothing in it counts: the monitor signed two histories.
	Void string
	// Read verifies the month and hands over each hour, in order; the months of many
	// monitors do not fit into memory at once. The result has no Hours. It may be called
	// again. After an error nothing counts that was handed over.
	Read func(visit func(evidence.VerifiedHour) error) (evidence.VerifiedMonth, error)
}

// Verdict is the month of one relay, judged. Written as canonical JSON it is the
// report that everybody can recompute byte for byte.
type Verdict struct {
	Version  int              `json:"version"`
	Network  evidence.Network `json:"network"`
	Relay    RelayReport      `json:"relay"`
	Month    evidence.Month   `json:"month"`
	AsOf     evidence.Time    `json:"as_of"`
	Result   Result           `json:"result"`
	Final    bool             `json:"final"`
	Headline string           `json:"headline"` // "LAB, PROVISIONAL"
	Reasons  []string         `json:"reasons"`
	Labels   []string         `json:"labels"`
	Hours    Hours            `json:"hours"`
	Coverage int              `json:"coverage_percent"`
	Grades   map[Grade]int    `json:"grades"`
	Findings []Finding        `json:"findings"`
	Notes    []Note           `json:"notes"`
	Monitors []MonitorReport  `json:"monitors"`
	// Dissent are votes against what hours count as.
	Dissent []Dissent `json:"dissent"`
	// Absent are monitors whose logs are missing or end early.
	Absent []Absence `json:"absent"`
	// Signed are the hours for which the relay signed, Assured those that rule R19 trusts.
	Signed  int `json:"signed_hours"`
	Assured int `json:"assured_hours"`
	// Hourly are the hours that were judged; see [Verdict.EveryHour].
	Hourly []HourReport `json:"hourly"`
	// Disputed are hours that count down although the relay signed for another monitor (section "who can forge what").
	Disputed     []Span            `json:"disputed"`
	Certificates []CertificateSeen `json:"certificates"`
	Agents       []AgentSeen       `json:"agents"`
	Latency      []DayLatency      `json:"latency"`
	Disks        []Disk            `json:"disks"`
	Inputs       Inputs            `json:"inputs"`

	until time.Time // how far the committee's logs tell; zero: there are none
}

// RelayReport is who is judged.
type RelayReport struct {
	PeerID       string         `json:"peer_id"`
	Operator     string         `json:"operator"`
	TCP4         string         `json:"tcp4"`
	WSS          string         `json:"wss"`
	Region       string         `json:"region"`
	Payout       string         `json:"payout"`
	PayoutSigned bool           `json:"payout_signed"` // the relay's own key signed it
	Enrolled     evidence.Hour  `json:"enrolled"`
	Until        *evidence.Hour `json:"until,omitempty"`
}

// MonitorReport is who judged, and how much of it.
type MonitorReport struct {
	Name      string        `json:"name"`
	Operator  string        `json:"operator"`
	Committee bool          `json:"committee"`
	Place     *Place        `json:"place,omitempty"`
	Recused   bool          `json:"recused"`
	Log       bool          `json:"log"` // its log is part of the evidence
	Void      string        `json:"void,omitempty"`
	Origin    string        `json:"origin,omitempty"`
	Size      int64         `json:"size,omitempty"`
	Root      string        `json:"root,omitempty"`
	Digest    string        `json:"digest,omitempty"`
	Votes     map[Value]int `json:"votes"`
	// NotDue are hours for which others were chosen (rule R21); they are not in Votes.
	NotDue int `json:"not_due,omitempty"`
	// Voided are hours by why what it said in them counts nowhere, and by what that was. A
	// monitor that regrets what it wrote can come late with it, or set its clock.
	Voided   map[Why]map[Value]int `json:"voided,omitempty"`
	Attempts int                   `json:"attempts"`
	Vouchers int                   `json:"vouchers"` // hours with a signature of the relay for exactly that hour
	PingUS   int64                 `json:"ping_us,omitempty"`
	ends     evidence.Hour         // the first hour that its log does not show
	// Schedule is nil in a lab, and where there was no attempt.
	Schedule *ScheduleReport `json:"schedule,omitempty"`
}

// void counts an hour in which what the monitor said counts nowhere.
func (r *MonitorReport) void(why Why, said Value) {
	if r.Voided == nil {
		r.Voided = map[Why]map[Value]int{}
	}
	if r.Voided[why] == nil {
		r.Voided[why] = map[Value]int{}
	}
	r.Voided[why][said]++
}

// HourReport is one hour and who saw what.
type HourReport struct {
	Hour     evidence.Hour `json:"hour"`
	State    State         `json:"state"`
	Busy     bool          `json:"busy,omitempty"`
	Grade    Grade         `json:"grade,omitempty"`
	Disputed bool          `json:"disputed,omitempty"`
	Tally    Tally         `json:"tally"`
	// Votes are in words by monitor: "up", "unknown: late".
	Votes  map[string]string `json:"votes,omitempty"`
	Causes []string          `json:"causes,omitempty"`
}

// DayLatency is how long things took on one day, over all monitors.
type DayLatency struct {
	Day      string `json:"day"`
	Attempts int    `json:"attempts"`
	PingUS   int64  `json:"ping_us"`   // median of the shortest pings
	LadderUS int64  `json:"ladder_us"` // median of whole attempts that came through
	SlowUS   int64  `json:"slow_us"`   // the longest of them
}

// Inputs are the files that a verifier brings along, and their hashes.
type Inputs struct {
	Rules    Input    `json:"rules"`
	Roster   Input    `json:"roster"`
	Releases string   `json:"releases_sha256"`
	Geo      []Source `json:"geo"`
}

// Input is a file and by whom it says it is signed.
type Input struct {
	SHA256 string `json:"sha256"`
	// Serial is the file's place in the committee's chain; absent: it has none.
	Serial   int      `json:"serial,omitempty"`
	SignedBy []string `json:"signed_by"`
}

// Judge applies all rules to a case. It fails only on a case that cannot be judged.
func Judge(c Case) (*Verdict, error) {
	if c.Rules.Network != c.Roster.Network {
		return nil, fmt.Errorf("the rules are for network %s, the roster for %s: lab and real are never mixed", c.Rules.Network, c.Roster.Network)
	}
	relay := c.Roster.Relay(c.Relay)
	if relay == nil {
		return nil, fmt.Errorf("relay %s is not in the roster", c.Relay)
	}
	if c.Releases != nil && c.Releases.SHA256 != c.Roster.Releases {
		return nil, errors.New("the release list is not the one whose SHA-256 stands in the roster")
	}
	s, err := surveyOf(&c, relay)
	if err != nil {
		return nil, err
	}
	up := CountUptime(c.Rules, c.Roster, relay, s.votes, s.asOf)
	s.count(&c, relay, &up)

	v := &Verdict{
		Version: ReportVersion, Network: c.Rules.Network, Month: c.Month, AsOf: evidence.TimeOf(s.asOf),
		Relay: relayReport(relay, c.Month), Hours: up.Hours, Coverage: up.Hours.Coverage(), Grades: s.grades,
		Hourly: notNil(s.hourly), Disputed: notNil(s.disputed), Certificates: notNil(s.certificates), Agents: notNil(s.agents),
		Latency: notNil(s.latency()), Disks: notNil(s.disks), Monitors: notNil(s.monitors), Absent: s.absent(&c, relay), Dissent: s.dissents.sorted(),
		Signed: s.signed, Assured: s.assurance.assured,
		Notes: notNil(s.notes), Labels: labels(&c, relay),
	}
	v.Findings = []Finding{
		uptimeFinding(&up, s),
		judgeAddress(c.Rules, relay, c.Month, s),
		judgeCertificate(c.Rules, c.Month, s.certificates),
		judgeSoftware(c.Rules, c.Releases, c.Month, s.agents),
		judgeRegion(c.Rules, c.Geo, relay.At(c.Month.End()-1).IPv4, relay.Region, s.disks),
		judgeBrowser(c.Rules, s.browser, s.withoutWSS),
		judgeAssurance(c.Rules, c.Roster, relay, &s.assurance),
		judgeDissent(c.Rules, s.overruled, s.undecided),
	}
	v.Inputs = Inputs{
		Rules:  Input{c.Rules.SHA256, c.Rules.Serial, notNil(c.RulesSignedBy)},
		Roster: Input{c.Roster.SHA256, c.Roster.Serial, notNil(c.RosterSignedBy)},
		Geo:    []Source{},
	}
	if c.Releases != nil {
		v.Inputs.Releases = c.Releases.SHA256
	}
	if c.Geo != nil {
		v.Inputs.Geo = notNil(c.Geo.Sources())
	}
	v.until = s.until
	v.conclude(&c, &up)
	return v, nil
}

// conclude applies rule R16 and the caps.
func (v *Verdict) conclude(c *Case, up *Uptime) {
	v.Result = Eligible
	for _, f := range v.Findings {
		switch {
		case f.Outcome == Fail:
			v.Result = NotEligible
		case f.Outcome != Pass && f.Outcome != Warn && v.Result == Eligible:
			v.Result = ForReview
		}
	}
	for _, f := range v.Findings {
		if f.Outcome != Pass {
			v.Reasons = append(v.Reasons, fmt.Sprintf("%s %s: %s", f.Subject, f.Outcome, f.Reasons[0]))
		}
	}
	// A month that can no longer be won is over; all else waits for late evidence.
	// A lab's month is never won, so that only time ends it.
	end := c.Month.End().Start()
	v.Final = up.Final
	if v.Network == evidence.Lab {
		v.Final = !v.AsOf.Before(end.Add(c.Rules.FinalAfter))
	}
	// A monitor and another's witness can date a log as they like, but not the committee's.
	short := ""
	if v.Result == Eligible && !v.until.IsZero() && v.until.Before(end.Add(c.Rules.FinalAfter)) {
		if v.Final {
			short = fmt.Sprintf("; the committee's own log reaches only to %s", evidence.TimeOf(v.until))
		}
		v.Final = false
	}
	if v.Result == Eligible && (len(c.RulesSignedBy) == 0 || len(c.RosterSignedBy) == 0) {
		v.Result = ForReview
		v.Reasons = append(v.Reasons, "unsigned: no committee vouches for the rules and the roster")
	}
	if !v.Final {
		why := fmt.Sprintf("provisional: final from %s on, %s after the month's end (R16)", evidence.HourOf(end.Add(c.Rules.FinalAfter)), hoursWords(c.Rules.FinalAfter)) + short
		if closed := v.Hours.Up + v.Hours.Down + v.Hours.Unknown; closed == 0 {
			why += "; no hour of the enrolment has closed yet"
		}
		v.Reasons = append([]string{why}, v.Reasons...)
	}
	if v.Network == evidence.Lab {
		v.Result = LabResult
		v.Reasons = append([]string{"lab: own hosts and private addresses are allowed here, so this decides about nothing"}, v.Reasons...)
	}
	if len(v.Reasons) == 0 {
		v.Reasons = []string{"every rule passed"}
	}
	v.Headline = string(v.Result)
	if !v.Final {
		v.Headline += ", PROVISIONAL"
	}
}

func uptimeFinding(up *Uptime, s *survey) Finding {
	f := Finding{
		Rule: "R10", Subject: "uptime", Outcome: up.Outcome, Reasons: up.Reasons,
		Hours: up.Spans(func(c HourCount) bool { return c.State == StateDown }),
	}
	if n := count(s.tight); n > 0 {
		f.Reasons = append(f.Reasons, fmt.Sprintf("in %d h down the relay granted a reservation and connected a circuit (level 2), but limits each circuit to %d bytes, fewer than the handshake of two peers needs: raise its data limit (helia-coord 2.0.2 has 256 by default)", n, s.tightBytes))
	}
	return f
}

func relayReport(r *Relay, m evidence.Month) RelayReport {
	out := RelayReport{
		PeerID: r.PeerID, Operator: r.Operator, Region: r.Region, Payout: r.Payout,
		PayoutSigned: r.Payout != "" && r.Statement != nil, Enrolled: r.Enrolled, Until: r.Until,
	}
	out.TCP4, out.WSS = r.At(m.End() - 1).Multiaddrs(r.PeerID)
	return out
}

// labels say at a glance what this evidence is not.
func labels(c *Case, relay *Relay) []string {
	out := []string{"software: self-reported"}
	if c.Rules.Network == evidence.Lab {
		out = append(out, "lab")
	}
	if len(c.RulesSignedBy) == 0 || len(c.RosterSignedBy) == 0 {
		out = append(out, "unsigned")
	}
	if !c.Roster.hasControls(relay) {
		out = append(out, "no controls")
	}
	if !witnessed(c) {
		out = append(out, "unwitnessed")
	}
	if relay.Statement == nil {
		out = append(out, "enrolment not signed by the relay's key")
	}
	slices.Sort(out)
	return out
}

// witnessed: some monitor of the month has a witness of another operator (rule R9).
func witnessed(c *Case) bool {
	for h := c.Month.First(); h < c.Month.End(); h++ {
		for i := range c.Roster.Monitors {
			if m := &c.Roster.Monitors[i]; m.Holds(h) && len(c.Roster.witnessesFor(m, h)) > 0 {
				return true
			}
		}
	}
	return false
}

func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// EveryHour are all hours of the month: those that were judged, and between them
// those in which the relay was not enrolled or that are to come.
func (v *Verdict) EveryHour() []HourReport {
	var out []HourReport
	judged := v.Hourly
	for h := v.Month.First(); h < v.Month.End(); h++ {
		switch {
		case len(judged) > 0 && judged[0].Hour == h:
			out = append(out, judged[0])
			judged = judged[1:]
		case Term{v.Relay.Enrolled, v.Relay.Until}.Holds(h):
			out = append(out, HourReport{Hour: h, State: Remaining})
		default:
			out = append(out, HourReport{Hour: h, State: NotEnrolled})
		}
	}
	return out
}

// Line is the verdict in one line.
func (v *Verdict) Line() string {
	return fmt.Sprintf("%s: %s in %s: %s", v.Headline, v.Relay.PeerID, v.Month, strings.Join(v.Reasons, "; "))
}

package bounty

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/config"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// DefaultRules is the file with the default rules: the one place where each
// field is described.
//
//go:embed rules.yaml
var DefaultRules []byte

// Rules are the numbers of the bounty; see [DefaultRules] for what each means.
type Rules struct {
	Version int `yaml:"version"`
	// Serial and Previous are the place in the chain of the committee's rules.
	Serial   int    `yaml:"serial"`
	Previous string `yaml:"previous,omitempty"`
	// From is the first month that is judged by these rules.
	From              evidence.Month   `yaml:"from"`
	Network           evidence.Network `yaml:"network"`
	AttemptClose      time.Duration    `yaml:"attempt_close"`
	RelayLevel        int              `yaml:"relay_level"`
	ControlWithin     time.Duration    `yaml:"control_within"`
	ControlShare      Share            `yaml:"control_share"`
	ControlBeside     time.Duration    `yaml:"control_beside"`
	LineLoss          int              `yaml:"line_loss"`
	VoucherValid      time.Duration    `yaml:"voucher_valid"`
	DownAttempts      int              `yaml:"down_attempts"`
	DownSpacing       time.Duration    `yaml:"down_spacing"`
	BusyCap           int              `yaml:"busy_cap"`
	WitnessesRequired Witnesses        `yaml:"witnesses_required"`
	SealWithin        time.Duration    `yaml:"seal_within"`
	ClockDrift        time.Duration    `yaml:"clock_drift"`
	ClockAhead        time.Duration    `yaml:"clock_ahead"`
	HoursRequired     int              `yaml:"hours_required"`
	CoverageFlag      int              `yaml:"coverage_flag"`
	AddressChanges    int              `yaml:"address_changes"`
	CertificateWarn   time.Duration    `yaml:"certificate_warn"`
	ReleaseGrace      time.Duration    `yaml:"release_grace"`
	Countries         []string         `yaml:"countries"`
	CableKmPerMs      float64          `yaml:"cable_km_per_ms"`
	VacuumKmPerMs     float64          `yaml:"vacuum_km_per_ms"`
	BrowserRepeat     time.Duration    `yaml:"browser_repeat"`
	FinalAfter        time.Duration    `yaml:"final_after"`
	AssuredOperators  int              `yaml:"assured_operators"`
	CommitteeDissent  int              `yaml:"committee_dissent"`
	// MonitorsDue is 0 where rule R21 is off, as in rules that were made before it.
	MonitorsDue int `yaml:"monitors_due,omitempty"`
	DueFrom     int `yaml:"due_from,omitempty"`

	// SHA256 is the hash of the file that was read.
	SHA256 string `yaml:"-"`
	// Unknown are the places of members that this program does not know. They mean
	// nothing to it. Only a signed file has any.
	Unknown []string `yaml:"-"`
}

// FileVersion is the version of rules and of rosters that this program reads.
const FileVersion = 1

// options are how rules or a roster are read; unknown may be nil.
func options(unknown *config.Unknown) config.Options {
	newer := func(v int) error { return evidence.NewerVersion("it", v, FileVersion) }
	return config.Options{Version: newer, Unknown: unknown}
}

// Share is a fraction such as 2/3.
type Share struct{ Num, Den int }

var sharePattern = regexp.MustCompile(`^([1-9][0-9]?)/([1-9][0-9]?)$`)

// UnmarshalText reads "2/3".
func (s *Share) UnmarshalText(b []byte) error {
	m := sharePattern.FindSubmatch(b)
	if m == nil {
		return fmt.Errorf("want a share such as 2/3, not %q", b)
	}
	s.Num, _ = strconv.Atoi(string(m[1]))
	s.Den, _ = strconv.Atoi(string(m[2]))
	if s.Num > s.Den {
		return fmt.Errorf("want a share of at most 1, not %q", b)
	}
	return nil
}

func (s Share) String() string { return fmt.Sprintf("%d/%d", s.Num, s.Den) }

// Of is the share of k, rounded up.
func (s Share) Of(k int) int { return (k*s.Num + s.Den - 1) / s.Den }

// Witnesses is a number of witnesses, or floor(n/2) where it is negative.
type Witnesses int

// Half of the monitors, rounded down.
const Half Witnesses = -1

// UnmarshalText reads "half" or a number.
func (w *Witnesses) UnmarshalText(b []byte) error {
	if string(b) == "half" {
		*w = Half
		return nil
	}
	n, err := strconv.ParseUint(string(b), 10, 8)
	if err != nil {
		return fmt.Errorf("want \"half\" or a number of witnesses, not %q", b)
	}
	*w = Witnesses(n)
	return nil
}

func (w Witnesses) String() string {
	if w < 0 {
		return "half"
	}
	return strconv.Itoa(int(w))
}

// Of is the number that is required where n monitors are in force.
func (w Witnesses) Of(n int) int {
	if w < 0 {
		return n / 2
	}
	return int(w)
}

// ParseRules reads an unsigned rules file. For a lab it is read over the defaults: what
// it leaves out keeps its default. Rules of the real network are complete, so that no
// number comes from the program; name stands for the file in errors.
func ParseRules(name string, file []byte) (*Rules, error) {
	return parseRules(name, file, file, false, false)
}

// parseRules reads text, which is the file or what a signed file vouches for. Whole
// rules leave nothing to the defaults. Grown ones may have members that nobody knows yet.
func parseRules(name string, file, text []byte, whole, grown bool) (*Rules, error) {
	o := options(nil)
	if grown {
		o.Unknown = &config.Unknown{}
	}
	var r Rules
	if err := config.Decode("default rules", DefaultRules, &r); err != nil {
		return nil, err
	}
	r.Serial = 0 // that is the default file's own
	if err := config.DecodeWith(name, text, &r, o); err != nil {
		return nil, err
	}
	if grown {
		r.Unknown, o.Unknown = o.Unknown.Places(), &config.Unknown{}
	}
	var missing error
	if whole || r.Network != evidence.Lab {
		o.Whole = true
		var own Rules
		missing = config.DecodeWith(name, text, &own, o)
		r.MonitorsDue, r.DueFrom = own.MonitorsDue, own.DueFrom
	}
	wrong := r.Validate()
	if wrong != nil {
		wrong = fmt.Errorf("%s: %w", name, wrong)
	}
	if err := errors.Join(missing, wrong); err != nil {
		return nil, err
	}
	r.SHA256 = hashOf(file)
	return &r, nil
}

// Defaults are the rules of [DefaultRules].
func Defaults() *Rules {
	r, err := ParseRules("default rules", DefaultRules)
	if err != nil {
		panic(err) // the embedded file is wrong: a test reads it
	}
	return r
}

var countryPattern = regexp.MustCompile(`^[A-Z]{2}$`)

// Validate names every value that cannot be.
func (r *Rules) Validate() error {
	var f faults
	want := f.want
	span := func(name string, d, least, most time.Duration) {
		want(least <= d && d <= most, "%s: want a span from %v to %v, not %v", name, least, most, d)
	}
	number := func(name string, n, least, most int) {
		want(least <= n && n <= most, "%s: want a number from %d to %d, not %d", name, least, most, n)
	}
	want(r.Version == FileVersion, "version: this program reads version %d, not %d", FileVersion, r.Version)
	validateLink(&f, r.Link(), false) // signed rules are complete: they have a serial
	want(r.Network == evidence.PSF || r.Network == evidence.Lab, "network: want psf or lab, not %q", r.Network)
	span("attempt_close", r.AttemptClose, 0, time.Hour)
	number("relay_level", r.RelayLevel, int(evidence.LevelReserved), int(evidence.LevelEchoed))
	span("control_within", r.ControlWithin, time.Second, time.Hour)
	span("control_beside", r.ControlBeside, time.Second, time.Hour)
	number("line_loss", r.LineLoss, 0, 100)
	span("voucher_valid", r.VoucherValid, time.Minute, 24*time.Hour)
	number("down_attempts", r.DownAttempts, 1, 10)
	span("down_spacing", r.DownSpacing, 0, time.Hour)
	number("busy_cap", r.BusyCap, 0, 744)
	number("witnesses_required", int(r.WitnessesRequired), -1, 100)
	span("seal_within", r.SealWithin, time.Minute, 72*time.Hour)
	span("clock_drift", r.ClockDrift, time.Millisecond, time.Minute)
	span("clock_ahead", r.ClockAhead, 0, 5*time.Minute)
	number("hours_required", r.HoursRequired, 1, 672)
	number("coverage_flag", r.CoverageFlag, 0, 100)
	number("address_changes", r.AddressChanges, 0, 31)
	span("certificate_warn", r.CertificateWarn, 0, 90*24*time.Hour)
	span("release_grace", r.ReleaseGrace, 0, 31*24*time.Hour)
	want(len(r.Countries) > 0, "countries: want at least one ISO 3166-1 code")
	seen := map[string]bool{}
	for _, c := range r.Countries {
		want(countryPattern.MatchString(c), "countries: want ISO 3166-1 codes such as SG, not %q", c)
		want(!seen[c], "countries: %s stands twice", c)
		seen[c] = true
	}
	want(r.CableKmPerMs > 0, "cable_km_per_ms: want a number above 0, not %v", r.CableKmPerMs)
	// An infinite or absurd bound would turn every region into a PASS or a FAIL.
	want(r.VacuumKmPerMs >= r.CableKmPerMs && r.VacuumKmPerMs <= 1000, "vacuum_km_per_ms: want a number from cable_km_per_ms to 1000, not %v", r.VacuumKmPerMs)
	span("browser_repeat", r.BrowserRepeat, time.Minute, 31*24*time.Hour)
	span("final_after", r.FinalAfter, 0, 31*24*time.Hour)
	number("assured_operators", r.AssuredOperators, 1, 100)
	number("committee_dissent", r.CommitteeDissent, 0, 744)
	number("monitors_due", r.MonitorsDue, 0, 100)
	number("due_from", r.DueFrom, 0, maxTerms)
	switch {
	case r.MonitorsDue == 0 && r.DueFrom == 0:
	case r.MonitorsDue == 0:
		want(false, "missing: monitors_due: it and due_from stand together, or neither does (R21)")
	case r.DueFrom == 0:
		want(false, "missing: due_from: it and monitors_due stand together, or neither does (R21)")
	default:
		want(r.MonitorsDue >= r.AssuredOperators, "monitors_due: want at least as many as assured_operators, %d, not %d: else no hour is ever assured (R19)", r.AssuredOperators, r.MonitorsDue)
		want(r.DueFrom > r.MonitorsDue, "due_from: want more than monitors_due, %d, not %d", r.MonitorsDue, r.DueFrom)
	}
	return errors.Join(f...)
}

// eligible says whether a country's code is on the list.
func (r *Rules) eligible(country string) bool {
	for _, c := range r.Countries {
		if strings.EqualFold(c, country) {
			return true
		}
	}
	return false
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

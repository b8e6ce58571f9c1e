package monitor

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// shelf keeps the committee's files that were in force, by their serials, in the data
// folder. So nobody takes the monitor back to an older one, also not over a restart, and
// a month that has ended is judged by the rules that were in force then.
type shelf struct{ dir string }

func shelfOf(cfg Config) shelf { return shelf{filepath.Join(cfg.DataDir, "committee")} }

// The kinds of files.
const (
	ruleFiles   = "rules"
	rosterFiles = "roster"
)

func (s shelf) name(kind string, serial int) string {
	return filepath.Join(s.dir, fmt.Sprintf("%s-%d.yaml", kind, serial))
}

// keep puts a file there. One without a serial, such as a lab's, is in no chain.
func (s shelf) keep(kind string, l bounty.Link, file []byte) error {
	if l.Serial == 0 {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("keep the %s: %w", kind, err)
	}
	if err := durable.Create(s.name(kind, l.Serial), file, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keep the %s: %w", kind, err)
	}
	return nil
}

// newest is the kept file of the highest serial; a link with serial 0: there is none.
func (s shelf) newest(kind string) (bounty.Link, []byte, error) {
	serials, err := s.serials(kind)
	if err != nil || len(serials) == 0 {
		return bounty.Link{}, nil, err
	}
	serial := serials[len(serials)-1]
	file, err := bounded.ReadFile(s.name(kind, serial), bounty.MaxBytes)
	if err != nil {
		return bounty.Link{}, nil, fmt.Errorf("read the %s that were in force: %w", kind, err)
	}
	return bounty.Link{Serial: serial, SHA256: fmt.Sprintf("%x", sha256.Sum256(file))}, file, nil
}

// serials are those of the kept files of a kind, in their order.
func (s shelf) serials(kind string) ([]int, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look which %s were in force: %w", kind, err)
	}
	var out []int
	for _, e := range entries {
		var serial int
		if n, _ := fmt.Sscanf(e.Name(), kind+"-%d.yaml", &serial); n == 1 && e.Name() == filepath.Base(s.name(kind, serial)) {
			out = append(out, serial)
		}
	}
	slices.Sort(out)
	return out, nil
}

// settle puts, for hour h, in the place of each file of b that may not be used what was in
// force last: of each kind by itself, so that rules which wait for their month keep no
// roster waiting. The error says which are not used, and why.
func (s shelf) settle(b, last *basis, cfg Config, h evidence.Hour) (*basis, error) {
	out := &basis{files: b.files, rules: b.rules, roster: b.roster}
	succeeds := func(name, kind string, l bounty.Link) error {
		old, _, err := s.newest(kind)
		if err == nil {
			err = l.Succeeds(old)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
	var rules error
	if cfg.Rules != "" { // the program's own rules are in no chain
		rules = succeeds(cfg.Rules, ruleFiles, b.rules.Link())
	}
	if b.rules.From > h.Month() {
		rules = errors.Join(fmt.Errorf("%s: in force from %s on: not used before", cfg.Rules, b.rules.From), rules)
	}
	roster := succeeds(cfg.Roster, rosterFiles, b.roster.Link())
	if rules != nil {
		out.rules, out.files.rules = last.rules, last.files.rules
	}
	if roster != nil {
		out.roster, out.files.roster = last.roster, last.files.roster
	}
	return out, errors.Join(rules, roster)
}

// lastly is the basis of the files that were in force last; of a kind that was not kept
// the file of b.
func (s shelf) lastly(b *basis, cfg Config) (*basis, error) {
	last := &basis{files: b.files, rules: b.rules, roster: b.roster}
	l, file, err := s.newest(ruleFiles)
	if err == nil && l.Serial > 0 && cfg.Rules != "" {
		last.files.rules = file
		last.rules, _, err = bounty.OpenRules(s.name(ruleFiles, l.Serial), file, "")
	}
	if err != nil {
		return nil, err
	}
	if l, file, err = s.newest(rosterFiles); err == nil && l.Serial > 0 {
		last.files.roster = file
		last.roster, _, err = bounty.OpenRoster(s.name(rosterFiles, l.Serial), file, "")
	}
	return last, err
}

// remember keeps the files that are in force in hour h. Rules that a first start has to
// take before their month are not yet.
func (s shelf) remember(b *basis, cfg Config, h evidence.Hour) error {
	var rules error
	if cfg.Rules != "" && b.rules.From <= h.Month() {
		rules = s.keep(ruleFiles, b.rules.Link(), b.files.rules)
	}
	return errors.Join(rules, s.keep(rosterFiles, b.roster.Link(), b.files.roster))
}

// judgedBy are the committee's files by which a month is judged: those that are in force
// here, and of the rules those that were in that month.
func judgedBy(cfg Config, month evidence.Month) (*basis, error) {
	b, err := readFiles(cfg)
	if err != nil {
		return nil, err
	}
	s := shelfOf(cfg)
	last, err := s.lastly(b, cfg)
	if err != nil {
		return nil, err
	}
	b, _ = s.settle(b, last, cfg, evidence.HourOf(time.Now())) // the monitor says what is not used
	if b.rules.From <= month {
		return b, nil
	}
	before, err := s.before(b.rules)
	if err != nil {
		return nil, err
	}
	r := bounty.RulesOf(month, b.rules, before)
	if r == b.rules {
		return nil, fmt.Errorf("rules serial %d are in force from %s on, and those that were in %s are not known here: put them in %s as %s-SERIAL.yaml",
			r.Serial, r.From, month, s.dir, ruleFiles)
	}
	b.rules = r
	b.files.rules, err = bounded.ReadFile(s.name(ruleFiles, r.Serial), bounty.MaxBytes)
	return b, err
}

// before are the kept rules that were in force before these, the newest first, as far
// back as each is the one that the next follows: if one is not kept, nobody here knows
// from when on it was in force.
func (s shelf) before(now *bounty.Rules) ([]*bounty.Rules, error) {
	serials, err := s.serials(ruleFiles)
	if err != nil {
		return nil, err
	}
	var out []*bounty.Rules
	previous := now.Previous
	for _, serial := range slices.Backward(serials) {
		if serial >= now.Serial {
			continue
		}
		name := s.name(ruleFiles, serial)
		kept, err := bounded.ReadFile(name, bounty.MaxBytes)
		if err != nil {
			return nil, fmt.Errorf("read the rules that were in force: %w", err)
		}
		// They were the committee's when they were kept, by whichever key it had then.
		r, _, err := bounty.OpenRules(name, kept, "")
		if err != nil {
			return nil, err
		}
		if r.SHA256 != previous {
			break
		}
		out, previous = append(out, r), r.Previous
	}
	return out, nil
}

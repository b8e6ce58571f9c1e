package monitor

import (
	"cmp"
	"fmt"

	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/monitor/beacon"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/history"
	"github.com/psf-relay/relay-appliance/monitor/probe"
)

// basis is what the committee has decided, with what depends on it. It is one value
// that never changes: new files make a new one, see [Monitor.reread]. A job takes it
// once, at its start, and keeps to it, so that no job works by two rosters.
type basis struct {
	files   files
	rules   *bounty.Rules
	before  []*bounty.Rules // that were in force before those, the newest first
	roster  *bounty.Roster
	lookout *lookout // nil: the roster names no controls
	history *history.History
}

// files are the committee's, byte for byte as they were read: a bundle carries them.
type files struct{ rules, roster []byte }

// basis is the one in force now.
func (m *Monitor) basis() *basis { return m.inForce.Load() }

// readFiles reads the committee's files, and nothing that depends on them.
func readFiles(cfg Config) (*basis, error) {
	b := &basis{}
	var err error
	if b.rules, b.files.rules, err = readRules(cfg); err != nil {
		return nil, err
	}
	if b.roster, b.files.roster, err = readRoster(cfg); err != nil {
		return nil, err
	}
	return b, nil
}

// rulesOf are the rules of a month.
func (b *basis) rulesOf(m evidence.Month) *bounty.Rules { return bounty.RulesOf(m, b.rules, b.before) }

// complete adds what depends on the rules and the roster.
func (b *basis) complete(cfg Config, log history.Log) error {
	var controls []probe.ControlHost
	var terms []bounty.Term
	for _, c := range b.roster.Controls {
		h, err := probe.ParseControl(c.Name, c.TCP4, c.WSS)
		if err != nil {
			return fmt.Errorf("%s: controls: %w", cfg.Roster, err)
		}
		controls, terms = append(controls, h), append(terms, c.Term)
	}
	if b.lookout = newLookout(controls); b.lookout != nil {
		b.lookout.terms = terms
	}
	var err error
	if b.before, err = shelfOf(cfg).before(b.rules); err != nil {
		return err
	}
	b.history = history.New(log, b.rules, b.roster, beacon.Quicknet(), b.before...)
	return nil
}

func readRules(cfg Config) (*bounty.Rules, []byte, error) {
	// The program's own rules need no signature: the verifier brings his.
	name, file, committee := "the default rules", bounty.DefaultRules, ""
	if cfg.Rules != "" {
		name, committee = cfg.Rules, cfg.Committee
		var err error
		if file, err = bounded.ReadFile(cfg.Rules, bounty.MaxBytes); err != nil {
			return nil, nil, fmt.Errorf("read the rules: %w", err)
		}
	}
	rules, _, err := bounty.OpenRules(name, file, committee)
	if err != nil {
		return nil, nil, err
	}
	if rules.Network != cfg.Network {
		return nil, nil, fmt.Errorf("%s: its network is %s, this monitor's is %s", name, rules.Network, cfg.Network)
	}
	return rules, file, nil
}

func readRoster(cfg Config) (*bounty.Roster, []byte, error) {
	file, err := bounded.ReadFile(cfg.Roster, bounty.MaxBytes)
	if err != nil {
		return nil, nil, fmt.Errorf("read the roster: %w", err)
	}
	roster, _, err := bounty.OpenRoster(cfg.Roster, file, cfg.Committee)
	if err != nil {
		return nil, nil, err
	}
	if roster.Network != cfg.Network {
		return nil, nil, fmt.Errorf("%s: its network is %s, this monitor's is %s", cfg.Roster, roster.Network, cfg.Network)
	}
	return roster, file, nil
}

// readReleases reads the release list (rule R13): the operator's file or else, of
// those that were fetched, the one that the roster names.
func (m *Monitor) readReleases(roster *bounty.Roster) ([]byte, error) {
	if m.cfg.Releases == "" {
		return m.updates.Named(roster.Releases), nil
	}
	file, err := bounded.ReadFile(m.cfg.Releases, release.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("read the release list: %w", err)
	}
	_, err = release.Parse(m.cfg.Releases, file)
	return file, err
}

// checkPlace compares this monitor with its entry in the roster in hour h.
func (m *Monitor) checkPlace(roster *bounty.Roster, h evidence.Hour) error {
	switch entry := roster.Monitor(m.cfg.Name, h); {
	case entry == nil:
		m.log.Warn("not in the roster at this hour: what is written now counts nowhere", "name", m.cfg.Name, "roster", m.cfg.Roster)
	case entry.LogKey != m.store.Key():
		return fmt.Errorf("the roster names another log key for %s:\n  roster: %s\n  here:   %s\nlet the committee enter the key of this log, or restore the log that the roster names", m.cfg.Name, entry.LogKey, m.store.Key())
	case entry.PlanKey != m.store.PlanKey() && (entry.PlanKey != "" || m.cfg.Network != evidence.Lab):
		return fmt.Errorf("the roster names another plan key for %s, by which no hour of this log counts:\n  roster: %s\n  here:   %s\nlet the committee enter the key that \"relaymon keys\" prints", m.cfg.Name, cmp.Or(entry.PlanKey, "none"), m.store.PlanKey())
	}
	return nil
}

// targets are the relays that are under judgement at h.
func (b *basis) targets(h evidence.Hour) []string {
	var out []string
	for i := range b.roster.Relays {
		if r := &b.roster.Relays[i]; r.EnrolledAt(h) {
			out = append(out, r.PeerID)
		}
	}
	return out
}

// target is where a relay is reached at an address.
func target(id string, at bounty.Address) (probe.Target, error) {
	tcp4, wss := at.Multiaddrs(id)
	t, err := probe.ParseTarget([]string{tcp4, wss})
	if err != nil {
		return t, fmt.Errorf("the roster's addresses of %s: %w", id, err)
	}
	return t, nil
}

// required is how many witnesses must cosign hour h (rule R9).
func (b *basis) required(h evidence.Hour) int {
	n := 0
	for i := range b.roster.Monitors {
		if b.roster.Monitors[i].Holds(h) {
			n++
		}
	}
	return b.rules.WitnessesRequired.Of(n)
}

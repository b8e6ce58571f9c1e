package upgrade

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/internal/maintenance"
)

const (
	stateFile   = "updates.json"
	stateFormat = 1
)

// State is what is known of the machine's versions. It is written before and after
// each step that a power cut could come between.
type State struct {
	Format int `json:"format"`
	// Good is the release that proved itself last, by package, Previous the one before.
	Good     map[string]Kept `json:"good"`
	Previous map[string]Kept `json:"previous,omitempty"`
	// Held are the versions that apt is told not to install (again).
	Held []maintenance.Held `json:"held,omitempty"`
	// Running are the services that ran when packages were last about to change.
	Running []string `json:"running,omitempty"`
	// Passed says when the good release last passed a check. One that it does not pass
	// is not in it.
	Passed map[string]time.Time `json:"passed,omitempty"`
	// Judging is the judgement that is under way, or was when the power went.
	Judging *Judging `json:"judging,omitempty"`
	// Last is how the last judgement ended.
	Last *Outcome `json:"last,omitempty"`
	// Rebooted is when the machine was last restarted for an update, Waiting since when
	// it would have been updated, but for its siblings or a missing way back.
	Rebooted time.Time `json:"rebooted,omitzero"`
	Waiting  time.Time `json:"waiting,omitzero"`
}

// Judging is a judgement under way.
type Judging struct {
	Versions map[string]string `json:"versions"`
	Starts   int               `json:"starts"` // how often it was begun
}

// Result says how a judgement ended.
type Result string

// The results of a judgement.
const (
	Proven  Result = "proven"   // the new version does its work
	PutBack Result = "put back" // it does not: the version before is installed again
	Stuck   Result = "stuck"    // it does not, and the version before could not be put back
)

// Outcome is how a judgement ended.
type Outcome struct {
	At     time.Time         `json:"at"`
	Result Result            `json:"result"`
	From   map[string]string `json:"from"` // the versions that had proved themselves
	To     map[string]string `json:"to"`   // those that were judged
	Why    string            `json:"why,omitempty"`
	// After says what is wrong with the version that was put back; empty: nothing.
	After string `json:"after,omitempty"`
}

// Load reads the state; a machine without one has none yet.
func (m Machine) Load() (State, error) {
	path := filepath.Join(m.path(StateDir), stateFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{Format: stateFormat}, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("read the state of updates: %w", err)
	}
	var s State
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&s); err != nil {
		return State{}, fmt.Errorf("state of updates %s: %w: if it cannot be restored, delete it: what is installed then counts as proven", path, err)
	}
	if s.Format != stateFormat {
		return State{}, fmt.Errorf("state of updates %s: format %d, this version reads %d: install a newer version", path, s.Format, stateFormat)
	}
	return s, nil
}

// save writes the state, and what relayd and relaymon are to tell of it.
func (m Machine) save(s State, planned *maintenance.Planned) error {
	if err := os.MkdirAll(m.path(StateDir), 0o755); err != nil {
		return fmt.Errorf("write the state of updates: %w", err)
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = durable.Replace(filepath.Join(m.path(StateDir), stateFile), append(data, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the state of updates: %w", err)
	}
	return maintenance.Write(m.path(maintenance.File), maintenance.Notice{Planned: planned, Held: s.Held})
}

// age is how long ago something was noted. What was noted in the future, by a clock
// that was wrong, says nothing: it is older than all that is asked for.
func age(at, now time.Time) time.Duration {
	if at.Sub(now) > clockStep {
		return math.MaxInt64
	}
	return now.Sub(at)
}

// clockStep is how far a clock is set back without anything being wrong.
const clockStep = time.Hour

// good are the versions that proved themselves.
func (s State) good() map[string]string { return versions(s.Good) }

func versions(set map[string]Kept) map[string]string {
	v := make(map[string]string, len(set))
	for pkg, k := range set {
		v[pkg] = k.Version
	}
	return v
}

// heldVersion returns the entry of a version that is held.
func (s State) heldVersion(pkg, version string) (maintenance.Held, bool) {
	i := slices.IndexFunc(s.Held, func(h maintenance.Held) bool { return h.Package == pkg && h.Version == version })
	if i < 0 {
		return maintenance.Held{}, false
	}
	return s.Held[i], true
}

// Lines says what a person who looks at the console should know.
func (s State) Lines() []string {
	var lines []string
	if o := s.Last; o != nil {
		at := o.At.UTC().Format("2006-01-02 15:04 MST")
		switch o.Result {
		case Proven:
			lines = append(lines, fmt.Sprintf("updated at %s: %s", at, list(o.To)))
		case PutBack:
			lines = append(lines, fmt.Sprintf("UPDATE TAKEN BACK at %s: %s did not do its work: %s; %s is installed again", at, list(o.To), o.Why, list(o.From)))
			if o.After != "" {
				lines = append(lines, "but that one has a fault, too: "+o.After)
			}
		case Stuck:
			lines = append(lines, fmt.Sprintf("A BAD UPDATE STAYED at %s: %s: %s", at, list(o.To), o.Why))
		}
	}
	held := map[string][]string{}
	for _, h := range s.Held {
		held[h.Version] = append(held[h.Version], h.Package)
	}
	for _, v := range slices.Sorted(maps.Keys(held)) {
		lines = append(lines, fmt.Sprintf("not installed again: %s %s (allow it with: relay-appliance updates release %s)", strings.Join(held[v], ", "), v, v))
	}
	if !s.Waiting.IsZero() {
		lines = append(lines, fmt.Sprintf("updates wait since %s: \"relay-appliance updates turn\" says for what", s.Waiting.UTC().Format("2006-01-02 15:04 MST")))
	}
	return lines
}

// list names versions: all packages of a release have the same, as a rule.
func list(v map[string]string) string {
	byVersion := map[string][]string{}
	for pkg, version := range v {
		byVersion[version] = append(byVersion[version], pkg)
	}
	var parts []string
	for _, version := range slices.Sorted(maps.Keys(byVersion)) {
		names := byVersion[version]
		slices.Sort(names)
		parts = append(parts, strings.Join(names, ", ")+" "+version)
	}
	return strings.Join(parts, "; ")
}

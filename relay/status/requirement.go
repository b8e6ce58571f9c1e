package status

import (
	"slices"
	"strings"
	"time"
)

// Outcome says whether a requirement of the bounty is met.
type Outcome string

// The outcomes. Unknown is what cannot be told from here, or not yet.
const (
	Met     Outcome = "met"
	NotMet  Outcome = "not met"
	Unknown Outcome = "unknown"
)

// Requirement is one thing that the bounty wants of a relay, what was found about
// it on this relay, and what mends it. The status page and `relayd doctor` show
// the same list.
type Requirement struct {
	Name    string  `json:"name"`  // stable, for programs
	Title   string  `json:"title"` // for people
	Outcome Outcome `json:"outcome"`
	Found   string  `json:"found"`
	Cure    string  `json:"cure,omitempty"`
}

// Diagnosis is what the doctor says.
type Diagnosis struct {
	PeerID       string        `json:"peer_id,omitempty"`
	Running      bool          `json:"running"`
	Lab          bool          `json:"lab,omitempty"` // private addresses and a private CA pass
	Met          int           `json:"met"`
	NotMet       int           `json:"not_met"`
	Unknown      int           `json:"unknown"`
	Requirements []Requirement `json:"requirements"`
	Software     Software      `json:"software"`
	Status       *Status       `json:"status,omitempty"` // as the running relay has it
}

// Warnings are those of the running relay of which no requirement tells, such as receivers
// of alerts that take no message.
func (d Diagnosis) Warnings() (list []string) {
	if d.Status == nil {
		return nil
	}
	for _, w := range d.Status.Warnings {
		if !slices.ContainsFunc(d.Requirements, func(r Requirement) bool { return strings.Contains(r.Found, w) }) {
			list = append(list, w)
		}
	}
	return list
}

// Software is which version runs here, and which one is the newest.
type Software struct {
	Version   string    `json:"version"`
	Since     time.Time `json:"since,omitzero"`     // when it was first run here
	Newest    string    `json:"newest,omitempty"`   // empty: not known
	Published time.Time `json:"published,omitzero"` // when the newest was
	// Fault says why the newest is not known, or may not be the newest.
	Fault string `json:"fault,omitempty"`
}

package bounty

import "github.com/psf-relay/relay-appliance/monitor/evidence"

// Absence is a monitor of the roster whose log the case lacks, or whose log ends
// before it tells all of the month. What it would have said is not known, and it may
// have been left out for that: the committee asks for it, or waives it by name.
type Absence struct {
	Monitor   string `json:"monitor"`
	Operator  string `json:"operator"`
	Committee bool   `json:"committee"`
	// Ends is the first hour that the log does not show; absent: there is no log.
	Ends *evidence.Hour `json:"ends,omitempty"`
	// Hours are those of the month that it should show and does not.
	Hours int `json:"hours"`
}

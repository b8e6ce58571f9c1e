package web

import "github.com/psf-relay/relay-appliance/monitor/evidence"

// Witness is one that cosigns this monitor's checkpoints.
type Witness struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	// Size is how many sealed hours its last cosignature covers; At is when it
	// made it, absent if it has not since the monitor was started.
	Size int64         `json:"size"`
	At   evidence.Time `json:"at,omitzero"`
	// Behind is how many sealed hours it has not cosigned.
	Behind int64  `json:"behind"`
	Error  string `json:"error,omitempty"` // of the last try
}

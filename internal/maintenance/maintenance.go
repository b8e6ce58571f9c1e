// Package maintenance is what the keeper of a machine tells the programs that run on
// it, so that their own pages and alerts can say it: when a restart is planned, and
// which update was taken back.
//
// relay-appliance writes the file, relayd and relaymon read it. It holds nothing
// that a visitor of the relay's page should not see.
package maintenance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/psf-relay/relay-appliance/internal/durable"
)

// File is where the notice lies on an appliance.
const File = "/var/lib/relay-appliance/maintenance.json"

// maxBytes bounds what is read: a few lines are written.
const maxBytes = 64 << 10

// Notice is what there is to say.
type Notice struct {
	Planned *Planned `json:"planned,omitempty"` // the next restart; nil: none is known of
	Held    []Held   `json:"held,omitempty"`
}

// Planned is a restart that is to come.
type Planned struct {
	From time.Time `json:"from"` // it comes not earlier
	To   time.Time `json:"to"`   // and not later
	Why  string    `json:"why"`
}

// Held is a version that was taken back and is not installed again.
type Held struct {
	Package string    `json:"package"`
	Version string    `json:"version"`
	Since   time.Time `json:"since"`
	Why     string    `json:"why"`
}

// Empty says that there is nothing to say.
func (n Notice) Empty() bool { return n.Planned == nil && len(n.Held) == 0 }

// Read reads the notice; without a file there is nothing to say. A restart whose
// time has passed is left out.
func Read(path string, now time.Time) (Notice, error) {
	if path == "" {
		return Notice{}, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Notice{}, nil
	}
	if err != nil {
		return Notice{}, fmt.Errorf("read the maintenance notice: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return Notice{}, fmt.Errorf("read the maintenance notice: %w", err)
	}
	if len(data) > maxBytes {
		return Notice{}, fmt.Errorf("maintenance notice %s: more than %d bytes: is it relay-appliance's", path, maxBytes)
	}
	var n Notice
	// What a newer version adds is not of interest.
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&n); err != nil {
		return Notice{}, fmt.Errorf("maintenance notice %s: %w", path, err)
	}
	if n.Planned != nil && now.After(n.Planned.To) {
		n.Planned = nil
	}
	return n, nil
}

// Write puts the notice where the programs read it.
func Write(path string, n Notice) error {
	data, err := json.MarshalIndent(n, "", "  ")
	if err == nil {
		err = durable.Replace(path, append(data, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the maintenance notice: %w", err)
	}
	return nil
}

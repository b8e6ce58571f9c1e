package relay

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/psf-relay/relay-appliance/internal/durable"
)

// versionFile says since when this data folder is served by which version: the
// bounty wants relays to be kept up to date.
const versionFile = "version.json"

type versionNote struct {
	Version string    `json:"version"`
	Since   time.Time `json:"since"`
}

// noteVersion is called at the start. It returns since when version runs here.
func noteVersion(dataDir, version string, now time.Time) (time.Time, error) {
	if since := versionSince(dataDir, version); !since.IsZero() {
		return since, nil
	}
	n := versionNote{version, now.UTC().Truncate(time.Second)}
	data, err := json.Marshal(n)
	if err == nil {
		err = durable.Replace(filepath.Join(dataDir, versionFile), append(data, '\n'), 0o600)
	}
	return n.Since, err
}

// versionSince is zero when the folder was not yet served by version, or by an
// unreadable note: then it counts from the next start.
func versionSince(dataDir, version string) time.Time {
	data, err := os.ReadFile(filepath.Join(dataDir, versionFile))
	var n versionNote
	if err != nil || json.Unmarshal(data, &n) != nil || n.Version != version {
		return time.Time{}
	}
	return n.Since
}

package doctor

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/internal/wallclock"
)

// versionFile says since when this data folder is served by which version: the
// bounty wants relays to be kept up to date.
const versionFile = "version.json"

type versionNote struct {
	Version string    `json:"version"`
	Since   time.Time `json:"since"`
}

// noteVersion returns since when version runs here, and notes it if that is not
// known.
func noteVersion(dataDir, version string, now time.Time) (time.Time, error) {
	return noteVersionBy(dataDir, version, now, buildinfo.Committed(), wallclock.Kept())
}

// noteVersionBy knows when the program was made, and whether a time service keeps the
// clock. What a wrong clock noted is noted anew as soon as the clock is right.
func noteVersionBy(dataDir, version string, now, built time.Time, kept bool) (time.Time, error) {
	since := versionSince(dataDir, version)
	switch {
	case plausible(since, now, built):
		return since, nil
	case !kept && (now.Before(built) || now.Before(since)):
		return since, nil // it may be now that the clock is wrong
	}
	n := versionNote{version, now.UTC().Truncate(time.Second)}
	data, err := json.Marshal(n)
	if err == nil {
		err = durable.Replace(filepath.Join(dataDir, versionFile), append(data, '\n'), 0o600)
	}
	return n.Since, err
}

// plausible says whether a version that was built then can run since then.
func plausible(since, now, built time.Time) bool {
	return !since.IsZero() && !since.Before(built) && !since.After(now.Add(time.Hour))
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

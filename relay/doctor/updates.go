package doctor

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/mod/semver"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/internal/release/feed"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// releaseGrace is how long a release may be out before it must run (rule R13).
const releaseGrace = 72 * time.Hour

// updates is what the project's release list tells.
type updates struct {
	known bool          // whether there is a list to read
	list  *release.List // the newest that is known
	err   error         // why there may be a newer one
}

// releasesDir holds, in the data folder, the newest list that was believed: by it the
// relay refuses older ones, which were signed too and may still be within their time.
const releasesDir = "releases"

// readUpdates looks for a newer list than the one before. Only the relay itself keeps
// what is found; others look, and may be another user.
func readUpdates(ctx context.Context, cfg config.Config, keep bool) updates {
	from, err := feed.Load(cfg.Updates)
	if err != nil || !from.Known() {
		return updates{known: err != nil, err: err}
	}
	lists := 0
	if keep {
		lists = 1
	}
	f, err := feed.Follow(from, filepath.Join(cfg.DataDir, releasesDir), buildinfo.Agent("relayd"), lists)
	if err != nil {
		return updates{known: true, err: err}
	}
	_ = f.Fetch(ctx) // the fault is told with the list
	list, err := f.Newest()
	return updates{known: true, list: list, err: err}
}

// installed is the version that runs, or else that of this program.
func (j judge) installed() status.Software {
	s := status.Software{Version: j.f.version, Since: j.f.since}
	if j.s != nil {
		s.Version, s.Since = j.s.Version, j.s.VersionSince
	}
	u := j.f.updates
	if u.list != nil {
		s.Fault = u.list.Ends(j.f.at)
		if p, _ := u.list.Find("relayd/" + s.Version); p != nil {
			s.Newest, s.Published = p.Newest().Version, p.Newest().Published.Time
		}
	}
	if u.err != nil {
		s.Fault = oneLine(u.err)
	}
	return s
}

func (j judge) software() status.Requirement {
	const update = "Install the newest release; with the appliance image, or the Debian package and unattended-upgrades, that happens by itself."
	s := j.installed()
	days := func(t time.Time) int { return int(j.f.at.Sub(t).Hours() / 24) }
	var r status.Requirement
	switch {
	case !semver.IsValid(s.Version) || semver.Prerelease(s.Version) != "" || semver.Build(s.Version) != "":
		return notMet(update, "%s is no release, so that nobody can tell how old it is (rule R13)", s.Version)
	case s.Newest != "" && semver.Compare(s.Version, s.Newest) >= 0:
		r = met("%s, the newest, published %d days ago", s.Version, days(s.Published))
	case s.Newest != "" && j.f.at.Sub(s.Published) >= releaseGrace:
		r = notMet(update, "%s, but %s is out for %d days: within 72 hours it must run (rule R13)", s.Version, s.Newest, days(s.Published))
	case s.Newest != "":
		r = met("%s; %s is out for %d days and must run from %s on (rule R13)", s.Version, s.Newest, days(s.Published), s.Published.Add(releaseGrace).Format("2006-01-02 15:04 MST"))
	case s.Since.IsZero():
		r = unknown("Start relayd once.", "%s; relayd has not noted since when it runs", s.Version)
	case j.f.at.Sub(s.Since) > updateEvery:
		r = unknown(update, "%s: if a newer release is out for 72 hours, it must run (rule R13)", s.Version)
	default: // the day on which it was put here says nothing about the one on which it came out
		r = unknown("Let relayd read the project's list of releases (updates in its configuration).", "%s: no list of releases says how old it is", s.Version)
	}
	if !s.Since.IsZero() {
		r.Found += fmt.Sprintf("; here since %s, for %d days", s.Since.Format(time.DateOnly), days(s.Since))
	}
	if s.Fault != "" && j.f.updates.known {
		r.Found += "; " + s.Fault
		if r.Outcome == status.Met || r.Outcome == status.Unknown && s.Newest == "" {
			r.Outcome, r.Cure = status.Unknown, "Tell the project's maintainers, or look whether "+feed.ListFile+" can be fetched from here."
		}
	}
	return r
}

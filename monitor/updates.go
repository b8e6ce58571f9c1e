package monitor

import (
	"context"
	"path/filepath"
	"time"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/internal/release/feed"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/web"
)

// follow begins to follow the release list that the project publishes. It is for
// people to see how old something is, and for bundles to have the list that the
// roster names; no vote depends on it.
func (m *Monitor) follow() error {
	from, err := feed.Load(m.cfg.Updates)
	if err != nil {
		return err
	}
	m.updates, err = feed.Follow(from, filepath.Join(m.cfg.DataDir, "releases"), buildinfo.Agent("relaymon"), feed.Years)
	return err
}

// fetchReleases looks for a newer release list.
func (m *Monitor) fetchReleases(ctx context.Context) {
	if err := m.updates.Fetch(ctx); err != nil && ctx.Err() == nil {
		m.log.Warn("the newest release list is not at hand", "err", err)
	}
}

// released says what the release list tells at now of a program, by its agent
// string; nil: nothing.
func released(list *release.List, agent string, now time.Time) *web.Release {
	if list == nil {
		return nil
	}
	p, i := list.Find(agent)
	if p == nil {
		return nil
	}
	r := &web.Release{Newest: p.Newest().Version, Published: evidence.TimeOf(p.Newest().Published.Time)}
	r.Days = int(now.Sub(r.Published.Time).Hours() / 24)
	if i >= 0 {
		r.Installed = p.Releases[i].Version
	}
	return r
}

// addReleases tells of the list and of this program.
func (m *Monitor) addReleases(o *web.Overview, now time.Time) {
	list, fault := m.updates.Newest()
	if fault != nil {
		o.Updates = "No newer release list is at hand: " + fault.Error()
	} else if list != nil {
		o.Updates = list.Ends(now)
	}
	// All programs of a release have its version; the list tells it by the relay's.
	o.Release = released(list, buildinfo.Agent("relayd"), now)
}

package monitor

import (
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/internal/release/releasetest"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/web"
)

// The published list is fetched, kept, and shown; the one that the roster names goes
// into bundles, also when a newer one is out.
func TestReleasesAreFollowed(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	site := releasetest.New(t, "relaymon")
	publish := func(version string, days int) *release.List {
		t.Helper()
		l, err := release.Parse("served", site.Publish(version, now.AddDate(0, 0, -days)))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}

	f := &fakeNet{took: time.Second, outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
	m, _ := newTestMonitor(t, f, 1, 1)
	m.cfg.Updates = site.File()
	if err := m.follow(); err != nil {
		t.Fatal(err)
	}
	show := func(agent string) (web.Overview, *web.Relay) {
		o := web.Overview{Relays: []web.Relay{{PeerID: "x", Operator: "alice", Agent: agent}}}
		m.addReleases(&o, now)
		m.complete(&o.Relays[0], now, false)
		return o, &o.Relays[0]
	}
	if o, r := show("relayd/1.0.0"); o.Updates != "" || r.Release != nil {
		t.Errorf("before anything was fetched: %q, %+v", o.Updates, r.Release)
	}

	first := publish("v1.0.0", 40)
	m.fetchReleases(t.Context())
	publish("v1.1.0", 4)
	m.fetchReleases(t.Context())
	for agent, want := range map[string]*web.Release{
		"relayd/1.1.0": {Installed: "v1.1.0", Newest: "v1.1.0", Days: 4},
		"relayd/1.0.0": {Installed: "v1.0.0", Newest: "v1.1.0", Days: 4},
		"relayd/9.9.9": {Newest: "v1.1.0", Days: 4},
		"helia/2.0":    nil,
	} {
		_, r := show(agent)
		if want != nil {
			want.Published = evidence.TimeOf(now.AddDate(0, 0, -4))
		}
		if (r.Release == nil) != (want == nil) || want != nil && *r.Release != *want {
			t.Errorf("%s: %+v, want %+v", agent, r.Release, want)
		}
	}

	// Told when it is due, and not before.
	for days, want := range map[int]string{0: "RelayOutdated", -2: ""} {
		_, r := show("relayd/1.0.0")
		r.Warnings = m.warnings(r, now.AddDate(0, 0, days))
		alerts := m.relayAlerts(r)
		if want == "" && len(alerts) != 0 || want != "" && (len(alerts) != 1 || alerts[0].Name != want) {
			t.Errorf("%d days on: %v", days, alerts)
		}
	}
	if _, r := show("relayd/1.1.0"); r.Release == nil {
		t.Error("nothing is told of the newest version")
	} else if alerts := m.relayAlerts(r); len(alerts) != 0 {
		t.Errorf("the newest version: %v", alerts)
	}
	// The list was signed for 56 days more.
	for days, want := range map[int]bool{35: false, 37: true, 57: true} {
		found := false
		for _, a := range m.monitorAlerts(&web.Overview{}, now.AddDate(0, 0, days)) {
			found = found || a.Name == "UpdatesNearExpiry"
		}
		if found != want {
			t.Errorf("%d days on an alert: %t", days, found)
		}
	}

	// What the roster names is there, after a restart and without the site.
	site.Serve(nil)
	if err := m.follow(); err != nil {
		t.Fatal(err)
	}
	m.basis().roster.Releases = first.SHA256
	kept, err := m.readReleases(m.basis().roster)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := release.Parse("kept", kept); err != nil || l.SHA256 != first.SHA256 {
		t.Errorf("for the bundle: %+v, %v", l, err)
	}
	m.fetchReleases(t.Context())
	if o, r := show("relayd/1.1.0"); !strings.Contains(o.Updates, "410") || r.Release == nil || r.Release.Installed != "v1.1.0" {
		t.Errorf("without the site: %q, %+v", o.Updates, r.Release)
	}
	m.basis().roster.Releases = strings.Repeat("0", 64)
	if none, err := m.readReleases(m.basis().roster); err != nil || none != nil {
		t.Errorf("a list that was never fetched: %q, %v", none, err)
	}
}

package main

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Who makes the bundle: an older roster, whose release list does not know yet what the
// relay should have run.
func TestOlderReleaseList(t *testing.T) {
	p := newPlay(t, 3).sees(nil).write()
	later := releasesYAML + "  - {version: v1.3.0, published: 2026-10-05T00:00:00Z}\n"
	first := p.rosterFile()
	text := strings.Replace(p.RosterYAML(), "serial: 1\n", fmt.Sprintf("serial: 2\nprevious: %x\n", sha256.Sum256(first)), 1)
	text = strings.Replace(text, fmt.Sprintf("releases: %x", sha256.Sum256(p.Releases)), fmt.Sprintf("releases: %x", sha256.Sum256([]byte(later))), 1)
	p.save("roster.yaml", p.Signed(text))
	p.want(3, `^verdict: REVIEW$`, `names another release list than the bundle holds`)
	p.save("releases.yaml", []byte(later))
	p.wantOf(3, []string{"--require", "eligible", "--releases", "releases.yaml"}, `^verdict: NOT_ELIGIBLE$`, `^R13 +software +FAIL +relayd v1.2.3, although v1.3.0 had been out`)
	p.save("releases.yaml", p.Releases) // not that list
	p.wantOf(2, []string{"--releases", "releases.yaml"}, `release list is not the list`)
}

// One monitor that says "busy", while another one is silent.
func TestBusyLie(t *testing.T) {
	p := newPlay(t, 3)
	p.rules["busy_cap"] = "0"
	p.sees(func(i int, m *scene.Watcher, n int, h evidence.Hour) []evidence.Attempt {
		switch i {
		case 2:
			return []evidence.Attempt{}
		case 3:
			a := p.good(m, h)
			a.Facts.Reservation, a.Level = nil, 0
			a.Rungs = a.Rungs[:3]
			a.Rungs[2].Outcome = evidence.Busy
			a.Results[evidence.Relay] = evidence.Result{Outcome: evidence.Busy}
			return one(a)
		}
		return nil
	}).write()
	p.want(3, `^verdict: REVIEW$`)
}

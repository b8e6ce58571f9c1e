package bounty

import (
	"fmt"

	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// AgentSeen is a run of hours that count up, in which a relay gave this agent string.
type AgentSeen struct {
	Agent string `json:"agent"`
	Span
}

// named is what one monitor heard a relay call itself in an hour.
type named struct {
	monitor *Monitor
	agent   string
}

// agreed is what most of those who heard it say; where there is no majority, what the
// committee's monitors say, if they say one thing; else nothing.
func agreed(heard []named) string {
	votes, committee := map[string]int{}, map[string]bool{}
	for _, n := range heard {
		votes[n.agent]++
		if n.monitor.Committee {
			committee[n.agent] = true
		}
		if 2*votes[n.agent] > len(heard) {
			return n.agent
		}
	}
	if len(committee) == 1 {
		for agent := range committee {
			return agent
		}
	}
	return ""
}

// judgeSoftware applies rule R13 to the agent strings of the hours that count up.
// The committee keeps the release list; the roster pins its hash.
func judgeSoftware(rules *Rules, releases *release.List, month evidence.Month, agents []AgentSeen) Finding {
	f := Finding{Rule: "R13", Subject: "software"}
	if releases == nil {
		return f.is(Review, "no release list was given: what the relay should run is not known")
	}
	if len(agents) == 0 {
		return f.is(Review, "no hour that counts up in which most monitors heard the relay name its software")
	}
	var (
		unknown []string
		behind  []string
	)
	for _, a := range agents {
		p, ran := releases.Find(a.Agent)
		if ran < 0 {
			if s := fmt.Sprintf("%q is not on the release list", a.Agent); !contains(unknown, s) {
				unknown = append(unknown, s)
			}
			continue
		}
		// The last hour of the run is the strictest, the first the mildest: a
		// release may become due in between, and one good hour is enough.
		if need := p.Due(a.From.Start(), rules.ReleaseGrace); ran >= need {
			f.Hours = append(f.Hours, Span{a.From, a.From + 1})
			return f.is(Pass, fmt.Sprintf("%s %s was the newest release that was due, or newer (self-reported)", p.Name, p.Releases[ran].Version))
		}
		newest := p.Due(a.From.Start(), rules.ReleaseGrace)
		s := fmt.Sprintf("%s %s, although %s had been out for %s (self-reported)", p.Name, p.Releases[ran].Version, p.Releases[newest].Version, hoursWords(rules.ReleaseGrace))
		if !contains(behind, s) {
			behind = append(behind, s)
		}
		// Nothing became due in the month: there was nothing to do in it.
		if p.Due(month.First().Start(), rules.ReleaseGrace) == p.Due(month.End().Start().Add(-1), rules.ReleaseGrace) {
			f.Hours = append(f.Hours, a.Span)
			return f.is(Warn, "nothing to do: no release became due in the month; but it ran "+s)
		}
	}
	if len(unknown) > 0 {
		return f.is(Review, unknown...)
	}
	for _, a := range agents {
		f.Hours = append(f.Hours, a.Span)
	}
	return f.is(Fail, behind...)
}

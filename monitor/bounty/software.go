package bounty

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/config"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Releases is the list by which an agent string is judged (rule R13). The
// committee keeps it; the roster pins its hash.
type Releases struct {
	Version  int       `yaml:"version"`
	Products []Product `yaml:"products"`

	SHA256 string `yaml:"-"`
}

// Product is one relay program.
type Product struct {
	Name string `yaml:"name"`
	// Agent is what it announces in identify, a * standing for the version,
	// such as "relayd/*".
	Agent    string    `yaml:"agent"`
	Releases []Release `yaml:"releases"`
}

// Release is one version; a list goes from the oldest to the newest.
type Release struct {
	Version   string    `yaml:"version"`
	Published published `yaml:"published"`
}

type published struct{ time.Time }

func (p *published) UnmarshalText(b []byte) (err error) {
	p.Time, err = time.Parse(time.RFC3339, string(b))
	if err != nil {
		return fmt.Errorf("want a time such as 2026-11-03T14:00:00Z, not %q", b)
	}
	p.Time = p.UTC()
	return nil
}

// ParseReleases reads a release list.
func ParseReleases(name string, file []byte) (*Releases, error) {
	r := &Releases{Version: 1}
	if err := config.Decode(name, file, r); err != nil {
		return nil, err
	}
	var f faults
	f.want(r.Version == 1, "version: this program reads version 1, not %d", r.Version)
	for i, p := range r.Products {
		where := fmt.Sprintf("products[%d] %q", i, p.Name)
		f.want(p.Name != "", "%s: name: want the program's name", where)
		f.want(strings.Count(p.Agent, "*") == 1, "%s: agent: want one * where the version stands, as in \"relayd/*\"", where)
		f.want(len(p.Releases) > 0, "%s: releases: want at least one", where)
		for j, rel := range p.Releases {
			f.want(rel.Version != "" && !rel.Published.IsZero(), "%s: releases[%d]: want version and published", where, j)
			f.want(j == 0 || !rel.Published.Before(p.Releases[j-1].Published.Time), "%s: releases[%d]: older than the one before it: list the oldest first", where, j)
			for _, o := range p.Releases[:j] {
				f.want(o.Version != rel.Version, "%s: version %s stands twice", where, rel.Version)
			}
		}
	}
	if err := errors.Join(f...); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	r.SHA256 = hashOf(file)
	return r, nil
}

// find maps an agent string to a product and the index of its release.
func (r *Releases) find(agent string) (*Product, int, bool) {
	for i := range r.Products {
		p := &r.Products[i]
		before, after, _ := strings.Cut(regexp.QuoteMeta(p.Agent), `\*`)
		m := regexp.MustCompile("^" + before + `v?([^/\s]+)` + after + "$").FindStringSubmatch(agent)
		if m == nil {
			continue
		}
		for j, rel := range p.Releases {
			if strings.TrimPrefix(rel.Version, "v") == m[1] {
				return p, j, true
			}
		}
	}
	return nil, 0, false
}

// due is the index of the newest release that was published at least grace
// before t; -1: there is none.
func (p *Product) due(t time.Time, grace time.Duration) int {
	for i := len(p.Releases) - 1; i >= 0; i-- {
		if !p.Releases[i].Published.Add(grace).After(t) {
			return i
		}
	}
	return -1
}

// AgentSeen is a run of hours that count up, in which a relay gave this agent string.
type AgentSeen struct {
	Agent string `json:"agent"`
	Span
}

// judgeSoftware applies rule R13 to the agent strings of the hours that count up.
func judgeSoftware(rules *Rules, releases *Releases, month evidence.Month, agents []AgentSeen) Finding {
	f := Finding{Rule: "R13", Subject: "software"}
	if releases == nil {
		return f.is(Review, "no release list was given: what the relay should run is not known")
	}
	if len(agents) == 0 {
		return f.is(Review, "no hour that counts up in which the relay named its software")
	}
	var (
		unknown []string
		behind  []string
	)
	for _, a := range agents {
		p, ran, ok := releases.find(a.Agent)
		if !ok {
			if s := fmt.Sprintf("%q is not on the release list", a.Agent); !contains(unknown, s) {
				unknown = append(unknown, s)
			}
			continue
		}
		// The last hour of the run is the strictest, the first the mildest: a
		// release may become due in between, and one good hour is enough.
		if need := p.due(a.From.Start(), rules.ReleaseGrace); ran >= need {
			f.Hours = append(f.Hours, Span{a.From, a.From + 1})
			return f.is(Pass, fmt.Sprintf("%s %s was the newest release that was due, or newer (self-reported)", p.Name, p.Releases[ran].Version))
		}
		newest := p.due(a.From.Start(), rules.ReleaseGrace)
		s := fmt.Sprintf("%s %s, although %s had been out for %s (self-reported)", p.Name, p.Releases[ran].Version, p.Releases[newest].Version, hoursWords(rules.ReleaseGrace))
		if !contains(behind, s) {
			behind = append(behind, s)
		}
		// Nothing became due in the month: there was nothing to do in it.
		if p.due(month.First().Start(), rules.ReleaseGrace) == p.due(month.End().Start().Add(-1), rules.ReleaseGrace) {
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

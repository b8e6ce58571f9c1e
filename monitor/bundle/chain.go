package bundle

import (
	"fmt"
	"slices"

	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// held are the committee's files that a verifier brings along, each kind the oldest
// first: see [bounty.Chain].
type held struct {
	rules   []*bounty.Rules
	rosters []*bounty.Roster
	files   map[string][]byte // by SHA-256
	// chains of the files above
	ruleChain, rosterChain *bounty.Chain
}

// hold reads the verifier's files, in any order. The newest of each kind is signed by the
// committee; it vouches by its hash for the one before, and that for the one before it,
// whichever key the committee had then.
func (o *Options) hold() (*held, error) {
	h := &held{files: map[string][]byte{}}
	var links []bounty.Link
	for _, file := range append([][]byte{o.Rules}, o.OlderRules...) {
		r, _, err := bounty.OpenRules("rules", file, "")
		if err != nil {
			return nil, err
		}
		h.rules, links = append(h.rules, r), append(links, r.Link())
		h.files[r.SHA256] = file
	}
	var err error
	if h.ruleChain, err = bounty.ChainOf("rules", links...); err != nil {
		return nil, err
	}
	links = nil
	for _, file := range append([][]byte{o.Roster}, o.OlderRosters...) {
		r, _, err := bounty.OpenRoster("roster", file, "")
		if err != nil {
			return nil, err
		}
		h.rosters, links = append(h.rosters, r), append(links, r.Link())
		h.files[r.SHA256] = file
	}
	if h.rosterChain, err = bounty.ChainOf("roster", links...); err != nil {
		return nil, err
	}
	slices.SortFunc(h.rules, func(a, b *bounty.Rules) int { return a.Serial - b.Serial })
	slices.SortFunc(h.rosters, func(a, b *bounty.Roster) int { return a.Serial - b.Serial })
	if o.Committee != "" {
		if _, err := bounty.Verified("rules", h.files[h.ruleChain.Newest().SHA256], o.Committee); err != nil {
			return nil, err
		}
		if _, err := bounty.Verified("roster", h.files[h.rosterChain.Newest().SHA256], o.Committee); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// newestRoster is the last one that the committee has signed, as far as is known here.
func (h *held) newestRoster() *bounty.Roster { return h.rosters[len(h.rosters)-1] }

// judgedBy are the rules and the roster of the bundle, if they are the verifier's or
// belong to the same chain: then what was judged by them can be judged again.
func (h *held) judgedBy(files folder) (rules *bounty.Rules, roster *bounty.Roster, older int, err error) {
	theirRules, err := files.read(rulesFile)
	if err != nil {
		return nil, nil, 0, err
	}
	theirRoster, err := files.read(rosterFile)
	if err != nil {
		return nil, nil, 0, err
	}
	i := slices.IndexFunc(h.rules, func(r *bounty.Rules) bool { return r.SHA256 == hashOf(theirRules) })
	if i >= 0 {
		rules = h.rules[i]
	} else if rules, _, err = bounty.OpenRules(rulesFile, theirRules, ""); err != nil {
		return nil, nil, 0, fmt.Errorf("it was judged by another rules file than yours, and that cannot be read: %w", err)
	}
	if _, err = h.ruleChain.Find(rules.Link()); err != nil {
		return nil, nil, 0, fmt.Errorf("%s: %w", rulesFile, err)
	}
	i = slices.IndexFunc(h.rosters, func(r *bounty.Roster) bool { return r.SHA256 == hashOf(theirRoster) })
	if i >= 0 {
		roster = h.rosters[i]
	} else if roster, _, err = bounty.OpenRoster(rosterFile, theirRoster, ""); err != nil {
		return nil, nil, 0, fmt.Errorf("it was judged by another roster file than yours, and that cannot be read: %w", err)
	}
	if older, err = h.rosterChain.Find(roster.Link()); err != nil {
		return nil, nil, 0, fmt.Errorf("%s: %w", rosterFile, err)
	}
	return rules, roster, older, nil
}

// inForce says whether the rules are those of the month: rules judge the months from one
// on, up to that from which their successors do.
func (h *held) inForce(rules *bounty.Rules, month evidence.Month) error {
	if rules.From > month {
		return fmt.Errorf("rules serial %d are in force from %s on, not in %s: judge it by the rules before them", rules.Serial, rules.From, month)
	}
	for _, r := range slices.Backward(h.rules) {
		if r.Serial > rules.Serial && r.From <= month {
			return fmt.Errorf("rules serial %d are in force from %s on, and this was judged by serial %d: %s has to be judged anew", r.Serial, r.From, rules.Serial, month)
		}
	}
	return nil
}

// Counts is the verdict that counts for the verifier: by the newest roster and with the
// forks that he holds.
func (r *Result) Counts() *bounty.Verdict {
	if r.Newest != nil {
		return r.Newest
	}
	return r.Verdict
}

// Final says whether no verdict of the result can change any more.
func (r *Result) Final() bool { return r.Verdict.Final && r.Counts().Final }

// byNewest judges a bundle whose roster is older than the verifier's by the newer one,
// too: that verdict counts.
func (r *Result) byNewest(files folder, h *held, o Options) {
	was, now := r.Case.Roster, h.newestRoster()
	judged := r.Case
	_, judged.RosterSignedBy = bounty.Text(h.files[now.SHA256])
	r.Warnings = append(r.Warnings, fmt.Sprintf("judged by roster serial %d; you hold serial %d: older", was.Serial, now.Serial))
	v, c, why, err := judgeBy(judged, files, *now, o)
	if why != "" {
		r.caps = append(r.caps, why)
	}
	if err != nil {
		why := fmt.Sprintf("by your newest roster, serial %d, it cannot be judged, so it is not taken for eligible: %v", now.Serial, err)
		r.Warnings = append(r.Warnings, why)
		capped := *r.Verdict
		atMostReview(&capped, why)
		r.Newest, r.caps = &capped, append(r.caps, why)
		return
	}
	r.Newest, r.Case = v, c
	if v.Headline != r.Verdict.Headline || v.Relay.Payout != r.Verdict.Relay.Payout || v.Hours != r.Verdict.Hours {
		r.Warnings = append(r.Warnings, fmt.Sprintf("by roster serial %d it is %s (%d h up, pay to %q); by yours, serial %d, it is %s (%d h up, pay to %q): yours counts",
			was.Serial, r.Verdict.Headline, r.Verdict.Hours.Up, r.Verdict.Relay.Payout, now.Serial, v.Headline, v.Hours.Up, v.Relay.Payout))
	}
}

// judgeBy judges a case by another roster. If that names another release list, the
// verifier brings it along: the one in the bundle may not know yet what the relay should
// have run, and whoever made the bundle chose the roster: then why says so, and the
// verdict is REVIEW at most.
func judgeBy(c bounty.Case, files folder, roster bounty.Roster, o Options) (v *bounty.Verdict, _ bounty.Case, why string, err error) {
	was := c.Roster
	if roster.Releases != was.Releases {
		if hashOf(o.Releases) != roster.Releases {
			roster.Releases = was.Releases
			why = "your newest roster names another release list than the bundle holds, so what the relay should have run is not known: bring that list along, or let a monitor make the bundle anew by the newest roster"
		} else if c.Releases, err = release.Parse("releases", o.Releases); err != nil {
			return nil, c, why, err
		}
	}
	c.Roster = &roster
	if !sameKeys(was, &roster, c.Month) {
		if c.Logs, err = verifiedLogs(files, c.Roster, c.Month, o.Beacon); err != nil {
			return nil, c, why, err
		}
	}
	if v, err = bounty.Judge(c); err == nil && why != "" {
		atMostReview(v, why)
	}
	return v, c, why, err
}

// sameKeys says whether logs that are verified by one roster are so by the other.
func sameKeys(a, b *bounty.Roster, month evidence.Month) bool {
	same := func(a, b *bounty.Roster) bool {
		return !slices.ContainsFunc(a.Monitors, func(m bounty.Monitor) bool {
			was, now := a.LogMonitor(m.LogKey, month), b.LogMonitor(m.LogKey, month)
			return (was == nil) != (now == nil) || was != nil && (was.Name != now.Name || was.PlanKey != now.PlanKey)
		})
	}
	return slices.Equal(a.WitnessKeys(month), b.WitnessKeys(month)) && same(a, b) && same(b, a)
}

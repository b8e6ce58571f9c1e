package bounty

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Geo is what rule R14 must know of the world. The pure rules see it through
// this; package bundle reads it from files that are pinned by hash.
type Geo interface {
	// Within lists the countries (ISO 3166-1) with land no further than km from p.
	Within(p Place, km float64) []string
	// Locate is what two independent data sets say of an address: a country, or "".
	Locate(ipv4 string) (a, b string)
	// Sources name the data sets with their hashes and licences, for the report.
	Sources() []Source
}

// Source is a data set.
type Source struct {
	Name    string `json:"name"`
	SHA256  string `json:"sha256"`
	Licence string `json:"licence"`
}

// Disk is what one monitor's shortest round trip says about where the relay's
// key is: no further from Place than the radii.
type Disk struct {
	Monitor   string `json:"monitor"`
	Operator  string `json:"operator"`
	Committee bool   `json:"committee"`
	Place     Place  `json:"place"`
	PingUS    int64  `json:"ping_us"`
	CableKm   int64  `json:"cable_km"`
	VacuumKm  int64  `json:"vacuum_km"`
}

// disk draws the radii for a round trip; they are rounded up, never in favour of a claim.
func (r *Rules) disk(m *Monitor, pingUS int64) Disk {
	km := func(perMs float64) int64 { return int64(perMs*float64(pingUS)/1000) + 1 }
	return Disk{m.Name, operatorOf(m), m.Committee, *m.Place, pingUS, km(r.CableKmPerMs), km(r.VacuumKmPerMs)}
}

// claim is what the round trips of some monitors say. A monitor writes its round trips
// itself, so the word of one alone decides nothing.
type claim struct {
	words []string
	disks []Disk
}

func (c *claim) add(d Disk, format string, args ...any) {
	c.disks = append(c.disks, d)
	c.words = append(c.words, fmt.Sprintf(format, args...))
}

// several says whether monitors of two operators say so.
func (c *claim) several() bool {
	return slices.ContainsFunc(c.disks, func(d Disk) bool { return d.Operator != c.disks[0].Operator })
}

// raised says whether a person must look at it: several say so, or the committee's own
// monitor does.
func (c *claim) raised() bool {
	return c.several() || slices.ContainsFunc(c.disks, func(d Disk) bool { return d.Committee })
}

// held says whether monitors of two operators say so that can both be right: their disks
// overlap, and each overlaps those of the committee's monitors.
func (c *claim) held(all []Disk) bool {
	can := func(d Disk) bool {
		return !slices.ContainsFunc(all, func(o Disk) bool { return o.Committee && o.apart(d) })
	}
	for i, a := range c.disks {
		for _, b := range c.disks[:i] {
			if a.Operator != b.Operator && !a.apart(b) && can(a) && can(b) {
				return true
			}
		}
	}
	return false
}

// apart says whether no relay can be within both disks, not even in vacuum: then one of
// the monitors wrote what cannot be.
func (d Disk) apart(o Disk) bool { return d.Place.km(o.Place) > float64(d.VacuumKm+o.VacuumKm) }

// km is how far two places are from one another.
func (p Place) km(o Place) float64 {
	const earth, degree = 6371, math.Pi / 180
	lat, lon := math.Sin((p.Lat-o.Lat)*degree/2), math.Sin((p.Lon-o.Lon)*degree/2)
	return 2 * earth * math.Asin(min(1, math.Sqrt(lat*lat+math.Cos(p.Lat*degree)*math.Cos(o.Lat*degree)*lon*lon)))
}

// one is the claim in a sentence.
func (c *claim) one() string {
	switch n := len(c.words); n {
	case 0:
		return ""
	case 1:
		return c.words[0]
	default:
		return fmt.Sprintf("%s (and %d more monitors)", c.words[0], n-1)
	}
}

// judgeRegion applies rule R14.
func judgeRegion(rules *Rules, geo Geo, ipv4, claimed string, disks []Disk) Finding {
	f := Finding{Rule: "R14", Subject: "region"}
	if geo == nil {
		return f.is(Review, "no data about the world's countries was given")
	}
	isEligible := func(c string) bool { return rules.eligible(c) }
	var strong, excluded, contradicted claim
	a, b := geo.Locate(ipv4)
	for _, d := range disks {
		vacuum := geo.Within(d.Place, float64(d.VacuumKm))
		if !slices.ContainsFunc(vacuum, isEligible) {
			excluded.add(d, "the relay answered %s in %s: light in vacuum comes %d km far in half of that, and no eligible country is so near",
				d.Monitor, ms(d.PingUS), d.VacuumKm)
			continue
		}
		cable := geo.Within(d.Place, float64(d.CableKm))
		if len(cable) > 0 && !slices.ContainsFunc(cable, func(c string) bool { return !isEligible(c) }) {
			strong.add(d, "the relay answered %s in %s, so it is within %d km of it, where all land is eligible (%s)",
				d.Monitor, ms(d.PingUS), d.CableKm, list(cable))
		}
		if a != "" && !slices.Contains(cable, a) {
			contradicted.add(d, "%s is further than the %d km from %s that a round trip of %s allows", a, d.CableKm, d.Monitor, ms(d.PingUS))
		}
	}
	sets := fmt.Sprintf("the data sets place %s in %s and %s", ipv4, orNone(a), orNone(b))
	if claimed != "" && claimed != a {
		sets += fmt.Sprintf("; the operator claims %s", claimed)
	}
	switch {
	case strong.raised() && excluded.raised():
		// One of them wrote what cannot be: a person finds out which.
		f = f.is(Review, "two round trips contradict each other", strong.one(), excluded.one(), sets)
	case excluded.held(disks):
		f = f.is(Fail, excluded.one(), sets)
	case excluded.several():
		f = f.is(Review, "round trips contradict: no relay is so near to all of these monitors, and to the committee's: "+strings.Join(excluded.words, "; "), sets)
	case excluded.raised():
		f = f.is(Review, "the committee's monitor alone excludes every eligible region: "+excluded.one(), sets)
	case a != "" && a == b && !isEligible(a):
		f = f.is(Review, sets+", which is not eligible")
		if s := strong.one(); s != "" {
			f.Reasons = append(f.Reasons, "and yet "+s)
		}
	case strong.held(disks):
		f = f.is(Pass, "strong: "+strong.one(), sets)
	case contradicted.raised():
		f = f.is(Review, sets, contradicted.one())
	case a != "" && a == b && len(disks) == 0:
		f = f.is(Pass, "weak: "+sets+", which is eligible; no round trip tells more")
	case a != "" && a == b:
		f = f.is(Pass, "weak: "+sets+", which is eligible, and no two operators' round trips contradict")
	default:
		f = f.is(Review, sets+": not the same eligible country in both")
	}
	for _, c := range []*claim{&strong, &excluded, &contradicted} {
		switch s := c.one(); {
		case s == "":
		case c == &strong && c.several() && !c.held(disks):
			f.Reasons = append(f.Reasons, "round trips that contradict one another, or the committee's, and so decide nothing: "+s)
		case !c.raised():
			f.Reasons = append(f.Reasons, "one operator's monitors alone, which decide nothing: "+s)
		}
	}
	return f
}

func orNone(c string) string {
	if c == "" {
		return "no country"
	}
	return c
}

func ms(us int64) string { return fmt.Sprintf("%d.%d ms", us/1000, us%1000/100) }

// list shortens a long list of countries.
func list(s []string) string {
	if len(s) > 8 {
		return strings.Join(s[:8], " ") + fmt.Sprintf(" and %d more", len(s)-8)
	}
	return strings.Join(s, " ")
}

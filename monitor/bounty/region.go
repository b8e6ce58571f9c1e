package bounty

import (
	"fmt"
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
	Monitor  string `json:"monitor"`
	Place    Place  `json:"place"`
	PingUS   int64  `json:"ping_us"`
	CableKm  int64  `json:"cable_km"`
	VacuumKm int64  `json:"vacuum_km"`
}

// disk draws the radii for a round trip; they are rounded up, never in favour of a claim.
func (r *Rules) disk(monitor string, p Place, pingUS int64) Disk {
	km := func(perMs float64) int64 { return int64(perMs*float64(pingUS)/1000) + 1 }
	return Disk{monitor, p, pingUS, km(r.CableKmPerMs), km(r.VacuumKmPerMs)}
}

// judgeRegion applies rule R14.
func judgeRegion(rules *Rules, geo Geo, ipv4, claimed string, disks []Disk) Finding {
	f := Finding{Rule: "R14", Subject: "region"}
	if geo == nil {
		return f.is(Review, "no data about the world's countries was given")
	}
	isEligible := func(c string) bool { return rules.eligible(c) }
	contradicted := ""
	strong, excluded := "", ""
	a, b := geo.Locate(ipv4)
	for _, d := range disks {
		vacuum := geo.Within(d.Place, float64(d.VacuumKm))
		if !slices.ContainsFunc(vacuum, isEligible) {
			if excluded == "" {
				excluded = fmt.Sprintf("the relay answered %s in %s: light in vacuum comes %d km far in half of that, and no eligible country is so near",
					d.Monitor, ms(d.PingUS), d.VacuumKm)
			}
			continue
		}
		cable := geo.Within(d.Place, float64(d.CableKm))
		if strong == "" && len(cable) > 0 && !slices.ContainsFunc(cable, func(c string) bool { return !isEligible(c) }) {
			strong = fmt.Sprintf("strong: the relay answered %s in %s, so it is within %d km of it, where all land is eligible (%s)",
				d.Monitor, ms(d.PingUS), d.CableKm, list(cable))
		}
		if a != "" && !slices.Contains(cable, a) && contradicted == "" {
			contradicted = fmt.Sprintf("%s is further than the %d km from %s that a round trip of %s allows", a, d.CableKm, d.Monitor, ms(d.PingUS))
		}
	}
	sets := fmt.Sprintf("the data sets place %s in %s and %s", ipv4, orNone(a), orNone(b))
	claim := ""
	if claimed != "" && claimed != a {
		claim = fmt.Sprintf("; the operator claims %s", claimed)
	}
	switch {
	case strong != "" && excluded != "":
		// One of the two monitors wrote what cannot be: a person finds out which.
		return f.is(Review, "two round trips contradict each other", strong, excluded)
	case excluded != "":
		return f.is(Fail, excluded)
	case strong != "":
		return f.is(Pass, strong, sets+claim)
	case a != "" && a == b && isEligible(a) && contradicted == "":
		if len(disks) == 0 {
			return f.is(Pass, "weak: "+sets+", which is eligible; no round trip tells more"+claim)
		}
		return f.is(Pass, "weak: "+sets+", which is eligible, and no round trip contradicts"+claim)
	case contradicted != "":
		return f.is(Review, sets+claim, contradicted)
	}
	return f.is(Review, sets+claim+": not the same eligible country in both")
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

package chart

import (
	"fmt"
	"strings"
)

// Vote is what is known of an hour from one voter.
type Vote struct {
	// Class is of style: "up", "down", "busy", "unknown" or "missing"; with another one
	// nothing is drawn.
	Class   string
	Against bool // the hour counts as something else
}

// Votes is a month of one voter as a bar. Up stands above the line and down below it, so
// that they differ without colour. The page stretches the bar: times that are short are
// kept visible by the width of their outline.
type Votes struct {
	Name  string // the voter's
	Role  string // "committee"
	Note  string // what somebody should know who decides; empty: nothing
	Words string // the bar, for those who cannot see it
	Hours int    // the width
	Paths []votePath
	Weeks string // path of a line for each week
}

type votePath struct{ Class, D string }

// bands are where the classes are drawn; the last are on top.
var bands = []struct {
	class     string
	y, height int
}{{"missing", 1, 22}, {"unknown", 9, 6}, {"busy", 7, 5}, {"up", 2, 10}, {"down", 12, 10}}

// Draw draws the votes, one an hour.
func (v *Votes) Draw(votes []Vote) {
	v.Hours = len(votes)
	for _, b := range bands {
		v.add(b.class, b.y, b.height, votes, func(h Vote) bool { return h.Class == b.class })
	}
	v.add("against", 0, 24, votes, func(h Vote) bool { return h.Against })
	for h := weekHours; h < len(votes); h += weekHours {
		v.Weeks += fmt.Sprintf("M%d 0V24", h)
	}
}

const weekHours = 7 * 24

// add draws a box around each run of hours for which is holds.
func (v *Votes) add(class string, y, height int, votes []Vote, is func(Vote) bool) {
	var d strings.Builder
	for from := 0; from < len(votes); from++ {
		until := from
		for until < len(votes) && is(votes[until]) {
			until++
		}
		if until > from {
			fmt.Fprintf(&d, "M%d %dH%dV%dH%dz", from, y, until, y+height, from)
			from = until
		}
	}
	if d.Len() > 0 {
		v.Paths = append(v.Paths, votePath{class, d.String()})
	}
}

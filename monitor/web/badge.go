package web

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
)

// badge is a small picture of the running month, to be shown on other pages.
func (h *handler) badge(w http.ResponseWriter, m Month) {
	word, class := standing(m)
	label := "relay " + m.Count.Month.String()
	const char = 7 // of the font, in pixels, generously
	left, right := len(label)*char+12, len(word)*char+12
	w.Header().Set("Content-Type", "image/svg+xml")
	w.Header().Set("Cache-Control", "max-age=300")
	// A page of somebody else's shows it; it can load and run nothing by itself.
	w.Header().Set("Content-Security-Policy", "default-src 'none'; sandbox")
	w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
	_, _ = fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="20" role="img" aria-label="%s: %s"><title>%[2]s: %[3]s</title>`+
		`<rect width="%[4]d" height="20" fill="#3a4048"/><rect x="%[4]d" width="%[5]d" height="20" fill="%[6]s"/>`+
		`<g fill="#fff" font-family="Verdana,sans-serif" font-size="11" text-anchor="middle"><text x="%[7]d" y="14">%[2]s</text><text x="%[8]d" y="14">%[3]s</text></g></svg>`,
		left+right, label, word, left, right, class, left/2, left+right/2)
}

// standing says in a few words how the month goes, with a colour that holds white text.
func standing(m Month) (words, colour string) {
	switch c := m.Count; {
	case c.Needed == 0:
		return fmt.Sprintf("%d of %d h up", c.Up, c.Required), "#1a7f37"
	case c.Late() && latest(m) != bounty.Down:
		return fmt.Sprintf("%d h up, enrolled for %d", c.Up, c.Total-c.NotEnrolled), "#57606a"
	case c.Lost():
		return fmt.Sprintf("%d of %d h: out of reach", c.Up, c.Required), "#b3261e"
	case latest(m) == bounty.Down:
		return fmt.Sprintf("down, %d of %d h up, %d may be lost", c.Up, c.Required, c.Spare), "#b3261e"
	case m.Forecast.UsedPercent >= 50 || !m.Forecast.RunsOut.IsZero():
		return fmt.Sprintf("%d of %d h up, %d may be lost", c.Up, c.Required, c.Spare), "#8a5a00"
	default:
		return fmt.Sprintf("%d of %d h up, %d may be lost", c.Up, c.Required, c.Spare), "#57606a"
	}
}

// latest is the last vote that is known.
func latest(m Month) bounty.Value {
	for i := len(m.Hours) - 1; i >= 0; i-- {
		if v := m.Hours[i].Vote; v != bounty.Unknown {
			return v
		}
	}
	return bounty.Unknown
}

// Median of what is known: zeros are left out.
func Median(values []int64) int64 {
	var known []int64
	for _, v := range values {
		if v > 0 {
			known = append(known, v)
		}
	}
	if len(known) == 0 {
		return 0
	}
	slices.Sort(known)
	return known[len(known)/2]
}

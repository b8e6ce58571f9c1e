package web

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/page"
)

// badge is a small picture of the running month, to be shown on other pages.
func (h *handler) badge(w http.ResponseWriter, m Month) {
	words, colour := standing(m)
	page.BadgeHeader(w.Header())
	_, _ = w.Write(page.Badge("relay "+m.Count.Month.String(), words, colour))
}

// standing says in a few words how the month goes, with a colour that holds white text.
func standing(m Month) (words, colour string) {
	switch c := m.Count; {
	case c.Needed == 0:
		return fmt.Sprintf("%d of %d h up", c.Up, c.Required), page.Good
	case c.Late() && latest(m) != bounty.Down:
		return fmt.Sprintf("%d h up, enrolled for %d", c.Up, c.Total-c.NotEnrolled), page.Plain
	case c.Lost():
		return fmt.Sprintf("%d of %d h: out of reach", c.Up, c.Required), page.Bad
	case latest(m) == bounty.Down:
		return fmt.Sprintf("down, %d of %d h up, %d may be lost", c.Up, c.Required, c.Spare), page.Bad
	case m.Forecast.UsedPercent >= 50 || !m.Forecast.RunsOut.IsZero():
		return fmt.Sprintf("%d of %d h up, %d may be lost", c.Up, c.Required, c.Spare), page.Caution
	default:
		return fmt.Sprintf("%d of %d h up, %d may be lost", c.Up, c.Required, c.Spare), page.Plain
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

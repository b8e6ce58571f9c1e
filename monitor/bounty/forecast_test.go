package bounty

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// A month of 720 hours, of which 600 are required: 120 may be lost.
func forecastOf(hours string, at int) Forecast {
	month := evidence.MonthOf(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
	u := Uptime{Hours: Hours{Total: month.Hours(), Remaining: month.Hours() - len(hours)}}
	for i := range month.Hours() {
		c := HourCount{Hour: month.First() + evidence.Hour(i), State: Remaining}
		if i < len(hours) {
			switch hours[i] {
			case 'u':
				c.State = StateUp
				u.Hours.Up++
			case 'd':
				c.State = StateDown
				u.Hours.Down++
			default:
				c.State = StateUnknown
				u.Hours.Unknown++
			}
		}
		u.Counts = append(u.Counts, c)
	}
	return u.Forecast(&Rules{HoursRequired: 600}, month.First()+evidence.Hour(at), func(h evidence.Hour) string {
		return []string{"tcp4 refused", "wss cert-expired"}[int(h-month.First())/24%2]
	})
}

func TestForecastPace(t *testing.T) {
	up, down, unknown := func(n int) string { return strings.Repeat("u", n) }, func(n int) string { return strings.Repeat("d", n) }, func(n int) string { return strings.Repeat("?", n) }
	day := func(hours string) string { return strings.Repeat(hours, 7) }
	for name, c := range map[string]struct {
		hours string
		left  int
		out   string // when the slack runs out
	}{
		"steady":                              {day(up(24)), 120, ""},
		"five hours are no pace":              {day(up(24)) + down(5), 115, ""},
		"an hour a day is not too many":       {day(up(23) + down(1)), 113, ""},
		"half of each day":                    {day(up(12) + down(12)), 36, "2026-11-11T02"},
		"half of each day that is known":      {day(unknown(22) + up(1) + down(1)), 113, ""},
		"of what is unknown nothing follows":  {day(unknown(12) + up(6) + down(6)), 78, "2026-11-14T14"},
		"it was long ago":                     {down(60) + day(up(24)), 60, ""},
		"the first bad hours stand for three": {down(10), 110, ""},
		"lost":                                {day(down(18)), -6, ""},
	} {
		f := forecastOf(c.hours, len(c.hours))
		out := ""
		if !f.RunsOut.IsZero() {
			out = f.RunsOut.UTC().Format("2006-01-02T15")
		}
		if f.Slack != 120 || f.Left != c.left || out != c.out {
			t.Errorf("%s: got a slack of %d, %d left, out at %q; want 120, %d, %q", name, f.Slack, f.Left, out, c.left, c.out)
		}
	}
	// Of hours that are not known it does not follow that the relay loses fewer.
	for hours, want := range map[string]bool{
		day(up(24)): false, day(down(10)) + day(unknown(24)): true, day(unknown(12) + up(12)): false, day(unknown(13) + up(11)): true, unknown(60): false,
	} {
		if f := forecastOf(hours, len(hours)); f.PaceUnknown != want {
			t.Errorf("%s: the pace is unknown: %v, want %v", hours, f.PaceUnknown, want)
		}
	}
}

func TestForecastSaysWhatCostMost(t *testing.T) {
	f := forecastOf(strings.Repeat("u", 20)+strings.Repeat("d", 6)+strings.Repeat("u", 20)+"d?d"+strings.Repeat("u", 30)+"d", 80)
	want := []string{
		"600 hours must be up, and up to 711 can be.", "120 hours may be lost; 9 are (7 %), 111 are left.",
		"What cost hours: tcp4 refused 5 h, wss cert-expired 4 h. The longest times: 2026-11-01T20:00Z to 2026-11-02T00:00Z (4 h), 2026-11-02T00:00Z to 2026-11-02T02:00Z (2 h), 2026-11-04T07:00Z.",
	}
	if got := f.Words(600); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

package evidence

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Hour is a UTC hour: floor(unix seconds / 3600) (rule R1). It is written as the
// time of its start, "2026-11-03T14:00:00Z".
type Hour int64

const hourSeconds = 3600

// CloseAfter is how long after its end an hour is still open: retries of a first
// attempt in its last second run until then (rule R2).
const CloseAfter = 16 * time.Minute

// HourOf is the hour into which t falls.
func HourOf(t time.Time) Hour {
	s := t.Unix()
	h := s / hourSeconds
	if s%hourSeconds < 0 {
		h--
	}
	return Hour(h)
}

// ParseHour reads an hour as it is written; half hours and other zones are refused.
func ParseHour(s string) (Hour, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return 0, fmt.Errorf("hour %q: want a full UTC hour such as 2026-11-03T14:00:00Z", s)
	}
	h := HourOf(t)
	if h.String() != s {
		return 0, fmt.Errorf("hour %q: want a full UTC hour such as %s", s, h)
	}
	return h, nil
}

// HourGiven reads an hour as a person gives it: as it is written, or shorter, as reports
// show it.
func HourGiven(s string) (Hour, error) {
	for _, layout := range []string{"2006-01-02T15:04Z", "2006-01-02T15"} {
		if t, err := time.Parse(layout, s); err == nil && t.Minute() == 0 {
			return HourOf(t), nil
		}
	}
	return ParseHour(s)
}

// Start is the hour's first instant.
func (h Hour) Start() time.Time { return time.Unix(int64(h)*hourSeconds, 0).UTC() }

// End is the first instant after the hour.
func (h Hour) End() time.Time { return (h + 1).Start() }

// Closed says whether the hour has closed by now: the last retry is over, see [CloseAfter].
func (h Hour) Closed(now time.Time) bool { return !now.Before(h.End().Add(CloseAfter)) }

// Month is the month into which the hour falls.
func (h Hour) Month() Month { return MonthOf(h.Start()) }

// String is the time of the hour's start, "2026-11-03T14:00:00Z".
func (h Hour) String() string { return h.Start().Format(time.RFC3339) }

// MarshalText writes the hour as String does.
func (h Hour) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText writes and nothing else.
func (h *Hour) UnmarshalText(b []byte) (err error) {
	*h, err = ParseHour(string(b))
	return err
}

const hourFileLayout = "2006-01-02T15"

// HourFile names a file after an hour; a colon is no character for a file name.
func HourFile(h Hour) string { return h.Start().Format(hourFileLayout) + ".jsonl" }

// ParseHourFile reads the hour off a name that [HourFile] gives.
func ParseHourFile(name string) (Hour, bool) {
	t, err := time.Parse(hourFileLayout, strings.TrimSuffix(name, ".jsonl"))
	return HourOf(t), err == nil && HourFile(HourOf(t)) == name
}

// Month is a UTC calendar month, written "2026-11". Its value counts months
// since year 0, so that months can be compared and added to.
type Month int

// MonthOf is the month into which t falls.
func MonthOf(t time.Time) Month {
	t = t.UTC()
	return Month(t.Year()*12 + int(t.Month()) - 1)
}

// ParseMonth reads a month as it is written, "2026-11".
func ParseMonth(s string) (Month, error) {
	t, err := time.Parse("2006-01", s)
	if err != nil || t.Year() < 1970 {
		return 0, fmt.Errorf("month %q: want YYYY-MM, such as 2026-11", s)
	}
	return MonthOf(t), nil
}

// First is the month's first hour.
func (m Month) First() Hour {
	return HourOf(time.Date(int(m)/12, time.Month(int(m)%12+1), 1, 0, 0, 0, 0, time.UTC))
}

// End is the first hour after the month.
func (m Month) End() Hour { return (m + 1).First() }

// Hours is the number of hours in the month: 672, 696, 720 or 744.
func (m Month) Hours() int { return int(m.End() - m.First()) }

// Contains says whether h falls into the month.
func (m Month) Contains(h Hour) bool { return m.First() <= h && h < m.End() }

// String is the month as it is written, "2026-11".
func (m Month) String() string { return m.First().Start().Format("2006-01") }

// MarshalText writes the month as String does.
func (m Month) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText writes and nothing else.
func (m *Month) UnmarshalText(b []byte) (err error) {
	*m, err = ParseMonth(string(b))
	return err
}

// Time is an instant in UTC with millisecond precision, written
// "2026-11-03T14:05:06.789Z": one spelling for one instant.
type Time struct{ time.Time }

const timeLayout = "2006-01-02T15:04:05.000Z"

// TimeOf cuts t to milliseconds and puts it in UTC.
func TimeOf(t time.Time) Time { return Time{t.UTC().Truncate(time.Millisecond)} }

// MarshalJSON writes the one spelling; years of five digits have none.
func (t Time) MarshalJSON() ([]byte, error) {
	if y := t.UTC().Year(); y < 0 || y > 9999 {
		return nil, fmt.Errorf("time in the year %d cannot be written", y)
	}
	return json.Marshal(t.String())
}

// UnmarshalJSON reads the one spelling and nothing else.
func (t *Time) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := time.Parse(timeLayout, s)
	if err != nil {
		return fmt.Errorf("time %q: want UTC with milliseconds, such as 2026-11-03T14:05:06.789Z", s)
	}
	t.Time = v
	return nil
}

// String is the one spelling.
func (t Time) String() string { return t.UTC().Format(timeLayout) }

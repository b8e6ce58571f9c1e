package alert

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// times say when people are told.
type times struct {
	quiet    bool
	from, to time.Duration // of the quiet hours, since midnight
	digests  bool
	digest   time.Duration // of the day, since midnight
	zone     *time.Location
}

// times reads the times of the configuration.
func (c Config) times() (times, error) {
	t, faults := c.readTimes()
	return t, errors.Join(faults...)
}

func (c Config) readTimes() (t times, faults []error) {
	fault := func(key, format string, args ...any) {
		faults = append(faults, fmt.Errorf("alerts."+key+": "+format, args...))
	}
	var err error
	if t.zone, err = time.LoadLocation(c.TimeZone); err != nil || c.TimeZone == "Local" {
		fault("time_zone", "want a name such as Europe/Berlin or UTC, not %s", quoted(c.TimeZone))
		t.zone = time.UTC
	}
	if c.Quiet != "" {
		from, to, ok := strings.Cut(c.Quiet, "-")
		var bad error
		t.from, err = timeOfDay(from)
		t.to, bad = timeOfDay(to)
		if t.quiet = ok && err == nil && bad == nil && t.from != t.to; !t.quiet {
			fault("quiet", "want two times of day such as 22:00-07:00, or nothing, not %s", quoted(c.Quiet))
		}
	}
	if c.Digest != "" {
		if t.digest, err = timeOfDay(c.Digest); err != nil {
			fault("digest", "want a time of day such as 08:00, or nothing, not %s", quoted(c.Digest))
		} else if t.digests = true; t.quiet && t.within(t.digest) {
			fault("digest", "%s lies in the quiet hours %s: write another time", c.Digest, c.Quiet)
		}
	}
	return t, faults
}

func timeOfDay(s string) (time.Duration, error) {
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != len("15:04") {
		return 0, errors.New("no time of day")
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

func (t times) within(day time.Duration) bool {
	if t.from < t.to {
		return t.from <= day && day < t.to
	}
	return t.from <= day || day < t.to
}

// quietAt says whether people are to be left alone.
func (t times) quietAt(now time.Time) bool {
	now = now.In(t.zoneOrUTC())
	return t.quiet && t.within(time.Duration(now.Hour())*time.Hour+time.Duration(now.Minute())*time.Minute)
}

// lastDigest is when the last one was due, up to now. Where the clocks of the zone jump
// over the time, it is due an hour beside it.
func (t times) lastDigest(now time.Time) time.Time {
	local := now.In(t.zoneOrUTC())
	for day := 0; ; day-- {
		due := time.Date(local.Year(), local.Month(), local.Day()+day, 0, int(t.digest/time.Minute), 0, 0, local.Location())
		if !due.After(now) {
			return due.UTC()
		}
	}
}

func (t times) zoneOrUTC() *time.Location {
	if t.zone == nil {
		return time.UTC
	}
	return t.zone
}

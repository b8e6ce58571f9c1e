package bounty

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// TestBountyMD ties the numbers of BOUNTY.md to the defaults: each sentence is
// written here with the number left open, and must stand there with the code's.
func TestBountyMD(t *testing.T) {
	b, err := os.ReadFile("../../BOUNTY.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(b)), " ")
	r := Defaults()
	hours := func(d time.Duration) int { return int(d / time.Hour) }
	minutes := func(d time.Duration) int { return int(d / time.Minute) }
	seconds := func(d time.Duration) int { return int(d / time.Second) }
	november, december, february := month(t, "2026-11"), month(t, "2026-12"), month(t, "2026-02")
	leap := month(t, "2028-02")
	for _, want := range []string{
		fmt.Sprintf("It was up for %d days of the month: %d hours", r.HoursRequired/24, r.HoursRequired),
		fmt.Sprintf("A month has %d, %d, %d or %d hours", february.Hours(), leap.Hours(), november.Hours(), december.Hours()),
		fmt.Sprintf("Retries may start until %d minutes after the hour's end", minutes(r.AttemptClose)),
		fmt.Sprintf("come back equal (level %d of %d)", r.RelayLevel, evidence.LevelEchoed),
		fmt.Sprintf("within %d seconds after it: %s of the control hosts, rounded up", seconds(r.ControlWithin), r.ControlShare),
		fmt.Sprintf("What took at least %d seconds to fail needs controls that answered while it did", seconds(r.ControlBeside)),
		fmt.Sprintf("No more than %d %% of the packets to those that answered may have been sent again", r.LineLoss),
		fmt.Sprintf("Down if at least %d attempts failed that started at least %d minutes apart", r.DownAttempts, minutes(r.DownSpacing)),
		fmt.Sprintf("The first %d busy hours of a month count as up", r.BusyCap),
		fmt.Sprintf("cosigned it within %d minutes after the hour's end (%s of the monitors, rounded down)", minutes(r.SealWithin), r.WitnessesRequired),
		fmt.Sprintf("drifted less than %d seconds and stood at most %d seconds ahead", seconds(r.ClockDrift), seconds(r.ClockAhead)),
		fmt.Sprintf("in which it was set by %d seconds or more", seconds(r.ClockDrift)),
		fmt.Sprintf("%d hours up: PASS", r.HoursRequired),
		fmt.Sprintf("Below a coverage of %d %%", r.CoverageFlag),
		fmt.Sprintf("At most %d change that was announced", r.AddressChanges),
		fmt.Sprintf("expires within %d days of the month's end", hours(r.CertificateWarn)/24),
		fmt.Sprintf("the newest release that had been out for %d hours", hours(r.ReleaseGrace)),
		fmt.Sprintf("the newest release that is %d hours old", hours(r.ReleaseGrace)),
		fmt.Sprintf("At most %v km of distance per millisecond of round trip on this world's cables, %v km in vacuum", r.CableKmPerMs, r.VacuumKmPerMs),
		fmt.Sprintf("must be repeated with success within %d hours", hours(r.BrowserRepeat)),
		fmt.Sprintf("PROVISIONAL until %d hours after the month's end", hours(r.FinalAfter)),
		fmt.Sprintf("Wait until %d hours after the month's end", hours(r.FinalAfter)),
		fmt.Sprintf("An hour is *assured* if monitors of at least %d operators voted up in it, the committee's among them", r.AssuredOperators),
		fmt.Sprintf("%d hours must be assured", r.HoursRequired),
		fmt.Sprintf("More than %d such hours", r.CommitteeDissent),
		fmt.Sprintf("Where at least %d monitors may judge a relay in an hour, %d of them are due", r.DueFrom, r.MonitorsDue),
		fmt.Sprintf("is that of the %d.", r.MonitorsDue),
		fmt.Sprintf("valid for longer than %d hours", hours(r.VoucherValid)),
		fmt.Sprintf("Keep %d hours: %d hours of a month of 30 days may be lost, %d of one of 31, %d of a February of 28",
			r.HoursRequired, november.Hours()-r.HoursRequired, december.Hours()-r.HoursRequired, february.Hours()-r.HoursRequired),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("BOUNTY.md does not say %q", want)
		}
	}
	// The first day of a month of 30 days that is too late to enrol.
	late := (november.Hours()-r.HoursRequired)/24 + 2
	if want := fmt.Sprintf("in a month of 30 days a relay that enrols on the %dth cannot pass any more", late); !strings.Contains(text, want) {
		t.Errorf("BOUNTY.md does not say %q", want)
	}
	for i := 1; i <= 21; i++ {
		if !regexp.MustCompile(fmt.Sprintf(`\bR%d\b`, i)).MatchString(text) {
			t.Errorf("BOUNTY.md does not name rule R%d", i)
		}
	}
	if !strings.HasPrefix(text, "# The relay bounty **Who owes what to whom, today: nobody owes anybody anything.**") {
		t.Error("BOUNTY.md must open with what is owed by whom")
	}
}

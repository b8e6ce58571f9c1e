package bundle

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/chart"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Who dissents and whose log is missing is in the picture beneath the verdict, for those
// who see it and for those who do not.
func TestVotesPicture(t *testing.T) {
	w := scene.New(t, evidence.PSF, 4)
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		if m == w.Monitors[1] && h < w.First+2 {
			return []evidence.Attempt{w.Down(m, h, 10*time.Minute), w.Down(m, h, 16*time.Minute)}
		}
		return []evidence.Attempt{w.Attempt(m, h, 10*time.Minute)}
	})
	in := inputOf(w)
	in.Logs = in.Logs[:3]
	v := judged(t, w, in)
	p := VotesOf(v)
	if len(p.Month) != 1 || len(p.First) != 4 || len(p.Others) != 0 || p.More != 0 {
		t.Fatalf("got %d, %d, %d and %d bars, want the month and 4 monitors", len(p.Month), len(p.First), len(p.Others), p.More)
	}
	classes := func(b chart.Votes) (out []string) {
		for _, x := range b.Paths {
			out = append(out, x.Class)
		}
		return out
	}
	for _, want := range []struct {
		bar              chart.Votes
		name, note, draw string
	}{
		{p.Month[0], "What counts", "", "[unknown up against]"},
		{p.First[0], "m1.example.org", "", "[up]"},
		{p.First[1], "m2.example.org", "dissents in 2 hours", "[up down against]"},
		{p.First[2], "m4.example.org", "its log is missing", "[missing]"},
		{p.First[3], "m3.example.org", "", "[up]"},
	} {
		if got := fmt.Sprint(classes(want.bar)); want.bar.Name != want.name || want.bar.Note != want.note || got != want.draw || want.bar.Hours != v.Month.Hours() {
			t.Errorf("got %s (%q) drawn %s in %d hours, want %s (%q) drawn %s", want.bar.Name, want.bar.Note, got, want.bar.Hours, want.name, want.note, want.draw)
		}
	}
	html, err := HTML(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"! dissents in 2 hours", "! its log is missing", "2 down, 0 unknown; dissents in 2 hours", bounty.Unknown.Meaning(nil), "What unknown means</a>", "m2.example.org: the roster names no place"} {
		if !strings.Contains(strings.ReplaceAll(string(html), "&#39;", "'"), want) {
			t.Errorf("the report does not say %q", want)
		}
	}
	if strings.Contains(string(html), bounty.Busy.Meaning(nil)) {
		t.Error("the report explains busy, and no hour is")
	}
}

// A roster of hundreds does not make a page that nobody can read: who needs a look comes
// first, the others are folded away, and no more than some are drawn.
func TestVotesPictureOfMany(t *testing.T) {
	v := &bounty.Verdict{Month: evidence.MonthOf(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))}
	for i := range 60 {
		v.Monitors = append(v.Monitors, bounty.MonitorReport{Name: fmt.Sprintf("m%d", i), Log: i != 59, Committee: i == 58})
	}
	for h := v.Month.First(); h < v.Month.End(); h++ {
		r := bounty.HourReport{Hour: h, State: bounty.StateUp, Votes: map[string]string{}}
		for i, m := range v.Monitors {
			r.Votes[m.Name] = []string{"up", "down", "busy", "unknown: late"}[(int(h)+i)%4]
		}
		v.Hourly = append(v.Hourly, r)
	}
	p := VotesOf(v)
	if len(p.First) != firstVoters || len(p.Others) != mostVoters-firstVoters || p.More != 10 || p.First[0].Name != "m58" || p.First[1].Name != "m59" {
		t.Errorf("got %d bars first, %d folded, %d left out; first %s, then %s", len(p.First), len(p.Others), p.More, p.First[0].Name, p.First[1].Name)
	}
	html, err := HTML(v)
	if err != nil {
		t.Fatal(err)
	}
	if len(html) > 2<<20 || !strings.Contains(string(html), "42 more monitors</summary>") || !strings.Contains(string(html), "10 more monitors are not drawn") {
		t.Errorf("got a report of %d bytes, want at most 2 MiB that says what is folded and left out", len(html))
	}
}

// Hours for which the round chose others are no gap in a monitor's log, and the reports say
// why it has no vote in them.
func TestNotDueIsTold(t *testing.T) {
	v := &bounty.Verdict{Month: evidence.MonthOf(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)), Monitors: []bounty.MonitorReport{
		{Name: "m1.example.org", Log: true, Votes: map[bounty.Value]int{}, NotDue: 619},
	}}
	html, err := HTML(v)
	if err != nil {
		t.Fatal(err)
	}
	for what, report := range map[string]string{"report.html": string(html), "report.md": string(Markdown(v))} {
		if want := "619 hours were others' to probe (R21)"; !strings.Contains(report, want) {
			t.Errorf("%s does not say %q", what, want)
		}
	}
}

package web

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/history"
)

// hourPage is what the hour's template sees.
type hourPage struct {
	*history.Story
	Picture picture
}

// picture is an hour and the time of its last retries, drawn in a line.
type picture struct {
	Words    string // for who cannot see it
	HourX    int    // where the hour begins and how wide it is
	HourW    int
	AfterW   int // of the time of the last retries
	Ticks    []label
	Attempts []drawn
	Controls []drawn
	Steps    []int // where the clock was set
	Gap      bool  // nobody watched
}

// label is a time at the picture's edge.
type label struct {
	X    int
	Text string
}

// drawn is an attempt or a control at its place.
type drawn struct {
	X    int
	N    int // number of the attempt
	Kind string
	Name string // what a pointer over it shows
}

// The picture's scale: so many units for a minute.
const (
	pictureX    = 14
	perMinute   = 4.3
	hourMinutes = 60
)

func hourView(s history.Story, root string) view {
	return view{root, title(s.Network, "relay "+short(s.Relay)+", "+s.Hour.String()), hourPage{&s, drawHour(&s)}}
}

// drawHour puts all that the story knows of times to its place.
func drawHour(s *history.Story) picture {
	after := int(evidence.CloseAfter.Minutes())
	p := picture{HourX: pictureX, HourW: width(hourMinutes), AfterW: width(after), Gap: s.State == evidence.StateGap}
	for m := 0; m <= hourMinutes; m += 15 {
		p.Ticks = append(p.Ticks, label{pictureX + width(float64(m)), s.Hour.Start().Add(time.Duration(m) * time.Minute).Format("15:04")})
	}
	// A clock that was set may show any time: what lies outside stands at the edge.
	at := func(t evidence.Time) int {
		return pictureX + width(min(max(t.Sub(s.Hour.Start()).Minutes(), 0), float64(hourMinutes+after)))
	}
	words := []string{}
	for i, t := range s.Tries {
		name := fmt.Sprintf("attempt %d at %s: %s", i+1, clock(t.Started), outcomeWords[t.Outcome])
		words = append(words, name)
		p.Attempts = append(p.Attempts, drawn{at(t.Started), i + 1, string(t.Outcome), name})
	}
	for _, a := range s.Attempts {
		for _, c := range a.Controls {
			kind := "ok"
			if c.Outcome != evidence.OK {
				kind = "fail"
			}
			d := drawn{X: at(c.Started), Kind: kind}
			if !slices.Contains(p.Controls, d) {
				p.Controls = append(p.Controls, d)
			}
		}
	}
	if n := len(p.Controls); n > 0 {
		words = append(words, "controls were tried beside them")
	}
	if s.Clock != nil {
		for _, step := range s.Clock.Steps {
			p.Steps = append(p.Steps, at(step.At))
			words = append(words, "the monitor's clock was set at "+clock(step.At))
		}
	}
	if p.Gap {
		words = append(words, "nobody watched")
	}
	if len(words) == 0 {
		words = append(words, "no attempt was made")
	}
	p.Words = strings.Join(words, "; ")
	return p
}

func width[N int | float64](minutes N) int { return int(float64(minutes)*perMinute + 0.5) }

func clock(t evidence.Time) string { return t.UTC().Format(time.TimeOnly) }

// outcomeWords say what an attempt brought to the vote.
var outcomeWords = map[evidence.Outcome]string{
	evidence.OK: "ok", evidence.Fail: "failed", evidence.Busy: "busy", evidence.Blind: "does not count",
}

// outcomeSigns tell outcomes apart without colour.
var outcomeSigns = map[evidence.Outcome]string{
	evidence.OK: "✓", evidence.Fail: "✗", evidence.Busy: "◆", evidence.Blind: "?", evidence.Skipped: "–",
}

// linked is a sentence in which the rules and the words for a vote lead to what they mean.
func linked(s *history.Story, sentence string) template.HTML {
	var b strings.Builder
	end := 0
	for _, at := range history.Named.FindAllStringIndex(sentence, -1) {
		found := sentence[at[0]:at[1]]
		if !s.Leads(found) {
			continue
		}
		b.WriteString(template.HTMLEscapeString(sentence[end:at[0]]))
		fmt.Fprintf(&b, `<a href="#%s">%s</a>`, history.TermOf(found), template.HTMLEscapeString(found))
		end = at[1]
	}
	b.WriteString(template.HTMLEscapeString(sentence[end:]))
	return template.HTML(b.String()) // every piece of the sentence was escaped
}

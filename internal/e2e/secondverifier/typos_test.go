package secondverifier

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// A roster with a typing mistake that both take means the same to both. The second knows
// less of YAML and so refuses more; the shape of keys it leaves to its other half.
func TestTypingMistakes(t *testing.T) {
	s := startSecond(t)
	w := scene.New(t, evidence.PSF, 1)
	w.Notes = `notes:
- {kind: incident, from: 2026-10-31T20:00:00Z, until: 2026-10-31T21:00:00Z, text: 'it''s #1: ok'}
- kind: maintenance
  from: 2026-10-31T20:00:00Z # until ten
  until: 2026-10-31T22:00:00Z
  text: a "quoted" - word
`
	plain := withoutStatement(w.RosterYAML())
	c := bounty.Case{Rules: bounty.Defaults(), Relay: w.RelayID}
	var err error
	if c.Geo, err = bundle.DefaultGeo(); err != nil {
		t.Fatal(err)
	}
	if c.Month, err = evidence.ParseMonth("2026-10"); err != nil {
		t.Fatal(err)
	}
	marks := []string{" ", "\n", ":", "-", "{", "}", "[", "]", ",", "#", "'", "\"", "&", "*", "|", "0", "a", "~", "\t", ": ", " #", "\n  ", "- ", "null", "\\", "!", "%", "@", "\r"}
	dice := rand.New(rand.NewPCG(7, 7))
	both, neither, one := 0, 0, 0
	for range 1500 {
		at, more := dice.IntN(len(plain)-2), dice.IntN(3)
		text := plain[:at] + marks[dice.IntN(len(marks))] + plain[at+more:]
		report, refusal := s.judge(factsOf(t, bounty.Case{Rules: c.Rules, Roster: &bounty.Roster{}, Relay: c.Relay, Month: c.Month}, bounty.DefaultRules, []byte(text), nil))
		roster, err := bounty.ParseRoster("roster", []byte(text))
		switch {
		case strings.Contains(refusal, "\n    at "):
			t.Fatalf("the second breaks: %s\n%s", refusal, text)
		case err != nil && refusal != "":
			neither++
			continue
		case err != nil || refusal != "":
			one++
			continue
		}
		both++
		roster.SHA256 = "" // as in the facts
		c.Roster = roster
		v, err := bounty.Judge(c)
		if err != nil {
			t.Fatalf("relayaudit takes the roster but not the case, unlike the second (%v): %v\n%s", report, err, text)
		}
		for _, d := range differences("report", written(t, v), report) {
			t.Errorf("%s\n%s", d, text)
		}
	}
	t.Logf("%d are taken by both, %d by neither, %d by one", both, neither, one)
	if both < 100 || neither < 100 {
		t.Error("too few of a kind")
	}
}

// withoutStatement leaves out of a scene's roster what is signed and so holds no typing mistake.
func withoutStatement(roster string) string {
	before, rest, _ := strings.Cut(roster, ", payout:")
	_, rest, _ = strings.Cut(rest, ", enrolled:")
	enrolled, rest, _ := strings.Cut(rest, ", statement:")
	_, after, _ := strings.Cut(rest, "}")
	return before + ", enrolled:" + enrolled + "}" + after
}

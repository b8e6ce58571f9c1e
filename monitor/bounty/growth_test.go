package bounty

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// grownRoster is a whole roster from the future, with members that nobody knows today,
// one of them named as a known one in another case.
func grownRoster(t *testing.T, text string) string {
	t.Helper()
	grown := strings.Replace(text, "monitors:\n", "colour: red\nMonitors: []\nmonitors:\n", 1)
	if grown == text {
		t.Fatalf("no monitors in\n%s", text)
	}
	return grown + "plans: [{a: {b: 1}}]\n"
}

func TestSignedRosterMayGrow(t *testing.T) {
	c := newCommittee(t)
	text := wholeRoster(t, nil)
	plain, _, err := OpenRoster("roster", c.sign([]byte(text)), c.key)
	if err != nil {
		t.Fatal(err)
	}
	file := c.sign([]byte(grownRoster(t, text)))
	grown, _, err := OpenRoster("roster", file, c.key)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"colour", "Monitors", "plans"}; !slices.Equal(grown.Unknown, want) {
		t.Errorf("unknown members: got %q, want %q", grown.Unknown, want)
	}
	if grown.SHA256 != hashOf(file) {
		t.Error("the hash is not that of the file with all its members")
	}
	grown.Unknown, grown.SHA256 = nil, plain.SHA256
	if !reflect.DeepEqual(grown, plain) {
		t.Errorf("unknown members mean something: got %+v, want %+v", grown, plain)
	}
	// Who writes a roster, or takes an unsigned one, is told of a typing mistake.
	const hint = `unknown key "Monitors"; did you mean "monitors"?`
	_, err = ParseRoster("roster", []byte(grownRoster(t, text)))
	wants(t, "unsigned", err, hint)
	_, _, err = OpenRoster("roster", []byte(grownRoster(t, text)), "")
	wants(t, "unsigned, opened", err, hint)
	_, err = c.roster(grownRoster(t, text), nil, hour(t, "2026-11-15T12:00:00Z"))
	wants(t, "to be signed", err, hint)
	_, err = c.roster(string(file), nil, hour(t, "2026-11-15T12:00:00Z"))
	wants(t, "to be signed anew", err, hint)
	// What a newer program signed may be followed by what this one signs.
	_, err = c.roster(text, file, hour(t, "2026-11-15T12:00:00Z"))
	wants(t, "after a grown one", err, "")
}

func TestSignedRulesMayGrow(t *testing.T) {
	c := newCommittee(t)
	text := string(DefaultRules)
	plain, _, err := OpenRules("rules", c.sign([]byte(text)), c.key)
	if err != nil {
		t.Fatal(err)
	}
	grownText := text + "Hours_Required: 1\nmercy: {hours: [1, 2]}\n"
	file := c.sign([]byte(grownText))
	grown, _, err := OpenRules("rules", file, c.key)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"Hours_Required", "mercy"}; !slices.Equal(grown.Unknown, want) || grown.SHA256 != hashOf(file) {
		t.Errorf("got %q, %s, want %q, %s", grown.Unknown, grown.SHA256, want, hashOf(file))
	}
	grown.Unknown, grown.SHA256 = nil, plain.SHA256
	if !reflect.DeepEqual(grown, plain) {
		t.Errorf("unknown members mean something: got %+v, want %+v", grown, plain)
	}
	const hint = `unknown key "Hours_Required"; did you mean "hours_required"?`
	_, err = ParseRules("rules", []byte(grownText))
	wants(t, "unsigned", err, hint)
	_, err = c.rules(grownText, nil, hour(t, "2026-09-15T12:00:00Z"))
	wants(t, "to be signed", err, hint)
	// A known key in another case is not the known key.
	_, _, err = OpenRules("rules", c.sign([]byte(strings.Replace(text, "\nbusy_cap:", "\nBusy_cap:", 1))), c.key)
	wants(t, "Busy_cap", err, "missing: busy_cap")
}

// To a reader of rosters all keys of rules are unknown: they are no roster of nobody.
func TestRulesAreNoRoster(t *testing.T) {
	c := newCommittee(t)
	rules := c.sign(DefaultRules)
	_, _, err := OpenRoster("file", rules, c.key)
	wants(t, "rules as a roster", err, "file holds rules, not a roster")
	wants(t, "rules as a roster", Mistaken("file", rules, false), "file holds rules, not a roster")
	roster := c.sign([]byte(grownRoster(t, wholeRoster(t, nil))))
	wants(t, "a grown roster as rules", Mistaken("file", roster, true), "file holds a roster, not rules")
	wants(t, "rules with a fault", Mistaken("file", c.sign([]byte(strings.Replace(string(DefaultRules), "\nbusy_cap:", "\nBusy_cap:", 1))), true), "")
}

func TestNewerRulesAndRosters(t *testing.T) {
	c := newCommittee(t)
	const want = "mine: it is of version 2: it needs relayaudit of at least version 2; this one reads version 1"
	for name, text := range map[string]string{
		"whole":     strings.Replace(wholeRoster(t, nil), "version: 1\n", "version: 2\n", 1),
		"of a kind": "version: 2\nmonitors: none\n",
		"anchors":   "monitors: &x []\nversion: 2\n",
	} {
		for how, file := range map[string][]byte{"signed": c.sign([]byte(text)), "unsigned": []byte(text)} {
			if _, _, err := OpenRoster("mine", file, ""); err == nil || err.Error() != want {
				t.Errorf("roster, %s, %s: got %v, want %s", name, how, err, want)
			}
			if _, _, err := OpenRules("mine", file, ""); err == nil || err.Error() != want {
				t.Errorf("rules, %s, %s: got %v, want %s", name, how, err, want)
			}
		}
	}
	_, _, err := NextRoster("mine", []byte("version: 2\nnew: 1\n"), nil, 0)
	wants(t, "to be signed", err, want)
	_, _, err = NextRules("mine", []byte("version: 2\nnew: 1\n"), nil, 0)
	wants(t, "rules to be signed", err, want)
}

package bundle

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// nextRoster is what the committee signs after a roster: changed as it likes.
func nextRoster(w *scene.Scene, before []byte, change ...string) []byte {
	text, _ := bounty.Text(before)
	out, _, err := bounty.NextRoster("roster", []byte(strings.NewReplacer(change...).Replace(string(text))), &bounty.Previous{Name: "before", File: before, Key: w.CommitteeKey}, 1)
	w.Must(err)
	return w.Signed(string(out))
}

func nextRules(w *scene.Scene, before []byte, from string) []byte {
	text, _ := bounty.Text(before)
	var lines []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "from:") {
			line = "from: " + from + "\n"
		}
		lines = append(lines, line)
	}
	out, _, err := bounty.NextRules("rules", []byte(strings.Join(lines, "")), &bounty.Previous{Name: "before", File: before, Key: w.CommitteeKey}, 1)
	w.Must(err)
	return w.Signed(string(out))
}

func refused(t *testing.T, what string, err error, want string) {
	t.Helper()
	var input *InputError
	if err == nil || errors.As(err, &input) || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, want %q", what, err, want)
	}
}

// A verifier that holds a newer roster is told so, and can still check the bundle along
// the chain; the newer one decides.
func TestOlderRoster(t *testing.T) {
	w, in := smallMonth(t)
	b := bundleOf(w, in)
	second := nextRoster(w, in.Roster)
	third := nextRoster(w, second)
	o := optionsOf(w, in)

	o.Roster = second
	res, err := verify(b, o)
	if err != nil || res.Newest == nil || len(res.Warnings) != 1 || res.Warnings[0] != "judged by roster serial 1; you hold serial 2: older" {
		t.Fatalf("got %q, %v", res.Warnings, err)
	}
	if res.Verdict.Inputs.Roster.Serial != 1 || res.Newest.Inputs.Roster.Serial != 2 || res.Newest.Headline != res.Verdict.Headline || res.Result != res.Newest.Result {
		t.Errorf("got %+v and %+v", res.Verdict.Inputs, res.Newest.Inputs)
	}

	o.Roster = third
	_, err = verify(b, o)
	refused(t, "a gap", err, "inputs/roster.yaml: the bundle's roster file has serial 1, and the oldest that you hold has 3: bring serial 2 along, too")
	for _, files := range [][][]byte{{third, second}, {second, third}, {in.Roster, third, second}} {
		o.Roster, o.OlderRosters = files[0], files[1:]
		if res, err := verify(b, o); err != nil || res.Newest == nil || res.Newest.Inputs.Roster.Serial != 3 {
			t.Errorf("got %+v, %v", res.Newest, err)
		}
	}

	// The other way round: the bundle is newer than what the verifier holds.
	newer := in
	newer.Roster = second
	o = optionsOf(w, in)
	_, err = verify(bundleOf(w, newer), o)
	refused(t, "newer", err, "the bundle's roster file is newer (serial 2) than yours (serial 1): get the committee's newest")

	// The chain, and no other roster that the committee may have signed.
	other := *w
	other.Notes = "notes: [{kind: incident, from: 2026-11-01T00:00:00Z, until: 2026-11-01T01:00:00Z, text: another}]\n"
	o = optionsOf(w, in)
	o.Roster = nextRoster(w, other.Signed(other.RosterYAML()))
	_, err = verify(b, o)
	refused(t, "another first", err, "the bundle's roster file, serial 1, is not the one that your serial 2 follows")
}

// What the newer roster says decides: an older one that is kinder helps nobody.
func TestNewestRosterDecides(t *testing.T) {
	w, in := goldenEligible(t)
	b := bundleOf(w, in)
	o := optionsOf(w, in)
	if res, err := verify(b, o); err != nil || res.Result != bounty.Eligible {
		t.Fatalf("got %s, %v", res.Result, err)
	}
	o.Roster = nextRoster(w, in.Roster, "committee: true", "committee: false")
	res, err := verify(b, o)
	if err != nil || res.Result != bounty.ForReview || res.Verdict.Result != bounty.Eligible || res.Newest.Result != bounty.ForReview {
		t.Fatalf("got %s, %v", res.Result, err)
	}
	if len(res.Warnings) != 2 || !strings.Contains(res.Warnings[1], "by roster serial 1 it is ELIGIBLE") || !strings.Contains(res.Warnings[1], "by yours, serial 2, it is REVIEW") {
		t.Errorf("got %q", res.Warnings)
	}
	// The keys of the month changed, so the logs are verified anew: one is nobody's.
	o.Roster = nextRoster(w, in.Roster, w.Monitors[1].Log.Key(), otherKey(t, w))
	res, err = verify(b, o)
	if err != nil || res.Result != bounty.ForReview || res.Newest == nil || res.Newest.Result != bounty.ForReview {
		t.Fatalf("got %s, %v", res.Result, err)
	}
	if len(res.Warnings) != 2 || !strings.Contains(res.Warnings[1], "it cannot be judged, so it is not taken for eligible") {
		t.Errorf("got %q", res.Warnings)
	}
	// A newer release list may tell of a release that the relay should have run: the
	// verifier brings it along, or it is not taken for eligible.
	later := append(bytes.Clone(w.Releases), "# later\n"...)
	o.Roster = nextRoster(w, in.Roster, hashOf(w.Releases), hashOf(later))
	if res, err := verify(b, o); err != nil || res.Result != bounty.ForReview || !strings.Contains(res.Counts().Reasons[0], "another release list") {
		t.Errorf("got %s, %q, %v", res.Result, res.Warnings, err)
	}
	o.Releases = later
	if res, err := verify(b, o); err != nil || res.Result != bounty.Eligible || len(res.Warnings) != 1 {
		t.Errorf("got %s, %q, %v", res.Result, res.Warnings, err)
	}
	o.Releases = w.Releases
	if _, err := verify(b, o); err == nil || !strings.Contains(err.Error(), "release list") {
		t.Errorf("with the list of before: got %v", err)
	}
	o.Releases = nil
	// The committee's new key vouches for the old files by their hashes.
	renewed := *w
	renewed.CommitteeSigner, renewed.CommitteeKey, err = note.GenerateKey(rand.Reader, "new.example.org")
	w.Must(err)
	text, _ := bounty.Text(nextRoster(w, in.Roster))
	o.Roster = renewed.Signed(string(text))
	text, _ = bounty.Text(nextRules(w, in.Rules, "2026-12"))
	o.Rules, o.Committee = renewed.Signed(string(text)), renewed.CommitteeKey
	if res, err := verify(b, o); err != nil || res.Result != bounty.Eligible {
		t.Errorf("after a new key: %s, %v", res.Result, err)
	}
	o.Committee = w.CommitteeKey
	var input *InputError
	if _, err := verify(b, o); !errors.As(err, &input) || !strings.Contains(err.Error(), "no signature by the committee's key") {
		t.Errorf("by the old key, which did not sign the newest: %v", err)
	}
}

func otherKey(t *testing.T, w *scene.Scene) string {
	log, err := store.Create(t.TempDir()+"/log", store.Options{Name: w.Monitors[1].Name, Network: w.Network, First: w.First})
	w.Must(err)
	t.Cleanup(func() { log.Close() })
	return log.Key()
}

// Rules judge the months from theirs on, up to that of the next.
func TestRulesInForce(t *testing.T) {
	w, in := smallMonth(t)
	month := in.Month
	b := bundleOf(w, in)
	o := optionsOf(w, in)
	o.Rules = nextRules(w, in.Rules, (month + 1).String())
	if res, err := verify(b, o); err != nil || len(res.Warnings) != 0 {
		t.Errorf("the rules after those of the month: %q, %v", res.Warnings, err)
	}
	o.Rules = nextRules(w, in.Rules, month.String())
	_, err := verify(b, o)
	refused(t, "later rules are in force", err, "rules serial 2 are in force from "+month.String()+" on, and this was judged by serial 1")

	later := in
	later.Rules = nextRules(w, in.Rules, (month + 1).String())
	if _, err := Write(io.Discard, later); err == nil || !strings.Contains(err.Error(), "rules serial 2 are in force from "+(month+1).String()+" on, not in "+month.String()) {
		t.Errorf("rules that are not in force yet: %v", err)
	}
	o = optionsOf(w, in)
	o.OlderRules = [][]byte{nextRules(w, in.Rules, (month + 2).String()), nextRules(w, nextRules(w, in.Rules, (month+1).String()), (month + 3).String())}
	var input *InputError
	if _, err := verify(b, o); !errors.As(err, &input) || !strings.Contains(err.Error(), "rules serial 3 does not follow the serial 2 that is held") {
		t.Errorf("two chains: %v", err)
	}
}

package monitor

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/committee"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// What is said of a log that has several sources: one that has it is enough, one that shows
// another history is too much.
func TestTroublesOfLogs(t *testing.T) {
	w := scene.New(t, evidence.Lab, 1)
	key := w.Monitors[0].Log.Key()
	at := func(fault string, forks, busy bool) LookedAt {
		return LookedAt{Taken: committee.Taken{Log: key, Busy: busy}, Fault: fault, forks: forks}
	}
	good, busy := at("", false, false), at("", false, true)
	b := &committee.Basis{Month: w.First.Month()}
	var err error
	b.Rules, _, err = bounty.OpenRules("rules", w.RulesFile(), "")
	w.Must(err)
	b.Roster, _, err = bounty.OpenRoster("roster", w.Signed(w.RosterYAML()), "")
	w.Must(err)
	for name, c := range map[string]struct {
		looked []LookedAt
		want   string
	}{
		"good":                   {[]LookedAt{good}, ""},
		"none has it":            {[]LookedAt{at("first", false, false), at("second", false, false)}, "first"},
		"one has it":             {[]LookedAt{at("first", false, false), good}, ""},
		"one has it first":       {[]LookedAt{good, at("second", false, false)}, ""},
		"another history":        {[]LookedAt{good, at("fork", true, false)}, "fork"},
		"another history, first": {[]LookedAt{at("fork", true, false), good, at("third", false, false)}, "fork"},
		"two, and a fault":       {[]LookedAt{at("first", false, false), at("fork", true, false)}, "fork"},
		"busy":                   {[]LookedAt{busy}, "before"},
		"busy, and good":         {[]LookedAt{busy, good}, ""},
		"of no log":              {[]LookedAt{{Fault: "nowhere"}}, "before"},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := committee.Open(t.Context(), filepath.Join(t.TempDir(), "c.db"))
			w.Must(err)
			defer db.Close()
			w.Must(db.Settle(t.Context(), b))
			w.Must(db.Trouble(t.Context(), key, "before"))
			k := &Committee{db: db, log: slog.New(slog.DiscardHandler)}
			w.Must(k.troubles(t.Context(), c.looked))
			v, err := db.Vantages(t.Context(), b.Month)
			w.Must(err)
			if len(v) != 1 || v[0].Trouble != c.want {
				t.Errorf("got %+v, want %q", v, c.want)
			}
		})
	}
}

// What is wrong with the settings is said, each with its place.
func TestVerdictsConfig(t *testing.T) {
	_, err := ParseConfig("x.yaml", []byte("name: m1\nnetwork: lab\ndata_dir: d\nroster: r\nverdicts: {database: \"mysql://x\", logs: [\"s4://x\"], every: 1s, months: 0}\n"))
	for _, want := range []string{"verdicts.database: ", "verdicts.logs[0]: ", "verdicts.every: ", "verdicts.months: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is missing in: %v", want, err)
		}
	}
	if _, err := ParseConfig("x.yaml", []byte("name: m1\nnetwork: lab\ndata_dir: d\nroster: r\nverdicts: {database: \"postgres://h/n\", logs: [\"https://x.example.org/log/\", data], every: 1m}\n")); err != nil {
		t.Error(err)
	}
}

// All that is wrong with the site's settings is said when the configuration is read, by name.
// Who has no site may have a key of any name.
func TestSiteSettings(t *testing.T) {
	load := func(site string) error {
		path := filepath.Join(t.TempDir(), "relaymon.yaml")
		if err := os.WriteFile(path, []byte("name: m1\nnetwork: lab\ndata_dir: data\nroster: roster.yaml\ncommittee: PSF+3d2bb2a8+AZzYbkdd8tXfGkq5NmvkXEsAfcKGoHUCyEyrlxqqMnK9\nverdicts: {site: "+site+"}\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := LoadConfig(path)
		return err
	}
	for _, good := range []string{"{}", "{name: committee.example.org, listen: 127.0.0.1:8430, url: https://relays.example.org/, bundles: bundles}"} {
		if err := load(good); err != nil && strings.Contains(err.Error(), "verdicts") {
			t.Errorf("%s: %v", good, err)
		}
	}
	err := load("{listen: here, url: relays.example.org, bundles: \"ftp://a/b\"}")
	for _, want := range []string{"verdicts.site.listen: want", "verdicts.site.name: want", "verdicts.site.url: want", "verdicts.site.bundles: want"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/month"
	"github.com/psf-relay/relay-appliance/internal/pgtest"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/committee"
)

// A simulated month with whole logs: what the committee's database says of all relays is what
// relayaudit says of their bundles. One log is read in place, one as a mirror, one from a web
// server, one from a bucket; one is not there.
func TestCommittee(t *testing.T) {
	dir, programs := filepath.Join(t.TempDir(), "month"), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("go", "build", "-o", programs+"/", "github.com/psf-relay/relay-appliance/monitor/cmd/relayaudit").CombinedOutput()
	if err != nil {
		t.Fatalf("build relayaudit: %v\n%s", err, out)
	}
	var said bytes.Buffer
	if err := month.Run(t.Context(), month.Options{Programs: programs, Dir: dir, Once: true, Days: 2, Out: &said}); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	data, err := filepath.Glob(filepath.Join(dir, "monitors", "*"))
	must(err)
	if len(data) != 4 {
		t.Fatalf("there are %d monitors", len(data))
	}
	file := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		must(err)
		return b
	}
	config := func(name, data, more string) string {
		path := filepath.Join(t.TempDir(), name+".yaml")
		must(os.WriteFile(path, fmt.Appendf(nil, "name: %s\nnetwork: lab\ndata_dir: %q\nroster: %q\nrules: %q\nreleases: %q\ncommittee: %q\nlisten: \"\"\nupdates: \"\"\n%s",
			name, data, filepath.Join(dir, "roster.yaml"), filepath.Join(dir, "rules.yaml"), filepath.Join(dir, "releases.yaml"), strings.TrimSpace(string(file("committee.txt"))), more), 0o644))
		return path
	}
	call := func(want int, args ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := run(args, &stdout, &stderr); code != want {
			t.Fatalf("relaymon %s: exit code %d, want %d\n%s\n%s", strings.Join(args, " "), code, want, stdout.String(), stderr.String())
		}
		return stdout.String()
	}
	exported, mirrored := filepath.Join(t.TempDir(), "exported"), filepath.Join(t.TempDir(), "mirrored")
	for i, to := range map[int]string{1: exported, 2: mirrored} {
		call(0, "log", "export", "--config", config(filepath.Base(data[i]), data[i], ""), to)
	}
	web := httptest.NewServer(http.FileServer(http.Dir(exported)))
	defer web.Close()
	published := filepath.Join(t.TempDir(), "bucket")
	call(0, "log", "push", "--config", config(filepath.Base(data[3]), data[3], fmt.Sprintf("publish: {bucket: \"file://%s\"}\n", published)))

	logs := fmt.Sprintf("[%q, %q, %q]", web.URL+"/", mirrored, "file://"+published)
	missing := fmt.Sprintf("[%q, %q, %q, %q]", filepath.Join(dir, "nowhere"), web.URL+"/", mirrored, "file://"+published)
	databases := map[string]string{"sqlite": "", "postgres": pgtest.Start(t).Database(t)}
	if testing.Short() { // SQLite is slow with the race detector
		delete(databases, "sqlite")
	}
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			settings := func(logs string) string {
				return config(filepath.Base(data[0]), data[0], fmt.Sprintf("verdicts: {database: %q, logs: %s, months: 120}\n", database, logs))
			}
			cfg := settings(missing)
			call(1, "committee", "table", "--config", cfg)
			if out := call(1, "committee", "run", "--once", "--config", cfg); !strings.Contains(out, "nowhere") || !strings.Contains(out, "5 relays judged") {
				t.Errorf("a log that is not there: %s", out)
			}
			cfg = settings(logs)
			if out := call(0, "committee", "run", "--once", "--config", cfg); !strings.Contains(out, " 0 hours and 0 records are new") {
				t.Errorf("nothing is new: %s", out)
			}
			check := func() {
				t.Helper()
				bundles, err := filepath.Glob(filepath.Join(dir, "bundles", "*.zip"))
				must(err)
				_, judged, _ := strings.Cut(strings.TrimSuffix(filepath.Base(bundles[0]), ".zip")[len("relay-"):], "-")
				var month struct{ Relays []committee.Row }
				must(json.Unmarshal([]byte(call(0, "committee", "table", "--json", "--month", judged, "--config", cfg)), &month))
				table := month.Relays
				if len(bundles) != 5 || len(table) != 5 {
					t.Fatalf("%d bundles, %d relays", len(bundles), len(table))
				}
				rules, _, err := bounty.OpenRules("rules", file("rules.yaml"), "")
				must(err)
				for _, path := range bundles {
					zip, err := os.ReadFile(path)
					must(err)
					r, err := bundle.Verify(bytes.NewReader(zip), int64(len(zip)), bundle.Options{Rules: file("rules.yaml"), Roster: file("roster.yaml"), Committee: strings.TrimSpace(string(file("committee.txt")))})
					must(err)
					want, err := json.Marshal(committee.RowOf(r.Verdict, rules))
					must(err)
					found := false
					for _, row := range table {
						if row.Relay != r.Verdict.Relay.PeerID {
							continue
						}
						found = true
						row.AsOf = r.Verdict.AsOf // a bundle is made as of a time before
						if got, err := json.Marshal(row); err != nil || !bytes.Equal(got, want) {
							t.Errorf("%s:\ngot  %s\nwant %s", filepath.Base(path), got, want)
						}
					}
					if !found {
						t.Errorf("%s is not in the table", r.Verdict.Relay.PeerID)
					}
				}
			}
			check()
			if out := call(0, "committee", "rebuild", "--config", cfg); strings.Contains(out, " 0 hours") || !strings.Contains(out, "5 relays judged") {
				t.Errorf("rebuilt: %s", out)
			}
			check()
			lines, err := csv.NewReader(strings.NewReader(call(0, "committee", "table", "--csv", "--config", cfg))).ReadAll()
			must(err)
			if len(lines) != 6 || len(lines[0]) != len(lines[1]) {
				t.Errorf("CSV: %q", lines)
			}
			for _, form := range []string{"--json", "--csv"} { // nothing is known of it
				call(1, "committee", "table", form, "--month", "2001-01", "--config", cfg)
			}
			public := filepath.Join(t.TempDir(), "public")
			call(0, "committee", "site", "--config", cfg, public)
			pages, err := filepath.Glob(filepath.Join(public, "*", "relays", "*.html"))
			must(err)
			if front, err := os.ReadFile(filepath.Join(public, "index.html")); err != nil || len(pages) < 5 || !strings.Contains(string(front), "href=\""+filepath.Base(filepath.Dir(filepath.Dir(pages[0])))) {
				t.Errorf("the site has %d pages of relays; its front page: %v %.500s", len(pages), err, front)
			}
		})
	}
	// What is kept of a log that was read elsewhere is small, and nothing of it is out of date.
	must(filepath.WalkDir(filepath.Join(data[0], "verdicts"), func(path string, d os.DirEntry, err error) error {
		if err == nil && (strings.Contains(path, "records") || d.Name() == "checkpoint" || strings.HasSuffix(filepath.Dir(path), ".p")) && !d.IsDir() {
			t.Errorf("%s was kept", path)
		}
		return err
	}))
}

// A password in the database's address is in nothing that is said.
func TestDatabasePassword(t *testing.T) {
	const secret = "s3cr3t-pa55"
	for _, address := range []string{
		"postgres://user:" + secret + "@127.0.0.1:1/none", "postgres://user:" + secret + "@127.0.0.1:x/none",
		"postgres://user:" + secret + "@[::1/none", "mysql://user:" + secret + "@127.0.0.1/none",
	} {
		path := filepath.Join(t.TempDir(), "relaymon.yaml")
		text := fmt.Sprintf("name: m1\nnetwork: lab\ndata_dir: data\nroster: roster.yaml\nverdicts: {database: %q}\n", address)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"committee", "run", "--once"}, {"committee", "table"}, {"committee", "rebuild"}} {
			var stdout, stderr bytes.Buffer
			if code := run(append(args, "--config", path), &stdout, &stderr); code == 0 {
				t.Errorf("%s %q: it went well", address, args)
			}
			if all := stdout.String() + stderr.String(); strings.Contains(all, secret) || len(all) < 20 {
				t.Errorf("%q: it says %q", args, all)
			}
		}
	}
}

package secondverifier

import (
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// The files that tools and people write are read alike by both. Nothing was seen in that
// month, so that the report shows what stands in the files alone.
func TestFilesOfAllSpellings(t *testing.T) {
	s := startSecond(t)
	w := scene.New(t, evidence.PSF, 2)
	plain := w.RosterYAML()
	for _, c := range []struct {
		name          string
		rules, roster string
	}{
		{"as printed", string(bounty.DefaultRules), plain},
		{"through the YAML library", scene.RulesOver(t, "network: psf\n"), plain},
		{"comments and blank lines", "# rules\n\n" + string(bounty.DefaultRules) + "\n  # the end\n", strings.ReplaceAll(plain, "relays:\n", "\n# who\nrelays: # of the month\n\n")},
		{"carriage returns", strings.ReplaceAll(string(bounty.DefaultRules), "\n", "\r\n"), strings.ReplaceAll(plain, "\n", "\r\n")},
		{"indented lists", string(bounty.DefaultRules), strings.ReplaceAll(plain, "\n- {", "\n  - {")},
		{"quoted words", string(bounty.DefaultRules), strings.NewReplacer("operator-1", "'operator-1'", "region: SG", `"region": "\x53G"`, "tcp_port: 4001", `tcp_port: "4001"`).Replace(plain)},
		{"flow over several lines", string(bounty.DefaultRules), strings.ReplaceAll(plain, ", domain", ",\n   domain")},
		{"entries in blocks", string(bounty.DefaultRules), blocks(plain)},
		{"added and moved by relaymon", string(bounty.DefaultRules), addedAndMoved(t, plain)},
	} {
		t.Run(c.name, func(t *testing.T) {
			agreeOnFiles(t, s, w.RelayID, c.rules, c.roster)
		})
	}
	for _, c := range []struct{ name, from, to string }{
		{"a key twice", "network: psf", "network: psf\nnetwork: psf"},
		{"an unknown key", "network: psf", "network: psf\ncolour: red"},
		{"no value", "operator: operator-1", "operator:"},
		{"another version", "version: 1", "version: 2"},
		{"an octal number", "tcp_port: 4001", "tcp_port: 04001"},
		{"a half hour", "T18:00:00Z", "T18:30:00Z"},
		{"two monitors of one name", "m2.example.org, op", "m1.example.org, op"},
		{"two spellings of one operator", "operator-2", "Operator-1"},
		{"a private address", scene.RelayIP, "10.0.0.1"},
		{"two controls", "- {name: c3,", "- {name: c3, until: 2026-11-01T00:00:00Z,"},
		{"a tag", "operator: operator-1", "operator: !!str operator-1"},
		{"an anchor", "operator: operator-1", "operator: &a operator-1"},
		{"serial without previous", "serial: 1", "serial: 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(plain, c.from, c.to, 1)
			if c.name == "a private address" { // also the statement's: another fault
				text = strings.ReplaceAll(plain, c.from, c.to)
			}
			if _, err := bounty.ParseRoster("roster", []byte(text)); err == nil {
				t.Fatal("relayaudit takes it")
			}
			f := filesOf(w.RelayID, string(bounty.DefaultRules), text)
			if report, refusal := s.judge(f); refusal == "" {
				t.Errorf("the second takes it: %v", report)
			} else if strings.Contains(refusal, "\n    at ") {
				t.Errorf("the second breaks: %s", refusal)
			}
		})
	}
}

func filesOf(relay, rules, roster string) facts {
	return facts{Rules: input{Text: rules, SHA256: "r", SignedBy: []string{}}, Roster: input{Text: roster, SHA256: "r", SignedBy: []string{}}, Relay: relay, Month: "2026-10", Logs: []logFacts{}}
}

func agreeOnFiles(t *testing.T, s *second, relay, rules, roster string) {
	t.Helper()
	c := bounty.Case{Relay: relay}
	var err error
	if c.Rules, err = bounty.ParseRules("rules", []byte(rules)); err != nil {
		t.Fatal(err)
	}
	if c.Roster, err = bounty.ParseRoster("roster", []byte(roster)); err != nil {
		t.Fatal(err)
	}
	if c.Month, err = evidence.ParseMonth("2026-10"); err != nil {
		t.Fatal(err)
	}
	if c.Geo, err = bundle.DefaultGeo(); err != nil {
		t.Fatal(err)
	}
	v, err := bounty.Judge(c)
	if err != nil {
		t.Fatal(err)
	}
	agree(t, s, t.Name(), v, factsOf(t, c, []byte(rules), []byte(roster), nil))
}

// blocks writes each entry in braces as a block, a line for each of its keys.
func blocks(text string) string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		entry, isEntry := strings.CutPrefix(line, "- {")
		if !isEntry || strings.Contains(entry, "{") {
			out = append(out, line)
			continue
		}
		out = append(out, "- "+strings.ReplaceAll(strings.TrimSuffix(entry, "}"), ", ", "\n  "))
	}
	return strings.Join(out, "\n")
}

// addedAndMoved enters another relay by its statements, as "relaymon roster" does.
func addedAndMoved(t *testing.T, roster string) string {
	t.Helper()
	other := scene.New(t, evidence.PSF, 0)
	say := statement.Statement{Kind: statement.Enrol, Network: "psf", PeerID: other.RelayID, Operator: "another: operator's", IPv4: "165.21.83.90", TCPPort: 4001,
		Domain: "other.example.org", WSSPort: 443, Region: "SG", Payout: "bitcoincash:qother", From: other.First.Start(), Made: other.First.Start()}
	sign := func() string {
		raw, err := statement.Sign(say, other.Relay)
		if err != nil {
			t.Fatal(err)
		}
		return statement.Text(raw)
	}
	out, err := bounty.AddRelay("roster", []byte(roster), sign(), "")
	if err != nil {
		t.Fatal(err)
	}
	say.Kind, say.IPv4, say.Region, say.Payout, say.From = statement.Move, "165.21.83.91", "", "", (other.First + 3).Start()
	if out, err = bounty.MoveRelay("roster", out, sign(), other.First); err != nil {
		t.Fatal(err)
	}
	return string(out)
}

package bounty

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/bls"
	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

func logKey(t testing.TB, name string) (signer note.Signer, vkey string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	if signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	return signer, vkey
}

func TestTerms(t *testing.T) {
	// The shape that bare votes come with, in YAML's flow style.
	r, err := ParseTerms("roster", []byte(`{monitors: [{name: m1, from: 2026-11-01T00:00:00Z, until: null}, {name: m2, operator: bob, from: 2026-11-01T00:00:00Z, until: 2026-11-09T00:00:00Z}], relays: [{peer_id: ID, enrolled: 2026-11-01T00:00:00Z}]}`))
	if err != nil {
		t.Fatal(err)
	}
	h := hour(t, "2026-11-08T23:00:00Z")
	if r.Monitor("m2", h) == nil || r.Monitor("m2", h+1) != nil || r.Monitor("m1", h+1) == nil || r.Monitor("m1", hour(t, "2026-10-31T23:00:00Z")) != nil {
		t.Error("a term holds from its first hour until before its last")
	}
	for name, tc := range map[string]struct{ file, want string }{
		"half an hour":     {"monitors: [{name: a, from: 2026-11-01T00:30:00Z}]", "full UTC hour"},
		"no hour":          {"monitors: [{name: a}]", "from: want the hour"},
		"ends before":      {"monitors: [{name: a, from: 2026-11-01T01:00:00Z, until: 2026-11-01T01:00:00Z}]", "not after from"},
		"twice":            {"monitors: [{name: a, from: 2026-11-01T00:00:00Z}, {name: a, from: 2026-12-01T00:00:00Z}]", "same name"},
		"no name":          {"monitors: [{from: 2026-11-01T00:00:00Z}]", "name: want"},
		"not a name":       {"monitors: [{name: ../a, from: 2026-11-01T00:00:00Z}]", "name: want"},
		"relay twice":      {"relays: [{peer_id: a, enrolled: 2026-11-01T00:00:00Z}, {peer_id: a, enrolled: 2026-12-01T00:00:00Z}]", "same peer ID"},
		"not enrolled":     {"relays: [{peer_id: a}]", "enrolled: want"},
		"left before":      {"relays: [{peer_id: a, enrolled: 2026-11-01T00:00:00Z, until: 2026-11-01T00:00:00Z}]", "not after enrolled"},
		"unknown key":      {"monitor: []", `did you mean "monitors"`},
		"version":          {"version: 7", "version"},
		"all are reported": {"monitors: [{}]\nrelays: [{}]", "relays[0]"},
	} {
		if _, err := ParseTerms("roster", []byte(tc.file)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
	one := "monitors: [{name: a, from: 2026-11-01T00:00:00Z, until: 2026-12-01T00:00:00Z}, {name: a, from: 2026-12-01T00:00:00Z}]"
	if _, err := ParseTerms("roster", []byte(one)); err != nil {
		t.Errorf("a monitor with a new key from the hour at which the old one ends: %v", err)
	}
}

// wholeRoster is a valid one, as YAML, with the relay's key.
func wholeRoster(t testing.TB, change func(*statement.Statement)) string {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s := statement.Statement{
		Kind: statement.Enrol, Network: "psf", PeerID: id.String(), Operator: "alice", IPv4: "198.41.0.4", TCPPort: 4001,
		Domain: "relay.example.org", WSSPort: 443, Payout: "bitcoincash:q", From: at(t, "2026-11-01T00:00:00Z").UTC(), Made: at(t, "2026-10-31T00:00:00Z").UTC(),
	}
	mv := s
	mv.Kind, mv.IPv4, mv.Payout, mv.From = statement.Move, "198.41.0.5", "", at(t, "2026-11-10T00:00:00Z").UTC()
	if change != nil {
		change(&s)
	}
	enrol, err := statement.Sign(s, key)
	if err != nil {
		t.Fatal(err)
	}
	move, err := statement.Sign(mv, key)
	if err != nil {
		t.Fatal(err)
	}
	_, vkey := logKey(t, "m1.example.org/relaymon/psf")
	_, witness := logKey(t, "m1-witness")
	plan := planKey(t)
	return fmt.Sprintf(`version: 1
serial: 1
network: psf
monitors:
- name: m1.example.org
  operator: bob
  committee: true
  log_key: %s
  plan_key: %s
  witness_key: %s
  witness_url: https://m1.example.org/witness
  place: {lat: 1.35, lon: 103.8}
  from: 2026-11-01T00:00:00Z
  until: null
relays:
- peer_id: %s
  operator: alice
  ipv4: 198.41.0.4
  tcp_port: 4001
  domain: relay.example.org
  region: SG
  payout: bitcoincash:q
  enrolled: 2026-11-01T00:00:00Z
  statement: %s
  moves:
  - {from: 2026-11-10T00:00:00Z, announced: 2026-11-09T00:00:00Z, ipv4: 198.41.0.5, tcp_port: 4001, domain: relay.example.org, statement: %s}
controls:
- {name: c1, operator: c1, tcp4: /ip4/192.5.5.241/tcp/53, wss: /dns4/c1.example.org/tcp/443/wss}
- {name: c2, operator: c2, tcp4: /ip4/192.5.5.242/tcp/53, wss: /dns4/c2.example.org/tcp/443/wss}
- {name: c3, operator: c3, tcp4: /ip4/192.5.5.243/tcp/53, wss: /dns4/c3.example.org/tcp/443/wss}
notes:
- {kind: maintenance, from: 2026-11-05T00:00:00Z, until: 2026-11-05T05:00:00Z, text: new disks}
`, vkey, plan, witness, id, statement.Text(enrol), statement.Text(move))
}

// planKey is the public key of a new plan.
func planKey(t testing.TB) string {
	t.Helper()
	k, err := bls.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k.Public().String()
}

// A lab needs no plan key. One that is also another's is refused.
func TestPlanKeys(t *testing.T) {
	key := planKey(t)
	_, log1 := logKey(t, "m1.example.org/relaymon/lab")
	_, log2 := logKey(t, "m2.example.org/relaymon/lab")
	for name, c := range map[string]struct{ first, second, want string }{
		"none":               {"", "", ""},
		"one has one":        {key, "", ""},
		"each has its own":   {key, planKey(t), ""},
		"two have the same":  {key, key, "its key is also that of"},
		"it is a log's":      {log1, "", "plan_key: want the key"},
		"with a letter more": {key + "A", "", "plan_key: want the key"},
	} {
		text := fmt.Sprintf("network: lab\nmonitors:\n- {name: m1, operator: a, log_key: %q, plan_key: %q, from: 2026-11-01T00:00:00Z}\n- {name: m2, operator: b, log_key: %q, plan_key: %q, from: 2026-11-01T00:00:00Z}\n",
			log1, c.first, log2, c.second)
		_, err := ParseRoster("roster", []byte(text))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestRoster(t *testing.T) {
	good := wholeRoster(t, nil)
	r, err := ParseRoster("roster", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	relay := &r.Relays[0]
	if a := relay.At(hour(t, "2026-11-09T23:00:00Z")); a.IPv4 != "198.41.0.4" {
		t.Errorf("before the move: %+v", a)
	}
	if a := relay.At(hour(t, "2026-11-10T00:00:00Z")); a.IPv4 != "198.41.0.5" {
		t.Errorf("after the move: %+v", a)
	}
	_, labKey := logKey(t, "m1.example.org/relaymon/lab")
	_, noLog := logKey(t, "m1-witness")
	for name, tc := range map[string]struct{ old, new, want string }{
		"network":                         {"network: psf", "network: 5g", "network:"},
		"statement of a lab":              {"network: psf", "network: lab", "the relay signed network psf"},
		"committee by accident":           {"committee: true", "committee: perhaps", "true or false"},
		"log key":                         {"log_key: ", "log_key: x", "log_key:"},
		"a lab's log":                     {"log_key: ", "log_key: " + labKey + " # ", "m1.example.org/relaymon/lab is a log of network lab"},
		"a log of no monitor":             {"log_key: ", "log_key: " + noLog + " # ", "origin \"m1-witness\""},
		"witness key":                     {"witness_key: ", "witness_key: x", "its hash or spelling is wrong"},
		"plan key":                        {"plan_key: ", "plan_key: x", "plan_key:"},
		"no plan key":                     {"plan_key: ", "# plan_key: ", "plan_key:"},
		"place":                           {"lat: 1.35", "lat: 91", "place"},
		"private address":                 {"ipv4: 198.41.0.4", "ipv4: 10.1.2.3", "no public unicast"},
		"not what was signed":             {"ipv4: 198.41.0.4", "ipv4: 198.41.0.9", "the relay signed IPv4 198.41.0.4"},
		"payout to another":               {"payout: bitcoincash:q", "payout: bitcoincash:r", "the relay signed payout bitcoincash:q"},
		"enrolled earlier":                {"enrolled: 2026-11-01", "enrolled: 2026-10-01", "the relay signed the hour"},
		"another operator":                {"operator: alice", "operator: mallory", "the relay signed operator alice"},
		"announced after":                 {"announced: 2026-11-09", "announced: 2026-11-11", "retroactively"},
		"move before enrolment":           {"{from: 2026-11-10", "{from: 2026-10-10", "after the one before"},
		"region":                          {"region: SG", "region: Singapore", "ISO 3166-1"},
		"two controls":                    {"- {name: c3,", "# {name: c3,", "3 to 9"},
		"control without wss":             {", wss: /dns4/c3.example.org/tcp/443/wss", "", "both a tcp4 and a wss"},
		"control twice":                   {"name: c3", "name: c1", "another control"},
		"note":                            {"kind: maintenance", "kind: holiday", "maintenance or incident"},
		"note ends before":                {"until: 2026-11-05T05", "until: 2026-11-04T05", "the second after the first"},
		"releases":                        {"version: 1", "version: 1\nreleases: abc", "SHA-256"},
		"peer ID":                         {"peer_id: 12D", "peer_id: 13D", "peer_id: want"},
		"serial without the one before":   {"serial: 1", "serial: 2", "previous: want the SHA-256 of the file with serial 1"},
		"something before the first":      {"serial: 1", "serial: 1\nprevious: " + hashOf(nil), "no file before the first"},
		"payout that nobody signed":       {"  statement:", "  # statement:", "payout: nobody but the relay's own key"},
		"an operator with blanks":         {"operator: bob", "operator: \"bob \"", "without blanks around it"},
		"an operator that cannot be seen": {"operator: bob", "operator: \"b\\u200bob\"", "letters that can be seen"},
		"a monitor is almost the relay's": {"operator: bob", "operator: Alice", "relays[0] "},
		"a control is almost the relay's": {"operator: c1", "operator: a lice", "operator: \"alice\" is almost \"a lice\" of controls[0] \"c1\""},
		"a witness is almost a monitor's": {"version: 1", "version: 1\nwitnesses: [{name: w, operator: BOB, key: x, from: 2026-11-01T00:00:00Z}]", "\"BOB\" is almost \"bob\" of monitors[0]"},
		"two controls in some hours":      {"name: c3, ", "name: c3, until: 2026-12-01T00:00:00Z, ", "not 2 from 2026-12-01T00:00:00Z on"},
		"a control ends before it begins": {"name: c3, ", "name: c3, from: 2026-12-01T00:00:00Z, until: 2026-11-01T00:00:00Z, ", "until: not after from"},
		"port":                            {"tcp_port: 4001\n", "tcp_port: 70000\n", "tcp_port"},
		"witness with its log key":        {"version: 1", "version: 1\nwitnesses: [{name: w, key: x, from: 2026-11-01T00:00:00Z}]", "witnesses[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			file := strings.Replace(good, tc.old, tc.new, 1)
			if file == good {
				t.Fatal("the change changes nothing")
			}
			if _, err := ParseRoster("roster", []byte(file)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	foreign := wholeRoster(t, func(s *statement.Statement) { s.Kind = statement.Move })
	if _, err := ParseRoster("roster", []byte(foreign)); err == nil || !strings.Contains(err.Error(), "statement of kind") {
		t.Errorf("a move in the place of an enrolment: %v", err)
	}
}

func TestSigned(t *testing.T) {
	signer, vkey := logKey(t, "committee")
	_, other := logKey(t, "committee")
	yaml := []byte(wholeRoster(t, nil))
	file, err := Sign(yaml, signer)
	if err != nil {
		t.Fatal(err)
	}
	r, by, err := OpenRoster("roster", file, vkey)
	if err != nil || len(by) != 1 || !strings.HasPrefix(by[0], "committee+") || r.SHA256 != hashOf(file) {
		t.Fatalf("signed by %v, %v", by, err)
	}
	if _, _, err := OpenRoster("roster", file, other); err == nil || !strings.Contains(err.Error(), "no signature by the committee's key") {
		t.Errorf("another key: %v", err)
	}
	if _, _, err := OpenRoster("roster", yaml, vkey); err == nil {
		t.Error("an unsigned roster passed for a signed one")
	}
	if _, by, err := OpenRoster("roster", yaml, ""); err != nil || by != nil {
		t.Errorf("unsigned: by %v, %v", by, err)
	}
	if _, by, err := OpenRoster("roster", file, ""); err != nil || len(by) != 1 {
		t.Errorf("signed, nobody asks: by %v, %v", by, err)
	}
	if _, _, err := OpenRoster("roster", file, "no key"); err == nil || !strings.Contains(err.Error(), "committee's key") {
		t.Errorf("no key: %v", err)
	}
	again, err := Sign(file, signer)
	if err != nil || string(again) != string(file) {
		t.Errorf("signing again replaces the signature: %v", err)
	}
	// The same signature in another spelling would be another file with the same serial.
	last := len(file) - 3 // before the padding, if there is any
	if file[last+1] == '=' {
		other := bytes.Clone(file)
		other[last] ^= 1
		if _, _, err := OpenRoster("roster", other, vkey); err == nil {
			t.Error("a signature that is not written as it was made passed")
		}
	}
	changed := []byte(strings.Replace(string(file), "lat: 1.35", "lat: 1.36", 1))
	if _, _, err := OpenRoster("roster", changed, vkey); err == nil {
		t.Error("a changed roster passed")
	}
	rules, by, err := OpenRules("rules", mustSign(t, DefaultRules, signer), vkey)
	if err != nil || rules.HoursRequired != 600 || len(by) != 1 {
		t.Errorf("rules: %v, %v", by, err)
	}
	if _, _, err := OpenRules("rules", DefaultRules, vkey); err == nil {
		t.Error("unsigned rules passed for signed ones")
	}
}

func mustSign(t testing.TB, file []byte, s note.Signer) []byte {
	t.Helper()
	out, err := Sign(file, s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWitnessKeys(t *testing.T) {
	m := month(t, "2026-11")
	ends, later := m.First(), m.End()
	r := &Roster{
		Monitors: []Monitor{
			{Name: "gone", WitnessKey: "gone", LogKey: "gone", Term: Term{From: 1, Until: &ends}},
			{Name: "here", WitnessKey: "here", LogKey: "here", Term: Term{From: 1}},
			{Name: "to come", WitnessKey: "to come", LogKey: "to come", Term: Term{From: later}},
			{Name: "none", LogKey: "none", Term: Term{From: 1}},
		},
		Witnesses: []Witness{{Name: "w", Key: "a", Term: Term{From: later - 1}}},
	}
	if got := strings.Join(r.WitnessKeys(m), " "); got != "a here" {
		t.Errorf("got %q", got)
	}
	for key, want := range map[string]bool{"gone": false, "here": true, "to come": false, "": false} {
		if got := r.LogMonitor(key, m) != nil; got != want {
			t.Errorf("log of %q: got %v", key, got)
		}
	}
}

func FuzzRoster(f *testing.F) {
	f.Add([]byte(wholeRoster(f, nil)))
	f.Add([]byte("monitors: [{name: a}]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRoster("roster", b)
		if err == nil {
			for i := range r.Relays {
				if r.Relays[i].At(evidence.HourOf(time.Now())).TCPPort == 0 {
					t.Error("a relay without a port passed")
				}
			}
		}
	})
}

// A relay is found by its place in the file that was read, and wherever it has got to
// since.
func TestRosterFindsRelays(t *testing.T) {
	r, err := ParseTerms("roster", []byte(`{relays: [{peer_id: a, enrolled: 2026-11-01T00:00:00Z}, {peer_id: b, enrolled: 2026-11-01T00:00:00Z}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := func(when string, relays ...string) {
		t.Helper()
		for _, id := range []string{"a", "b", "c"} {
			got := r.Relay(id)
			if is := slices.Contains(relays, id); is != (got != nil) || is && got.PeerID != id {
				t.Errorf("%s: %s is %v, want it: %v", when, id, got, is)
			}
		}
	}
	want("as read", "a", "b")
	r.Relays = append(r.Relays, Relay{PeerID: "c"})
	want("one more", "a", "b", "c")
	r.Relays = r.Relays[1:]
	want("one less", "b", "c")
	r.Relays = nil
	want("none")
}

// A roster that is wrong everywhere is told of in a bounded way, and one that compares
// each with all others is bounded in that.
func TestFaultsAreBounded(t *testing.T) {
	for name, file := range map[string]string{
		"relays":    "network: psf\nrelays:\n" + strings.Repeat("- {peer_id: p, operator: ' o', ipv4: 198.41.0.1, enrolled: 2026-11-01T00:00:00Z}\n", 5000),
		"monitors":  "network: psf\nmonitors:\n" + strings.Repeat("- {name: m, operator: o, from: 2026-11-01T00:00:00Z}\n", maxTerms),
		"too many":  "network: psf\nmonitors:\n" + strings.Repeat("- {name: m}\n", maxTerms+1),
		"witnesses": "network: psf\nwitnesses:\n" + strings.Repeat("- {name: m}\n", maxTerms+1),
		"controls":  "network: psf\ncontrols:\n" + strings.Repeat("- {name: c}\n", 5000),
	} {
		_, err := ParseRoster("roster", []byte(file))
		if err == nil || len(err.Error()) > 100<<10 {
			t.Errorf("%s: %d bytes of faults", name, len(fmt.Sprint(err)))
		}
	}
}

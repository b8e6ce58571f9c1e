package secondverifier

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

var bundles = flag.Int("bundles", 100, "forged bundles that are verified by both")

// A maker holds the keys of a monitor, and those of the committee: whatever he changes,
// all signatures are good.
type maker struct {
	*forger
	p      *program
	dir    string
	rules  string
	roster string
	months []madeMonth
}

// madeMonth is a month of which bundles are made, and its bundle without a lie.
type madeMonth struct {
	month evidence.Month
	other evidence.MonitorMonth // of the monitor that does not lie
	files map[string][]byte
	says  string // its verdict and votes
}

func newMaker(t *testing.T) *maker {
	m := &maker{forger: newForger(t, nil), p: startProgram(t), dir: t.TempDir()}
	m.scene.Notes = fmt.Sprintf("witnesses:\n- {name: another, operator: another, key: %q, from: %s}\n", m.another, m.scene.First)
	m.rules = scene.RulesOver(t, "network: psf\nhours_required: 2\ncoverage_flag: 0\nclock_drift: 3s\n")
	m.roster = m.scene.RosterYAML()
	for i, name := range []evidence.Month{m.scene.First.Month(), m.scene.First.Month() + 1} {
		made := madeMonth{month: name, other: m.scene.LogsOf(name)[0]}
		m.months = append(m.months, made)
		b, v, err := m.write(i, m.tell(lie{next: i == 1}), m.rules, m.roster)
		if err != nil {
			t.Fatalf("without a lie: %v", err)
		}
		m.months[i].files, m.months[i].says = unpacked(t, b), said(v)
	}
	return m
}

// said is what a report says of the relay: its verdict, and who voted what.
func said(v *bounty.Verdict) string {
	var votes []string
	for _, h := range v.Hourly {
		votes = append(votes, fmt.Sprint(h.State, h.Votes))
	}
	return fmt.Sprint(v.Headline, votes)
}

func (m *maker) input(i int, rules, roster string) bundle.Input {
	return bundle.Input{Rules: m.scene.Signed(rules), Roster: m.scene.Signed(roster), Relay: m.scene.RelayID, Month: m.months[i].month,
		Beacon: m.keys.Beacon, Geo: knownWorld(), Sign: m.scene.Monitors[0].Log.SignStatement}
}

// write makes a bundle with the forged files of a log, as relayaudit makes it.
func (m *maker) write(i int, forged map[string][]byte, rules, roster string) ([]byte, *bounty.Verdict, error) {
	in := m.input(i, rules, roster)
	month, err := evidence.MonthFromFiles(forged)
	if err != nil {
		return nil, nil, err
	}
	in.Logs = []evidence.MonitorMonth{m.months[i].other, month}
	var b bytes.Buffer
	v, err := bundle.Write(&b, in)
	return b.Bytes(), v, err
}

// force makes a bundle that relayaudit does not make: the files are there, whatever they
// are, beside the report of the month without a lie, and a monitor signed for them.
func (m *maker) force(i int, forged map[string][]byte, rules, roster string) []byte {
	in := m.input(i, rules, roster)
	files := maps.Clone(m.months[i].files)
	sum := sha256.Sum256([]byte(m.keys.Log))
	dir := "logs/" + hex.EncodeToString(sum[:8]) + "/"
	maps.DeleteFunc(files, func(name string, _ []byte) bool { return strings.HasPrefix(name, dir) })
	for name, b := range forged {
		files[dir+name] = b
	}
	files["inputs/rules.yaml"], files["inputs/roster.yaml"] = in.Rules, in.Roster
	return m.stated(files, in)
}

// stated packs files for which a monitor signs anew, with the predicate that was there.
func (m *maker) stated(files map[string][]byte, in bundle.Input) []byte {
	var envelope struct{ Payload []byte }
	var statement map[string]any
	m.scene.Must(json.Unmarshal(files["report.dsse.json"], &envelope))
	m.scene.Must(json.Unmarshal(envelope.Payload, &statement))
	delete(files, "report.dsse.json")
	subjects := []any{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		sum := sha256.Sum256(files[name])
		subjects = append(subjects, map[string]any{"name": name, "digest": map[string]any{"sha256": hex.EncodeToString(sum[:])}})
	}
	statement["subject"] = subjects
	signed, err := in.Sign(m.line(statement))
	m.scene.Must(err)
	files["report.dsse.json"] = signed
	return packed(m.t, files)
}

func unpacked(t testing.TB, b []byte) map[string][]byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, f := range z.File {
		out[f.Name] = inZip(t, b, f.Name)
	}
	return out
}

// packed is a ZIP as a bundle has it.
func packed(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		data := files[name]
		w, err := z.CreateRaw(&zip.FileHeader{
			Name: name, CreatorVersion: 20, ReaderVersion: 20, ModifiedDate: 1<<5 | 1, //lint:ignore SA1019 as a bundle has it
			CRC32: crc32.ChecksumIEEE(data), CompressedSize64: uint64(len(data)), UncompressedSize64: uint64(len(data)),
		})
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// judged lets both verify a bundle, and wants the same of both. logs says that the fault,
// if there is one, is in a log: the second must find it without looking at the report.
func (m *maker) judged(what string, b []byte, made error, in bundle.Input, logs bool) {
	m.t.Helper()
	path := func(name string, b []byte) string {
		file := filepath.Join(m.dir, name)
		m.scene.Must(os.WriteFile(file, b, 0o644))
		return file
	}
	r := request{Bundle: path("bundle.zip", b), Rules: []string{path("rules.yaml", in.Rules)}, Roster: []string{path("roster.yaml", in.Roster)}, Committee: m.scene.CommitteeKey}
	r.FactsOnly = made != nil && logs
	a := m.p.ask(r)
	res, err := bundle.Verify(bytes.NewReader(b), int64(len(b)), bundle.Options{Rules: in.Rules, Roster: in.Roster, Committee: m.scene.CommitteeKey, Beacon: in.Beacon, Geo: in.Geo})
	switch {
	case (made == nil) != (err == nil):
		m.t.Errorf("%s: relayaudit makes the bundle (%v), and does not verify it (%v), or the other way round", what, made, err)
	case err == nil && !a.Verified:
		m.t.Errorf("%s: relayaudit says %s, the second verifier refuses: %s", what, res.Verdict.Headline, a.Error)
	case err != nil && a.Verified:
		m.t.Errorf("%s: the second verifier accepts it, relayaudit refuses: %v", what, err)
	case err == nil && (a.Headline != res.Verdict.Headline || a.Result != string(res.Result) || a.Final != res.Final()):
		m.t.Errorf("%s: the second verifier says %s, relayaudit %s", what, a.Headline, res.Verdict.Headline)
	}
}

// weigh are the members on which votes depend.
var weigh = map[string]bool{"outcome": true, "level": true, "plan": true, "voucher": true, "offset_us": true, "duration_us": true, "tcp4_addr": true,
	"state": true, "synchronised": true, "samples": true, "missed": true, "drift_ms": true, "sealed_at": true}

// mean does one change to a value that is likely to stay readable, and says which.
func mean(r *rand.Rand, v any) string {
	kinds := map[string][]spot{}
	for _, s := range spots("", v) {
		if _, nested := s.v.(map[string]any); !nested {
			kind := index.ReplaceAllString(s.path, "")
			kinds[kind] = append(kinds[kind], s)
		}
	}
	names := slices.Sorted(maps.Keys(kinds))
	if weighty := slices.DeleteFunc(slices.Clone(names), func(kind string) bool { return !weigh[kind[strings.LastIndex(kind, ".")+1:]] }); len(weighty) > 0 && r.IntN(2) == 0 {
		names = weighty
	}
	all := kinds[names[r.IntN(len(names))]]
	p := all[r.IntN(len(all))]
	var to any
	name := p.path[strings.LastIndex(p.path, ".")+1:]
	switch was := p.v.(type) {
	case bool:
		to = !was
	case json.Number:
		n, _ := was.Int64()
		to = json.Number(fmt.Sprint([]int64{0, 1, 4, n / 2, 2 * n, n + 1000, n + 20_000_000}[r.IntN(7)]))
		if name == "level" {
			to = json.Number(fmt.Sprint(r.IntN(5)))
		}
	case []any:
		if len(was) > 1 {
			at := r.IntN(len(was))
			to = slices.Delete(slices.Clone(was), at, at+1)
		} else {
			to = []any{}
		}
	case string:
		switch name {
		case "outcome":
			to = string(outcomes[r.IntN(len(outcomes))])
		case "class":
			to = []string{"refused", "cert-expired", "voucher-invalid", "connect-timeout"}[r.IntN(4)]
		case "state":
			to = []string{"ok", "gap"}[r.IntN(2)]
		case "component":
			to = []string{"tcp4", "wss", "relay"}[r.IntN(3)]
		case "plan":
			to = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xb1}, evidence.PlanSize))
		default:
			to = near(r, was)
		}
	}
	if p.drop != nil && r.IntN(8) == 0 {
		p.drop()
		return p.path + " dropped"
	}
	p.set(to)
	return fmt.Sprintf("%s: %.40v for %.40v", p.path, to, p.v)
}

// respelled is a witness's key of type 4 with type 1: the same key.
func respelled(vkey string) string {
	name, rest, _ := strings.Cut(vkey, "+")
	raw, err := base64.StdEncoding.DecodeString(rest[9:])
	if err != nil {
		panic(err)
	}
	raw[0] = 1
	sum := sha256.Sum256(append([]byte(name+"\n"), raw...))
	return fmt.Sprintf("%s+%x+%s", name, sum[:4], base64.StdEncoding.EncodeToString(raw))
}

// governed changes what the committee says: the rules, or a member of the roster.
func (m *maker) governed(r *rand.Rand) (rules, roster, what string) {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	if r.IntN(3) == 0 {
		what = pick("hours_required: 3", "hours_required: 1", "witnesses_required: 0", "witnesses_required: 2", "clock_drift: 1s", "seal_within: 19m", "relay_level: 1", "down_attempts: 1",
			"voucher_valid: 1m", "control_share: 1/1", "line_loss: 0", "countries: [DE]", "final_after: 0", "assured_operators: 1", "hours_required: 673", "relay_level: 5", "clock_ahead: 20s")
		return strings.Replace(m.rules, what[:strings.Index(what, ":")]+":", what+"\nwas_"+what[:strings.Index(what, ":")]+":", 1), m.roster, "rules: " + what
	}
	hour := func(n int) string { return (m.scene.First + evidence.Hour(n)).String() }
	from := "from: " + hour(0) + ", until: null}"
	changes := [][2]string{
		{"operator: operator-2", "operator: operator-1"}, {"operator: operator-2", "operator: relay-operator"}, {"operator: operator-1", "operator: Operator-2"},
		{"committee: true", "committee: false"}, {"committee: false", "committee: true"}, {"place: null", "place: {lat: 1.35, lon: 103.8}"}, {"place: null", "place: {lat: 51.5, lon: -0.1}"},
		{"place: null", "place: {lat: 95, lon: 0}"}, {from, "from: " + hour(2) + ", until: null}"}, {from, "from: " + hour(0) + ", until: " + hour(1) + "}"}, {from, "from: " + hour(0) + ", until: " + hour(0) + "}"},
		{"region: SG", "region: US"}, {"region: SG", `region: ""`}, {"region: SG", "region: sg"}, {"name: c1, operator: c1", "name: c1, operator: relay-operator"}, {"name: c2", "name: c1"},
		{m.scene.Monitors[1].Log.PlanKey(), planKeys()[0]}, {m.scene.Monitors[1].Log.PlanKey(), m.scene.Monitors[0].Log.PlanKey()}, {m.scene.Monitors[1].Log.PlanKey(), ""},
		{m.scene.Monitors[0].CosignKey, ""}, {"operator: another", "operator: operator-2"}, {"operator: another", `operator: ""`}, {m.another, m.scene.Monitors[0].CosignKey}, {m.another, respelled(m.scene.Monitors[0].CosignKey)}, {m.another, respelled(m.another)},
		{"enrolled: " + hour(0), "enrolled: " + hour(1)}, {"wss: /dns4/c3", "wss: dns4/c3"}, {"version: 1", "version: 2"}, {"network: psf", "network: lab"},
		{"witnesses:", "notes:\n- {kind: maintenance, from: " + hour(0) + ", until: " + hour(1) + ", text: disk}\nwitnesses:"}, {"witnesses:", "colour: red\nwitnesses:"},
	}
	c := changes[r.IntN(len(changes))]
	return m.rules, strings.Replace(m.roster, c[0], c[1], 1), fmt.Sprintf("roster: %.60s for %.60s", c[1], c[0])
}

// Both take or refuse the same statements over a bundle, and say why.
func TestStatements(t *testing.T) {
	m := newMaker(t)
	in := m.input(0, m.rules, m.roster)
	var envelope struct{ Payload []byte }
	m.scene.Must(json.Unmarshal(m.months[0].files["report.dsse.json"], &envelope))
	in.Rules, in.Roster = m.months[0].files["inputs/rules.yaml"], m.months[0].files["inputs/roster.yaml"]
	grown := func(v string) []byte {
		return bytes.Replace(envelope.Payload, []byte(`"predicate":{`), []byte(`"predicate":{"Zone":`+v+`,`), 1)
	}
	list := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("0,", n), ",") + "]" }
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for what, c := range map[string]struct {
		body []byte
		good bool
	}{
		"as it was":               {envelope.Payload, true},
		"null":                    {[]byte("null"), false},
		"a list":                  {[]byte("[]"), false},
		"a word":                  {[]byte(`"word"`), false},
		"a number":                {[]byte("1"), false},
		"nothing":                 {nil, false},
		"an empty object":         {[]byte("{}"), false},
		"a predicate of null":     {[]byte(`{"predicate":null}`), false},
		"a predicate of one list": {[]byte(`{"predicate":[]}`), false},
		"a list of 256":           {grown(list(256)), true},
		"a list of 257":           {grown(list(257)), false},
		"16 deep":                 {grown(deep(15)), true},
		"17 deep":                 {grown(deep(16)), false},
		"very deep":               {grown(deep(200_000)), false},
		"very deep, and nothing":  {[]byte(deep(200_000)), false},
		"odd names":               {grown(`{"__proto__":{"a":1},"constructor":null}`), true},
	} {
		files := maps.Clone(m.months[0].files)
		var err error
		files["report.dsse.json"], err = in.Sign(c.body)
		m.scene.Must(err)
		if !c.good {
			err = errors.New("it is refused")
		}
		m.judged("a statement: "+what, packed(t, files), err, in, false)
	}
	for what, report := range map[string]string{"null": "null", "a list": "[]", "very deep": deep(200_000), "very deep within": `{"a":` + deep(200_000) + `}`} {
		files := maps.Clone(m.months[0].files)
		files["report.json"] = []byte(report)
		m.judged("a report of "+what, m.stated(files, in), errors.New("it is refused"), in, false)
	}
}

// Whole bundles of which somebody with all keys changed the meaning: a record, a header, a
// proof, month.json, a checkpoint, the rules or the roster. The trees are made anew, and
// everything is signed again. Both come to the same report, in every member, or both refuse.
func TestForgedBundles(t *testing.T) {
	m := newMaker(t)
	tally := map[string]int{}
	n := *bundles
	for i := range n {
		seed := *firstOne + uint64(i)
		r := rand.New(rand.NewPCG(61, seed))
		told := r.IntN(4) / 3
		l := lie{next: told == 1}
		rules, roster, what := m.rules, m.roster, ""
		at := r.IntN(3 - told)
		twist := func(name string) func(int, any) any {
			return func(k int, v any) any {
				if k == at {
					if r.IntN(4) == 0 {
						what += fmt.Sprintf(" %s %d%s", name, k, change(r, v))
						return v
					}
					for range 1 + r.IntN(3) {
						what += fmt.Sprintf(" %s %d%s", name, k, mean(r, v))
					}
				}
				return v
			}
		}
		kind := []string{"record", "record", "record", "record", "record", "header", "header", "proof", "index", "checkpoint", "committee", "committee"}[r.IntN(12)]
		switch kind {
		case "record":
			l.record = twist("record")
		case "header":
			l.header = twist("header")
		case "proof":
			l.proof = twist("proof")
		case "index":
			at = 0
			l.index = twist("index")
		case "checkpoint":
			which := 1 + r.Int64N(int64(len(m.headers)))
			l.checkpoint = func(size int64, signed []byte) []byte {
				if size == which {
					signed, what = respell(r, signed)
					what = fmt.Sprintf(" checkpoint of size %d: %s", size, what)
				}
				return signed
			}
		case "committee":
			rules, roster, what = m.governed(r)
		}
		forged := m.tell(l)
		b, v, err := m.write(told, forged, rules, roster)
		outcome := "refused"
		if err != nil {
			b = m.force(told, forged, rules, roster)
		} else if outcome = "the same votes"; said(v) != m.months[told].says {
			outcome = "other votes"
		}
		m.judged(fmt.Sprintf("seed %d: %s", seed, what), b, err, m.input(told, rules, roster), kind != "index" && kind != "committee")
		tally[kind+": "+outcome]++
		tally[outcome]++
	}
	t.Logf("%d bundles: %v; without a lie: %s; %s", n, tally, m.months[0].says, m.months[1].says)
	for _, outcome := range []string{"refused", "the same votes", "other votes"} {
		if tally[outcome] < n/20 {
			t.Errorf("of %d bundles only %d: %s", n, tally[outcome], outcome)
		}
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// changed is a canonical line with other members.
func (p *play) changed(line []byte, change func(map[string]any)) []byte {
	p.t.Helper()
	var object map[string]any
	p.Must(json.Unmarshal(line, &object))
	change(object)
	out, err := evidence.Encode(object)
	p.Must(err)
	return out
}

// futureRecord has members that nobody knows yet. Some are named as known ones in
// another case, and contradict these.
func futureRecord(r map[string]any) {
	r["colour"] = "red"
	r["HOUR"] = "2020-01-01T00:00:00Z"
	r["Attempts"] = []any{}
	r["weather"] = map[string]any{"wind": []any{map[string]any{"from": nil, "kmh": 12.5}, true}, "": "\u2028"}
	a := r["attempts"].([]any)[0].(map[string]any)
	a["Level"], a["quic"] = 0, map[string]any{"outcome": "fail"}
	facts := a["facts"].(map[string]any)
	facts["quic_ping_us"], facts["Hop_Reserve"] = []any{1, 2}, 202
	a["rungs"].([]any)[0].(map[string]any)["OUTCOME"] = "fail"
	for _, result := range a["results"].(map[string]any) {
		result.(map[string]any)["Outcome"] = "fail"
	}
	facts["reservation"].(map[string]any)["Voucher"] = "AAAA"
}

func futureHeader(h map[string]any) {
	h["STATE"], h["Signed"], h["Records"] = "gap", false, 0
	h["entropy"] = map[string]any{"bits": []any{256}}
	h["clock"].(map[string]any)["Drift_MS"] = 1_000_000
}

// verdict is what relayaudit makes of the bundle, without what follows from its bytes.
func (p *play) verdict() (v bounty.Verdict, warnings []string) {
	p.t.Helper()
	code, out := p.verify("--json")
	var report struct {
		Verdict  bounty.Verdict
		Warnings []string
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 {
		p.t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	v = report.Verdict
	for i := range v.Monitors {
		v.Monitors[i].Root, v.Monitors[i].Digest = "", ""
	}
	v.Inputs = bounty.Inputs{}
	return v, report.Warnings
}

// What a program of the future adds is sealed by real keys, and verifies here and now:
// the verdict is the same.
func TestMonthFromTheFuture(t *testing.T) {
	p := newPlay(t, 3).sees(nil).write()
	p.want(0, `^verdict: ELIGIBLE$`)
	now, _ := p.verdict()
	for _, m := range p.Monitors {
		p.Reseal(m,
			func(line []byte) []byte { return p.changed(line, futureRecord) },
			func(line []byte) []byte { return p.changed(line, futureHeader) })
	}
	p.write()
	p.want(0, `^verdict: ELIGIBLE$`)
	then, _ := p.verdict()
	if !reflect.DeepEqual(then, now) {
		t.Errorf("what is unknown bends the verdict: got\n%+v\nwant\n%+v", then, now)
	}
	p.peek(func(files map[string][]byte) {
		dir := logDir(p.Monitors[1])
		for file, member := range map[string]string{"records.jsonl": `"quic_ping_us":[1,2]`, "blocks.jsonl": `"entropy":{"bits":[256]}`} {
			if !bytes.Contains(files[dir+file], []byte(member)) {
				t.Errorf("%s has lost %s", file, member)
			}
		}
	})
	// A member that is known has its meaning all the same.
	for _, m := range p.Monitors {
		p.Reseal(m,
			func(line []byte) []byte {
				return p.changed(line, func(r map[string]any) { r["attempts"].([]any)[0].(map[string]any)["level"] = 1 })
			},
			func(line []byte) []byte { return line })
	}
	p.write()
	p.want(3, `verified, but the verdict is (NOT_ELIGIBLE|REVIEW)`)
}

// The committee's files of the future.
func TestCommitteeOfTheFuture(t *testing.T) {
	p := newPlay(t, 3).sees(nil).write()
	now, _ := p.verdict()
	p.roster = func(yaml string) string {
		return strings.Replace(yaml, "{name: m2.example.org,", "{name: m2.example.org, Operator: relay-operator, \"colour\\e[2J\": {hue: [1, 2]},", 1) + "quorum: {of: half}\n"
	}
	p.write()
	then, warnings := p.verdict()
	if !reflect.DeepEqual(then, now) {
		t.Errorf("what is unknown bends the verdict: got\n%+v\nwant\n%+v", then, now)
	}
	want := `the roster has members that this relayaudit does not know: monitors[1].Operator, monitors[1].colour\x1b[2J, quorum; they mean nothing to it`
	if len(warnings) != 1 || warnings[0] != want {
		t.Errorf("warnings: got %q, want %q", warnings, want)
	}
	p.want(0, `^verdict: ELIGIBLE$`, `^  - warning: `+regexp.QuoteMeta(want)+`$`)
}

func TestRulesAndRosterOfAHigherVersion(t *testing.T) {
	p := newPlay(t, 3).sees(nil).write()
	rules, roster := p.rulesFile(), p.Signed(p.RosterYAML())
	for name, text := range map[string][]byte{"rules.yaml": rules, "roster.yaml": roster} {
		yaml, _ := bounty.Text(text)
		newer := p.Signed(strings.Replace(string(yaml), "version: 1\n", "version: 3\nmeaning: [changed]\n", 1))
		p.save(name, newer)
		p.want(2, fmt.Sprintf("%s: it is of version 3: it needs relayaudit of at least version 3; this one reads version 1", strings.TrimSuffix(name, ".yaml")))
		p.save(name, text)
	}
}

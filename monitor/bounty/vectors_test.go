package bounty

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

var update = flag.Bool("update", false, "write docs/vectors/due.json")

const vectorsFile = "../../docs/vectors/due.json"

// vector is an hour, and who is due in it (rule R21).
type vector struct {
	Name     string         `json:"name"`
	Why      string         `json:"why"`
	OK       bool           `json:"ok"`
	Rules    map[string]int `json:"rules"`
	Relay    string         `json:"relay"`
	Round    []byte         `json:"round"`
	Monitors []vectorMember `json:"monitors"`
	Due      []string       `json:"due"`
}

type vectorMember struct {
	Name      string `json:"name"`
	Operator  string `json:"operator"`
	Committee bool   `json:"committee"`
}

func (v *vector) due(h evidence.Hour) []string {
	rules, roster := Defaults(), &Roster{}
	rules.MonitorsDue, rules.DueFrom = v.Rules["monitors_due"], v.Rules["due_from"]
	for _, m := range v.Monitors {
		roster.Monitors = append(roster.Monitors, Monitor{Name: m.Name, Operator: m.Operator, Committee: m.Committee, Term: Term{From: h}})
	}
	return names(rules.Due(roster, &Relay{PeerID: v.Relay, Operator: "of the relay"}, h, v.Round))
}

// The vectors of rule R21 are what the rules make.
func TestVectors(t *testing.T) {
	first := month(t, "2026-11").First()
	var list []vector
	add := func(name, why string, monitors int, round []byte, change func(v *vector)) {
		v := vector{Name: name, Why: why, OK: true, Relay: "12D3KooWEBzgK8a5TpMfLotuj7jJnEK41gbD9LZK6qCpxNrX43E9", Round: round, Rules: map[string]int{"monitors_due": 7, "due_from": 15}}
		for _, m := range crowd(monitors).Monitors {
			v.Monitors = append(v.Monitors, vectorMember{m.Name, m.Operator, m.Committee})
		}
		if change != nil {
			change(&v)
		}
		v.Due = v.due(first)
		list = append(list, v)
	}
	round := beaconOf(first)
	add("fifty", "7 of distinct operators, one of them the committee's", 50, round, nil)
	add("the next hour", "another round, others", 50, beaconOf(first+1), nil)
	add("another relay", "the relay's peer ID counts", 50, round, func(v *vector) { v.Relay = "12D3KooWNdxrEJ5dNTts4fY4XaosuVFoUavPARtDUoE8YrwhKdEE" })
	add("no round", "all are due", 50, []byte{}, nil)
	add("small", "14 are all due", 14, round, nil)
	add("off", "the rules do not choose", 50, round, func(v *vector) { v.Rules["monitors_due"] = 0 })
	add("few operators", "one of each operator, also if they are fewer than 7", 16, round, func(v *vector) {
		for i := range v.Monitors {
			v.Monitors[i].Operator = fmt.Sprint("operator-", i%3)
		}
	})
	add("no committee", "nobody's place is kept", 20, round, func(v *vector) {
		for i := range v.Monitors {
			v.Monitors[i].Committee = false
		}
	})
	add("without operators", "each monitor stands for itself", 20, round, func(v *vector) {
		for i := range v.Monitors {
			v.Monitors[i].Operator = ""
		}
	})
	for _, v := range list {
		switch all := len(v.Monitors); {
		case v.Name == "no round" || v.Name == "small" || v.Name == "off":
			if len(v.Due) != all {
				t.Errorf("%s: %d are due, want all %d", v.Name, len(v.Due), all)
			}
		case v.Name == "few operators":
			if len(v.Due) != 3 {
				t.Errorf("%s: %v are due, want one of each of three operators", v.Name, v.Due)
			}
		case len(v.Due) != 7 || v.Name != "fifty" && slices.Equal(v.Due, list[0].Due):
			t.Errorf("%s: %v are due, want 7, and not those of the first vector", v.Name, v.Due)
		}
	}
	b, err := json.MarshalIndent(list, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, '\n')
	if *update {
		if err := os.WriteFile(vectorsFile, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if old, err := os.ReadFile(vectorsFile); err != nil || !bytes.Equal(old, b) {
		t.Errorf("%s is not what the rules make (%v): -update writes it", vectorsFile, err)
	}
}

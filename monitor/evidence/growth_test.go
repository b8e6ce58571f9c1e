package evidence

import (
	"strings"
	"testing"
)

type sapling struct {
	Name   string             `json:"name"`
	Hour   Hour               `json:"hour"`
	Leaf   *sapling           `json:"leaf,omitempty"`
	Rings  []sapling          `json:"rings,omitempty"`
	Fruits map[string]sapling `json:"fruits,omitempty"`
	Sap    []byte             `json:"sap,omitempty"`
}

func TestDecodeGrown(t *testing.T) {
	hour := `"hour":"2026-11-03T14:00:00Z"`
	for _, grown := range []string{
		`{"HOUR":"2026-11-03T15:00:00Z",` + hour + `,"name":"oak"}`,
		`{"Name":"elm",` + hour + `,"name":"oak"}`,
		`{"\u0001":[],"a":{"b":[{"c":null},true,1.5,"\"}]"]},` + hour + `,"name":"oak","ü":9007199254740992}`,
		`{` + hour + `,"naMe":{"name":1},"name":"oak","{":"}"}`,
	} {
		var got, want sapling
		if err := Decode([]byte(`{`+hour+`,"name":"oak"}`), &want); err != nil {
			t.Fatal(err)
		}
		if err := DecodeGrown([]byte(grown), &got); err != nil || got.Name != want.Name || got.Hour != want.Hour {
			t.Errorf("%s: got %+v, %v, want %+v", grown, got, err, want)
		}
		if err := Decode([]byte(grown), &got); err == nil {
			t.Errorf("%s: Decode is not strict", grown)
		}
	}
	inner := `{` + hour + `,"name":"x"}`
	more := `{` + hour + `,"name":"x","new":0}`
	var deep sapling
	if err := DecodeGrown([]byte(`{"fruits":{"a":`+more+`,"b":`+inner+`},`+hour+`,"leaf":`+more+`,"name":"oak","rings":[`+inner+`,`+more+`],"sap":"AAEC","z":[]}`), &deep); err != nil {
		t.Fatal(err)
	}
	if deep.Leaf.Name != "x" || len(deep.Rings) != 2 || len(deep.Fruits) != 2 || string(deep.Sap) != "\x00\x01\x02" {
		t.Errorf("got %+v", deep)
	}
}

func TestDecodeGrownRefuses(t *testing.T) {
	hour := `"hour":"2026-11-03T14:00:00Z","name":"oak"`
	for what, line := range map[string]string{
		"a required member is missing":       `{"hour":"2026-11-03T14:00:00Z","new":1}`,
		"it is there in another case":        `{"Name":"oak","hour":"2026-11-03T14:00:00Z"}`,
		"a wrong type":                       `{"hour":"2026-11-03T14:00:00Z","name":1,"new":1}`,
		"white space":                        `{` + hour + `, "new":1}`,
		"another order":                      `{"new":1,` + hour + `}`,
		"another order within":               `{` + hour + `,"new":{"b":1,"a":1}}`,
		"a name twice":                       `{` + hour + `,"new":1,"new":1}`,
		"a name twice within":                `{` + hour + `,"new":{"a":1,"a":2}}`,
		"a known name twice":                 `{"hour":"2026-11-03T14:00:00Z","name":"oak","name":"elm"}`,
		"a number beyond 2^53":               `{` + hour + `,"new":9007199254740994}`,
		"a number below -2^53":               `{` + hour + `,"new":[-9007199254740994]}`,
		"a large float":                      `{` + hour + `,"new":1e+30}`,
		"a number with zeros":                `{` + hour + `,"new":1.0}`,
		"minus zero":                         `{` + hour + `,"new":-0}`,
		"a number that no float holds":       `{` + hour + `,"new":0.10000000000000000001}`,
		"a lone surrogate":                   `{` + hour + `,"new":"\ud800"}`,
		"a lone surrogate in a name":         `{` + hour + `,"new":{"\udc00":1}}`,
		"an escape that is none":             `{` + hour + `,"new":"\u0041"}`,
		"text that is not UTF-8":             `{` + hour + `,"new":"` + "\xff" + `"}`,
		"a surrogate in UTF-8":               `{` + hour + `,"new":"` + "\xed\xa0\x80" + `"}`,
		"bytes after it":                     `{` + hour + `,"new":1}{}`,
		"no object":                          `[{` + hour + `}]`,
		"a null":                             `null`,
		"too deep":                           `{` + hour + `,"new":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + `}`,
		"too many":                           `{` + hour + `,"new":[` + strings.Repeat("0,", maxMembers) + `0]}`,
		"an unknown member of what has none": `{"hour":{"new":1},"name":"oak"}`,
		"a map's key":                        `{"fruits":{"a":1},` + hour + `,"new":1}`,
	} {
		if err := DecodeGrown([]byte(line), &sapling{}); err == nil {
			t.Errorf("%s: accepted: %s", what, line)
		}
	}
	deepest := `{` + hour + `,"new":` + strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1) + `}`
	if err := DecodeGrown([]byte(deepest), &sapling{}); err != nil {
		t.Errorf("as deep as may be: %v", err)
	}
	most := `{` + hour + `,"new":[` + strings.Repeat("0,", maxMembers-1) + `0]}`
	if err := DecodeGrown([]byte(most), &sapling{}); err != nil {
		t.Errorf("as many as may be: %v", err)
	}
}

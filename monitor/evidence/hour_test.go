package evidence_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

func TestHours(t *testing.T) {
	for _, c := range []struct {
		at   string
		want string
	}{
		{"2026-11-03T14:00:00Z", "2026-11-03T14:00:00Z"},
		{"2026-11-03T14:59:59.999999999Z", "2026-11-03T14:00:00Z"},
		{"2026-11-03T14:30:00+05:45", "2026-11-03T08:00:00Z"}, // Nepal
		{"2026-10-25T02:30:00+01:00", "2026-10-25T01:00:00Z"}, // the second 2:30 of that day in Berlin
		{"1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"},
		{"1969-12-31T23:59:59Z", "1969-12-31T23:00:00Z"},
	} {
		at, err := time.Parse(time.RFC3339Nano, c.at)
		evidencetest.Must(t, err)
		h := evidence.HourOf(at)
		if h.String() != c.want {
			t.Errorf("%s is in %s, want %s", c.at, h, c.want)
		}
		if again, err := evidence.ParseHour(h.String()); err != nil || again != h || at.Before(h.Start()) || !at.Before(h.End()) {
			t.Errorf("%s: %s to %s, %v", c.at, h.Start(), h.End(), err)
		}
	}
	for _, s := range []string{"", "2026-11-03T14:30:00Z", "2026-11-03T14:00:00.000Z", "2026-11-03T14:00:00+00:00", "2026-11-03T14:00Z", "2026-11-03T24:00:00Z", "2026-11-31T00:00:00Z", "2026-11-03t14:00:00z", " 2026-11-03T14:00:00Z"} {
		if h, err := evidence.ParseHour(s); err == nil {
			t.Errorf("took %q for %s", s, h)
		}
	}
}

func TestMonths(t *testing.T) {
	for s, hours := range map[string]int{
		"2026-01": 744, "2026-02": 672, "2028-02": 696, "2100-02": 672, "2000-02": 696, "2026-11": 720, "2026-12": 744, "1970-01": 744,
	} {
		m, err := evidence.ParseMonth(s)
		evidencetest.Must(t, err)
		if m.Hours() != hours || m.String() != s {
			t.Errorf("%s: %d hours, %s", s, m.Hours(), m)
		}
		if !m.Contains(m.First()) || m.Contains(m.End()) || m.Contains(m.First()-1) || !m.Contains(m.End()-1) {
			t.Errorf("%s does not hold its hours", s)
		}
		if m.First().Month() != m || m.End().Month() != m+1 || (m+1).First() != m.End() {
			t.Errorf("%s and the next do not meet", s)
		}
	}
	for _, s := range []string{"", "2026-13", "2026-00", "2026-1", "26-01", "2026-01-01", "1969-12", "2026/01"} {
		if m, err := evidence.ParseMonth(s); err == nil {
			t.Errorf("took %q for %s", s, m)
		}
	}
}

func TestTimes(t *testing.T) {
	at := evidence.TimeOf(time.Date(2026, 11, 3, 15, 5, 6, 789_999_999, time.FixedZone("", 3600)))
	b, err := json.Marshal(at)
	evidencetest.Must(t, err)
	if string(b) != `"2026-11-03T14:05:06.789Z"` {
		t.Fatalf("%s", b)
	}
	var again evidence.Time
	evidencetest.Must(t, json.Unmarshal(b, &again))
	if again != at {
		t.Fatalf("%v, want %v", again, at)
	}
	// Decode takes the one spelling only; the decoder of time alone takes more.
	for _, s := range []string{"2026-11-03T14:05:06Z", "2026-11-03T14:05:06.7890Z", "2026-11-03T14:05:06.789+00:00", "2026-11-03T14:05:06,789Z", "2026-11-03T14:05:60.000Z"} {
		if err := evidence.Decode([]byte(`{"at":"`+s+`","software":""}`), new(struct {
			At       evidence.Time `json:"at"`
			Software string        `json:"software"`
		})); err == nil {
			t.Errorf("took %s", s)
		}
	}
}

func TestEncode(t *testing.T) {
	type value struct {
		B string         `json:"b"`
		A map[string]any `json:"a,omitempty"`
		N int64          `json:"n"`
		U uint64         `json:"u"`
		D []byte         `json:"d"`
	}
	b, err := evidence.Encode(value{B: "<\u2028é\x7f\n", A: map[string]any{"z": 1, "y": []string{"x"}}, N: 1 << 53, D: []byte{0xff}})
	evidencetest.Must(t, err)
	if want := "{\"a\":{\"y\":[\"x\"],\"z\":1},\"b\":\"<\u2028é\x7f\\n\",\"d\":\"/w==\",\"n\":9007199254740992,\"u\":0}"; string(b) != want {
		t.Fatalf("%s\n%s", b, want)
	}
	for name, v := range map[string]any{
		"large":          value{N: 1<<53 + 1},
		"small":          &value{N: -1<<53 - 1},
		"unsigned":       []value{{U: 1<<53 + 1}},
		"text":           value{B: "\xc3"},
		"text in map":    value{A: map[string]any{"a": "\xc3"}},
		"key of map":     value{A: map[string]any{"\xc3": 1}},
		"number in list": value{A: map[string]any{"a": []any{int64(1<<53 + 1)}}},
	} {
		if b, err := evidence.Encode(v); err == nil {
			t.Errorf("%s: wrote %s", name, b)
		}
	}
	for _, s := range []string{
		` {"b":"","d":null,"n":0,"u":0}`, `{"b":"","d":null,"n":0,"u":0} `, `{"b":"","d":null,"n":0,"u":0}{}`,
		`{"d":null,"b":"","n":0,"u":0}`, `{"b":"","d":null,"n":0,"u":0,"x":1}`, `{"B":"","d":null,"n":0,"u":0}`,
		`{"b":"","d":null,"n":0.0,"u":0}`, `{"b":"","d":null,"n":-0,"u":0}`, `{"b":"","d":null,"n":1e0,"u":0}`,
		`{"b":"\u0041","d":null,"n":0,"u":0}`, `{"b":"\/","d":null,"n":0,"u":0}`, `{"b":"","d":"/x==","n":0,"u":0}`,
		`{"b":"","d":null,"n":0,"n":0,"u":0}`, `{"d":null,"n":0,"u":0}`, `{"b":"","d":null,"n":9007199254740993,"u":0}`,
		`{"a":{},"b":"","d":null,"n":0,"u":0}`, `{"b":"\ud800","d":null,"n":0,"u":0}`,
	} {
		if err := evidence.Decode([]byte(s), new(value)); err == nil {
			t.Errorf("took %s", s)
		}
	}
	if err := evidence.Decode([]byte(`{"b":"","d":null,"n":0,"u":0}`), new(value)); err != nil {
		t.Error(err)
	}
	if err := evidence.Decode([]byte(strings.Repeat("[", 100_000)), new(any)); err == nil {
		t.Error("took 100,000 brackets")
	}
}

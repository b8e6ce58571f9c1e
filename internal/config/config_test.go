package config

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type sample struct {
	Name   string               `yaml:"name"`
	Port   uint16               `yaml:"port"`
	Quiet  bool                 `yaml:"quiet"`
	Ratio  float64              `yaml:"ratio"`
	Wait   time.Duration        `yaml:"wait"`
	Addr   netip.Addr           `yaml:"addr"`
	Until  *time.Time           `yaml:"until"`
	Listen listen               `yaml:"listen"`
	Peers  []string             `yaml:"peers"`
	Rows   []listen             `yaml:"rows"`
	Pins   map[string]string    `yaml:"pins"`
	Deep   map[string]listen    `yaml:"deep"`
	ByAddr map[netip.Addr]int64 `yaml:"by_addr"`
	Other  map[string]any       `yaml:"other"`
}

type listen struct {
	TCP  string `yaml:"tcp"`
	QUIC string `yaml:"quic"`
}

func TestDecodeOverDefaults(t *testing.T) {
	until := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	got := sample{Name: "default", Port: 1, Peers: []string{"a", "b"}, Listen: listen{TCP: "t", QUIC: "q"}}
	err := Decode("f.yaml", []byte(`
# a comment
port: 4001
quiet: true
ratio: 0.5
wait: 1m30s
addr: 192.0.2.1
until: 2026-11-01T00:00:00Z
listen: {tcp: x}
peers:
  - c
rows:
- tcp: "1"
- quic: 2
pins:
  relay.test: 1.10
deep:
  one: {tcp: yes}
by_addr: {192.0.2.7: 7}
other:
  quoted: "1.10"
  deep:
    list: [a, 2, {b: true}]
    text: |
      two
      lines
`), &got)
	if err != nil {
		t.Fatal(err)
	}
	want := sample{
		Name: "default", Port: 4001, Quiet: true, Ratio: 0.5, Wait: 90 * time.Second,
		Addr: netip.MustParseAddr("192.0.2.1"), Until: &until,
		Listen: listen{TCP: "x", QUIC: "q"},
		Peers:  []string{"c"},
		Rows:   []listen{{TCP: "1"}, {QUIC: "2"}},
		Pins:   map[string]string{"relay.test": "1.10"},
		Deep:   map[string]listen{"one": {TCP: "yes"}},
		ByAddr: map[netip.Addr]int64{netip.MustParseAddr("192.0.2.7"): 7},
		Other: map[string]any{"quoted": "1.10", "deep": map[string]any{
			"list": []any{"a", uint64(2), map[string]any{"b": true}}, "text": "two\nlines\n"}},
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Fatal(d)
	}
}

func TestEmptyFilesChangeNothing(t *testing.T) {
	for _, data := range []string{"", "\n", "# only words\n", "---\n"} {
		got := sample{Name: "kept"}
		if err := Decode("f", []byte(data), &got); err != nil || got.Name != "kept" {
			t.Errorf("%q: %v, %+v", data, err, got)
		}
	}
}

// Each fault has its line, its column and its cure, and all stand in one error.
func TestFaults(t *testing.T) {
	for _, c := range []struct{ name, yaml, want string }{
		{"three at once", "nam: x\nlisten:\n  tpc: y\nport: many\n",
			"f:1:1: unknown key \"nam\"; did you mean \"name\"?\n" +
				"f:3:3: unknown key \"listen.tpc\"; did you mean \"tcp\"?\n" +
				"f:4:7: port: want a whole number, not below 0, not \"many\""},
		{"nothing near", "zzzzzzzzzz: 1\n", "known here: addr, by_addr, deep, listen"},
		{"fraction", "port: 16.5\n", "f:1:7: port: want a whole number, not below 0, not \"16.5\""},
		{"fraction in quotes", "port: \"16.5\"\n", "f:1:7: port: want a whole number"},
		{"fraction with an exponent", "port: 165e-1\n", "f:1:7: port: want a whole number"},
		{"leading zero", "port: 0600\n", "f:1:7: port: want a whole number, not below 0, not \"0600\": write it in decimal digits alone, without leading zeros: 600"},
		{"leading zero in quotes", "port: \"0600\"\n", "f:1:7: port: want a whole number, not below 0, not \"0600\": write it in decimal digits alone, without leading zeros: 600"},
		{"octal", "port: 0o600\n", "write it in decimal"},
		{"hex", "port: 0x10\n", "write it in decimal"},
		{"binary", "port: 0b11\n", "write it in decimal"},
		{"underscore", "port: 1_000\n", "f:1:7: port: want a whole number"},
		{"exponent", "port: 1e3\n", "write it in decimal"},
		{"plus", "port: +5\n", "write it in decimal digits alone, without leading zeros: 5"},
		{"minus zero", "port: -0\n", "f:1:7: port: want a whole number"},
		{"signed with a zero", "by_addr: {192.0.2.7: -07}\n", "want a whole number, not \"-07\""},
		{"float with a zero", "ratio: 00.5\n", "f:1:8: ratio: want a number, not \"00.5\""},
		{"float in hex", "ratio: 0x1p4\n", "f:1:8: ratio: want a number"},
		{"float with an exponent", "ratio: 1e3\n", "f:1:8: ratio: want a number, not \"1e3\": write it in decimal"},
		{"float without a digit", "ratio: .5\n", "f:1:8: ratio: want a number"},
		{"not a number", "ratio: .nan\n", "f:1:8: ratio: want a number"},
		{"infinite", "ratio: -.inf\n", "f:1:8: ratio: want a number"},
		{"octal where all is taken", "other: {a: 0600}\n", "other.a: \"0600\" is not plain: write it in decimal digits alone, without leading zeros: 600"},
		{"exponent where all is taken", "other: {a: [1.5e3]}\n", "other.a[0]: \"1.5e3\" is not plain"},
		{"infinite where all is taken", "other: {a: .inf}\n", "is not plain"},
		{"range", "port: 70000\n", "f:1:7: port: want a whole number"},
		{"negative", "port: -1\n", "f:1:7: port: want"},
		{"bool", "quiet: maybe\n", "f:1:8: quiet: want true or false, not \"maybe\""},
		{"span", "wait: 10\n", "f:1:7: wait: want a time span such as 90s, 10m or 2h, not \"10\""},
		{"address", "addr: nowhere\n", "f:1:7: addr: "},
		{"list wanted", "peers: x\n", "f:1:8: peers: want a list"},
		{"map wanted", "listen: x\n", "f:1:9: listen: want keys with values"},
		{"scalar wanted", "name: [a]\n", "name: want one value"},
		{"no value", "name:\n", "name: no value"},
		{"twice", "name: a\nname: b\n", "name"},
		{"in a list", "rows:\n- tcp: a\n- tco: b\n", "f:3:3: unknown key \"rows[1].tco\"; did you mean \"tcp\"?"},
		{"in a map", "deep:\n  one: {tcq: b}\n", "unknown key \"deep.one.tcq\""},
		{"tab", "listen:\n\ttcp: x\n", "f:2:1: a tab: indent with spaces"},
		{"alias", "name: &a x\npeers: [*a]\n", "anchors, aliases and tags are not read"},
		{"merge", "listen: {<<: {tcp: x}}\n", "merge"},
		{"twice where all is taken", "other: {a: {b: 1, b: 2}}\n", "b"},
		{"alias where all is taken", "other: {a: [*x]}\n", "anchors, aliases and tags are not read"},
		{"two documents", "name: a\n---\nname: b\n", "a second document"},
		{"not a map", "- a\n", "f:1:1: want keys with values"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s sample
			err := Decode("f", []byte(c.yaml), &s)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

// A value that is none leaves the default as it is: what checks the values afterwards
// would name a fault that nobody made.
func TestFaultsKeepTheDefault(t *testing.T) {
	before := sample{Port: 4001, Quiet: true, Ratio: 0.5, Wait: 90 * time.Second}
	got := before
	err := Decode("f", []byte("port: 16.5\nquiet: maybe\nratio: much\nwait: 1 h\n"), &got)
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("got %v", err)
	}
	if d := cmp.Diff(before, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Error(d)
	}
}

func TestTooLarge(t *testing.T) {
	if err := Decode("f", make([]byte, MaxBytes+1), &sample{}); err == nil {
		t.Fatal("no error")
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"name: a\n", "rows: [{tcp: 1}, 2]\n", "a: &x [*x]\n", "? a\n: b\n", "|\n x", "deep: {a: {b: c}}", "name: !!binary eA==", "- - -", "{", "[[[[", "- - - - [{", "? ? ?", "port: 0600", "  a: 1\n b: 2\n", "<<: {", "\t", "%YAML 1.2\n---\nname: x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s sample
		_ = Decode("f", data, &s) // must neither panic nor hang
	})
}

// Of a file that is wrong everywhere not everything is told.
func TestManyFaults(t *testing.T) {
	err := Decode("f", []byte("rows:\n"+strings.Repeat("- {tcq: a}\n", maxFaults)), &sample{})
	if n := strings.Count(err.Error(), "\n"); n != maxFaults-1 {
		t.Errorf("%d lines more than one", n)
	}
	err = Decode("f", []byte("rows:\n"+strings.Repeat("- {tcq: a}\n", maxFaults+1)), &sample{})
	if n := strings.Count(err.Error(), "\n"); n != maxFaults || !strings.HasSuffix(err.Error(), "f: and more faults than these 50") {
		t.Errorf("%d lines more than one: %v", n, err)
	}
}

func TestDecodeWhole(t *testing.T) {
	type whole struct {
		A     int    `yaml:"a"`
		B     string `yaml:"b"`
		Maybe int    `yaml:"maybe,omitempty"`
		Inner listen `yaml:"inner"`
	}
	var w whole
	if err := DecodeWhole("f", []byte("a: 1\nb: x\ninner: {tcp: y, quic: z}\n"), &w); err != nil || w.A != 1 || w.Inner.QUIC != "z" {
		t.Errorf("got %v, %+v", err, w)
	}
	for file, want := range map[string]string{
		"":                                 "f:1:1: missing: a, b, inner: every key must stand here",
		"# words\n":                        "missing: a, b, inner",
		"a: 1\n":                           "missing: b, inner",
		"a: 1\nb: x\ninner: {tcp: y}\n":    "missing: inner.quic",
		"a: 1\nc: x\ninner: {tcp: y}\n":    "missing: inner.quic",
		"a: 1\ninner: {tcp: y, quic: z}\n": "missing: b:",
	} {
		if err := DecodeWhole("f", []byte(file), &whole{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", file, err, want)
		}
	}
}

// An address in the place of a key or a value is quoted without its password.
func TestFaultsKeepAddresses(t *testing.T) {
	for _, text := range []string{
		"smtp://u:sesame@h.example/: x\n",
		"smtp://u:sesame@h.example/: x\nsmtp://u:sesame@h.example/: y\n",
		"listen:\n  smtp://u:sesame@h.example/?to=sesame: x\n",
		"count: smtp://u:sesame@h.example/\nspan: smtp://u:sesame@h.example/\n",
	} {
		var into struct {
			Listen struct {
				TCP string `yaml:"tcp"`
			} `yaml:"listen"`
			Count int           `yaml:"count"`
			Span  time.Duration `yaml:"span"`
		}
		err := Decode("f", []byte(text), &into)
		if err == nil || strings.Contains(err.Error(), "sesame") || !strings.Contains(err.Error(), "smtp://…") {
			t.Errorf("%q: got %v, want a fault with the scheme alone", text, err)
		}
	}
}

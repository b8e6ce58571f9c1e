package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

type grown struct {
	Version int      `yaml:"version"`
	Name    string   `yaml:"name"`
	Rows    []listen `yaml:"rows"`
}

func newerThan1(v int) error {
	if v > 1 {
		return fmt.Errorf("version %d", v)
	}
	return nil
}

func TestUnknownKeysMeanNothing(t *testing.T) {
	var u Unknown
	got := grown{Name: "default"}
	err := DecodeWith("f", []byte(`version: 1
colour: red
Name: other
NAME: [other]
rows:
- tcp: a
  udp: {tcp: b, deep: [1, {x: 0x10}]}
- {TCP: b, "e\e[2J": 1}
`), &got, Options{Unknown: &u, Version: newerThan1})
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "default" || len(got.Rows) != 2 || got.Rows[0] != (listen{TCP: "a"}) || got.Rows[1] != (listen{}) {
		t.Errorf("an unknown key has a meaning: got %+v", got)
	}
	if want := []string{"colour", "Name", "NAME", "rows[0].udp", "rows[1].TCP", `rows[1].e\x1b[2J`}; !slices.Equal(u.Places(), want) {
		t.Errorf("got %q, want %q", u.Places(), want)
	}
	// Without a place for them they are faults, with a hint.
	if err := DecodeWith("f", []byte("Name: other\n"), &got, Options{}); err == nil || !strings.Contains(err.Error(), `unknown key "Name"; did you mean "name"?`) {
		t.Errorf("got %v", err)
	}
}

func TestUnknownKeysAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 30 {
		fmt.Fprintf(&b, "k%d%s: 1\n", i, strings.Repeat("ü", 500))
	}
	var u Unknown
	if err := DecodeWith("f", []byte(b.String()), &grown{}, Options{Unknown: &u}); err != nil {
		t.Fatal(err)
	}
	got := u.Places()
	if len(got) != maxUnknown+1 || got[maxUnknown] != "and 20 more" {
		t.Fatalf("got %d places, the last %q", len(got), got[len(got)-1])
	}
	for _, p := range got {
		if len(p) > maxPlace+len("...") || strings.Contains(p, `\x`) {
			t.Errorf("a place of %d bytes, or cut in a letter: %q", len(p), p)
		}
	}
}

func TestUnknownPartsAreYAMLAsAllElse(t *testing.T) {
	for file, want := range map[string]string{
		"new: {a: 1, a: 2}\n":     "already defined",
		"new: 1\nnew: 2\n":        "already defined",
		"new: [{a: 1, a: 2}]\n":   "already defined",
		"new: &a 1\n":             "anchors",
		"new: !!str 1\n":          "tags",
		"new: {<<: {a: 1}}\n":     "merge keys",
		"name:\nnew: 1\n":         "name: no value",
		"new: 1\n---\nname: me\n": "a second document",
	} {
		if err := DecodeWith("f", []byte(file), &grown{}, Options{Unknown: &Unknown{}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", file, err, want)
		}
	}
}

// A newer file may differ in everything, also in what can be parsed.
func TestVersionComesFirst(t *testing.T) {
	for file, want := range map[string]string{
		"version: 2\nname: [wrong]\nunknown: 1\n": "f: version 2",
		"name: [wrong]\n\"version\": 3\n":         "f: version 3",
		"{name: [wrong], version: 4}\n":           "f: version 4",
		"name: &anchor x\nversion: 5 # new\n":     "f: version 5",
		"name: &anchor x\nversion: 1\n":           "anchors",
		"name: &anchor x\n  version: 2\n":         "anchors",
		"version: 1\nname: [wrong]\n":             "want one value",
		"version: two\n":                          "version: want a whole number",
		"rows: [{version: 2}]\n":                  "unknown key",
	} {
		err := DecodeWith("f", []byte(file), &grown{}, Options{Version: newerThan1})
		if err == nil || !strings.Contains(err.Error(), want) || strings.HasPrefix(want, "f: version") && err.Error() != want {
			t.Errorf("%q: got %v, want %q", file, err, want)
		}
	}
	if err := DecodeWith("f", []byte("version: 1\n"), &grown{}, Options{Version: func(int) error { return errors.New("asked") }}); err == nil || err.Error() != "f: asked" {
		t.Errorf("got %v", err)
	}
}

package deb822_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/internal/deb822"
)

func parse(text string) ([]deb822.Paragraph, error) {
	var all []deb822.Paragraph
	for p, err := range deb822.Paragraphs(strings.NewReader(text)) {
		if err != nil {
			return all, err
		}
		all = append(all, p)
	}
	return all, nil
}

func TestParagraphs(t *testing.T) {
	got, err := parse(`# a comment
Package: relayd
Version:1.0
Description: one line
 and another
 .
	and a tab

 ` + `
package: relaymon
Depends:
 a,
 b
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []deb822.Paragraph{
		{"package": "relayd", "version": "1.0", "description": "one line\nand another\n.\nand a tab"},
		{"package": "relaymon", "depends": "\na,\nb"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got[0].Get("VERSION") != "1.0" || got[0].First("Description") != "one line" || got[0].Get("none") != "" {
		t.Error("fields are not found by name")
	}
}

func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		"Package: a\nno field\n":             "line 2 is no field",
		" begins with nothing\n":             "line 1 goes on",
		"Package: a\n\n lost\n":              "line 3 goes on",
		"Package: a\npackage: b\n":           "line 2: a second field package",
		": a\n":                              "line 1 is no field",
		"A b: c\n":                           "line 1 is no field",
		"A: " + strings.Repeat("x", 2<<20):   "after line 0",
		"A: b\n#\n" + strings.Repeat("x", 9): "line 3 is no field",
	} {
		_, err := parse(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

// Whoever has enough of it stops.
func TestStop(t *testing.T) {
	for p := range deb822.Paragraphs(strings.NewReader("A: 1\n\nA: 2\n")) {
		if p.Get("A") != "1" {
			t.Error("went on after the break")
		}
		break
	}
}

func FuzzParagraphs(f *testing.F) {
	f.Add("Package: a\nDescription: b\n c\n\nPackage: d\n")
	f.Add("A:b\n\tc\n#d\n\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parse(text)
		if err != nil {
			return
		}
		// What was read can be written, and reads the same.
		var out strings.Builder
		for _, p := range all {
			for name, value := range p {
				out.WriteString(name + ":" + strings.ReplaceAll(value, "\n", "\n ") + "\n")
			}
			out.WriteString("\n")
		}
		again, err := parse(out.String())
		if err != nil {
			// A line of a value may be blank behind its leading blank only.
			if slices.ContainsFunc(all, func(p deb822.Paragraph) bool {
				for _, v := range p {
					for i, line := range strings.Split(v, "\n") {
						if i > 0 && strings.TrimSpace(line) == "" {
							return true
						}
					}
				}
				return false
			}) {
				return
			}
			t.Fatalf("%v\n%q", err, out.String())
		}
		if len(again) != len(all) {
			t.Errorf("%d paragraphs became %d", len(all), len(again))
		}
	})
}

package refusal

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// README.md lists each word by which the relay refuses or ends something, once in each
// list, and no other.
func TestWordsAreListed(t *testing.T) {
	source, err := os.ReadFile("refusal.go")
	must(t, err)
	var refused []string
	for _, m := range regexp.MustCompile(`&Reason\{Word: "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		refused = append(refused, m[1])
	}
	readme, err := os.ReadFile("../README.md")
	must(t, err)
	_, text, _ := strings.Cut(string(readme), "\n### Why something was refused or ended\n")
	text, _, _ = strings.Cut(text, "\n### ")
	_, text, _ = strings.Cut(text, "\n| Word ")
	refusals, endings, _ := strings.Cut(text, "| Word | What ends |")
	for _, list := range []struct {
		what, text string
		words      []string
	}{{"refusals", refusals, refused}, {"endings", endings, EndReasons}} {
		var listed []string
		for line := range strings.Lines(list.text) {
			if cell, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|"); strings.HasPrefix(line, "| `") {
				for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(cell, -1) {
					listed = append(listed, m[1])
				}
			}
		}
		slices.Sort(listed)
		want := slices.Sorted(slices.Values(list.words))
		if len(want) == 0 || !slices.Equal(listed, want) {
			t.Errorf("%s: README.md lists\n%v, want\n%v", list.what, listed, want)
		}
	}
}

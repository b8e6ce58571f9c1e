package repo

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	links    = regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"`)
	headings = regexp.MustCompile(`(?m)^#+ (.*)$`)
	fenced   = regexp.MustCompile("(?ms)^```.*?^```")
)

// A link inside the repository leads to a file, and to a heading of it if it names one.
// Pictures are held to the documents where they are made.
func TestLinks(t *testing.T) {
	found := 0
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".md") || strings.Contains(name, "testdata/") {
			continue
		}
		text := fenced.ReplaceAllString(string(read(t, name)), "")
		for _, m := range links.FindAllStringSubmatch(text, -1) {
			to, anchor, _ := strings.Cut(m[1]+m[2], "#")
			if strings.Contains(m[1]+m[2], ":") || strings.HasSuffix(to, ".webp") {
				continue // elsewhere
			}
			found++
			path := name
			if to != "" {
				path = filepath.Join(filepath.Dir(name), to)
			}
			info, err := os.Stat(filepath.Join(root(t), path))
			switch {
			case err != nil:
				t.Errorf("%s leads to %s, which is not there", name, m[1]+m[2])
			case anchor != "" && (info.IsDir() || !anchors(string(read(t, path)))[anchor]):
				t.Errorf("%s leads to %s#%s: there is no such heading", name, path, anchor)
			}
		}
	}
	if found < 50 {
		t.Errorf("%d links were found, want 50 or more", found)
	}
}

// anchors are what headings are called in links.
func anchors(page string) map[string]bool {
	all := map[string]bool{}
	for _, m := range headings.FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		name := strings.ToLower(strings.TrimSpace(m[1]))
		name = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(name, "")
		all[strings.ReplaceAll(name, " ", "-")] = true
	}
	return all
}

// Package readme reads what README.md tells people to type, for the tests that do it.
package readme

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Relay are the five lines that make a relay of a server: build and copy, install, settings,
// set-up, look. The folder is the checkout's.
func Relay(t *testing.T, checkout string) (lines [5]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(checkout, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n## Run a relay\n")
	_, rest, shell := strings.Cut(rest, "\n```sh\n")
	block, _, closed := strings.Cut(rest, "\n```\n")
	if !ok || !shell || !closed {
		t.Fatal("README.md shows no commands below \"Run a relay\"")
	}
	found := strings.Split(block, "\n")
	if copy(lines[:], found); len(found) != len(lines) ||
		!strings.HasPrefix(lines[0], "make deb ARCH=amd64 && scp dist/*.deb ") ||
		lines[1] != "apt-get update && apt-get install --yes ./*.deb" {
		t.Fatalf("got %q; want five lines, that build, install, set up and look", found)
	}
	return lines
}

// Own is a line with somebody's own domain in it, where README.md has an example's.
func Own(line, domain string) string {
	return strings.NewReplacer("relay.example.org", domain, "you@example.org", "me@"+domain).Replace(line)
}

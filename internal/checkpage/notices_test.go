package checkpage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// noticesOf are the licences of the npm packages of which esbuild says that parts of
// them are in the script. Packages with the same licence text stand together.
func noticesOf(t *testing.T, dir, metafile string) []byte {
	t.Helper()
	var meta struct {
		Outputs map[string]struct {
			Inputs map[string]struct{ BytesInOutput int }
		}
	}
	if err := json.Unmarshal([]byte(metafile), &meta); err != nil {
		t.Fatal(err)
	}
	packages := map[string]bool{}
	for _, output := range meta.Outputs {
		for input, part := range output.Inputs {
			if folder := packageOf(input); folder != "" && part.BytesInOutput > 0 {
				packages[filepath.Join(dir, folder)] = true
			}
		}
	}
	users := map[string][]string{} // of a licence's text
	for folder := range packages {
		name, text := licenceOf(t, folder)
		users[text] = append(users[text], name)
	}
	for _, names := range users {
		slices.Sort(names)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "The script of the check page contains the npm packages below.\n")
	for _, text := range slices.SortedFunc(maps.Keys(users), func(a, b string) int { return slices.Compare(users[a], users[b]) }) {
		fmt.Fprintf(&out, "\n%s\n%s\n\n%s\n", strings.Repeat("-", 78), strings.Join(slices.Compact(users[text]), "\n"), text)
	}
	return out.Bytes()
}

// packageOf is the folder of the npm package that a source belongs to; empty: none.
func packageOf(source string) string {
	i := strings.LastIndex(source, "node_modules/")
	if i < 0 {
		return ""
	}
	i += len("node_modules/")
	parts := strings.SplitN(source[i:], "/", 3)
	n := 1
	if strings.HasPrefix(parts[0], "@") {
		n = 2
	}
	return source[:i] + strings.Join(parts[:n], "/")
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice)`)

// licenceOf reads a package's name, version and licence.
func licenceOf(t *testing.T, folder string) (name, text string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder, "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct{ Name, Version, License string }
	if err := json.Unmarshal(data, &manifest); err != nil || manifest.License == "" {
		t.Fatalf("%s names no licence: it must not be shipped (%v)", folder, err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, e := range entries {
		if e.IsDir() || !licenceFile.MatchString(e.Name()) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, strings.TrimSpace(strings.ReplaceAll(string(data), "\r", "")))
	}
	if len(texts) == 0 {
		texts = []string{"Its manifest says: " + manifest.License}
	}
	return manifest.Name + " " + manifest.Version, manifest.License + "\n\n" + strings.Join(texts, "\n\n")
}

package need

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// NodeModules returns a node_modules folder with exactly what the lock file of the
// npm project in dir names. It is installed once for each lock file, without
// running any script of a package, and kept in the user's cache folder.
func NodeModules(t testing.TB, dir string) string {
	t.Helper()
	Tools(t, "node", "npm")
	// What decides about the outcome: the manifest, the lock file and npm's settings.
	project := map[string][]byte{"package.json": nil, "package-lock.json": nil, ".npmrc": nil}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(project)) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !(os.IsNotExist(err) && name == ".npmrc") {
			t.Fatal(err)
		}
		project[name] = data
		fmt.Fprintf(sum, "%s %d\n%s", name, len(data), data)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache = filepath.Join(cache, "relay-appliance")
	kept := filepath.Join(cache, "npm-"+hex.EncodeToString(sum.Sum(nil)[:8]))
	modules := filepath.Join(kept, "node_modules")
	if _, err := os.Stat(modules); err == nil {
		return modules
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(cache, "new-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fresh)
	for name, data := range project {
		if err := os.WriteFile(filepath.Join(fresh, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	npm := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = fresh
	if out, err := npm.CombinedOutput(); err != nil {
		missing(t, "the npm packages of "+dir+" (npm ci: "+err.Error()+")\n"+string(out))
	}
	// Another test may have been faster: what it installed is the same.
	if err := os.Rename(fresh, kept); err != nil {
		if _, other := os.Stat(modules); other != nil {
			t.Fatal(err)
		}
	}
	return modules
}

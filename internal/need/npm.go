package need

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// NodeModules returns a node_modules folder with exactly what the lock file of the
// npm project in dir names. It is installed once for each lock file, without the
// scripts of its packages, and kept in the user's cache folder.
func NodeModules(t testing.TB, dir string) string {
	t.Helper()
	Tools(t, "node", "npm")
	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(lock)
	cache = filepath.Join(cache, "relay-appliance")
	kept := filepath.Join(cache, "npm-"+hex.EncodeToString(sum[:8]))
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
	for _, name := range []string{"package.json", "package-lock.json", ".npmrc"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if os.IsNotExist(err) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(fresh, name), data, 0o644)
		}
		if err != nil {
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

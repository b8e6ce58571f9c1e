// Package npm installs what an npm project's lock file names.
package npm

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// Modules returns a node_modules folder with exactly what the lock file of the npm
// project in dir names. It is installed once for each lock file, without running
// any script of a package, and kept in the user's cache folder.
func Modules(dir string) (string, error) {
	// What decides about the outcome: the manifest, the lock file and npm's settings.
	project := map[string][]byte{"package.json": nil, "package-lock.json": nil, ".npmrc": nil}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(project)) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !(os.IsNotExist(err) && name == ".npmrc") {
			return "", err
		}
		project[name] = data
		fmt.Fprintf(sum, "%s %d\n%s", name, len(data), data)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "relay-appliance")
	kept := filepath.Join(cache, "npm-"+hex.EncodeToString(sum.Sum(nil)[:8]))
	modules := filepath.Join(kept, "node_modules")
	if _, err := os.Stat(modules); err == nil {
		return modules, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(cache, "new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh)
	for name, data := range project {
		if err := os.WriteFile(filepath.Join(fresh, name), data, 0o644); err != nil {
			return "", err
		}
	}
	install := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = fresh
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	// Another run may have been faster: what it installed is the same.
	if err := os.Rename(fresh, kept); err != nil {
		if _, other := os.Stat(modules); other != nil {
			return "", err
		}
	}
	return modules, nil
}

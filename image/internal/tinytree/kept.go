package tinytree

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/image/debian"
)

// Release is what [Mirror] says of each suite.
const Release = "Date: Sat, 21 Nov 2026 02:10:46 UTC\n"

// Mirror is one that has no packages.
func Mirror(t testing.TB) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, Release) }))
	t.Cleanup(s.Close)
	return s.URL
}

// Keep puts a tiny tree into a cache, in the place of what the recipe would give with
// [Mirror]: for all but its size it is an installed Debian of one package, tiny 1.
func Keep(t testing.TB, cache string, recipe debian.Recipe) {
	t.Helper()
	tree := Make(t)
	for name, text := range map[string]string{
		"vmlinuz": "", "vmlinuz.old": "", "etc/machine-id": "0123",
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/shadow": "root:!:1::::::\n",
		"var/lib/dpkg/status": "Package: tiny\nStatus: install ok installed\nVersion: 1\nArchitecture: " + recipe.Arch.Name + "\n",
	} {
		file := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"linux-version": "echo 6.1", "update-initramfs": ": >/initrd-$3", "linux-update-symlinks": ": >/initrd.img; : >/initrd.img.old",
	} {
		if err := os.WriteFile(filepath.Join(tree, "usr/bin", name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	state, err := debian.StateOf([]string{Release, Release, Release})
	if err != nil {
		t.Fatal(err)
	}
	hashes, err := json.Marshal(debian.Hashes{debian.Key("tiny", "1", recipe.Arch.Name): strings.Repeat("ab", 32)})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, recipe.Key(state))
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "packages.json"), hashes, 0o644)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-C", tree, "-cf", filepath.Join(dir, "tree.tar"), ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

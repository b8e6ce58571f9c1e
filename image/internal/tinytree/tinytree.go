// Package tinytree makes a tree of files for tests, in which a shell runs.
package tinytree

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// programs are this machine's, with their libraries.
var programs = []string{"sh", "sleep", "id", "cat", "env", "mktemp", "rm", "chmod", "ls", "awk", "find", "sync"}

var library = regexp.MustCompile(`(?m)(/[^ ]+) \(0x`)

// Make makes the tree in a folder of the test.
func Make(t testing.TB) string {
	t.Helper()
	tree := t.TempDir()
	for _, dir := range []string{"usr/bin", "usr/lib", "usr/lib64", "proc", "dev", "etc", "root", "tmp", "var/tmp", "var/log"} {
		if err := os.MkdirAll(filepath.Join(tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{"bin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+link, filepath.Join(tree, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range programs {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		file(t, path, filepath.Join(tree, "usr/bin", name))
		libraries, err := exec.Command("ldd", path).Output()
		if err != nil {
			t.Fatalf("ldd %s: %v", path, err)
		}
		for _, m := range library.FindAllSubmatch(libraries, -1) {
			to := filepath.Join(tree, string(m[1]))
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				t.Fatal(err)
			}
			file(t, string(m[1]), to)
		}
	}
	if err := os.WriteFile(filepath.Join(tree, "dev/null"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	return tree
}

func file(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// Leftovers are what is still [Running] after a minute. A process that was killed takes a
// moment to end.
func Leftovers(t testing.TB, dir string) []string {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if found := Running(t, dir); len(found) == 0 || time.Now().After(end) {
			return found
		}
	}
}

// Running are the processes whose root lies below dir or whose command line names it,
// and the mounts there.
func Running(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		// One that ended meanwhile is none.
		if root, err := os.Readlink(p + "/root"); err == nil && below(root, dir) {
			found = append(found, p+" in "+root)
		} else if line, err := os.ReadFile(p + "/cmdline"); err == nil && bytes.Contains(line, []byte(dir)) {
			found = append(found, p+" "+string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\S+ \S+ \S+ \S+ (\S+)`).FindAllSubmatch(mounts, -1) {
		if below(string(m[1]), dir) {
			found = append(found, "mount "+string(m[1]))
		}
	}
	return found
}

func below(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

package chroot

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/psf-relay/relay-appliance/image/internal/tinytree"
	"github.com/psf-relay/relay-appliance/internal/need"
)

func TestArgv(t *testing.T) {
	got := Argv("/the tree", `echo "$HOME" $(id)`)
	// The command is one argument, word for word: this machine's shell sees none of it.
	if got[len(got)-1] != `echo "$HOME" $(id)` || got[len(got)-2] != "/the tree" {
		t.Errorf("%q", got)
	}
	for _, want := range []string{"--mount", "--pid", "--net", "--kill-child", "--mount-proc=/the tree/proc"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %q", want, got)
		}
	}
}

func run(t *testing.T, c *Communicator, command, stdin string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := &packer.RemoteCmd{Command: command, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs}
	if err := c.Start(t.Context(), cmd); err != nil {
		t.Fatal(err)
	}
	code = cmd.Wait()
	return out.String(), errs.String(), code
}

func TestCommands(t *testing.T) {
	need.Root(t)
	tree := tinytree.Make(t)
	t.Setenv("SECRET", "of the builder")
	c := New(t.Context(), tree, "SOURCE_DATE_EPOCH=7")

	stdout, stderr, code := run(t, c, `cat; echo "$0 $(id -u)"; echo oops >&2; exit 42`, "what comes in\n")
	if stdout != "what comes in\n/bin/sh 0\n" || stderr != "oops\n" || code != 42 {
		t.Errorf("%q %q %d", stdout, stderr, code)
	}
	stdout, _, _ = run(t, c, "env", "")
	got := strings.Split(strings.TrimSpace(stdout), "\n")
	slices.Sort(got)
	want := []string{"DEBIAN_FRONTEND=noninteractive", "HOME=/root", "LC_ALL=C.UTF-8",
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "PWD=/", "SOURCE_DATE_EPOCH=7", "TZ=UTC"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("environment: %s", d)
	}
	// No network, no processes but its own, and the kernel's settings out of reach.
	stdout, _, _ = run(t, c, `cat /proc/net/dev | awk 'NR > 2 { print $1 }'; ls -d /proc/[0-9]*`, "")
	if fields := strings.Fields(stdout); fields[0] != "lo:" || len(fields) > 5 || strings.Contains(stdout, "eth") {
		t.Errorf("sees %q", fields)
	}
	if _, stderr, code := run(t, c, "echo 1 >/proc/sys/kernel/panic", ""); code == 0 || !strings.Contains(stderr, "Read-only") && !strings.Contains(stderr, "ermission") {
		t.Errorf("writes a setting of this machine's kernel: %d %s", code, stderr)
	}
}

// What a command leaves running ends with it.
func TestNothingOutlivesACommand(t *testing.T) {
	need.Root(t)
	tree := tinytree.Make(t)
	c := New(t.Context(), tree)
	if _, _, code := run(t, c, "sleep 1000 >/dev/null 2>&1 & sleep 1000 >/dev/null 2>&1 & exit 0", ""); code != 0 {
		t.Errorf("exit code %d", code)
	}
	c.Wait()
	if left := tinytree.Leftovers(t, tree); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// Both who starts a command and who owns the communicator can end it.
func TestCancel(t *testing.T) {
	need.Root(t)
	for _, which := range []string{"command", "communicator"} {
		t.Run(which, func(t *testing.T) {
			tree := tinytree.Make(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			owner, starter := t.Context(), ctx
			if which == "communicator" {
				owner, starter = ctx, t.Context()
			}
			c := New(owner, tree)
			r, w := io.Pipe()
			cmd := &packer.RemoteCmd{Command: "sleep 1000 & echo started; sleep 1000", Stdout: w}
			if err := c.Start(starter, cmd); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(r, make([]byte, len("started\n"))); err != nil {
				t.Fatal(err)
			}
			if len(tinytree.Running(t, tree)) == 0 {
				t.Fatal("nothing runs: the test looks for processes in the wrong way")
			}
			cancel()
			if code := cmd.Wait(); code != 137 {
				t.Errorf("exit code %d", code)
			}
			c.Wait()
			if left := tinytree.Leftovers(t, tree); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

func TestFilesStayInTheTree(t *testing.T) {
	dir := t.TempDir()
	tree, outside := filepath.Join(dir, "tree"), filepath.Join(dir, "outside")
	for _, d := range []string{filepath.Join(tree, "usr/lib"), outside} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"lib": "usr/lib", "escape": "../outside", "absolute": outside} {
		if err := os.Symlink(to, filepath.Join(tree, link)); err != nil {
			t.Fatal(err)
		}
	}
	c := New(t.Context(), tree)
	for _, to := range []string{"/lib/file", "/../../lib/other"} {
		if err := c.Upload(to, strings.NewReader("text"), nil); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
	for _, to := range []string{"/escape/file", "/absolute/file"} {
		if err := c.Upload(to, strings.NewReader("text"), nil); err == nil {
			t.Errorf("%s is written outside of the tree", to)
		}
		if err := c.Download(strings.TrimSuffix(to, "/file"), io.Discard); err == nil {
			t.Errorf("%s is read outside of the tree", to)
		}
	}
	var got bytes.Buffer
	if err := c.Download("/usr/lib/file", &got); err != nil || got.String() != "text" {
		t.Errorf("%q %v", got.String(), err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("outside: %v %v", entries, err)
	}
}

func TestUploadMode(t *testing.T) {
	tree := t.TempDir()
	c := New(t.Context(), tree)
	source := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(source, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(source)
	if err != nil {
		t.Fatal(err)
	}
	// Over a file that is there, too.
	for range 2 {
		if err := c.Upload("/script", strings.NewReader("#!"), &fi); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Stat(filepath.Join(tree, "script")); err != nil || got.Mode().Perm() != 0o755 {
			t.Errorf("%v %v", got.Mode(), err)
		}
		if err := os.Chmod(filepath.Join(tree, "script"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFolders(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	for name, text := range map[string]string{"a": "1", "sub/b": "2", "sub/skip.tmp": "3", "skipped/c": "4"} {
		file := filepath.Join(src, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(src, "link")); err != nil {
		t.Fatal(err)
	}
	tree := t.TempDir()
	c := New(t.Context(), tree)
	exclude := []string{"sub/*.tmp", "skipped"}
	if err := c.UploadDir("/etc/named", src, exclude); err != nil {
		t.Fatal(err)
	}
	if err := c.UploadDir("/etc/content", src+"/", exclude); err != nil {
		t.Fatal(err)
	}
	back := t.TempDir()
	if err := c.DownloadDir("/etc", back, nil); err != nil {
		t.Fatal(err)
	}
	want := []string{"content/a", "content/link", "content/sub/b", "named/src/a", "named/src/link", "named/src/sub/b"}
	for _, dir := range []string{filepath.Join(tree, "etc"), filepath.Join(back, "etc")} {
		var got []string
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				rel, _ := filepath.Rel(dir, path)
				got = append(got, rel)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", dir, d)
		}
	}
	if to, err := os.Readlink(filepath.Join(back, "etc/named/src/link")); err != nil || to != "a" {
		t.Errorf("link to %q, %v", to, err)
	}
}

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/image/debian"
	"github.com/psf-relay/relay-appliance/image/internal/tinytree"
	"github.com/psf-relay/relay-appliance/internal/arch"
	"github.com/psf-relay/relay-appliance/internal/need"
)

// packer is the real one, as make plugin builds it, with the plugin of this moment.
func packer(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	program, err := filepath.Abs("../../../bin/packer/packer")
	if err != nil {
		t.Fatal(err)
	}
	need.Tools(t, program)
	plugins := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(plugins, "packer-plugin-relay"), ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1", "PACKER_PLUGIN_PATH="+plugins, "PACKER_NO_COLOR=1", "SOURCE_DATE_EPOCH=1790000000",
		"PACKER_CONFIG_DIR="+t.TempDir(), "PACKER_CACHE_DIR="+t.TempDir())
	// A terminal's Ctrl-C goes to Packer, to the Packer that it runs in, and to the plugins.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// A build that is interrupted as with Ctrl-C, in each of the steps that run something
// for long, ends at once and leaves no files, no processes and no mounts.
func TestInterruptedBuild(t *testing.T) {
	need.Root(t)
	need.Tools(t, "mmdebstrap")
	for name, where := range map[string]func(t *testing.T, cache string) (mirror string, reached func(said string) bool){
		"while Debian is installed": hangingMirror,
		"while it is provisioned":   keptTree,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			output, cache := filepath.Join(dir, "out"), filepath.Join(dir, "cache")
			mirror, reached := where(t, cache)
			cmd := packer(t, "build", "-var", "output="+output, "-var", "cache="+cache, "-var", "mirror="+mirror, "testdata/cancel.pkr.hcl")
			r, w := io.Pipe()
			cmd.Stdout, cmd.Stderr = w, w
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait(); w.Close() }()
			var said bytes.Buffer
			interrupted := false
			buffer := make([]byte, 4096)
			for {
				n, err := r.Read(buffer)
				said.Write(buffer[:n])
				if !interrupted && reached(said.String()) {
					interrupted = true
					if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
						t.Error(err)
					}
				}
				if err != nil {
					break
				}
			}
			if err := <-ended; err == nil || !interrupted || !strings.Contains(said.String(), "Cancel") {
				t.Errorf("%v, interrupted %v, said:\n%s", err, interrupted, &said)
			}
			for _, d := range []string{output, cache} {
				if entries, err := os.ReadDir(d); err == nil {
					for _, e := range entries {
						if strings.HasPrefix(e.Name(), ".building-") || strings.HasPrefix(e.Name(), "new-") || d == output {
							t.Errorf("left: %s/%s", d, e.Name())
						}
					}
				}
			}
			if left := tinytree.Leftovers(t, dir); len(left) > 0 {
				t.Errorf("left running or mounted: %q", left)
			}
		})
	}
}

// keptTree has a tiny tree ready, so that the build gets as far as the provisioner.
func keptTree(t *testing.T, cache string) (string, func(string) bool) {
	mirror := tinytree.Mirror(t)
	host, err := arch.Find(arch.Host)
	if err != nil {
		t.Fatal(err)
	}
	tinytree.Keep(t, cache, debian.Recipe{Arch: host, Suite: "trixie", Mirror: mirror, Security: mirror, Packages: append([]string{"tiny"}, host.Boot...)})
	return mirror, func(said string) bool { return strings.Contains(said, ": provisioning") }
}

// hangingMirror tells the state of its suites, and apt nothing more.
func hangingMirror(t *testing.T, _ string) (string, func(string) bool) {
	asked := make(chan struct{}, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.UserAgent(), "Go-http-client") {
			fmt.Fprint(w, tinytree.Release)
			return
		}
		select {
		case asked <- struct{}{}:
		default:
		}
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	return s.URL, func(said string) bool {
		if !strings.Contains(said, "installing Debian") {
			return false
		}
		<-asked
		return true
	}
}

package appliance

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/need"
)

// The real runner bounds what it keeps, passes nothing of the environment on and
// tells an exit code from a failure.
func TestProcess(t *testing.T) {
	t.Setenv("DISABLE_RELAY", "1")
	var m Machine
	r, err := m.run(t.Context(), Command{Args: []string{"sh", "-c", "env; echo wrong >&2; exit 3"}})
	if err != nil || r.Code != 3 || strings.Contains(r.Stdout, "DISABLE_RELAY") || !strings.HasPrefix(r.failed("it").Error(), "it: wrong\n") {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = m.run(t.Context(), Command{Args: []string{"head", "-c", "3000000", "/dev/zero"}}); err != nil || len(r.Stdout) != maxSaid {
		t.Errorf("%d bytes, %v", len(r.Stdout), err)
	}
	if _, err = m.run(t.Context(), Command{Args: []string{filepath.Join(t.TempDir(), "none")}}); err == nil {
		t.Error("a program that is not there was run")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = m.run(ctx, Command{Args: []string{"sleep", "60"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err = m.run(t.Context(), Command{User: "nobody-of-this-name", Args: []string{"true"}}); err == nil {
		t.Error("run as nobody")
	}
}

// What runs as another user ends in time, too: in the sandbox of each unit that runs such
// programs root may do no more than the unit names.
func TestEndsWhatIsAnothersInTheSandbox(t *testing.T) {
	const begun = "RELAY_TEST_BEGUN"
	if file := os.Getenv(begun); file != "" {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := new(Machine).run(ctx, Command{User: "nobody", Args: []string{"sh", "-c", "sleep 60; echo late >" + file}})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		return
	}
	need.Root(t)
	need.Tools(t, "setpriv")
	const units = "../../image/rootfs/usr/lib/systemd/system/"
	for _, unit := range []string{"first-boot", "backup", "status", "fetch"} {
		t.Run(unit, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(units + "relay-appliance-" + unit + ".service")
			if err != nil {
				t.Fatal(err)
			}
			m := regexp.MustCompile(`(?m)^CapabilityBoundingSet=(.+)$`).FindSubmatch(text)
			if m == nil {
				t.Fatal("the unit names no capabilities")
			}
			set := "-all"
			for _, c := range strings.Fields(string(m[1])) {
				set += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
			}
			dir, err := os.MkdirTemp("", "relay-sandbox-") // everybody may write there
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "late")
			cmd := exec.CommandContext(t.Context(), "setpriv", "--bounding-set="+set, os.Args[0], "-test.run=^TestEndsWhatIsAnothersInTheSandbox$")
			cmd.Env = append(os.Environ(), begun+"="+file)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if _, err := os.Stat(file); err == nil {
				t.Errorf("with %s it went on to its end", m[1])
			}
		})
	}
}

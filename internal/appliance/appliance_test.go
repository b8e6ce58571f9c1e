package appliance

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
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

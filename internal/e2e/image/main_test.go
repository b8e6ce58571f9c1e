package image

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/internal/qemu"
)

// The environment says what is run:
const (
	// modeVariable is "part" for what CI runs, "full" for everything.
	modeVariable = "RELAY_IMAGE_TEST"
	// imageVariable is an image to boot instead of building one, qcow2 (for amd64; with _ARM64
	// behind it, for arm64). For whoever works on these tests.
	imageVariable = "RELAY_IMAGE"
	// pageVariable is the file that the results are written to.
	pageVariable = "RELAY_IMAGE_PAGE"
	// logsVariable is a folder for the console's log of each test that fails.
	logsVariable = "RELAY_IMAGE_LOGS"
)

// work is the folder of what is built and booted here.
var work string

func TestMain(m *testing.M) {
	var err error
	if work, err = os.MkdirTemp("", "relay-image-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := run(m)
	os.RemoveAll(work)
	os.Exit(code)
}

func run(m *testing.M) int {
	code := m.Run()
	if rows := os.Getenv(rowsVariable); rows != "" {
		if err := results.leave(rows); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}
	if page := os.Getenv(pageVariable); page != "" && len(results.rows) > 0 {
		if err := results.write(page, when()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// part stops a test that was not asked for, or that lacks what it stands on.
func part(t *testing.T) {
	t.Helper()
	switch os.Getenv(modeVariable) {
	case "part", "full":
	default:
		t.Skip("skipped: boots machines, alone on the host: run by make image-test")
	}
	if testing.Short() {
		t.Skip("skipped with -short: boots machines")
	}
	need.Root(t)
	need.Tools(t, qemu.Program("amd64"), "qemu-img", "cloud-localds", "socat")
}

// full is part, for what CI does not run.
func full(t *testing.T) {
	t.Helper()
	part(t)
	if os.Getenv(modeVariable) != "full" {
		t.Skip("skipped: run by make test-image-full")
	}
}

// folder makes a folder for what several tests use.
func folder(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(work, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func top(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// command runs a program in the checkout's top folder and returns its output.
func command(ctx context.Context, t *testing.T, name string, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = top(t)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String()
}

// programs are those of this checkout that were built.
var programs = map[string]string{}

// program builds one, once.
func program(t *testing.T, name string) string {
	t.Helper()
	if dir := os.Getenv(programsVariable); dir != "" {
		return filepath.Join(dir, name)
	}
	if programs[name] == "" {
		file := filepath.Join(folder(t, "bin"), name)
		source := map[string]string{"relayd": "./relay/cmd/relayd", "relaymon": "./monitor/cmd/relaymon"}[name]
		command(t.Context(), t, "go", "build", "-trimpath", "-o", file, source)
		programs[name] = file
	}
	return programs[name]
}

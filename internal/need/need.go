// Package need says what a test stands on besides Go.
//
// On a developer's machine a test whose tool is missing is skipped and says so.
// In CI (the environment holds CI=true) it fails instead: a green run there
// means that everything was run.
package need

import (
	"os"
	"os/exec"
	"testing"
)

// Tools stops the test unless all the programs are on the PATH.
func Tools(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing(t, "the program "+name+" (make deps installs it)")
		}
	}
}

// Root stops the test unless it runs as root.
func Root(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		missing(t, "root")
	}
}

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("needs " + what)
	}
	t.Skip("skipped: needs " + what)
}

package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/psf-relay/relay-appliance/internal/bench/lab"
)

var update = flag.Bool("update", false, "write what the scripts print into their golden files")

// programs are built once, as `make build` does, and driven by the scripts.
var programs = []string{
	"./relay/cmd/relayd",
	"./monitor/cmd/relaymon",
	"./monitor/cmd/relayaudit",
	"./internal/demo/cmd/demo",
}

var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if bin = os.Getenv(envPrograms); bin != "" {
		if err := lab.Furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "furnish the namespace:", err)
			return 1
		}
		return m.Run()
	}
	if bin, err = os.MkdirTemp("", "relay-appliance-bin-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(bin)
	build := exec.Command("go", append([]string{"build", "-trimpath", "-o", bin + "/"}, programs...)...)
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the programs: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

func TestPrograms(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("BIN", bin)
			return nil
		},
	})
}

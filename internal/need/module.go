package need

import (
	"os/exec"
	"testing"
)

// Programs builds programs of another Go module, the one in dir, with what that
// module's go.mod names, and returns the folder that they are in.
func Programs(t testing.TB, dir string, packages ...string) string {
	t.Helper()
	Tools(t, "go")
	bin := t.TempDir()
	cmd := exec.Command("go", append([]string{"-C", dir, "build", "-o", bin + "/"}, packages...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		missing(t, "the programs of "+dir+" ("+err.Error()+")\n"+string(out))
	}
	return bin
}

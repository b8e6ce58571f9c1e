package doctor

import (
	"os"
	"os/exec"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/need"
)

// A mount that only this process cannot write to, as units have it in their sandboxes, is no
// fault of the machine. A file system that can only be read is one.
func TestSealedDisk(t *testing.T) {
	const inside, want = "SEALED_DIR", "SEALED_WANT"
	if dir := os.Getenv(inside); dir != "" {
		for _, dir := range []string{dir, dir + "/deep"} {
			if got := diskOf(dir); got.err != nil || got.sealed != (os.Getenv(want) == "yes") {
				t.Errorf("%s: %+v, want sealed: %s", dir, got, os.Getenv(want))
			}
		}
		return
	}
	need.Root(t)
	need.Tools(t, "unshare", "mount")
	const script = `mount -t tmpfs tmpfs "$0"; mkdir -p "$0/data/deep" "$0/dat"; mount --bind "$0/data" "$0/data"; mount -t tmpfs -o ro tmpfs "$0/dat"
export SEALED_DIR="$0/data"
SEALED_WANT=no "$@"
mount -o remount,bind,ro "$0/data"
SEALED_WANT=no "$@"
mount -o remount,ro "$0"
SEALED_WANT=yes "$@"`
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-eu", "-c", script, t.TempDir(), os.Args[0], "-test.run=^TestSealedDisk$", "-test.v")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

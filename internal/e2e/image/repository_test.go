package image

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/archive"
)

// repository is the signed one that the guest's updates come from. It lies in the
// folder that is served to the guest.
type repository struct {
	*archive.Archive
	keyring []byte
}

const (
	repositoryDir = "apt"
	keyringFile   = "/etc/relay-appliance/archive.gpg"
	// twoMonths is how long a signature holds, as in a release.
	twoMonths = 60 * 24 * time.Hour
)

// newRepository makes one with a key of its own and these packages.
func newRepository(ctx context.Context, t *testing.T, a *appliance, debs ...string) *repository {
	t.Helper()
	secret, err := archive.GenerateKey(ctx, "a throw-away key", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := archive.LoadKeys(ctx, secret)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := keys.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &repository{Archive: &archive.Archive{Dir: filepath.Join(a.files, repositoryDir), Keys: keys}}
	if r.keyring, err = keys.Keyring(ctx); err != nil {
		t.Fatal(err)
	}
	r.add(ctx, t, debs...)
	return r
}

// add publishes packages.
func (r *repository) add(ctx context.Context, t *testing.T, debs ...string) {
	t.Helper()
	if err := r.Add(ctx, debs, 3, archive.Publication{At: time.Now(), Valid: twoMonths}); err != nil {
		t.Fatal(err)
	}
}

// release builds the packages of this checkout under another version, as a release
// does: the programs say it, too.
func release(t *testing.T, version string) []string {
	t.Helper()
	out := folder(t, "release-"+version)
	script(t, nil, "go", "-C", "internal/tools/deb", "run", ".", "-arch", "amd64", "-version", "v"+version, "-out", out)
	return releaseFiles(t, out)
}

func releaseFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(files) < 4 {
		t.Fatalf("packages in %s: %q, %v", dir, files, err)
	}
	return files
}

// badRelease makes packages out of good ones whose relayd has a fault (testdata/faulty).
func badRelease(t *testing.T, good []string, version, fault string) []string {
	t.Helper()
	faulty := filepath.Join(folder(t, "faulty"), fault)
	script(t, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-ldflags=-X main.fault="+fault, "-o", faulty, "./internal/e2e/image/testdata/faulty")
	out := folder(t, "release-"+version)
	for _, deb := range good {
		repack(t, deb, out, version, func(tree string) error {
			program := filepath.Join(tree, "usr/bin/relayd")
			if !strings.HasPrefix(filepath.Base(deb), "relayd_") {
				return nil
			}
			if err := os.Rename(program, program+".real"); err != nil {
				return err
			}
			data, err := os.ReadFile(faulty)
			if err != nil {
				return err
			}
			return os.WriteFile(program, data, 0o755)
		})
	}
	return releaseFiles(t, out)
}

// repack makes a package of another version out of one, with changes.
func repack(t *testing.T, deb, out, version string, change func(tree string) error) {
	t.Helper()
	tree := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		if b, err := exec.Command("dpkg-deb", args...).CombinedOutput(); err != nil {
			t.Fatalf("dpkg-deb %q: %v\n%s", args, err, b)
		}
	}
	run("--raw-extract", deb, tree)
	control := filepath.Join(tree, "DEBIAN/control")
	text, err := os.ReadFile(control)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for i := range lines {
		if strings.HasPrefix(lines[i], "Version:") {
			lines[i] = "Version: " + version
		}
	}
	if err := os.WriteFile(control, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := change(tree); err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(filepath.Base(deb), "_")
	run("--root-owner-group", "-Zgzip", "-z1", "--build", tree, filepath.Join(out, fmt.Sprintf("%s_%s_amd64.deb", name, version)))
}

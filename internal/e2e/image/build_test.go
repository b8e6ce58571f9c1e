package image

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/need"
)

// buildTime bounds one build; with everything to be downloaded and compiled it takes
// five minutes on two quiet processors, and for a foreign architecture several times that.
const buildTime = 2 * time.Hour

// images are those that were built, by folder.
var images = map[string]string{}

// build returns the image of this checkout, in the format that operators are given
// most often.
func build(t *testing.T) disk {
	t.Helper()
	if file := os.Getenv(imageVariable); file != "" {
		return disk{file, "qcow2"}
	}
	return disk{buildInto(t, "first", "amd64"), "qcow2"}
}

// buildInto builds the image for an architecture into a folder, unless that was done, with
// more of the environment.
func buildInto(t *testing.T, name, arch string, environment ...string) string {
	t.Helper()
	if images[name] == "" {
		version := packages(t, arch)
		out := folder(t, name)
		script(t, append(environment, "ARCH="+arch, "SOURCE_DATE_EPOCH="+commitTime()), ".ci/image", "appliance", out, version, "-var", "commit="+commit())
		images[name] = only(t, out, "relay-appliance_*_"+arch+".qcow2")
	}
	return images[name]
}

// uploads builds the image in the formats that are not booted as they are, and returns
// their folder.
func uploads(t *testing.T) string {
	t.Helper()
	if os.Getenv(imageVariable) != "" {
		t.Skip("skipped: " + imageVariable + " names an image; the formats are made of one that is built")
	}
	version := packages(t, "amd64")
	out := folder(t, "uploads")
	script(t, []string{"ARCH=amd64", "SOURCE_DATE_EPOCH=" + commitTime()}, ".ci/image", "appliance", out, version, "-var", "commit="+commit(),
		"-var", `formats=["raw.gz", "vhd", "google.tar.gz", "ova"]`)
	t.Cleanup(func() { os.RemoveAll(out) })
	return out
}

// What a build takes from git, asked once: a commit between two builds would be a
// difference.
var (
	commit     = sync.OnceValue(func() string { return first("git", "rev-parse", "HEAD") })
	commitTime = sync.OnceValue(func() string { return first("git", "log", "-1", "--format=%ct") })
)

// packagesVersion is that of the packages in dist/ when they were built, by architecture.
var packagesVersion = map[string]string{}

// packages builds what the image for an architecture is made of, once.
func packages(t *testing.T, arch string) string {
	t.Helper()
	need.Tools(t, "mmdebstrap", "help2man")
	if packagesVersion[arch] == "" {
		script(t, nil, ".ci/plugin")
		out := script(t, nil, "go", "-C", "internal/tools/deb", "run", ".", "-arch", arch, "-out", filepath.Join(top(t), "dist"))
		m := regexp.MustCompile(`(?m)/relayd_(.*)_[a-z0-9]*\.deb$`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("no version of relayd in:\n%s", out)
		}
		packagesVersion[arch] = m[1]
	}
	return packagesVersion[arch]
}

// script runs a command of the checkout and says how long it took.
func script(t *testing.T, environment []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), buildTime)
	defer cancel()
	began := time.Now()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = top(t)
	cmd.Env = append(os.Environ(), environment...)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	t.Logf("%s: %s", filepath.Base(name), time.Since(began).Round(time.Second))
	return string(out)
}

// only is the one file in dir that the pattern names.
func only(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s in %s: %q, %v", pattern, dir, found, err)
	}
	return found[0]
}

// maxImage is what an operator is to download at most. Of it relaymon's clients of object
// stores (S3, Google, Azure) take some 10 MB: without them it was 200,000,000.
const maxImage = 220_000_000

// Whoever builds the image again gets the same bytes: disk, what is written about
// it, and all.
func TestReproducible(t *testing.T) {
	part(t)
	if os.Getenv(imageVariable) != "" {
		t.Skip("skipped: " + imageVariable + " names an image")
	}
	checkReproducible(t, "first", "amd64")
}

// checkReproducible builds the image of the folder once more, and compares.
func checkReproducible(t *testing.T, name, arch string) {
	seen := results.add(t, row{arch: arch, format: "raw, qcow2"})
	first := filepath.Dir(buildInto(t, name, arch))
	// In full with nothing kept: Debian is installed anew, too.
	var environment []string
	if os.Getenv(modeVariable) == "full" {
		environment = []string{"XDG_CACHE_HOME=" + t.TempDir()}
	}
	second := filepath.Dir(buildInto(t, name+"-again", arch, environment...))
	defer func() {
		if err := os.RemoveAll(second); err != nil {
			t.Error(err)
		}
	}()
	files, err := os.ReadDir(first)
	if err != nil || len(files) < 4 {
		t.Fatalf("%v: %v", files, err)
	}
	for _, f := range files {
		a, b := hash(t, filepath.Join(first, f.Name())), hash(t, filepath.Join(second, f.Name()))
		if a != b {
			t.Errorf("%s differs: %s and %s", f.Name(), a, b)
		}
	}
	info, err := os.Stat(buildInto(t, name, arch))
	if err != nil {
		t.Fatal(err)
	}
	seen.note(t, "disk, SBOM and manifest are the same in two builds; qcow2 %d bytes", info.Size())
	if info.Size() > maxImage {
		t.Errorf("the qcow2 image has %d bytes, want at most %d", info.Size(), maxImage)
	}
}

func hash(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		t.Error(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

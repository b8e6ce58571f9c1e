package containers

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/arch"
	"github.com/psf-relay/relay-appliance/internal/need"
)

// version and epoch of what is built here.
const (
	version = "0.9.1"
	epoch   = 1795402225
	commit  = "0123456789abcdef0123456789abcdef01234567"
)

var architectures = arch.Names()

// work is the folder of what is built once, for all tests: tools in it, packages in
// debs/, images in images/.
var work string

func TestMain(m *testing.M) {
	code := m.Run()
	if work != "" && os.Getenv(envWork) == "" { // it is this process's own
		os.RemoveAll(work)
	}
	os.Exit(code)
}

// images returns the folder with the images, as `make containers` builds them.
func images(t *testing.T) string {
	t.Helper()
	need.Tools(t, "git", "help2man", "dpkg-deb")
	if work == "" {
		work = os.Getenv(envWork)
	}
	if work == "" {
		dir, err := os.MkdirTemp("", "relay-containers-")
		if err != nil {
			t.Fatal(err)
		}
		work = dir
		for tool, dir := range map[string]string{"deb": "deb", "oci": "oci", "composefile": "oci/composefile"} {
			run(t, "go", "-C", filepath.Join(top(t), "internal/tools", dir), "build", "-o", filepath.Join(work, tool), ".")
		}
		t.Setenv("SOURCE_DATE_EPOCH", fmt.Sprint(epoch))
		for _, arch := range architectures {
			run(t, filepath.Join(work, "deb"), "-root", top(t), "-out", filepath.Join(work, "debs"), "-arch", arch, "-version", "v"+version)
		}
		run(t, filepath.Join(work, "oci"), "-debs", filepath.Join(work, "debs"), "-out", filepath.Join(work, "images"), "-commit", commit)
	}
	return filepath.Join(work, "images")
}

func top(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// patience bounds what a test waits for; nothing is measured by it.
const patience = 15 * time.Minute

// run returns what a program says on stdout.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	stdout, stderr, err := try(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, stdout, stderr)
	}
	return stdout
}

func try(t *testing.T, name string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// tarFiles are the regular files of an archive.
func tarFiles(t *testing.T, file string) map[string][]byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := map[string][]byte{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
}

func sumOf(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

func decode[T any](t *testing.T, data []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v in %.200s", err, data)
	}
	return v
}

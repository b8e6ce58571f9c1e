package image

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/qemu"
)

// A machine with Debian alone, and one file of user-data that `relayd cloud-init`
// wrote, is the same appliance; so it is where Debian is a release older than the
// image's, with an older cloud-init and systemd.
func TestFreshVPS(t *testing.T) {
	full(t)
	for _, suite := range []string{"trixie", "bookworm"} {
		t.Run(suite, func(t *testing.T) { checkFreshVPS(t, suite) })
	}
}

func checkFreshVPS(t *testing.T, suite string) {
	version := packages(t, "amd64")
	plain := buildPlain(t, suite)
	ctx, cancel := context.WithTimeout(t.Context(), 6*bootTime)
	defer cancel()
	a := makeMachine(ctx, t, settings{image: plain})
	sums := a.servePackages(t, version)
	if err := a.Seed(ctx, qemu.Seed{UserData: []byte(a.written(ctx, t, sums))}); err != nil {
		t.Fatal(err)
	}
	a.start(ctx, t, both...)
	a.check(ctx, t)
	t.Run("reboot", func(t *testing.T) { a.checkReboot(ctx, t, both...) })
}

// buildPlain builds Debian alone, of that release, once.
func buildPlain(t *testing.T, suite string) disk {
	t.Helper()
	name := "plain-" + suite
	if images[name] == "" {
		out := folder(t, name)
		script(t, []string{"ARCH=amd64"}, ".ci/image", "plain", out, "-var", "suite="+suite)
		images[name] = only(t, out, "debian-plain_amd64.qcow2")
	}
	return disk{images[name], "qcow2"}
}

// servePackages gives the guest the packages of that version, and returns the file
// with their sums.
func (a *appliance) servePackages(t *testing.T, version string) string {
	t.Helper()
	debs, err := filepath.Glob(filepath.Join(top(t), "dist", "*_"+version+"_*.deb"))
	if err != nil || len(debs) < 4 {
		t.Fatalf("packages of %s: %q, %v", version, debs, err)
	}
	var sums strings.Builder
	for _, deb := range debs {
		b, err := os.ReadFile(deb)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(deb)
		if err := os.WriteFile(filepath.Join(a.files, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(b), name)
	}
	file := filepath.Join(t.TempDir(), "SHA256SUMS")
	if err := os.WriteFile(file, []byte(sums.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// written is user-data as the program writes it for the lab.
func (a *appliance) written(ctx context.Context, t *testing.T, sums string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "appliance.yaml")
	if err := os.WriteFile(file, []byte(labSettings("both")), 0o644); err != nil {
		t.Fatal(err)
	}
	text := command(ctx, t, program(t, "relayd"), "cloud-init", "--settings", file, "--packages", sums, "--from", filesURL)
	// An operator's file knows no CA but the public ones, and the roster by its URL.
	more := labFiles("both", string(a.ca.RootPEM))
	delete(more, "/etc/relay-appliance/appliance.yaml")
	return multipart(text, cloudConfig(more))
}

// multipart is user-data of several parts, whose lists cloud-init joins.
func multipart(parts ...string) string {
	var b strings.Builder
	b.WriteString("Content-Type: multipart/mixed; boundary=\"=part=\"\nMIME-Version: 1.0\n\n")
	for _, p := range parts {
		b.WriteString("--=part=\nContent-Type: text/cloud-config; charset=utf-8\nMIME-Version: 1.0\nX-Merge-Type: list(append)+dict(recurse_array)+str()\n\n" + p + "\n")
	}
	b.WriteString("--=part=--\n")
	return b.String()
}

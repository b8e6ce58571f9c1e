package main

import (
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/psf-relay/relay-appliance/internal/need"
)

// installed is Packer with the plugins that make plugin has installed: only so it
// looks at what a template requires.
func installed(t *testing.T, args ...string) (string, error) {
	t.Helper()
	need.Tools(t, "../../../bin/packer/packer")
	cmd := exec.Command("../../../.ci/packer", args...)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1790000000", "PACKER_NO_COLOR=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestTemplates(t *testing.T) {
	if out, err := installed(t, "fmt", "-check", "-diff", "-recursive", "packer"); err != nil {
		t.Errorf("run packer fmt: %v\n%s", err, out)
	}
	for _, dir := range []string{"packer/image", "packer/qemu", "packer/cloud"} {
		if out, err := installed(t, "validate", "-syntax-only", dir); err != nil {
			t.Errorf("%s: %v\n%s", dir, err, out)
		}
	}
}

// What can be validated without a network and an account: the files that a template
// names are there, and the plugins take all of its settings.
func TestValidTemplates(t *testing.T) {
	debs := t.TempDir()
	for _, name := range []string{"relayd_1.0+x_amd64.deb", "relay-appliance_1.0+x_amd64.deb", "relayd_0.9_amd64.deb", "relayd_1.0+x_arm64.deb"} {
		if err := os.WriteFile(filepath.Join(debs, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	key := newKey(t)
	base := filepath.Join(debs, "base.qcow2")
	if err := os.WriteFile(base, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	ours := []string{"-var", "version=1.0+x", "-var", "debs=" + debs}
	if out, err := installed(t, append(append([]string{"validate"}, ours...), "packer/image")...); err != nil {
		t.Errorf("image: %v\n%s", err, out)
	}
	if out, err := installed(t, append(append([]string{"validate", "-var", "arch=arm64"}, ours...), "packer/image")...); err != nil {
		t.Errorf("image for arm64: %v\n%s", err, out)
	}
	args := append(append([]string{"validate", "-var", "base_image=" + base, "-var", "base_checksum=sha256:" + strings.Repeat("0", 64), "-var", "ssh_key_file=" + key}, ours...), "packer/qemu")
	if out, err := installed(t, args...); err != nil {
		t.Errorf("qemu: %v\n%s", err, out)
	}
	if out, err := installed(t, "validate", "-var", "version=2.0", "-var", "debs="+debs, "packer/image"); err == nil || !strings.Contains(out, "debs is required") {
		t.Errorf("a version of which there is no package: %v\n%s", err, out)
	}
}

// newKey makes a key for SSH, as ssh-keygen does.
func newKey(t *testing.T) string {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	authorized, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := errors.Join(os.WriteFile(file, pem.EncodeToMemory(block), 0o600), os.WriteFile(file+".pub", ssh.MarshalAuthorizedKey(authorized), 0o644)); err != nil {
		t.Fatal(err)
	}
	return file
}

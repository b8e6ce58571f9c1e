package boottest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/packer"
)

func TestDefaults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "user-data")
	if err := os.WriteFile(file, []byte("#cloud-config\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var p PostProcessor
	if err := p.Configure(map[string]any{"arch": "arm64", "firmware": []string{"uefi", "secureboot"}, "user_data_file": file}); err != nil {
		t.Fatal(err)
	}
	c := p.config
	if c.Arch != "arm64" || c.Accelerator != "tcg" || c.Memory != 512 || c.timeout != 10*time.Minute || string(c.userData) != "#cloud-config\n" {
		t.Errorf("%+v", c)
	}
}

func TestFaults(t *testing.T) {
	var p PostProcessor
	err := p.Configure(map[string]any{"arch": "i386", "firmware": []string{"bios", "coreboot"}, "accelerator": "xen", "memory": 64, "timeout": "soon", "user_data_file": "/nowhere"})
	if err == nil {
		t.Fatal("no fault")
	}
	for _, want := range []string{`architecture: want amd64 or arm64, not "i386"`, `firmware: want one of`, `not "coreboot"`, `accelerator: want tcg or kvm, not "xen"`, "memory: want 128 to 65536 MiB, not 64", `timeout: want a time such as 10m, not "soon"`, "user_data_file: open /nowhere"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
}

func TestBootable(t *testing.T) {
	for _, c := range []struct {
		files        []string
		file, format string
	}{
		{[]string{"x.raw", "x.qcow2"}, "x.qcow2", "qcow2"},
		{[]string{"x.spdx.json", "x.raw"}, "x.raw", "raw"},
		{[]string{"x.vhd"}, "x.vhd", "vpc"},
	} {
		if file, format, err := bootable(c.files); err != nil || file != c.file || format != c.format {
			t.Errorf("%v: %s %s %v", c.files, file, format, err)
		}
	}
}

// What cannot be booted fails the build, and the artifact is kept to be looked at.
func TestPostProcess(t *testing.T) {
	in := &packer.MockArtifact{FilesValue: []string{"x.spdx.json"}}
	var p PostProcessor
	if err := p.Configure(map[string]any{}); err != nil {
		t.Fatal(err)
	}
	if out, keep, force, err := p.PostProcess(t.Context(), packer.TestUi(t), in); err != nil || out != in || !keep || !force {
		t.Errorf("without firmware: %v %v %v %v", out, keep, force, err)
	}
	if err := p.Configure(map[string]any{"firmware": []string{"bios"}}); err != nil {
		t.Fatal(err)
	}
	if _, keep, force, err := p.PostProcess(t.Context(), packer.TestUi(t), in); err == nil || !strings.Contains(err.Error(), "boot with bios: no disk image") || !keep || !force {
		t.Errorf("without a disk: %v %v %v", keep, force, err)
	}
}

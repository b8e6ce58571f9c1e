package builder

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/internal/arch"
)

// block is a source block with what is required.
func block(t *testing.T) map[string]any {
	return map[string]any{"arch": "amd64", "image_name": "x_1.0+git_amd64", "output_directory": t.TempDir(), "packages": []string{"linux-image-cloud-amd64"}}
}

func TestDefaults(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1790000000")
	t.Setenv("XDG_CACHE_HOME", "/cache")
	var b Builder
	if _, _, err := b.Prepare(block(t)); err != nil {
		t.Fatal(err)
	}
	c := b.config
	if d := cmp.Diff([]string{"raw", "qcow2"}, c.Formats); d != "" {
		t.Error(d)
	}
	if want := "console=tty0 console=ttyS0,115200 panic=30 systemd.ssh_auto=no"; c.KernelOptions != want {
		t.Errorf("the kernel gets %s", c.KernelOptions)
	}
	if c.Suite != "trixie" || c.size != 2<<30 || c.Epoch != 1790000000 || c.Hostname != "relay" || c.Cache != "/cache/relay-appliance/trees" {
		t.Errorf("%+v", c)
	}
}

// All that hangs on the architecture follows from its name.
func TestArch(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1790000000")
	raw := block(t)
	raw["arch"], raw["packages"] = "arm64", []string{"linux-image-cloud-arm64"}
	var b Builder
	if _, _, err := b.Prepare(raw); err != nil {
		t.Fatal(err)
	}
	if want := "console=tty0 console=ttyS0,115200 console=ttyAMA0,115200 panic=30 systemd.ssh_auto=no"; b.config.KernelOptions != want {
		t.Errorf("the kernel gets %s", b.config.KernelOptions)
	}
	r := b.config.recipe()
	if want := []string{"grub-efi-arm64-signed", "shim-signed", "e2fsprogs", "linux-image-cloud-arm64"}; r.Arch.Name != "arm64" || !slices.Equal(r.Packages, want) {
		t.Errorf("for %s: %q", r.Arch.Name, r.Packages)
	}
	if s := (&build{Config: &b.config}).spec(); s.Arch.EFI != "aa64" {
		t.Errorf("the disk is for %+v", s.Arch)
	}
	// What nobody names is this machine's.
	delete(raw, "arch")
	b = Builder{}
	if _, _, err := b.Prepare(raw); err != nil || b.config.arch.Name != arch.Host {
		t.Errorf("by default %q: %v", b.config.arch.Name, err)
	}
}

// All faults are named at once.
func TestAllFaultsAtOnce(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "")
	t.Setenv("HOME", "")
	t.Setenv("XDG_CACHE_HOME", "")
	var b Builder
	_, _, err := b.Prepare(map[string]any{
		"arch": "i386", "image_name": "../x", "formats": []string{"iso", "raw", "raw"}, "disk_size": "2T", "suite": "Trixie 13", "mirror": "ftp://x", "security_mirror": "http://a b",
		"packages": []string{"ok", "no such; thing"}, "debs": []string{"/nowhere.deb"}, "hostname": "a.b", "kernel_options": "quiet\nfoo"})
	if err == nil {
		t.Fatal("no fault")
	}
	for _, want := range []string{`architecture: want amd64 or arm64, not "i386"`, `image_name: want a file name`, "output_directory is required", `formats: want some of raw, raw.gz, qcow2, vmdk, vhd, google.tar.gz, ova, not "iso"`, "formats: raw stands there twice",
		`disk_size: want a number and M or G, such as 2G, not "2T"`, `suite: want the code name of a Debian release, not "Trixie 13"`, `mirror: want a URL of http or https, not "ftp://x"`,
		`security_mirror: want a URL`, `packages: want names of Debian packages, not "no such; thing"`, "debs: stat /nowhere.deb", `hostname: want one label`, "kernel_options:",
		"source_date_epoch is required", "cache_directory:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		key   string
		value any
		want  string
	}{
		{"formats", []string{}, "want one at least"},
		{"packages", []string{}, "packages is required"},
		{"disk_size", "300M", "300M is too small: 323M at least"},
		{"disk_size", "G", "want a number"},
		{"disk_size", "-1G", "want a number"},
		{"disk_size", "2", "want a number"},
		{"source_date_epoch", -1, "want seconds since 1970"},
		{"no_such_key", "x", "no_such_key"},
	} {
		t.Setenv("SOURCE_DATE_EPOCH", "1790000000")
		raw := block(t)
		raw[c.key] = c.value
		var b Builder
		if _, _, err := b.Prepare(raw); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s = %v: %v, want %s", c.key, c.value, err, c.want)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "today")
	var b Builder
	if _, _, err := b.Prepare(block(t)); err == nil || !strings.Contains(err.Error(), `SOURCE_DATE_EPOCH: want seconds since 1970, not "today"`) {
		t.Errorf("%v", err)
	}
}

// The OVA's machine is one for amd64.
func TestArchOfOVA(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1790000000")
	for arch, good := range map[string]bool{"amd64": true, "arm64": false} {
		raw := block(t)
		raw["formats"], raw["arch"] = []string{"ova"}, arch
		var b Builder
		if _, _, err := b.Prepare(raw); (err == nil) != good || err != nil && !strings.Contains(err.Error(), "formats: the machine of an ova starts by BIOS, which arm64 has not") {
			t.Errorf("%s: %v", arch, err)
		}
	}
}

// Google takes disks of whole GiB only; others do not mind.
func TestSizeForGoogle(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1790000000")
	for _, c := range []struct{ format, size, want string }{
		{"google.tar.gz", "2500M", "disk_size: for google.tar.gz it must be whole GiB"}, {"google.tar.gz", "3072M", ""}, {"vhd", "2500M", ""},
	} {
		raw := block(t)
		raw["formats"], raw["disk_size"] = []string{c.format}, c.size
		var b Builder
		if _, _, err := b.Prepare(raw); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s of %s: %v", c.format, c.size, err)
		}
	}
}

// What is there already is replaced only with -force.
func TestNothingIsReplaced(t *testing.T) {
	c := &Config{Name: "x", Output: t.TempDir(), Formats: []string{"qcow2"}}
	if err := c.free(false); err != nil {
		t.Error(err)
	}
	for _, suffix := range []string{".qcow2", ".spdx.json"} {
		file := filepath.Join(c.Output, "x"+suffix)
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := c.free(false); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", suffix, err)
		}
		if err := c.free(true); err != nil {
			t.Errorf("with -force: %v", err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

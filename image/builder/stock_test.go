package builder

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/image/debian"
)

// What the mirror gave has the mirror's hash, and what was given the file's; programs
// among that are looked into.
func TestStock(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	deb := filepath.Join(t.TempDir(), "ours_1.0_amd64.deb")
	for name, data := range map[string]string{
		deb: "a package",
		filepath.Join(dir, "var/lib/dpkg/status"): "Package: debians\nStatus: install ok installed\nVersion: 2\nArchitecture: all\n\n" +
			"Package: ours\nStatus: install ok installed\nVersion: 1.0\nArchitecture: amd64\n",
		filepath.Join(dir, "var/lib/dpkg/info/ours.list"):  "/.\n/usr\n/usr/bin\n/usr/bin/program\n/usr/bin/script\n/etc/ours.yaml\n",
		filepath.Join(dir, "usr/bin/program"):              string(program),
		filepath.Join(dir, "usr/bin/script"):               "#!/bin/sh\n",
		filepath.Join(dir, "usr/share/doc/ours/copyright"): "GNU General Public License\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(data), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	mirrors := strings.Repeat("ab", 32)
	b := &build{Config: &Config{Name: "image", Arch: "arm64", Debs: []string{deb}}, hashes: debian.Hashes{debian.Key("debians", "2", "all"): mirrors}}
	image, err := b.stock(tree)
	if err != nil {
		t.Fatal(err)
	}
	if image.Arch != "arm64" {
		t.Errorf("the image is for %q", image.Arch)
	}
	sum := sha256.Sum256([]byte("a package"))
	var got [][3]string
	for _, c := range image.Contains {
		got = append(got, [3]string{c.Name, c.SHA256, strings.Join(c.Licences, " ")})
	}
	if d := cmp.Diff([][3]string{{"debians", mirrors, ""}, {"ours", hex.EncodeToString(sum[:]), "GPL"}}, got); d != "" {
		t.Error(d)
	}
	if p := image.Contains[1].Contains; len(p) != 1 || p[0].Version != "1.0" || len(p[0].Contains) == 0 {
		t.Errorf("programs: %+v", p)
	}
	if err := os.Rename(deb, filepath.Join(filepath.Dir(deb), "ours.deb")); err != nil {
		t.Fatal(err)
	}
	b.Debs = []string{filepath.Join(filepath.Dir(deb), "ours.deb")}
	if _, err := b.stock(tree); err == nil || !strings.Contains(err.Error(), "want PACKAGE_VERSION_ARCH.deb") {
		t.Errorf("%v", err)
	}
}

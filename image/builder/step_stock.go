package builder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/psf-relay/relay-appliance/image/debian"
	"github.com/psf-relay/relay-appliance/internal/sbom"
)

// InventorySuffix ends the name of the file that tells what the image is made of:
// an sbom.Component in JSON, for the post-processor relay-manifest.
const InventorySuffix = ".inventory.json"

// sbomSuffix ends the name of the bill of materials, an SPDX document.
const sbomSuffix = ".spdx.json"

// inGuest is where the image carries its own bill of materials.
const inGuest = "usr/share/relay-appliance/sbom.spdx.json"

// takeStock lists what has been installed. Each package must be one of the mirror's or
// one that was given.
func (b *build) takeStock(context.Context) error {
	given, err := hashDebs(b.Debs)
	if err != nil {
		return err
	}
	tree, err := os.OpenRoot(b.tree)
	if err != nil {
		return err
	}
	defer tree.Close()
	stock := sbom.Component{Name: b.Name, Arch: "amd64"}
	if stock.Contains, err = sbom.Debian(tree.FS()); err != nil {
		return err
	}
	var unknown []string
	for i := range stock.Contains {
		c := &stock.Contains[i]
		key := debian.Key(c.Name, c.Version, c.Arch)
		if c.SHA256 = b.hashes[key]; c.SHA256 == "" {
			c.SHA256 = given[key]
		}
		if c.SHA256 == "" {
			unknown = append(unknown, key)
		}
		if given[key] != "" {
			if c.Contains, err = goPrograms(tree, c.Name); err != nil {
				return fmt.Errorf("programs of %s: %w", c.Name, err)
			}
			copyright, err := tree.ReadFile("usr/share/doc/" + c.Name + "/copyright")
			if err != nil {
				return err
			}
			c.Label(copyright)
			for j := range c.Contains {
				c.Contains[j].Version = c.Version
			}
		}
	}
	if len(unknown) > 0 {
		return fmt.Errorf("nobody knows where these packages came from: %s: list their files in debs", strings.Join(unknown, ", "))
	}
	var document bytes.Buffer
	if err := sbom.Write(&document, stock, b.time()); err != nil {
		return err
	}
	if err := errors.Join(tree.MkdirAll(filepath.Dir(inGuest), 0o755), tree.WriteFile(inGuest, document.Bytes(), 0o644)); err != nil {
		return err
	}
	data, err := json.MarshalIndent(stock, "", "\t")
	if err != nil {
		return err
	}
	b.ui.Sayf("%d packages", len(stock.Contains))
	return errors.Join(b.add(InventorySuffix, data), b.add(sbomSuffix, document.Bytes()))
}

// add writes a file that is to be published.
func (b *build) add(suffix string, data []byte) error {
	file := filepath.Join(b.work, b.Name+suffix)
	b.files = append(b.files, file)
	return os.WriteFile(file, data, 0o644)
}

// hashDebs are the sums of package files, by what their names say.
func hashDebs(files []string) (debian.Hashes, error) {
	hashes := debian.Hashes{}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		sum := sha256.New()
		if _, err := io.Copy(sum, f); err != nil {
			return nil, err
		}
		part := strings.Split(strings.TrimSuffix(filepath.Base(name), ".deb"), "_")
		if len(part) != 3 {
			return nil, fmt.Errorf("%s: want PACKAGE_VERSION_ARCH.deb", name)
		}
		hashes[debian.Key(part[0], part[1], part[2])] = hex.EncodeToString(sum.Sum(nil))
	}
	return hashes, nil
}

// goPrograms are the Go programs among a package's files.
func goPrograms(tree *os.Root, name string) ([]sbom.Component, error) {
	list, err := tree.ReadFile("var/lib/dpkg/info/" + name + ".list")
	if err != nil {
		return nil, err
	}
	var found []sbom.Component
	for _, file := range strings.Fields(string(list)) {
		if !slices.Contains([]string{"/usr/bin", "/usr/sbin", "/usr/libexec"}, filepath.Dir(file)) {
			continue
		}
		f, err := tree.Open(file[1:])
		if errors.Is(err, fs.ErrNotExist) {
			continue // a file that the guest leaves out
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		program, err := sbom.ProgramAt(f)
		if err != nil {
			continue // a script
		}
		found = append(found, program)
	}
	return found, nil
}

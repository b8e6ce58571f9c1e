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

// takeStock lists what has been installed: for the guest itself, beside the image, and
// for the manifest.
func (b *build) takeStock(context.Context) error {
	tree, err := os.OpenRoot(b.tree)
	if err != nil {
		return err
	}
	defer tree.Close()
	stock, err := b.stock(tree)
	if err != nil {
		return err
	}
	b.ui.Sayf("%d packages", len(stock.Contains))
	var document bytes.Buffer
	if err := sbom.Write(&document, stock, b.time()); err != nil {
		return err
	}
	data, err := json.MarshalIndent(stock, "", "\t")
	if err != nil {
		return err
	}
	return errors.Join(tree.MkdirAll(filepath.Dir(inGuest), 0o755), tree.WriteFile(inGuest, document.Bytes(), 0o644),
		b.add(InventorySuffix, data), b.add(sbomSuffix, document.Bytes()))
}

// stock is the image with its packages. Each must be one of the mirror's or one that
// was given.
func (b *build) stock(tree *os.Root) (sbom.Component, error) {
	image := sbom.Component{Name: b.Name, Arch: b.Arch}
	given, err := hashDebs(b.Debs)
	if err != nil {
		return image, err
	}
	if image.Contains, err = sbom.Debian(tree.FS()); err != nil {
		return image, err
	}
	var unknown []string
	for i := range image.Contains {
		c := &image.Contains[i]
		key := debian.Key(c.Name, c.Version, c.Arch)
		if hash, ok := b.hashes[key]; ok {
			c.SHA256 = hash
		} else if c.SHA256, ok = given[key]; !ok {
			unknown = append(unknown, key)
		} else if err := addPrograms(tree, c); err != nil {
			return image, fmt.Errorf("programs of %s: %w", c.Name, err)
		}
	}
	if len(unknown) > 0 {
		return image, fmt.Errorf("nobody knows where these packages came from: %s: list their files in debs", strings.Join(unknown, ", "))
	}
	return image, nil
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

// addPrograms looks for Go programs among a package's files, and in its copyright file
// for the licences of what they link.
func addPrograms(tree *os.Root, c *sbom.Component) error {
	list, err := tree.ReadFile("var/lib/dpkg/info/" + c.Name + ".list")
	if err != nil {
		return err
	}
	for _, file := range strings.Fields(string(list)) {
		if !slices.Contains([]string{"/usr/bin", "/usr/sbin", "/usr/libexec"}, filepath.Dir(file)) {
			continue
		}
		f, err := tree.Open(file[1:])
		if err != nil {
			return err
		}
		defer f.Close()
		program, err := sbom.ProgramAt(f)
		if err != nil {
			continue // a script
		}
		program.Version = c.Version
		c.Contains = append(c.Contains, program)
	}
	if len(c.Contains) == 0 {
		return nil
	}
	copyright, err := tree.ReadFile("usr/share/doc/" + c.Name + "/copyright")
	if err != nil {
		return err
	}
	c.Label(copyright)
	return nil
}

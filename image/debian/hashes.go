package debian

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/psf-relay/relay-appliance/internal/deb822"
)

// Hashes are the SHA-256 sums of package files, as the mirror's signed lists give
// them, by package, version and architecture.
type Hashes map[string]string

// Key is the name of a package in [Hashes].
func Key(name, version, arch string) string { return name + " " + version + " " + arch }

// readLists reads the lists that apt has downloaded into dir.
func readLists(dir string) (Hashes, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*_Packages"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errors.New("apt has left no lists")
	}
	all := Hashes{}
	for _, name := range names {
		if err := all.read(name); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(name), err)
		}
	}
	return all, nil
}

func (h Hashes) read(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for p, err := range deb822.Paragraphs(f) {
		if err != nil {
			return err
		}
		h[Key(p.Get("Package"), p.Get("Version"), p.Get("Architecture"))] = p.Get("SHA256")
	}
	return nil
}

// of are the hashes of what dpkg's status names. Each must be known.
func (h Hashes) of(status string) (Hashes, error) {
	found := Hashes{}
	for p, err := range deb822.Paragraphs(strings.NewReader(status)) {
		if err != nil {
			return nil, fmt.Errorf("dpkg's status: %w", err)
		}
		key := Key(p.Get("Package"), p.Get("Version"), p.Get("Architecture"))
		if h[key] == "" {
			return nil, fmt.Errorf("no list names the package %s: where did it come from?", key)
		}
		found[key] = h[key]
	}
	return found, nil
}

package builder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/packer"
)

// artifact is the files of a build.
type artifact struct {
	name  string
	files []string
}

var _ packer.Artifact = (*artifact)(nil)

func (*artifact) BuilderId() string  { return BuilderID }
func (a *artifact) Files() []string  { return a.files }
func (a *artifact) Id() string       { return a.name }
func (a *artifact) String() string   { return strings.Join(a.files, "\n") }
func (a *artifact) State(string) any { return nil }
func (a *artifact) Destroy() error   { return remove(a.files) }

func remove(files []string) error {
	var faults []error
	for _, f := range files {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

func (c *Config) wants(format string) bool { return slices.Contains(c.Formats, format) }

// outputs are the names of all that a build makes.
func (c *Config) outputs() []string {
	base := filepath.Join(c.Output, c.Name)
	names := []string{base + InventorySuffix, base + sbomSuffix}
	for _, f := range c.Formats {
		names = append(names, base+"."+f)
	}
	return names
}

// free makes sure that nothing is replaced that nobody asked for.
func (c *Config) free(force bool) error {
	for _, name := range c.outputs() {
		if _, err := os.Lstat(name); err == nil && !force {
			return fmt.Errorf("%s is there already: remove it, or build with -force", name)
		}
	}
	return nil
}

// publish syncs the files and moves them to their names.
func (b *build) publish() (packer.Artifact, error) {
	a := &artifact{name: b.Name}
	for _, file := range b.files {
		if err := sync(file); err != nil {
			return nil, err
		}
	}
	for _, file := range b.files {
		to := filepath.Join(b.Output, filepath.Base(file))
		if err := os.Rename(file, to); err != nil {
			return nil, errors.Join(err, remove(a.files))
		}
		a.files = append(a.files, to)
	}
	return a, sync(b.Output)
}

func sync(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

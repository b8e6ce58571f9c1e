package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/psf-relay/relay-appliance/internal/deb822"
)

// index is a file that a Release names.
type index struct {
	sum  string // SHA-256 in hex
	size int64
	name string // below the suite
}

// verify checks the whole repository: the signature by one of the keys, each index
// that is signed, each package that an index names, and that the pool holds
// nothing else. It returns the indices.
func (a *Archive) verify(ctx context.Context) ([]index, error) {
	signed, err := os.ReadFile(filepath.Join(a.suite(), "InRelease"))
	if errors.Is(err, fs.ErrNotExist) {
		if rest, _ := filepath.Glob(filepath.Join(a.Dir, "pool", Component, "*", "*.deb")); len(rest) > 0 {
			return nil, fmt.Errorf("%s has packages, but no InRelease file: get the whole repository back from where it is published", a.Dir)
		}
		return nil, fmt.Errorf("%s: %w", a.Dir, ErrNew)
	}
	if err != nil {
		return nil, err
	}
	release, err := a.Keys.Open(ctx, signed)
	if err != nil {
		return nil, fmt.Errorf("verify what was published last: %w", err)
	}
	indices, err := readRelease(release)
	if err != nil {
		return nil, fmt.Errorf("read the Release file: %w", err)
	}
	known := map[string]bool{}
	for _, i := range indices {
		data, err := i.read(a.suite())
		if err != nil {
			return nil, err
		}
		if filepath.Base(i.name) != "Packages" {
			continue
		}
		packages, err := readPackages(data)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", i.name, err)
		}
		for _, p := range packages {
			if _, err := p.read(a.Dir); err != nil {
				return nil, err
			}
			known[p.name] = true
		}
	}
	// What lies in the pool unnamed would be named by the next publication.
	return indices, filepath.WalkDir(filepath.Join(a.Dir, "pool"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(a.Dir, path)
		if err == nil && !known[filepath.ToSlash(name)] {
			err = fmt.Errorf("%s is in no signed index: remove it, or add it anew", name)
		}
		return err
	})
}

// readRelease returns the indices of a Release file.
func readRelease(release []byte) ([]index, error) {
	var out []index
	for p, err := range deb822.Paragraphs(bytes.NewReader(release)) {
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(p.Get("SHA256")) {
			f := strings.Fields(line)
			if len(f) == 0 {
				continue
			}
			if len(f) != 3 {
				return nil, fmt.Errorf("want hash, size and name, not %q", line)
			}
			i, err := newIndex(f[0], f[1], f[2])
			if err != nil {
				return nil, err
			}
			out = append(out, i)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("it names no index")
	}
	return out, nil
}

// readPackages returns the files that a Packages file names.
func readPackages(list []byte) ([]index, error) {
	var out []index
	for p, err := range deb822.Paragraphs(bytes.NewReader(list)) {
		if err != nil {
			return nil, err
		}
		i, err := newIndex(p.Get("SHA256"), p.Get("Size"), p.Get("Filename"))
		if err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	return out, nil
}

func newIndex(sum, size, name string) (index, error) {
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil || n < 0 {
		return index{}, fmt.Errorf("%.80q: a size of %.40q", name, size)
	}
	if raw, err := hex.DecodeString(sum); err != nil || len(raw) != sha256.Size || sum != strings.ToLower(sum) {
		return index{}, fmt.Errorf("%.80q: no SHA-256: %.80q", name, sum)
	}
	if !filepath.IsLocal(name) {
		return index{}, fmt.Errorf("%.80q is no name below the repository", name)
	}
	return index{sum, n, name}, nil
}

// read returns the file if it is the one that was signed.
func (i index) read(below string) ([]byte, error) {
	f, err := os.Open(filepath.Join(below, i.name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, i.size+1))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); int64(len(data)) != i.size || hex.EncodeToString(sum[:]) != i.sum {
		return nil, fmt.Errorf("%s is not what was signed: get it back from where it is published", f.Name())
	}
	return data, nil
}

// keep copies the index to where it is found by its hash.
func (i index) keep(from, to string) error {
	data, err := i.read(from)
	if err != nil {
		return err
	}
	path := filepath.Join(to, filepath.Dir(i.name), "by-hash", "SHA256", i.sum)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

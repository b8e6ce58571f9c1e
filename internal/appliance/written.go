package appliance

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/psf-relay/relay-appliance/internal/durable"
)

// written remembers the files that the appliance wrote, by their hashes: one that
// has another is the operator's.
type written map[string]string

const writtenPath = stateDir + "/written.json"

func (m *Machine) loadWritten() (written, error) {
	w := written{}
	b, err := m.readFile(writtenPath)
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &w)
	}
	if err != nil {
		return nil, fmt.Errorf("read which files are the appliance's: %w: delete %s to have all files taken for yours", err, writtenPath)
	}
	return w, nil
}

// outcome is what became of a file.
type outcome int

const (
	unchanged outcome = iota
	wrote
	leftAlone // it is the operator's
)

// put writes a file of the appliance, unless it is the operator's: neither absent,
// nor what was written before, nor as its package brought it.
func (m *Machine) put(ctx context.Context, w written, name string, text []byte, mode fs.FileMode) (outcome, error) {
	sum := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
	old, err := m.readFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unchanged, fmt.Errorf("read %s: %w", name, err)
	}
	if err == nil && !bytes.Equal(old, text) && w[name] != sum(old) {
		packaged, err := m.packaged(ctx, name, old)
		if err != nil || !packaged {
			return leftAlone, err
		}
	}
	result := unchanged
	if err != nil || !bytes.Equal(old, text) {
		result = wrote
		if err := m.write(name, text, mode); err != nil {
			return result, err
		}
	}
	if w[name] == sum(text) {
		return result, nil
	}
	w[name] = sum(text)
	b, err := json.MarshalIndent(w, "", "  ")
	if err != nil {
		return result, err
	}
	return result, m.write(writtenPath, append(b, '\n'), 0o644)
}

// packaged says whether a configuration file is still as its package brought it:
// dpkg keeps the sums of those.
func (m *Machine) packaged(ctx context.Context, name string, content []byte) (bool, error) {
	r, err := m.run(ctx, Command{Args: []string{"dpkg-query", "--admindir=" + m.path("/var/lib/dpkg"), "--show", "--showformat=${Conffiles}\\n"}})
	if err != nil {
		return false, fmt.Errorf("ask dpkg about %s: %w", name, err)
	}
	sum := md5.Sum(content)
	for line := range strings.Lines(r.Stdout) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == name && f[1] == hex.EncodeToString(sum[:]) {
			return true, nil
		}
	}
	return false, r.failed("ask dpkg about " + name)
}

// write writes a file, and the folders above it.
func (m *Machine) write(name string, text []byte, mode fs.FileMode) error {
	path := m.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := durable.Replace(path, text, mode); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// link makes, or without want removes, a link to a file that a package brought. A
// file that is no such link is left alone.
func (m *Machine) link(name, target string, want bool) (changed bool, err error) {
	path := m.path(name)
	to, err := os.Readlink(path)
	switch {
	case err == nil && to == target && !want:
		return true, os.Remove(path)
	case err == nil && to == target, !want:
		return false, nil
	case err == nil || !errors.Is(err, fs.ErrNotExist):
		return false, nil // the operator's
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	return true, os.Symlink(target, path)
}

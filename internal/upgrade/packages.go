package upgrade

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/psf-relay/relay-appliance/internal/durable"
)

// installed is a package as dpkg knows it.
type installed struct {
	Version string
	Whole   bool // unpacked and configured
}

// installed returns what dpkg knows of the packages of a release. One that was never
// there, or was removed, is left out.
func (m Machine) installed(ctx context.Context) (map[string]installed, error) {
	args := append([]string{"--admindir=" + m.path("var/lib/dpkg"), "--show",
		"--showformat=${Package}\t${Version}\t${db:Status-Status}\t${db:Status-Eflag}\n"}, Packages...)
	out, err := command(exec.CommandContext(ctx, "dpkg-query", args...))
	// Exit code 1: a package is not known, which is no fault.
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return nil, fmt.Errorf("ask which versions are installed: %w", err)
	}
	list := map[string]installed{}
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 4 {
			return nil, fmt.Errorf("ask which versions are installed: dpkg-query says %q", line)
		}
		if status := f[2]; status != "not-installed" && status != "config-files" {
			list[f[0]] = installed{f[1], status == "installed" && f[3] == "ok"}
		}
	}
	return list, nil
}

// newer says whether version a comes after b, as dpkg sees it.
func newer(ctx context.Context, a, b string) bool {
	return exec.CommandContext(ctx, "dpkg", "--compare-versions", a, "gt", b).Run() == nil
}

// dpkg runs dpkg under the frontend lock, which the caller holds.
func (m Machine) dpkg(ctx context.Context, args ...string) error {
	options := []string{"--force-confdef", "--force-confold"}
	if m.Root != "/" {
		options = append(options, "--root="+m.Root, "--force-not-root", "--force-script-chrootless")
	}
	cmd := exec.CommandContext(ctx, "dpkg", append(options, args...)...)
	cmd.Env = append(os.Environ(), "DPKG_FRONTEND_LOCKED=1", "DEBIAN_FRONTEND=noninteractive")
	// Stopped in the middle it would leave more to mend than it had.
	cmd.Cancel = func() error { return nil }
	_, err := command(cmd)
	return err
}

// Kept is a package file that is kept.
type Kept struct {
	Version string `json:"version"`
	File    string `json:"file,omitempty"` // inside of the packages folder; empty: none is kept
	SHA256  string `json:"sha256,omitempty"`
}

func (m Machine) packagesDir() string { return filepath.Join(m.path(StateDir), "packages") }

// Keep puts aside a package file of a release, for the day on which its version is
// to be put back. Other packages' files are passed over. It takes no more room than
// a name where the file system allows that.
func (m Machine) Keep(ctx context.Context, file string) error {
	if base, _, ok := strings.Cut(filepath.Base(file), "_"); !ok || !slices.Contains(Packages, base) {
		return nil
	}
	out, err := command(exec.CommandContext(ctx, "dpkg-deb", "--show", "--showformat=${Package}\t${Version}\t${Architecture}", file))
	if err != nil {
		return fmt.Errorf("keep a package: %w", err)
	}
	f := strings.Split(out, "\t")
	if len(f) != 3 || !slices.Contains(Packages, f[0]) || strings.ContainsAny(out, "/ ") {
		return fmt.Errorf("keep a package: %s is not one of this project's packages", file)
	}
	if err := os.MkdirAll(m.packagesDir(), 0o755); err != nil {
		return fmt.Errorf("keep a package: %w", err)
	}
	name := fmt.Sprintf("%s_%s_%s.deb", f[0], strings.ReplaceAll(f[1], ":", "%3a"), f[2])
	if err := place(file, filepath.Join(m.packagesDir(), name)); err != nil {
		return fmt.Errorf("keep %s: %w", file, err)
	}
	return nil
}

// place links or copies a file to a new name, which has the whole of it or does not
// exist, also after a power cut.
func place(from, to string) error {
	if a, err := os.Stat(from); err != nil {
		return err
	} else if b, err := os.Stat(to); err == nil && os.SameFile(a, b) {
		return nil
	}
	tmp := to + ".new"
	if err := removed(tmp); err != nil {
		return err
	}
	if err := os.Link(from, tmp); err != nil {
		if err := copyFile(from, tmp); err != nil {
			return errors.Join(err, removed(tmp))
		}
	}
	f, err := os.Open(tmp)
	if err != nil {
		return err
	}
	// apt does not wait until what it downloaded is on disk.
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, to); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(to))
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// kept finds the kept file of a version; without one, File is empty.
func (m Machine) kept(pkg, version string) (Kept, error) {
	k := Kept{Version: version}
	entries, err := os.ReadDir(m.packagesDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	start := pkg + "_" + strings.ReplaceAll(version, ":", "%3a") + "_"
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), start) && strings.HasSuffix(e.Name(), ".deb") {
			k.File = e.Name()
			k.SHA256, err = sum(filepath.Join(m.packagesDir(), k.File))
			return k, err
		}
	}
	return k, nil
}

// usable checks that a kept file is still what it was.
func (m Machine) usable(pkg string, k Kept) (path string, err error) {
	if k.File == "" {
		return "", fmt.Errorf("no package file of %s %s is kept", pkg, k.Version)
	}
	path = filepath.Join(m.packagesDir(), k.File)
	got, err := sum(path)
	if err != nil {
		return "", fmt.Errorf("the kept file of %s %s: %w", pkg, k.Version, err)
	}
	if got != k.SHA256 {
		return "", fmt.Errorf("the kept file of %s %s is damaged: %s", pkg, k.Version, path)
	}
	return path, nil
}

// fetch gets the file of an installed version that nobody kept from the repository,
// which holds the newest few versions.
func (m Machine) fetch(ctx context.Context, pkg, version string) error {
	dir, err := os.MkdirTemp(m.path(StateDir), ".fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// As root: apt's own user has no way into the folder.
	cmd := exec.CommandContext(ctx, "apt-get", "--quiet", "--option=APT::Sandbox::User=root", "download", pkg+"="+version)
	cmd.Dir = dir
	if _, err := command(cmd); err != nil {
		return fmt.Errorf("fetch %s %s: %w", pkg, version, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("fetch %s %s: apt-get left %d files (%v)", pkg, version, len(files), err)
	}
	return m.Keep(ctx, files[0])
}

// prune deletes the kept files that none of the given sets names.
func (m Machine) prune(sets ...map[string]Kept) error {
	entries, err := os.ReadDir(m.packagesDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		named := false
		for _, set := range sets {
			for _, k := range set {
				named = named || k.File == e.Name()
			}
		}
		if !named {
			errs = append(errs, os.Remove(filepath.Join(m.packagesDir(), e.Name())))
		}
	}
	return errors.Join(errs...)
}

func sum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Package archive keeps the project's apt repository: a folder of static files
// that any web server can carry.
//
//	dists/stable/InRelease, Release, Release.gpg
//	dists/stable/main/binary-ARCH/Packages, .gz, .xz   (and by-hash/)
//	pool/main/PACKAGE/PACKAGE_VERSION_ARCH.deb
//
// Debian's own tools make it: apt-ftparchive the indices, gpg the signatures.
// (reprepro would keep one version of each package only; an appliance that puts
// an update back needs the one before.) The folder may come back from a web
// server, so nothing in it is signed again before what was signed last is
// verified, down to each package.
package archive

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/arch"
	"github.com/psf-relay/relay-appliance/internal/durable"
)

// What apt and unattended-upgrades know the repository by.
const (
	Origin    = "psf-relay"
	Label     = "relay-appliance"
	Suite     = "stable"
	Component = "main"
)

// Architectures are those for which there are packages, as Debian calls them.
var Architectures = arch.Names()

// ValidTime is how long clients trust what was signed: whoever holds them off from
// newer versions succeeds no longer than that.
const ValidTime = 60 * 24 * time.Hour

// Archive is a repository in a folder.
type Archive struct {
	Dir  string
	Keys *Keys
}

// Publication is what is signed: the time that it bears, and how long it holds.
type Publication struct {
	At    time.Time
	Valid time.Duration
}

// ErrNew means that the folder holds no repository yet.
var ErrNew = errors.New("no repository is there yet")

// Add puts packages into the pool, lets go of all but the newest versions of each
// (keep of them), and publishes. A folder without a repository becomes one. A
// version is published once: the same name with other bytes is refused.
func (a *Archive) Add(ctx context.Context, debs []string, keep int, p Publication) error {
	before, err := a.verify(ctx)
	if err != nil && !errors.Is(err, ErrNew) {
		return err
	}
	for _, deb := range debs {
		if err := a.take(ctx, deb); err != nil {
			return fmt.Errorf("add %s: %w", filepath.Base(deb), err)
		}
	}
	if err := a.prune(ctx, keep); err != nil {
		return fmt.Errorf("let go of old versions: %w", err)
	}
	return a.publish(ctx, before, p)
}

// Refresh signs anew what is there, so that it holds for longer.
func (a *Archive) Refresh(ctx context.Context, p Publication) error {
	before, err := a.verify(ctx)
	if err != nil {
		return err
	}
	return a.publish(ctx, before, p)
}

func (a *Archive) suite() string { return filepath.Join(a.Dir, "dists", Suite) }

// take copies a package to its place in the pool.
func (a *Archive) take(ctx context.Context, deb string) error {
	name, err := run(ctx, "dpkg-deb", "--show", "--showformat=${Package} ${Version} ${Architecture}", deb)
	if err != nil {
		return err
	}
	fields := strings.Fields(string(name))
	if len(fields) != 3 {
		return fmt.Errorf("it says it is %q: want name, version and architecture", name)
	}
	if arch := fields[2]; arch != "all" && !slices.Contains(Architectures, arch) {
		return fmt.Errorf("architecture %s: the repository has %s", arch, strings.Join(Architectures, " and "))
	}
	data, err := os.ReadFile(deb)
	if err != nil {
		return err
	}
	dir := filepath.Join(a.Dir, "pool", Component, fields[0])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	_, version, found := strings.Cut(fields[1], ":") // an epoch is no part of a file's name
	if !found {
		version = fields[1]
	}
	path := filepath.Join(dir, fields[0]+"_"+version+"_"+fields[2]+".deb")
	err = durable.Create(path, data, 0o644)
	if errors.Is(err, fs.ErrExist) {
		there, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Equal(there, data) {
			return errors.New("this version was published with other bytes: give the change a version of its own")
		}
		return nil
	}
	return err
}

// prune removes all but the newest versions of each package and architecture.
func (a *Archive) prune(ctx context.Context, keep int) error {
	if keep < 1 {
		return fmt.Errorf("want to keep at least one version, not %d", keep)
	}
	files, err := filepath.Glob(filepath.Join(a.Dir, "pool", Component, "*", "*.deb"))
	if err != nil {
		return err
	}
	type entry struct{ file, version string }
	versions := map[string][]entry{}
	for _, file := range files {
		name := strings.Split(strings.TrimSuffix(filepath.Base(file), ".deb"), "_")
		if len(name) != 3 {
			return fmt.Errorf("%s is not named PACKAGE_VERSION_ARCH.deb", file)
		}
		kind := name[0] + " " + name[2]
		versions[kind] = append(versions[kind], entry{file, name[1]})
	}
	for _, of := range versions {
		var fault error
		slices.SortFunc(of, func(x, y entry) int {
			for _, r := range []struct {
				op   string
				sign int
			}{{"gt", -1}, {"lt", 1}} {
				err := exec.CommandContext(ctx, "dpkg", "--compare-versions", x.version, r.op, y.version).Run()
				if err == nil {
					return r.sign
				}
				if exit := new(exec.ExitError); !errors.As(err, &exit) {
					fault = err
				}
			}
			return 0
		})
		if fault != nil {
			return fault
		}
		for _, old := range of[min(keep, len(of)):] {
			if err := os.Remove(old.file); err != nil {
				return err
			}
		}
	}
	return nil
}

// publish makes indices of the pool, signs them and puts them in place of those
// that are there. Of before, the indices stay under their hashes: who fetched the
// Release a moment ago still finds what it names.
func (a *Archive) publish(ctx context.Context, before []index, p Publication) error {
	if err := os.MkdirAll(filepath.Dir(a.suite()), 0o755); err != nil {
		return err
	}
	stage, err := os.MkdirTemp(filepath.Dir(a.suite()), ".stage-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	if err := errors.Join(os.Chmod(stage, 0o755), os.MkdirAll(filepath.Join(a.Dir, "pool", Component), 0o755)); err != nil {
		return err
	}
	for _, arch := range Architectures {
		if err := a.index(ctx, stage, arch); err != nil {
			return fmt.Errorf("list the packages for %s: %w", arch, err)
		}
	}
	for _, i := range before {
		if err := i.keep(a.suite(), stage); err != nil {
			return fmt.Errorf("keep the indices that were published before: %w", err)
		}
	}
	release, err := a.release(ctx, stage, p)
	if err != nil {
		return fmt.Errorf("write the Release file: %w", err)
	}
	signed, err := a.Keys.Clearsign(ctx, release, p.At)
	if err != nil {
		return err
	}
	detached, err := a.Keys.Detach(ctx, release, p.At)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"Release": release, "InRelease": signed, "Release.gpg": detached} {
		if err := durable.Create(filepath.Join(stage, name), data, 0o644); err != nil {
			return err
		}
	}
	return a.swap(stage)
}

// index lists the pool's packages of one architecture.
func (a *Archive) index(ctx context.Context, stage, arch string) error {
	dir := filepath.Join(stage, Component, "binary-"+arch)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	cmd := command(ctx, "apt-ftparchive", append(hashes(), "--arch", arch, "packages", "pool")...)
	cmd.Dir = a.Dir // file names are relative to the repository
	list, err := output(cmd)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "Packages")
	if err := durable.Create(path, list, 0o644); err != nil {
		return err
	}
	var zipped bytes.Buffer
	w, err := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(list)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	if err := durable.Create(path+".gz", zipped.Bytes(), 0o644); err != nil {
		return err
	}
	_, err = run(ctx, "xz", "--keep", "--threads=1", "-9", path)
	return err
}

// hashes are the options for SHA-256 only; older ones prove nothing, and a longer
// one nothing more.
func hashes() []string {
	var out []string
	for _, weak := range []string{"MD5", "SHA1", "SHA512"} {
		out = append(out, "-o", "APT::FTPArchive::"+weak+"=false")
	}
	return out
}

// release names each index with its hash.
func (a *Archive) release(ctx context.Context, stage string, p Publication) ([]byte, error) {
	args := append(hashes(), "-o", "APT::FTPArchive::DoByHash=true", "-o", "APT::FTPArchive::By-Hash-Keep=100")
	for _, f := range [][2]string{
		{"Origin", Origin}, {"Label", Label}, {"Suite", Suite}, {"Codename", Suite},
		{"Components", Component}, {"Architectures", strings.Join(Architectures, " ")},
		{"Acquire-By-Hash", "yes"},
		{"Date", p.At.UTC().Format(dateLayout)},
		{"Valid-Until", p.At.Add(p.Valid).UTC().Format(dateLayout)}, {"ValidTime", "1"}, // the field is written only with both
		{"Description", "Circuit relays for the PSF: relay, monitor, audit"},
	} {
		args = append(args, "-o", "APT::FTPArchive::Release::"+f[0]+"="+f[1])
	}
	return run(ctx, "apt-ftparchive", append(args, "release", stage)...)
}

const dateLayout = "Mon, 02 Jan 2006 15:04:05 UTC"

// swap puts stage where the suite is. A crash between the two renames leaves no
// suite: the next run says so, and what was there lies beside it.
func (a *Archive) swap(stage string) error {
	old := filepath.Join(filepath.Dir(a.suite()), ".old")
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	if err := os.Rename(a.suite(), old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(stage, a.suite()); err != nil {
		return err
	}
	return errors.Join(durable.SyncDir(filepath.Dir(a.suite())), os.RemoveAll(old))
}

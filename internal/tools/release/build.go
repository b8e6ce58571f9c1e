package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/arch"
	"github.com/psf-relay/relay-appliance/internal/archive"
	"github.com/psf-relay/relay-appliance/internal/cli"
)

type buildCmd struct {
	signing
	listSigning
	Version  version  `required:"" placeholder:"VERSION" help:"The version, such as v1.2.3; the checkout stands at its tag."`
	Out      string   `required:"" type:"path" placeholder:"DIR" help:"A folder that is not there yet."`
	SiteURL  string   `name:"site-url" required:"" placeholder:"URL" help:"Where the site will be found: goes into the packages."`
	NextKeys []string `type:"existingfile" placeholder:"FILE" help:"Public OpenPGP keys that will sign later, or did until now: go into the packages' keyring."`
	NextList []string `name:"next-list-keys" placeholder:"VKEY" help:"Verifier keys that will sign the list later, or did until now: go into the packages."`
	Images   []string `placeholder:"ARCH,..." help:"The architectures for which the bootable image is built, or none; default: all (root, network; for another architecture than this machine's an emulator, and ten times as long)."`
	Trial    bool     `help:"Build from a checkout in any state, for trying out."`
	Root     string   `default:"." type:"existingdir" placeholder:"DIR" help:"The repository's top folder."`
}

// Help is what --help says besides.
func (buildCmd) Help() string {
	return `Writes, into the folder: for each architecture the programs (tar.gz), the Debian packages and what is in them (SPDX), and the bootable image in some formats with its manifest; container images; the licences of all that is linked, and where the source is; SHA256SUMS, and its signature by the key of the packages.

The same commit, keys and --date give the same bytes, whoever builds.`
}

// making is one run of build.
type making struct {
	ctx   context.Context
	root  string
	stage string // becomes the folder that was asked for
	version
	commit string
	epoch  time.Time // the commit's
}

func (c *buildCmd) Run(ctx context.Context, out *cli.IO) (err error) {
	m := &making{ctx: ctx, version: c.Version}
	if m.root, err = filepath.Abs(c.Root); err != nil {
		return err
	}
	if _, err := os.Lstat(c.Out); !errors.Is(err, fs.ErrNotExist) {
		return cli.BadInput(fmt.Errorf("%s is there already: a release is built once; name another folder", c.Out))
	}
	images, err := c.images()
	if err != nil {
		return cli.BadInput(err)
	}
	if err := m.look(c.Trial); err != nil {
		return cli.BadInput(err)
	}
	_, public, err := c.signers()
	if err != nil {
		return err
	}
	keys, err := c.keys(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keys.Close()) }()

	if err := os.MkdirAll(filepath.Dir(c.Out), 0o755); err != nil {
		return err
	}
	if m.stage, err = os.MkdirTemp(filepath.Dir(c.Out), ".release-"); err != nil {
		return err
	}
	defer os.RemoveAll(m.stage)
	if err := os.Chmod(m.stage, 0o755); err != nil {
		return err
	}
	publisher, err := c.publisher(ctx, keys, public)
	if err != nil {
		return err
	}
	defer os.RemoveAll(publisher)
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"the packages", func() error { return m.packages(publisher) }},
		{"the archives", m.archives},
		{"the container images", m.containers},
		{"the images", func() error { return m.images(images) }},
		{"the note on sources", m.sources},
		{"the sums", func() error { return m.sums(keys, c.publication().At) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("make %s: %w", step.what, err)
		}
	}
	if err := os.Rename(m.stage, c.Out); err != nil {
		return err
	}
	entries, err := os.ReadDir(c.Out)
	for _, e := range entries {
		fmt.Fprintln(out.Stdout, filepath.Join(c.Out, e.Name()))
	}
	return err
}

// look finds out what the checkout holds. Unless it is a trial, that is the tag and
// nothing else: else nobody could build it again.
func (m *making) look(trial bool) error {
	commit, err := m.output("git", "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	m.commit = strings.TrimSpace(commit)
	at, err := m.output("git", "log", "-1", "--format=%ct")
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(at), 10, 64)
	if err != nil {
		return fmt.Errorf("the commit's time: %w", err)
	}
	m.epoch = time.Unix(seconds, 0).UTC()
	if trial {
		return nil
	}
	changed, err := m.output("git", "status", "--porcelain")
	if err != nil {
		return err
	}
	if changed != "" {
		return fmt.Errorf("the checkout has changes that are not committed: commit or remove them:\n%s", changed)
	}
	tagged, err := m.output("git", "rev-parse", "--verify", "--quiet", "refs/tags/"+string(m.version)+"^{commit}")
	if err != nil || strings.TrimSpace(tagged) != m.commit {
		return fmt.Errorf("the checkout does not stand at the tag %s: git tag --sign %s, or git checkout %s", m.version, m.version, m.version)
	}
	return nil
}

// publisher makes what packages are to know of the site.
func (c *buildCmd) publisher(ctx context.Context, keys *archive.Keys, listKeys []string) (dir string, err error) {
	var also [][]byte
	for _, file := range c.NextKeys {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", cli.BadInput(err)
		}
		also = append(also, b)
	}
	ring, err := keys.Keyring(ctx, also...)
	if err != nil {
		return "", cli.BadInput(err)
	}
	updates, err := siteFile(c.SiteURL, append(listKeys, c.NextList...))
	if err != nil {
		return "", cli.BadInput(err)
	}
	if dir, err = os.MkdirTemp("", "publisher-"); err != nil {
		return "", err
	}
	return dir, errors.Join(
		os.WriteFile(filepath.Join(dir, "archive-keyring.gpg"), ring, 0o644),
		os.WriteFile(filepath.Join(dir, "updates.yaml"), updates, 0o644))
}

// packages has the Debian packages built, for each architecture, and the notices.
func (m *making) packages(publisher string) error {
	var notices []byte
	for _, arch := range archive.Architectures {
		if _, err := m.output("go", "-C", filepath.Join(m.root, "internal/tools/deb"), "run", ".", "-root", m.root, "-out", m.stage,
			"-arch", arch, "-version", string(m.version), "-site", publisher, "-notices", filepath.Join(m.stage, noticesFile)); err != nil {
			return err
		}
		of, err := os.ReadFile(filepath.Join(m.stage, noticesFile))
		if err != nil {
			return err
		}
		if notices != nil && !bytes.Equal(notices, of) {
			return fmt.Errorf("for %s other modules are linked than for %s: the notices would not name them all", arch, archive.Architectures[0])
		}
		notices = of
	}
	return nil
}

const noticesFile = "THIRD-PARTY-NOTICES.txt"

// containers has the container images built of the packages.
func (m *making) containers() error {
	_, err := m.output("go", "-C", filepath.Join(m.root, "internal/tools/oci"), "run", ".", "-debs", m.stage, "-out", m.stage,
		"-version", m.number(), "-commit", m.commit)
	if err != nil {
		return err
	}
	compose, err := os.ReadFile(filepath.Join(m.root, "docs/compose.yaml"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(m.stage, "compose.yaml"), compose, 0o644)
}

// imageFormats are what docs/providers.md has people take. A VMDK is in the OVA; a VHD, of
// which Azure wants every zero, is too large to be offered. The OVA's machine starts by BIOS.
func imageFormats(a arch.Arch) string {
	if a.BIOS {
		return `formats=["qcow2", "raw.gz", "google.tar.gz", "ova"]`
	}
	return `formats=["qcow2", "raw.gz", "google.tar.gz"]`
}

// images are the architectures that an image is wanted for.
func (c *buildCmd) images() ([]arch.Arch, error) {
	if len(c.Images) == 0 {
		return arch.All, nil
	}
	if slices.Equal(c.Images, []string{"none"}) {
		return nil, nil
	}
	var wanted []arch.Arch
	for _, name := range c.Images {
		a, err := arch.Find(name)
		if err != nil {
			return nil, fmt.Errorf("--images: %w; or none alone", err)
		}
		wanted = append(wanted, a)
	}
	return wanted, nil
}

// images has the bootable images built of the packages. A machine that lacks the emulator
// for one ends the release: what is missing in it would be noticed by those who look for it.
func (m *making) images(wanted []arch.Arch) error {
	if len(wanted) == 0 {
		return nil
	}
	if _, err := m.output(".ci/plugin"); err != nil {
		return err
	}
	for _, a := range wanted {
		if _, err := m.output("env", "ARCH="+a.Name, ".ci/image", "appliance", m.stage, m.number(), "-var", "debs="+m.stage, "-var", imageFormats(a)); err != nil {
			return fmt.Errorf("for %s: %w", a.Name, err)
		}
	}
	return nil
}

// output runs a program in the repository's top folder, for the commit's time.
func (m *making) output(name string, args ...string) (string, error) {
	cmd := exec.CommandContext(m.ctx, name, args...)
	cmd.Dir = m.root
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
	if !m.epoch.IsZero() {
		cmd.Env = append(cmd.Env, "SOURCE_DATE_EPOCH="+strconv.FormatInt(m.epoch.Unix(), 10))
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(append([]string{name}, args[:min(2, len(args))]...), " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

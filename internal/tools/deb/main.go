// Command deb builds the project's Debian packages.
//
// It builds the static programs, makes the man pages from the programs' own help,
// gathers the licences of what is linked, and has nfpm pack what the files in
// image/deb name. The same commit gives the same bytes: nothing of the clock, the
// user, the umask or the checkout's folder gets into a package.
//
// It is a module of its own so that nfpm and all that nfpm needs stay out of the
// go.mod of those who only install a program. It calls nfpm as a library: nfpm's
// own command links each of its packagers, and what other formats need.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "deb:", err)
		os.Exit(1)
	}
}

// architectures are those that there are packages for, as Go and Debian call them.
const architectures = "amd64,arm64"

// keyringPackage is the package that is built only where a site is known.
const keyringPackage = "relay-appliance-archive-keyring"

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("deb", flag.ExitOnError)
	root := flags.String("root", "../../..", "the repository's top `folder`")
	out := flags.String("out", "../../../dist", "the `folder` for the packages")
	archs := flags.String("arch", architectures, "the `architectures`, as Go calls them")
	version := flags.String("version", "", "the `version`, such as v1.2.3; default: what git says")
	site := flags.String("site", "", "a `folder` with archive-keyring.gpg and updates.yaml, for the package that says where updates come from and who signs them; without it there is no such package")
	notices := flags.String("notices", "", "also write the licences of all that is linked, in whatever program, to this `file`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	for arch := range strings.SplitSeq(*archs, ",") {
		if !slices.Contains(strings.Split(architectures, ","), arch) {
			return fmt.Errorf("-arch: want of %s, not %q", architectures, arch)
		}
	}
	var err error
	for _, path := range []*string{root, out, site, notices} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	for arch := range strings.SplitSeq(*archs, ",") {
		b := &build{ctx: ctx, root: *root, arch: arch, site: *site}
		if err := b.make(*out, *version, *notices); err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
	}
	return nil
}

// make builds the packages of one architecture.
func (b *build) make(out, version, notices string) (err error) {
	if b.source, err = b.identify(version); err != nil {
		return err
	}
	configs, err := filepath.Glob(filepath.Join(b.root, "image/deb/*/nfpm.yaml"))
	if err != nil {
		return err
	}
	if len(configs) == 0 {
		return fmt.Errorf("no package is described in %s/image/deb: give -root", b.root)
	}
	if b.stage, err = os.MkdirTemp("", "deb-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.stage)
	if err := errors.Join(os.MkdirAll(out, 0o755), os.Chmod(b.stage, 0o755)); err != nil {
		return err
	}
	if err := b.programs(); err != nil {
		return err
	}
	if err := b.documents(); err != nil {
		return err
	}
	if notices != "" {
		if err := b.notices(notices); err != nil {
			return fmt.Errorf("licences of what is linked: %w", err)
		}
	}
	for _, c := range configs {
		if b.site == "" && filepath.Base(filepath.Dir(c)) == keyringPackage {
			continue
		}
		file, err := b.pack(c, out)
		if err != nil {
			return fmt.Errorf("pack %s: %w", filepath.Base(filepath.Dir(c)), err)
		}
		fmt.Println(file)
	}
	return nil
}

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
)

// pack writes the package that config describes, and returns its file name.
func (b *build) pack(config, out string) (string, error) {
	// Sources are relative to the repository; what was made here is in ${STAGE}.
	// nfpm puts in what its own fields name: version and architecture.
	parsed, err := nfpm.ParseFileWithEnvMapping(config, func(name string) string {
		switch name {
		case "STAGE":
			return b.stage
		case "VERSION":
			return b.debian
		case "SITE":
			return b.site
		case "ARCH":
			return b.arch
		}
		return ""
	})
	if err != nil {
		return "", err
	}
	info, err := parsed.Get("deb")
	if err != nil {
		return "", err
	}
	info.MTime = b.epoch
	if err := b.settle(info.Contents); err != nil {
		return "", err
	}
	for _, script := range []*string{&info.Scripts.PreInstall, &info.Scripts.PostInstall, &info.Scripts.PreRemove, &info.Scripts.PostRemove} {
		if *script != "" {
			*script = filepath.Join(b.root, *script)
		}
	}
	info = nfpm.WithDefaults(info)
	if err := nfpm.PrepareForPackager(info, "deb"); err != nil {
		return "", err
	}
	path := filepath.Join(out, deb.Default.ConventionalFileName(info))
	f, err := os.CreateTemp(out, ".deb-")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	err = deb.Default.Package(info, f)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return "", err
	}
	return path, os.Rename(f.Name(), path)
}

// settle fixes what nfpm would else take from the checkout: times, and modes that
// depend on the umask under which git wrote the files.
func (b *build) settle(contents files.Contents) error {
	for _, c := range contents {
		if c.FileInfo == nil {
			c.FileInfo = &files.ContentFileInfo{}
		}
		c.FileInfo.Owner, c.FileInfo.Group, c.FileInfo.MTime = "root", "root", b.epoch
		if c.Type == files.TypeDir {
			c.FileInfo.Mode |= 0o755
			continue
		}
		if c.Type == files.TypeSymlink {
			continue
		}
		if !filepath.IsAbs(c.Source) {
			c.Source = filepath.Join(b.root, c.Source)
		}
		info, err := os.Stat(c.Source)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file: name each file", c.Source)
		}
		if c.FileInfo.Mode == 0 {
			c.FileInfo.Mode = 0o644
			if info.Mode()&0o100 != 0 {
				c.FileInfo.Mode = 0o755
			}
		}
	}
	return nil
}

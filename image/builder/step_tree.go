package builder

import (
	"context"
	"os"
	"path/filepath"

	"github.com/psf-relay/relay-appliance/image/debian"
	"github.com/psf-relay/relay-appliance/image/disk"
)

// prepareTree unpacks an installed Debian and makes it bootable.
func (b *build) prepareTree(ctx context.Context) error {
	cache := debian.Cache{Dir: b.Cache, Say: func(format string, args ...any) { b.ui.Sayf(format, args...) }}
	kept, err := cache.Tree(ctx, b.recipe())
	if err != nil {
		return err
	}
	if b.hashes, err = kept.Packages(); err != nil {
		return err
	}
	if err := os.Mkdir(b.tree, 0o755); err != nil {
		return err
	}
	if err := kept.Unpack(ctx, b.tree); err != nil {
		return err
	}
	files := map[string]string{
		"etc/hostname": b.Hostname + "\n",
		"etc/hosts":    "127.0.0.1 localhost\n127.0.1.1 " + b.Hostname + "\n::1 localhost ip6-localhost ip6-loopback\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(b.tree, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return disk.Boot(b.spec())
}

func (b *build) spec() disk.Spec {
	return disk.Spec{Arch: b.arch, Tree: b.tree, Work: b.work, Name: b.Name, Time: b.time(), Size: b.size, Options: b.KernelOptions}
}

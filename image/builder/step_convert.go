package builder

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/psf-relay/relay-appliance/image/format"
)

func (b *build) convert(ctx context.Context) error {
	raw := format.Disk{Raw: b.disk, Name: b.Name, Time: b.time(), ID: b.spec().ID}
	// In the order of format.Names: an OVA takes the vmdk that is there.
	for _, name := range format.Names {
		if !b.wants(name) {
			continue
		}
		to := filepath.Join(b.work, b.Name+"."+name)
		if err := raw.Write(ctx, name, to); err != nil {
			return fmt.Errorf("make the %s: %w", name, err)
		}
		fi, err := os.Stat(to)
		if err != nil {
			return err
		}
		b.ui.Sayf("%s: %d MiB", name, fi.Size()>>20)
		b.files = append(b.files, to)
	}
	// The raw disk itself is renamed when all others are made of it.
	if to := filepath.Join(b.work, b.Name+".raw"); b.wants("raw") {
		if err := os.Rename(b.disk, to); err != nil {
			return err
		}
		b.files = append(b.files, to)
	}
	return nil
}

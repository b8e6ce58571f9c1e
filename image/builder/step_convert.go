package builder

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/psf-relay/relay-appliance/image/process"
)

// convertArgv converts in order, with one thread: the same file each time.
func convertArgv(format, raw, to string) []string {
	argv := append([]string{"qemu-img", "convert", "-m", "1", "-f", "raw"}, conversions[format]...)
	return append(argv, raw, to)
}

func (b *build) convert(ctx context.Context) error {
	for _, format := range b.Formats {
		to := filepath.Join(b.work, b.Name+"."+format)
		if format == "raw" {
			continue // renamed when all others are made of it
		}
		if err := process.Run(ctx, nil, nil, convertArgv(format, b.disk, to)...); err != nil {
			return fmt.Errorf("make the %s: %w", format, err)
		}
		fi, err := os.Stat(to)
		if err != nil {
			return err
		}
		b.ui.Sayf("%s: %d MiB", format, fi.Size()>>20)
		b.files = append(b.files, to)
	}
	if to := filepath.Join(b.work, b.Name+".raw"); b.wants("raw") {
		if err := os.Rename(b.disk, to); err != nil {
			return err
		}
		b.files = append(b.files, to)
	}
	return nil
}

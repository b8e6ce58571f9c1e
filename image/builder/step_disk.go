package builder

import (
	"context"

	"github.com/psf-relay/relay-appliance/image/disk"
)

func (b *build) makeDisk(ctx context.Context) (err error) {
	b.disk, err = disk.Make(ctx, b.spec())
	return err
}

package builder

import (
	"context"
	"strconv"

	"github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/psf-relay/relay-appliance/image/chroot"
)

func (b *build) communicator(ctx context.Context) *chroot.Communicator {
	return chroot.New(ctx, b.tree, "SOURCE_DATE_EPOCH="+strconv.FormatInt(b.Epoch, 10))
}

// provision runs the template's provisioners in the tree.
func (b *build) provision(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	comm := b.communicator(ctx)
	// When a provisioner is given up, what it runs must not go on beside the next step.
	defer comm.Wait()
	defer cancel()
	return b.hook.Run(ctx, packer.HookProvision, b.ui, comm, map[string]any{})
}

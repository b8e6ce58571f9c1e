package builder

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/psf-relay/relay-appliance/image/chroot"
	"github.com/psf-relay/relay-appliance/image/hygiene"
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

// scrub removes what the installation has left.
func (b *build) scrub(ctx context.Context) error {
	comm := b.communicator(ctx)
	var said bytes.Buffer
	cmd := &packer.RemoteCmd{Command: "sh -s", Stdin: strings.NewReader(hygiene.Scrub), Stdout: &said, Stderr: &said}
	if err := comm.Start(ctx, cmd); err != nil {
		return err
	}
	if code := cmd.Wait(); code != 0 {
		return fmt.Errorf("scrub the tree: exit code %d: %s", code, bytes.TrimSpace(said.Bytes()))
	}
	comm.Wait()
	return nil
}

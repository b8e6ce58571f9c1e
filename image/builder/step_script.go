package builder

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/psf-relay/relay-appliance/image/hygiene"
)

//go:embed initramfs.sh
var initramfs string

// makeInitramfs makes what the kernel starts with, of all that is installed by now.
func (b *build) makeInitramfs(ctx context.Context) error {
	return b.script(ctx, "make the initramfs", initramfs)
}

// scrub removes what the installation has left.
func (b *build) scrub(ctx context.Context) error {
	return b.script(ctx, "scrub the tree", hygiene.Scrub)
}

// script runs a shell script in the tree.
func (b *build) script(ctx context.Context, what, text string) error {
	comm := b.communicator(ctx)
	var said bytes.Buffer
	cmd := &packer.RemoteCmd{Command: "sh -s", Stdin: strings.NewReader(text), Stdout: &said, Stderr: &said}
	if err := comm.Start(ctx, cmd); err != nil {
		return err
	}
	if code := cmd.Wait(); code != 0 {
		return fmt.Errorf("%s: exit code %d: %s", what, code, bytes.TrimSpace(said.Bytes()))
	}
	comm.Wait()
	return nil
}

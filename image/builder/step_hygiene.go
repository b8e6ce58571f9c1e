package builder

import (
	"context"
	"fmt"
	"os"

	"github.com/psf-relay/relay-appliance/image/hygiene"
)

// checkHygiene fails the build when the finished tree holds what no image may.
func (b *build) checkHygiene(context.Context) error {
	tree, err := os.OpenRoot(b.tree)
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := hygiene.Check(tree.FS()); err != nil {
		return fmt.Errorf("the image is not fit to be copied:\n%w", err)
	}
	return nil
}

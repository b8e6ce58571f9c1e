package probe

import "context"

// tcp4 connects peer B to the registered literal address.
func tcp4(ctx context.Context, c *climb) error {
	h, err := c.connect(ctx, overTCP4, false, nil)
	c.tcp = h
	return err
}

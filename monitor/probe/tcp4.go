package probe

import "context"

// tcp4 connects peer B to the registered literal address.
func (c *climb) tcp4(ctx context.Context) error {
	h, err := c.connect(ctx, overTCP4, dials, nil)
	c.tcp = h
	return err
}

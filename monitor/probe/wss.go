package probe

import "context"

// wss connects peer A as a browser does. It is the peer that will reserve.
func wss(ctx context.Context, c *climb) error {
	h, err := c.connect(ctx, overWSS, true, c.opts.ProbeKey)
	c.web = h
	return err
}

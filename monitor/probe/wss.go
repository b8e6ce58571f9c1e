package probe

import "context"

// wss connects peer A as a browser does. It is the peer that will reserve.
func (c *climb) wss(ctx context.Context) error {
	h, err := c.connect(ctx, overWSS, takesCircuit, c.opts.ProbeKey)
	c.web = h
	return err
}

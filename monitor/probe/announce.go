package probe

import (
	"context"
	"fmt"

	"github.com/psf-relay/relay-appliance/internal/coord"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// announce notes what the listener heard of the relay. It is part of no vote.
func (c *climb) announce(ctx context.Context) error {
	heard, ok := c.opts.Listener.Last(c.target.PeerID)
	if !ok && c.opts.AnnounceWait > 0 {
		within, cancel := context.WithTimeout(ctx, c.opts.AnnounceWait)
		defer cancel()
		heard, ok = c.opts.Listener.Wait(within, c.target.PeerID)
	}
	if !ok {
		if err := c.opts.Listener.ownFault(c.target.PeerID); err != nil {
			return fmt.Errorf("listen through %s: %w", c.target.PeerID, err)
		}
		return fail(evidence.NotHeard, fmt.Errorf("nothing heard of %s on %s in the last %s", c.target.PeerID, coord.Topic, coord.MaxAge))
	}
	c.attempt.Facts.Announced = evidence.TimeOf(heard.BroadcastedAt).String()
	return nil
}

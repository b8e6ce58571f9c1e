package mirror

import (
	"context"
	"errors"
	"time"
)

// longestWait is the longest pause between two looks at a log that cannot be read.
const longestWait = 6 * time.Hour

// Follow looks at the log again and again, every so often, until ctx ends or the log shows
// two histories. What goes wrong is said, and tried again after ever longer pauses.
func (m *Mirror) Follow(ctx context.Context, every time.Duration, said func(Report, error)) error {
	wait := every
	for {
		r, err := m.Sync(ctx)
		if ctx.Err() != nil {
			return nil
		}
		said(r, err)
		var fork *ForkError
		switch {
		case errors.As(err, &fork):
			return err
		case err != nil:
			wait = min(2*wait, max(every, longestWait))
		default:
			wait = every
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

package monitor

import (
	"context"
	"errors"
	"fmt"
)

// hearSecond sees whether a second resolver answers: without one whatever fails on the
// way by a name that does not lead to the registered address is blind, which nobody
// would notice while all relays are well.
func (m *Monitor) hearSecond(ctx context.Context) {
	if m.ladder == nil || len(m.ladder.opts.Second) == 0 {
		return
	}
	var unheard error
	if faults := m.ladder.opts.Unheard(ctx); len(faults) == len(m.ladder.opts.Second) {
		unheard = fmt.Errorf("no failure on the way by a relay's name counts unless the name led to the registered address, since no second resolver answers: let this machine reach them (TCP, port 853), or name others (second_resolvers): %w", errors.Join(faults...))
	}
	if ctx.Err() != nil {
		return
	}
	m.mu.Lock()
	before := m.unheard
	m.unheard, m.heard = unheard, true
	m.mu.Unlock()
	switch {
	case unheard != nil && before == nil:
		m.log.Warn("the second resolvers are silent", "err", unheard)
	case unheard == nil && before != nil:
		m.log.Info("a second resolver answers again")
	}
}

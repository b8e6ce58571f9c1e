package store

import (
	"fmt"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Headers are the headers of a month's sealed hours, in order and without a hole;
// the first is of the month's or of the log's first hour, whichever is later.
func (l *Log) Headers(m evidence.Month) ([]evidence.Header, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines, err := l.monthHeaders(m)
	if err != nil {
		return nil, fmt.Errorf("blocks of %s: %w", m, err)
	}
	list := make([]evidence.Header, len(lines))
	for i, line := range lines {
		if list[i], err = evidence.DecodeHeader(line); err != nil {
			return nil, l.errDamaged("block %s: %w", max(m.First(), l.meta.First)+evidence.Hour(i), err)
		}
	}
	return list, nil
}

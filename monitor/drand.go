package monitor

import (
	"context"
	"slices"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
)

// fetchBeacons gets the beacons of the hours in which attempts may be made now.
func (m *Monitor) fetchBeacons(ctx context.Context) {
	if m.beacons == nil || ctx.Err() != nil {
		return
	}
	now := time.Now()
	m.beacons.Fetch(ctx, slices.Compact([]evidence.Hour{evidence.HourOf(now), evidence.HourOf(now.Add(-evidence.CloseAfter))}), now)
}

// autoDrand stands for [schedule.PublicDrand]; in a lab, for none.
const autoDrand = "auto"

// DrandServers are those that are asked for rounds.
func (c *Config) DrandServers() []string {
	switch {
	case !slices.Equal(c.Drand, []string{autoDrand}):
		return c.Drand
	case c.Network == evidence.Lab:
		return nil
	}
	return schedule.PublicDrand
}

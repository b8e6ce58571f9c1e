package bundle

import "github.com/psf-relay/relay-appliance/monitor/bounty"

// mapChart shows the disks within which the round trips place the relay.
type mapChart struct{}

func mapChartOf(*bounty.Verdict) *mapChart { return nil }

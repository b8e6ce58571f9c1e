package bundle

import (
	"fmt"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/chart"
)

// mapOf shows the monitors whose round trips tell where the relay is, each with the circle
// within which its shortest one places it.
func mapOf(v *bounty.Verdict) chart.Map {
	var all []chart.Vantage
	for _, d := range v.Disks {
		all = append(all, chart.Vantage{
			Name: d.Monitor, Lat: d.Place.Lat, Lon: d.Place.Lon, US: d.PingUS, Km: float64(d.CableKm),
			Note: fmt.Sprintf("so within %d km by cable, %d km by light in vacuum", d.CableKm, d.VacuumKm),
		})
	}
	return chart.NewMap(all)
}

// offMap are the monitors that the map does not show, and why.
func offMap(v *bounty.Verdict) []string {
	var out []string
	for _, m := range v.Monitors {
		switch {
		case m.Place == nil:
			out = append(out, m.Name+": the roster names no place")
		case m.PingUS == 0:
			out = append(out, m.Name+": no round trip is known")
		}
	}
	return out
}

package bundle

import (
	"fmt"
	"math"
	"strings"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
)

// mapChart shows the disks within which the round trips place the relay, on a
// plain map of the world (longitude to the right, latitude up).
type mapChart struct {
	Width, Height int
	Land          string // path of all land
	Disks         []mapDisk
}

type mapDisk struct {
	Path  string
	X, Y  int
	Label string
	Title string
}

const (
	mapW = 660
	mapH = 330
)

func mapChartOf(v *bounty.Verdict) (*mapChart, error) {
	if len(v.Disks) == 0 {
		return nil, nil
	}
	w, err := builtIn()
	if err != nil {
		return nil, err
	}
	m := &mapChart{Width: mapW, Height: mapH, Land: landPath(w.land)}
	for _, d := range v.Disks {
		x, y := project(d.Place)
		m.Disks = append(m.Disks, mapDisk{
			Path: diskPath(d.Place, float64(d.CableKm)), X: x, Y: y, Label: d.Monitor,
			Title: fmt.Sprintf("%s: %.1f ms, within %d km by cable, %d km by light in vacuum", d.Monitor, float64(d.PingUS)/1000, d.CableKm, d.VacuumKm),
		})
	}
	return m, nil
}

func project(p bounty.Place) (x, y int) {
	return int(math.Round((p.Lon + 180) * mapW / 360)), int(math.Round((90 - p.Lat) * mapH / 180))
}

// landPath draws the land to the pixel; islands of less than that are left out.
func landPath(l *land) string {
	var b strings.Builder
	for _, c := range l.countries {
		for _, r := range c.rings {
			for _, turn := range turns {
				ringPath(&b, r, turn)
			}
		}
	}
	return b.String()
}

// ringPath draws a ring where it lies after a turn, unless that is off the map.
func ringPath(b *strings.Builder, r ring, turn float64) {
	var points [][2]int
	seen := false
	for _, p := range r {
		p.Lon += turn
		x, y := project(p)
		if n := len(points); n > 0 && abs(points[n-1][0]-x)+abs(points[n-1][1]-y) < 3 {
			continue
		}
		seen = seen || 0 < x && x < mapW
		points = append(points, [2]int{x, y})
	}
	if len(points) < 3 || !seen {
		return
	}
	for i, p := range points {
		if i == 0 {
			fmt.Fprintf(b, "M%d %d", p[0], p[1])
		} else {
			fmt.Fprintf(b, "l%d %d", p[0]-points[i-1][0], p[1]-points[i-1][1])
		}
	}
	b.WriteByte('z')
}

func abs(n int) int { return max(n, -n) }

// diskPath draws the circle of radius km around p, in pieces where it leaves the
// map on one side and comes back on the other.
func diskPath(p bounty.Place, km float64) string {
	var b strings.Builder
	lat, lon, d := p.Lat*math.Pi/180, p.Lon*math.Pi/180, min(km/earthKm, math.Pi)
	last := math.NaN()
	for i := range 73 {
		course := float64(i) * 5 * math.Pi / 180
		φ := math.Asin(math.Sin(lat)*math.Cos(d) + math.Cos(lat)*math.Sin(d)*math.Cos(course))
		λ := lon + math.Atan2(math.Sin(course)*math.Sin(d)*math.Cos(lat), math.Cos(d)-math.Sin(lat)*math.Sin(φ))
		q := bounty.Place{Lat: φ * 180 / math.Pi, Lon: math.Mod(λ*180/math.Pi+540, 360) - 180}
		x, y := project(q)
		if math.IsNaN(last) || math.Abs(q.Lon-last) > 180 {
			fmt.Fprintf(&b, "M%d %d", x, y)
		} else {
			fmt.Fprintf(&b, "L%d %d", x, y)
		}
		last = q.Lon
	}
	return b.String()
}

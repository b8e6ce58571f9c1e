package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"golang.org/x/text/language"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
)

// land is where countries are: polygons in degrees.
type land struct{ countries []territory }

type territory struct {
	code  string // ISO 3166-1, "XX" where there is none
	rings []ring
}

// ring is a closed line; a polygon's holes are rings of their own.
type ring []bounty.Place

const (
	earthKm = 6371.0088
	// marginKm is added to every distance: the lines are simplified, and a
	// coast that is missed by a few kilometres must not decide anything.
	marginKm = 50
)

// topology is the part of TopoJSON that is used.
type topology struct {
	Arcs      [][][2]int64 `json:"arcs"`
	Transform struct {
		Scale     [2]float64 `json:"scale"`
		Translate [2]float64 `json:"translate"`
	} `json:"transform"`
	Objects struct {
		Countries struct {
			Geometries []struct {
				Type       string          `json:"type"`
				ID         string          `json:"id"`
				Arcs       json.RawMessage `json:"arcs"`
				Properties struct {
					Name string `json:"name"`
				} `json:"properties"`
			} `json:"geometries"`
		} `json:"countries"`
	} `json:"objects"`
}

// unnumbered are areas that Natural Earth lists without an ISO number, and where
// they count. Others are nowhere, which no rule finds eligible.
var unnumbered = map[string]string{"Somaliland": "SO", "N. Cyprus": "CY", "Kosovo": "XK", "Indian Ocean Ter.": "AU"}

// overseas are parts of France with codes of their own that matter here.
var overseas = []struct {
	code                   string
	west, south, east, top float64
}{
	{"GF", -55, 2, -51, 6},
	{"RE", 55, -22, 56, -20},
	{"YT", 45, -13.2, 45.4, -12.5},
}

func readLand(file []byte) (*land, error) {
	var t topology
	if err := json.Unmarshal(file, &t); err != nil {
		return nil, fmt.Errorf("want TopoJSON: %w", err)
	}
	arcs := make([]ring, len(t.Arcs))
	for i, arc := range t.Arcs {
		var x, y int64
		for _, d := range arc {
			x, y = x+d[0], y+d[1]
			arcs[i] = append(arcs[i], bounty.Place{
				Lon: float64(x)*t.Transform.Scale[0] + t.Transform.Translate[0],
				Lat: float64(y)*t.Transform.Scale[1] + t.Transform.Translate[1],
			})
		}
	}
	out := &land{}
	for _, g := range t.Objects.Countries.Geometries {
		var polygons [][][]int
		switch g.Type {
		case "Polygon":
			polygons = make([][][]int, 1)
			if err := json.Unmarshal(g.Arcs, &polygons[0]); err != nil {
				return nil, fmt.Errorf("%s: %w", g.Properties.Name, err)
			}
		case "MultiPolygon":
			if err := json.Unmarshal(g.Arcs, &polygons); err != nil {
				return nil, fmt.Errorf("%s: %w", g.Properties.Name, err)
			}
		default:
			return nil, fmt.Errorf("%s: geometry %s is not read", g.Properties.Name, g.Type)
		}
		code := codeOf(g.ID, g.Properties.Name)
		for _, p := range polygons {
			c := territory{code: code}
			for _, indexes := range p {
				r, err := joinArcs(arcs, indexes)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", g.Properties.Name, err)
				}
				c.rings = append(c.rings, r)
			}
			if len(c.rings) == 0 {
				continue
			}
			if code == "FR" {
				c.code = overseasCode(c.rings[0][0])
			}
			out.countries = append(out.countries, c)
		}
	}
	if len(out.countries) == 0 {
		return nil, errors.New("there is no country in it")
	}
	return out, nil
}

// joinArcs makes a ring of arcs; a negative index means the arc ~i backwards, and
// each arc begins where the one before ended.
func joinArcs(arcs []ring, indexes []int) (ring, error) {
	var out ring
	for _, i := range indexes {
		back := i < 0
		if back {
			i = ^i
		}
		if i >= len(arcs) || len(arcs[i]) == 0 {
			return nil, fmt.Errorf("arc %d is not there", i)
		}
		arc := arcs[i]
		if back {
			arc = slices.Clone(arc)
			slices.Reverse(arc)
		}
		if len(out) > 0 {
			arc = arc[1:]
		}
		out = append(out, arc...)
	}
	if len(out) < 3 {
		return nil, errors.New("a ring of fewer than three points")
	}
	return unroll(out), nil
}

// unroll makes a ring that crosses the date line one line in the plane: its
// longitudes go on beyond 180 degrees. A ring around a pole is closed over it.
func unroll(r ring) ring {
	turn := 0.0
	out := ring{r[0]}
	for i := 1; i < len(r); i++ {
		if d := r[i].Lon - r[i-1].Lon; d > 180 {
			turn -= 360
		} else if d < -180 {
			turn += 360
		}
		out = append(out, bounty.Place{Lat: r[i].Lat, Lon: r[i].Lon + turn})
	}
	if first, last := out[0], out[len(out)-1]; math.Abs(last.Lon-first.Lon) > 180 {
		pole := math.Copysign(90, first.Lat)
		out = append(out, bounty.Place{Lat: pole, Lon: last.Lon}, bounty.Place{Lat: pole, Lon: first.Lon}, first)
	}
	return out
}

// turns are the places in the plane at which a point or a ring may lie.
var turns = []float64{-360, 0, 360}

func codeOf(id, name string) string {
	if n, err := strconv.Atoi(id); err == nil {
		if r, err := language.EncodeM49(n); err == nil && r.IsCountry() {
			return r.String()
		}
	}
	if code, ok := unnumbered[name]; ok {
		return code
	}
	return "XX"
}

func overseasCode(p bounty.Place) string {
	for _, o := range overseas {
		if o.west <= p.Lon && p.Lon <= o.east && o.south <= p.Lat && p.Lat <= o.top {
			return o.code
		}
	}
	return "FR"
}

// within lists the countries with land no further than km from p, and marginKm.
func (l *land) within(p bounty.Place, km float64) []string {
	here := vectorOf(p)
	reach := (km + marginKm) / earthKm
	var out []string
	for _, c := range l.countries {
		if !slices.Contains(out, c.code) && (c.contains(p) || c.distance(here) <= reach) {
			out = append(out, c.code)
		}
	}
	slices.Sort(out)
	return out
}

// contains counts how often a line from p to the east crosses the rings.
func (c *territory) contains(p bounty.Place) bool {
	for _, turn := range turns {
		inside := false
		lon := p.Lon + turn
		for _, r := range c.rings {
			for i := range r {
				a, b := r[i], r[(i+1)%len(r)]
				if (a.Lat > p.Lat) != (b.Lat > p.Lat) && lon < a.Lon+(b.Lon-a.Lon)*(p.Lat-a.Lat)/(b.Lat-a.Lat) {
					inside = !inside
				}
			}
		}
		if inside {
			return true
		}
	}
	return false
}

// distance is the angle to the nearest point of the rings.
func (c *territory) distance(p vector) float64 {
	best := math.Pi
	for _, r := range c.rings {
		a := vectorOf(r[0])
		for _, q := range r[1:] {
			b := vectorOf(q)
			best = min(best, toSegment(p, a, b))
			a = b
		}
	}
	return best
}

// vector is a point of the unit sphere.
type vector struct{ x, y, z float64 }

func vectorOf(p bounty.Place) vector {
	lat, lon := p.Lat*math.Pi/180, p.Lon*math.Pi/180
	return vector{math.Cos(lat) * math.Cos(lon), math.Cos(lat) * math.Sin(lon), math.Sin(lat)}
}

func (a vector) dot(b vector) float64 { return a.x*b.x + a.y*b.y + a.z*b.z }

func (a vector) cross(b vector) vector {
	return vector{a.y*b.z - a.z*b.y, a.z*b.x - a.x*b.z, a.x*b.y - a.y*b.x}
}

func angle(a, b vector) float64 {
	c := a.cross(b)
	return math.Atan2(math.Sqrt(c.dot(c)), a.dot(b))
}

// toSegment is the angle from p to the great circle's piece between a and b.
func toSegment(p, a, b vector) float64 {
	ends := min(angle(p, a), angle(p, b))
	n := a.cross(b)
	length := math.Sqrt(n.dot(n))
	if length < 1e-12 {
		return ends
	}
	// The foot of the perpendicular lies between a and b if p is on the inner
	// side of both planes that stand on the piece at its ends.
	if n.cross(a).dot(p) < 0 || b.cross(n).dot(p) < 0 {
		return ends
	}
	return min(ends, math.Abs(math.Asin(max(-1, min(1, n.dot(p)/length)))))
}

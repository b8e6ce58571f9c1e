package chart

import (
	_ "embed"
	"fmt"
	"math"
	"strings"
)

// land is the path of all land, see [Project]. A test of package bundle draws it from the
// data by which rule R14 is judged.
//
//go:embed land.txt
var land string

// Vantage is a place from which a relay was tried.
type Vantage struct {
	Name     string
	Note     string // what else is to be said of it
	Lat, Lon float64
	US       int64   // the shortest round trip in microseconds; 0: none is known
	Km       float64 // how far the relay may be from it; 0: no circle is drawn
}

// Map has a spot for each vantage on a plain map of the world (longitude to the right,
// latitude up).
type Map struct {
	Top, Height int // of what is shown: the poles are cut off
	Land        string
	Words       string // the map, for those who cannot see it
	Spots       []spot
	More        int // vantages that are not drawn
}

type spot struct {
	Vantage
	X, Y   int
	Circle string // path
	Label  *label // nil: there is no room for one
	Words  string
}

type label struct {
	X, Y   int
	Anchor string
	Text   string
}

const (
	mapW, mapH = 660, 330
	mapTop     = 12  // 83 degrees north
	mapBottom  = 272 // 58 degrees south
	mostSpots  = 50
	// A label is as large as it is on a phone, where the letters are twice as large as the map.
	letterW, letterH = 13, 22
)

// NewMap draws the first of the vantages, and says how many there are besides.
func NewMap(vantages []Vantage) Map {
	m := Map{Top: mapTop, Height: mapBottom - mapTop, Land: strings.TrimSpace(land)}
	m.More = max(0, len(vantages)-mostSpots)
	m.Words = "map of the places from which the relay was tried"
	for i, v := range vantages[:len(vantages)-m.More] {
		s := spot{Vantage: v, Words: v.Name}
		s.X, s.Y = Project(v.Lat, v.Lon)
		if v.US > 0 {
			s.Words += fmt.Sprintf(": %.1f ms", float64(v.US)/1000)
		}
		if v.Note != "" {
			s.Words += ", " + v.Note
		}
		if v.Km > 0 {
			s.Circle = circle(v.Lat, v.Lon, v.Km)
		}
		m.Height = max(m.Height, s.Y+10-mapTop)
		m.Words += fmt.Sprintf("; %d: %s", i+1, s.Words)
		m.Spots = append(m.Spots, s)
	}
	m.label()
	return m
}

// box is room that is taken.
type box struct{ x, y, w, h int }

func (b box) meets(o box) bool {
	return b.x < o.x+o.w && o.x < b.x+b.w && b.y < o.y+o.h && o.y < b.y+b.h
}

// label puts a spot's number and round trip beside it, where it covers no spot and no
// other label; without room for that, the list beneath has them.
func (m *Map) label() {
	var taken []box
	for _, s := range m.Spots {
		taken = append(taken, box{s.X - 4, s.Y - 4, 8, 8})
	}
	for i := range m.Spots {
		s := &m.Spots[i]
		text := fmt.Sprint(i + 1)
		if s.US > 0 {
			text += fmt.Sprintf(": %.1f ms", float64(s.US)/1000)
		}
		w := letterW * len(text)
		for n := range 10 { // right and left of it, then further and further up and down
			y := s.Y + []int{0, -1, 1, -2, 2}[n/2]*letterH
			b, anchor, x := box{s.X + 7, y - letterH/2, w, letterH}, "start", s.X+7
			if n%2 == 1 {
				b.x, anchor, x = s.X-7-w, "end", s.X-7
			}
			if b.x < 0 || b.x+b.w > mapW || b.y < mapTop || b.y+b.h > mapTop+m.Height || b.meetsAny(taken) {
				continue
			}
			taken = append(taken, b)
			s.Label = &label{x, y, anchor, text}
			break
		}
	}
}

func (b box) meetsAny(others []box) bool {
	for _, o := range others {
		if b.meets(o) {
			return true
		}
	}
	return false
}

// Project says where on the map a place is, in degrees.
func Project(lat, lon float64) (x, y int) {
	return int(math.Round((lon + 180) * mapW / 360)), int(math.Round((90 - lat) * mapH / 180))
}

// circle draws the circle of radius km around a place, in pieces where it leaves the map
// on one side and comes back on the other.
func circle(lat, lon, km float64) string {
	const earthKm = 6371.0088
	var b strings.Builder
	d := min(km/earthKm, math.Pi)
	lat, lon = lat*math.Pi/180, lon*math.Pi/180
	last := math.NaN()
	for i := range 73 {
		course := float64(i) * 5 * math.Pi / 180
		φ := math.Asin(math.Sin(lat)*math.Cos(d) + math.Cos(lat)*math.Sin(d)*math.Cos(course))
		λ := lon + math.Atan2(math.Sin(course)*math.Sin(d)*math.Cos(lat), math.Cos(d)-math.Sin(lat)*math.Sin(φ))
		degrees := math.Mod(λ*180/math.Pi+540, 360) - 180
		x, y := Project(φ*180/math.Pi, degrees)
		if math.IsNaN(last) || math.Abs(degrees-last) > 180 {
			fmt.Fprintf(&b, "M%d %d", x, y)
		} else {
			fmt.Fprintf(&b, "L%d %d", x, y)
		}
		last = degrees
	}
	return b.String()
}

package bundle

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/chart"
)

// landPicture is the land as package chart draws it.
const (
	landPicture = "../chart/land.txt"
	mapWidth    = 660
)

// The land on the maps is that of the data by which rule R14 is judged.
func TestLandPicture(t *testing.T) {
	w, err := builtIn()
	if err != nil {
		t.Fatal(err)
	}
	want := landPath(w.land) + "\n"
	if *update {
		if err := os.WriteFile(landPicture, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(landPicture)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s: got %d bytes that are not the land of the built-in data, want %d bytes: run this test with -update", landPicture, len(got), len(want))
	}
}

// landPath draws the land to the pixel; islands of less than that are left out.
func landPath(l *land) string {
	var b strings.Builder
	for _, c := range l.countries {
		if c.code == "AQ" {
			continue // the map ends north of it
		}
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
		x, y := chart.Project(p.Lat, p.Lon)
		if n := len(points); n > 0 && abs(points[n-1][0]-x)+abs(points[n-1][1]-y) < 4 {
			continue
		}
		seen = seen || 0 < x && x < mapWidth
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

package bundle

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

var (
	singaporePlace = bounty.Place{Lat: 1.3521, Lon: 103.8198}
	tokyo          = bounty.Place{Lat: 35.68, Lon: 139.69}
	frankfurt      = bounty.Place{Lat: 50.11, Lon: 8.68}
	nairobi        = bounty.Place{Lat: -1.29, Lon: 36.82}
	suva           = bounty.Place{Lat: -18.14, Lon: 178.44} // beside the date line
	cayenne        = bounty.Place{Lat: 4.92, Lon: -52.31}
)

func geo(t testing.TB) *world {
	t.Helper()
	w, err := builtIn()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestLand(t *testing.T) {
	l := geo(t).land
	for _, tc := range []struct {
		name   string
		place  bounty.Place
		km     float64
		has    string
		hasNot string
	}{
		{"Singapore, near", singaporePlace, 1, "SG MY ID", "TH VN PH AU"},
		{"Singapore, 1,000 km", singaporePlace, 1000, "SG MY ID TH VN", "IN AU CN US"},
		{"Tokyo", tokyo, 300, "JP", "KR CN RU"},
		{"Frankfurt", frankfurt, 100, "DE FR", "PL IT GB"},
		{"Nairobi", nairobi, 10, "KE", "UG ET"},
		{"Nairobi, 500 km", nairobi, 500, "KE UG TZ", "EG ZA"},
		{"across the date line", suva, 900, "FJ TO", "NZ US"},
		{"French Guiana is not in Europe", cayenne, 1, "GF", "FR BR"},
		{"Paris is", bounty.Place{Lat: 48.85, Lon: 2.35}, 1, "FR", "GF"},
		{"Réunion", bounty.Place{Lat: -20.9, Lon: 55.5}, 1, "RE", "FR"},
		{"inside a large country, far from its border", bounty.Place{Lat: -25, Lon: 135}, 1, "AU", "ID"},
		{"Hong Kong is not the mainland", bounty.Place{Lat: 22.3, Lon: 114.17}, 1, "HK CN", "JP"},
		{"open sea", bounty.Place{Lat: -40, Lon: -120}, 500, "", "NZ CL US"},
		{"Finland is not in Russia", bounty.Place{Lat: 66, Lon: 25.5}, 1, "FI", "RU US"},
		{"Siberia is", bounty.Place{Lat: 67, Lon: 100}, 1, "RU", "US"},
		{"and so is what lies beyond the date line", bounty.Place{Lat: 67, Lon: -176}, 1, "RU", "US"},
		{"the same, written otherwise", bounty.Place{Lat: 67, Lon: 184}, 1, "RU", "US"},
		{"inside the Antarctic", bounty.Place{Lat: -80, Lon: 40}, 1, "AQ", "ZA"},
		{"the northern one is in the sea", bounty.Place{Lat: 90, Lon: 0}, 1, "", "RU CA GL NO"},
		{"the pole", bounty.Place{Lat: -90, Lon: 0}, 1, "AQ", "CL"},
		{"everywhere", frankfurt, 20100, "DE AU NZ CL JP ZA US", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := l.within(tc.place, tc.km)
			for _, c := range strings.Fields(tc.has) {
				if !slices.Contains(got, c) {
					t.Errorf("%s is missing in %v", c, got)
				}
			}
			for _, c := range strings.Fields(tc.hasNot) {
				if slices.Contains(got, c) {
					t.Errorf("%s is in %v", c, got)
				}
			}
		})
	}
}

// The default rules name no country that the land does not know, apart from
// those of fewer pixels than the map has.
func TestEveryEligibleCountryIsOnTheMap(t *testing.T) {
	known := map[string]bool{}
	for _, c := range geo(t).land.countries {
		known[c.code] = true
	}
	for _, c := range bounty.Defaults().Countries {
		if !known[c] {
			t.Errorf("%s is not on the map", c)
		}
	}
	if known["XX"] {
		n := 0
		for _, c := range geo(t).land.countries {
			if c.code == "XX" {
				n++
			}
		}
		if n > 1 { // the Siachen glacier
			t.Errorf("%d areas without a code", n)
		}
	}
}

func TestDistances(t *testing.T) {
	deg := math.Pi / 180
	a, b := vectorOf(bounty.Place{Lat: 0, Lon: 0}), vectorOf(bounty.Place{Lat: 0, Lon: 10})
	for name, tc := range map[string]struct {
		p    bounty.Place
		want float64
	}{
		"above the middle":        {bounty.Place{Lat: 3, Lon: 5}, 3},
		"on it":                   {bounty.Place{Lat: 0, Lon: 7}, 0},
		"beyond an end":           {bounty.Place{Lat: 0, Lon: 15}, 5},
		"beyond the other":        {bounty.Place{Lat: 0, Lon: -2}, 2},
		"on the far side":         {bounty.Place{Lat: 0, Lon: 180}, 170},
		"its circle, but not it":  {bounty.Place{Lat: 1, Lon: -170}, 169.98},
		"at a pole":               {bounty.Place{Lat: 90, Lon: 0}, 90},
		"above the opposite side": {bounty.Place{Lat: 5, Lon: -175}, 172.93},
	} {
		got := toSegment(vectorOf(tc.p), a, b) / deg
		if math.Abs(got-tc.want) > 0.3 {
			t.Errorf("%s: got %.3f degrees, want %.3f", name, got, tc.want)
		}
	}
	if d := toSegment(a, b, b) / deg; math.Abs(d-10) > 1e-6 {
		t.Errorf("a segment of one point: %v", d)
	}
	// Singapore to Tokyo is 5,316 km.
	if km := angle(vectorOf(singaporePlace), vectorOf(tokyo)) * earthKm; math.Abs(km-5316) > 20 {
		t.Errorf("Singapore to Tokyo: %.0f km", km)
	}
}

func TestLocate(t *testing.T) {
	g := geo(t)
	for ip, want := range map[string]string{
		"8.8.8.8": "US", "202.12.29.175": "AU", // APNIC's own
		"127.0.0.2": "", "10.0.0.1": "", "::1": "", "nonsense": "",
	} {
		if a, b := g.Locate(ip); a != want || b != want {
			t.Errorf("%s: got %q and %q, want %q", ip, a, b, want)
		}
	}
	sum, err := os.ReadFile("../../go.sum")
	if err != nil || !strings.Contains(string(sum), iplocSum) {
		t.Errorf("go.sum pins another phuslu/iploc than the report names (%v)", err)
	}
	if s := g.Sources(); len(s) != 3 || !strings.Contains(s[1].Name, "DB-IP") || s[1].Licence == "" {
		t.Errorf("sources: %+v", s)
	}
}

func TestFilesOfTheCommittee(t *testing.T) {
	mmdb, err := gunzip(dbipFile, dbipSHA256)
	if err != nil {
		t.Fatal(err)
	}
	topo, err := gunzip(landFile, landSHA256)
	if err != nil {
		t.Fatal(err)
	}
	g, err := OpenGeo(GeoFiles{Land: topo, CountriesA: mmdb, CountriesB: mmdb})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := g.Locate("8.8.8.8"); a != "US" || b != "US" {
		t.Errorf("got %q, %q", a, b)
	}
	for _, s := range g.Sources() {
		if !strings.Contains(s.Name, "committee's") || len(s.SHA256) != 64 {
			t.Errorf("got %+v", s)
		}
	}
	for name, f := range map[string]GeoFiles{
		"land":                {Land: []byte("{}")},
		"land of lines":       {Land: []byte(`{"arcs":[[[0,0]]],"objects":{"countries":{"geometries":[{"type":"Line","arcs":[0]}]}}}`)},
		"land without arcs":   {Land: []byte(`{"arcs":[],"objects":{"countries":{"geometries":[{"type":"Polygon","arcs":[[7]]}]}}}`)},
		"land of one point":   {Land: []byte(`{"arcs":[[[0,0]]],"objects":{"countries":{"geometries":[{"type":"Polygon","arcs":[[0]]}]}}}`)},
		"countries":           {CountriesA: []byte("x")},
		"countries once more": {CountriesB: []byte("x")},
	} {
		if _, err := OpenGeo(f); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := gunzip(landFile, dbipSHA256); err == nil {
		t.Error("another built-in file was accepted")
	}
}

// TestRegionOfARelay judges a relay near Singapore by the real data.
func TestRegionOfARelay(t *testing.T) {
	rules := bounty.Defaults()
	w := scene.New(t, evidence.PSF, 2)
	w.Place = "{lat: 1.3521, lon: 103.8198}"
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		a := w.Attempt(m, h, time.Minute)
		a.Facts.PingUS = []int64{2_100, 2_000, 2_300}
		return []evidence.Attempt{a}
	})
	v := judged(t, w, inputOf(w))
	if f := finding(t, v, "R14"); f.Outcome != bounty.Pass || !strings.Contains(f.Reasons[0], "strong") {
		t.Errorf("got %+v", f)
	}
	if len(v.Disks) != 2 || v.Disks[0].PingUS != 2000 || v.Disks[0].CableKm != int64(2*rules.CableKmPerMs)+1 {
		t.Errorf("got %+v", v.Disks)
	}
	html, err := HTML(v)
	if err != nil || !strings.Contains(string(html), `class="disk"`) || len(html) > 300<<10 {
		t.Errorf("no map in %d bytes of report, %v", len(html), err)
	}
}

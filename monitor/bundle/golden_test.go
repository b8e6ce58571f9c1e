package bundle

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Golden bundles keep every released version of the report recomputable. New ones
// are made with -update; those of a version that was released never change.
var update = flag.Bool("update", false, "make the golden bundles anew")

var goldens = map[string]struct {
	make func(t *testing.T) (*scene.Scene, Input)
	want string
}{
	"eligible": {goldenEligible, "ELIGIBLE"},
	"mixed":    {goldenMixed, "REVIEW"},
	"lab":      {goldenLab, "LAB, PROVISIONAL"},
	"stepped":  {goldenStepped, "REVIEW"},
}

func goldenEligible(t *testing.T) (*scene.Scene, Input) {
	w := scene.New(t, evidence.PSF, 3)
	w.Releases = []byte(releaseList)
	w.Place = "{lat: 1.3521, lon: 103.8198}"
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		a := w.Attempt(m, h, 10*time.Minute)
		a.Facts.PingUS = []int64{2_300, 2_100}
		return []evidence.Attempt{a}
	})
	return w, inputOf(w)
}

// goldenMixed has hours of every kind.
func goldenMixed(t *testing.T) (*scene.Scene, Input) {
	w := scene.New(t, evidence.PSF, 3)
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		i := slices.Index(w.Monitors, m)
		up := w.Attempt(m, h, 10*time.Minute)
		switch h - w.First {
		case 1:
			return []evidence.Attempt{w.Down(m, h, 10*time.Minute), w.Down(m, h, 16*time.Minute)}
		case 2:
			if i > 0 {
				up.Level, up.Facts.Reservation, up.Facts.HopReserve = 0, nil, 200
				up.Results[evidence.Relay] = evidence.Result{Outcome: evidence.Busy, Class: "reservation-refused"}
			}
		case 3:
			if i == 0 {
				return nil
			}
			up.Facts.Reservation.Voucher = nil
		case 4:
			if i > 0 {
				return []evidence.Attempt{w.Down(m, h, 10*time.Minute)} // and no second look
			}
		case 5:
			return []evidence.Attempt{w.Down(m, h, 10*time.Minute), w.Attempt(m, h, 16*time.Minute)}
		}
		return []evidence.Attempt{up}
	})
	return w, inputOf(w)
}

// goldenStepped has hours in which the monitors' clocks were set.
func goldenStepped(t *testing.T) (*scene.Scene, Input) {
	w := scene.New(t, evidence.PSF, 3)
	w.Set = func(_ *scene.Watcher, h evidence.Hour) time.Duration {
		return []time.Duration{0, -3 * time.Second, 6 * time.Minute, 1500 * time.Millisecond, 0, -time.Hour}[h-w.First]
	}
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		up := w.Attempt(m, h, 10*time.Minute)
		switch h - w.First {
		case 1, 3: // unknown, and down
			return []evidence.Attempt{w.Down(m, h, 10*time.Minute), w.Down(m, h, 16*time.Minute)}
		case 4, 5: // unknown, though up in the end
			up.Stepped = true
			return []evidence.Attempt{w.Down(m, h, 4*time.Minute), up}
		}
		return []evidence.Attempt{up} // up, set or not
	})
	return w, inputOf(w)
}

func goldenLab(t *testing.T) (*scene.Scene, Input) {
	w := scene.New(t, evidence.Lab, 1)
	w.Observe(w.Monitors[0], w.First, []evidence.Attempt{w.Attempt(w.Monitors[0], w.First, time.Minute)})
	w.AsOf = w.First.Start().Add(2 * time.Minute)
	return w, inputOf(w)
}

func goldenFile(t testing.TB, name, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "golden", name, file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGolden(t *testing.T) {
	for name, g := range goldens {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join("testdata", "golden", name)
			if *update {
				defer func(was func() string) { drawnBy = was }(drawnBy)
				drawnBy = func() string { return "v0.0.0-golden" }
				w, in := g.make(t)
				w.Must(os.MkdirAll(dir, 0o755))
				for file, data := range map[string][]byte{
					"bundle.zip": bundleOf(w, in), "rules.yaml": in.Rules, "roster.yaml": in.Roster, "committee.txt": []byte(w.CommitteeKey),
				} {
					w.Must(os.WriteFile(filepath.Join(dir, file), data, 0o644))
				}
			}
			res, err := verify(goldenFile(t, name, "bundle.zip"), Options{
				Rules: goldenFile(t, name, "rules.yaml"), Roster: goldenFile(t, name, "roster.yaml"), Committee: string(goldenFile(t, name, "committee.txt")),
			})
			if err != nil {
				t.Fatal(err)
			}
			if res.Verdict.Headline != g.want || res.Verdict.Version != bounty.ReportVersion {
				t.Errorf("got %s, version %d, want %s", res.Verdict.Headline, res.Verdict.Version, g.want)
			}
		})
	}
}

// A clock that was set leaves an hour up or unknown, never down; what the log says of
// it reaches the verdict.
func TestStepsInABundle(t *testing.T) {
	w, in := goldenStepped(t)
	v := judged(t, w, in)
	for i, want := range []string{"up", "unknown: clock", "up", "down", "unknown: clock", "unknown: clock"} {
		if got := at(v, w.First+evidence.Hour(i)).Votes["m1.example.org"]; got != want {
			t.Errorf("hour %d: got %q, want %q", i, got, want)
		}
	}
}

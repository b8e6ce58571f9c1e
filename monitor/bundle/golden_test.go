package bundle

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Golden bundles keep every released version of the report recomputable. New ones
// are made with -update; those of a version that was released never change.
var update = flag.Bool("update", false, "make the golden bundles anew")

var goldens = map[string]struct {
	make func(t *testing.T) (*scene, Input)
	want string
}{
	"eligible": {goldenEligible, "ELIGIBLE"},
	"mixed":    {goldenMixed, "REVIEW"},
	"lab":      {goldenLab, "LAB, PROVISIONAL"},
	"stepped":  {goldenStepped, "REVIEW"},
}

func goldenEligible(t *testing.T) (*scene, Input) {
	w := newScene(t, evidence.PSF, 3)
	w.releases = []byte(releaseList)
	w.place = "{lat: 1.3521, lon: 103.8198}"
	w.watch(func(m *watcher, h evidence.Hour) []evidence.Attempt {
		a := w.attempt(m, h, 10*time.Minute)
		a.Facts.PingUS = []int64{2_300, 2_100}
		return []evidence.Attempt{a}
	})
	return w, w.input()
}

// goldenMixed has hours of every kind.
func goldenMixed(t *testing.T) (*scene, Input) {
	w := newScene(t, evidence.PSF, 3)
	w.watch(func(m *watcher, h evidence.Hour) []evidence.Attempt {
		i := slices.Index(w.monitors, m)
		up := w.attempt(m, h, 10*time.Minute)
		switch h - w.first {
		case 1:
			return []evidence.Attempt{w.down(m, h, 10*time.Minute), w.down(m, h, 16*time.Minute)}
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
				return []evidence.Attempt{w.down(m, h, 10*time.Minute)} // and no second look
			}
		case 5:
			return []evidence.Attempt{w.down(m, h, 10*time.Minute), w.attempt(m, h, 16*time.Minute)}
		}
		return []evidence.Attempt{up}
	})
	return w, w.input()
}

// goldenStepped has hours in which the monitors' clocks were set.
func goldenStepped(t *testing.T) (*scene, Input) {
	w := newScene(t, evidence.PSF, 3)
	w.set = func(_ *watcher, h evidence.Hour) time.Duration {
		return []time.Duration{0, -3 * time.Second, 6 * time.Minute, 1500 * time.Millisecond, 0, -time.Hour}[h-w.first]
	}
	w.watch(func(m *watcher, h evidence.Hour) []evidence.Attempt {
		up := w.attempt(m, h, 10*time.Minute)
		switch h - w.first {
		case 1, 3: // unknown, and down
			return []evidence.Attempt{w.down(m, h, 10*time.Minute), w.down(m, h, 16*time.Minute)}
		case 4, 5: // unknown, though up in the end
			up.Stepped = true
			return []evidence.Attempt{w.down(m, h, 4*time.Minute), up}
		}
		return []evidence.Attempt{up} // up, set or not
	})
	return w, w.input()
}

func goldenLab(t *testing.T) (*scene, Input) {
	w := newScene(t, evidence.Lab, 1)
	w.observe(w.monitors[0], w.first, []evidence.Attempt{w.attempt(w.monitors[0], w.first, time.Minute)})
	w.asOf = w.first.Start().Add(2 * time.Minute)
	return w, w.input()
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
				w, in := g.make(t)
				w.must(os.MkdirAll(dir, 0o755))
				for file, data := range map[string][]byte{
					"bundle.zip": w.bundle(in), "rules.yaml": in.Rules, "roster.yaml": in.Roster, "committee.txt": []byte(w.committeeKey),
				} {
					w.must(os.WriteFile(filepath.Join(dir, file), data, 0o644))
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
		if got := at(v, w.first+evidence.Hour(i)).Votes["m1.example.org"]; got != want {
			t.Errorf("hour %d: got %q, want %q", i, got, want)
		}
	}
}

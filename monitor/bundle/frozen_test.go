package bundle

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// The months of testdata/frozen are of version 1 of the format. Money is paid on such
// files: every later version of the program must verify them, to the same bytes of
// report.json. They are never made anew once version 1 is released; a file that is there
// already is not overwritten by -update. No program is the one that drew their pages: those
// may change.
var frozen = map[string]struct {
	make func(t *testing.T) (*scene.Scene, Input)
	want string
}{
	"eligible":     {frozenEligible, "ELIGIBLE"},
	"not-eligible": {frozenNotEligible, "NOT_ELIGIBLE"},
	"review":       {frozenReview, "REVIEW"},
}

// twoDays is a scene of the last two days of a month, with four monitors of which the
// last leaves before the end.
func twoDays(t *testing.T) *scene.Scene {
	w := scene.New(t, evidence.PSF, 0)
	w.First -= 42
	w.Hours = 48
	w.Rules = "hours_required: 36\ncoverage_flag: 0\n"
	w.Releases = []byte(releaseList)
	w.Place = "{lat: 1.3521, lon: 103.8198}"
	for i := range 4 {
		w.Join(i)
	}
	until := w.First + 40
	w.Monitors[3].Until = &until
	return w
}

// aDay is what a monitor sees in an hour of a relay that has good and bad hours.
func aDay(w *scene.Scene, m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
	up := w.Attempt(m, h, 10*time.Minute)
	up.Facts.PingUS = []int64{2_300, 2_100}
	down := []evidence.Attempt{w.Down(m, h, 10*time.Minute), w.Down(m, h, 16*time.Minute)}
	first, last := slices.Index(w.Monitors, m) == 0, slices.Index(w.Monitors, m) >= 2
	switch (h - w.First) % 24 {
	case 2: // nobody can reach it
		return down
	case 4: // two monitors' lines are down: their failures are their own
		if last {
			for i := range down {
				for k := range down[i].Controls {
					down[i].Controls[k].Outcome = evidence.Fail
				}
			}
			return down
		}
	case 6: // disputed: two say down, and the relay signed for the others
		if last {
			return down
		}
	case 8: // full
		up.Level, up.Facts.Reservation, up.Facts.HopReserve = 0, nil, 200
		up.Results[evidence.Relay] = evidence.Result{Outcome: evidence.Busy, Class: evidence.ReserveRefused}
	case 10: // the second attempt came through
		return []evidence.Attempt{down[0], w.Attempt(m, h, 16*time.Minute)}
	case 12: // the committee's monitor was off
		if first {
			return nil
		}
	case 14: // no signature
		up.Facts.Reservation.Voucher = nil
	}
	return []evidence.Attempt{up}
}

func frozenEligible(t *testing.T) (*scene.Scene, Input) {
	w := twoDays(t)
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt { return aDay(w, m, h) })
	return w, inputOf(w)
}

func frozenNotEligible(t *testing.T) (*scene.Scene, Input) {
	w := twoDays(t)
	w.Notes = fmt.Sprintf("notes:\n- {kind: maintenance, from: %s, until: %s, text: new disks}\n", w.First+20, w.First+26)
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		if i := h - w.First; i >= 20 && i < 30 || i >= 44 {
			return []evidence.Attempt{w.Down(m, h, 10*time.Minute), w.Down(m, h, 16*time.Minute), w.Down(m, h, 23*time.Minute)}
		}
		return aDay(w, m, h)
	})
	return w, inputOf(w)
}

// frozenReview has a relay that moves, a monitor that writes two histories, and clocks
// that are set.
func frozenReview(t *testing.T) (*scene.Scene, Input) {
	w := twoDays(t)
	moved, to := w.First+24, "165.21.83.90"
	fork := w.Fork(w.Monitors[3])
	w.Set = func(m *scene.Watcher, h evidence.Hour) time.Duration {
		if m == w.Monitors[1] && h == w.First+16 {
			return 6 * time.Minute
		}
		return 0
	}
	home := w.IP
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		if m == w.Monitors[3] && h == w.First {
			return nil // it has begun
		}
		if h >= moved {
			w.IP = to
		}
		return aDay(w, m, h)
	})
	w.IP = home
	in := inputOf(w)
	s, err := statement.Sign(statement.Statement{
		Kind: statement.Move, Network: "psf", PeerID: w.RelayID, Operator: "relay-operator", IPv4: to, TCPPort: 4001,
		Domain: "relay.example.org", WSSPort: 443, From: moved.Start(), Made: (moved - 3).Start(),
	}, w.Relay)
	w.Must(err)
	move := fmt.Sprintf("  moves: [{from: %s, announced: %s, ipv4: %s, tcp_port: 4001, domain: relay.example.org, statement: %q}]\n", moved, moved-3, to, statement.Text(s))
	roster := strings.Replace(w.RosterYAML(), "relays:\n- {", "relays:\n- ", 1)
	// The relay's entry is in one line; with moves it has several.
	i := strings.Index(roster, "relays:\n")
	entry, rest, _ := strings.Cut(roster[i+len("relays:\n"):], "\n")
	entry = strings.TrimSuffix(strings.TrimPrefix(entry, "- "), "}")
	entry = "- " + strings.ReplaceAll(entry, ", ", "\n  ") + "\n"
	in.Roster = w.Signed(roster[:i] + "relays:\n" + entry + move + rest)
	in.Forks = [][]byte{fork}
	return w, in
}

func TestFrozen(t *testing.T) {
	for name, f := range frozen {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join("testdata", "frozen", name)
			file := func(name string) []byte {
				b, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
			if _, err := os.Stat(dir); *update && os.IsNotExist(err) {
				defer func(was func() string) { drawnBy = was }(drawnBy)
				drawnBy = func() string { return "v0.0.0-frozen" }
				w, in := f.make(t)
				w.Must(os.MkdirAll(dir, 0o755))
				b := bundleOf(w, in)
				for file, data := range map[string][]byte{
					"bundle.zip": b, "rules.yaml": in.Rules, "roster.yaml": in.Roster, "committee.txt": []byte(w.CommitteeKey), "releases.yaml": in.Releases,
				} {
					w.Must(os.WriteFile(filepath.Join(dir, file), data, 0o644))
				}
			}
			res, err := verify(file("bundle.zip"), Options{
				Rules: file("rules.yaml"), Roster: file("roster.yaml"), Committee: string(file("committee.txt")),
			})
			if err != nil {
				t.Fatal(err)
			}
			if res.Verdict.Headline != f.want {
				t.Errorf("got %s, want %s: %q", res.Verdict.Headline, f.want, res.Verdict.Reasons)
			}
			again, err := evidence.Encode(res.Verdict)
			if err != nil {
				t.Fatal(err)
			}
			b := file("bundle.zip")
			files, err := open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			report, err := files.read(jsonFile)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(report, again) {
				t.Error("report.json is not what this version makes of the evidence")
			}
			hours := res.Verdict.Hours
			t.Logf("%d bytes; %d up, %d down, %d busy, %d unknown; %q", len(b), hours.Up, hours.Down, hours.Busy, hours.Unknown, res.Verdict.Reasons)
		})
	}
}

package month

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// days are enough for all of the story, as if the month had no more.
const days = 4

// programs builds the one that is run.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.Command("go", "build", "-o", dir+"/", "github.com/psf-relay/relay-appliance/monitor/cmd/relayaudit").CombinedOutput()
	if err != nil {
		t.Fatalf("build relayaudit: %v\n%s", err, out)
	}
	return dir
}

// tell runs the last days of the month into dir.
func tell(t *testing.T, programs, dir string, days int) (*lab, string) {
	t.Helper()
	var out bytes.Buffer
	l := &lab{Options: Options{Programs: programs, Once: true, Days: days, Out: &out}, dir: dir, plot: newPlot(days), monitors: filepath.Join(dir, monitorsDir)}
	if err := l.run(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return l, out.String()
}

// hour is what the verdict says of an hour.
func hour(t *testing.T, v *bounty.Verdict, h evidence.Hour) bounty.HourReport {
	t.Helper()
	all := v.EveryHour()
	i := slices.IndexFunc(all, func(r bounty.HourReport) bool { return r.Hour == h })
	if i < 0 {
		t.Fatalf("the verdict says nothing of %s", h)
	}
	return all[i]
}

// every goes through the hours from one to another, which is excluded.
func every(from, until evidence.Hour, do func(evidence.Hour)) {
	for h := from; h < until; h++ {
		do(h)
	}
}

// Each relay and each monitor has its story, and the verdicts, made by the real programs,
// tell it.
func TestStories(t *testing.T) {
	programs, dir := programs(t), filepath.Join(t.TempDir(), "month")
	l, out := tell(t, programs, dir, days)
	p := l.plot
	of := map[string]*bounty.Verdict{}
	for _, j := range l.judged {
		of[j.name] = j.verdict
		if j.verdict.Result != bounty.LabResult || !j.verdict.Final {
			t.Errorf("%s: got %s, want LAB, and final", j.name, j.verdict.Headline)
		}
	}

	for name, want := range map[string]string{
		steady: "PASS", flaky: "FAIL (R10)", busy: "PASS", moved: "REVIEW (R11)", dead: "FAIL (R10)",
	} {
		if got := outcome(of[name]); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}

	t.Run("dead and disputed", func(t *testing.T) {
		from, until := p.lineBreaks()
		every(p.dies()+1, p.until, func(h evidence.Hour) {
			if h == from-1 || h == until-1 {
				return // its last retries may lie beyond the hour, on the other side of the break
			}
			got, want := hour(t, of[dead], h), bounty.StateDown
			if from <= h && h < until {
				want = bounty.StateUnknown // two saw it down, one says up
			}
			if got.State != want || got.Disputed != (want == bounty.StateDown) {
				t.Errorf("%s: got %s, disputed %v; want %s", h, got.State, got.Disputed, want)
			}
			if vote := got.Votes[liar]; vote != "up" {
				t.Errorf("%s: the liar's vote is %q, want up, by the relay's signature", h, vote)
			}
		})
	})
	t.Run("blind", func(t *testing.T) {
		from, until := p.lineBreaks()
		every(from, until-1, func(h evidence.Hour) { // a retry of the last hour may look after it
			for name, v := range of {
				if got := hour(t, v, h).Votes[brokenLine]; got != "unknown: blind" {
					t.Errorf("%s, %s: got %q, want unknown: blind", name, h, got)
				}
			}
		})
		if got := hour(t, of[steady], until+1).Votes[brokenLine]; got != "up" {
			t.Errorf("after it was mended: got %q, want up", got)
		}
	})
	t.Run("lies", func(t *testing.T) {
		lies := 0
		every(p.from, p.until, func(h evidence.Hour) {
			got := hour(t, of[steady], h)
			if p.lies(h) {
				lies++
				if got.Votes[liar] != "down" || got.State != bounty.StateUp {
					t.Errorf("%s: the liar says %q, and the hour is %s; want down, and up all the same", h, got.Votes[liar], got.State)
				}
			}
		})
		if lies == 0 {
			t.Error("it never lied")
		}
		unsigned := 0
		every(p.from, p.until, func(h evidence.Hour) {
			if clock := h.Start().Hour(); clock >= 1 && clock < 6 && hour(t, of[flaky], h).Votes[liar] == "unknown: unsigned" {
				unsigned++
			}
		})
		if want := 5 * days; unsigned != want {
			t.Errorf("up without a signature: in %d hours unknown, want %d", unsigned, want)
		}
	})
	t.Run("busy", func(t *testing.T) {
		v := of[busy]
		if full := v.Hours.Busy; full < 3*days-1 || full > 3*days {
			t.Errorf("%d hours busy, want three an evening", full)
		}
		if v.Hours.Down == 0 {
			t.Error("no hour is beyond the cap")
		}
	})
	t.Run("moved", func(t *testing.T) {
		if got := hour(t, of[moved], p.moves()).State; got != bounty.StateDown {
			t.Errorf("while it moved: got %s, want down", got)
		}
		if got := hour(t, of[moved], p.moves()+3).State; got != bounty.StateUp {
			t.Errorf("at the new address: got %s, want up", got)
		}
	})
	t.Run("graded", func(t *testing.T) {
		every(p.from+1, p.until, func(h evidence.Hour) {
			if got := hour(t, of[steady], h); got.State == bounty.StateUp && got.Grade != bounty.GradeA {
				t.Errorf("%s: grade %q, want A: witnessed, and signed for several", h, got.Grade)
			}
		})
	})
	t.Run("LAB", func(t *testing.T) { saysLab(t, l, out) })
	t.Run("explained", func(t *testing.T) { explains(t, out) })
}

// A second run in the same folder makes the same, to the byte, and leaves alone what is
// not its own.
func TestTwoRuns(t *testing.T) {
	programs, dir := programs(t), filepath.Join(t.TempDir(), "month")
	tell(t, programs, dir, 1)
	first := digests(t, dir)
	must(t, os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("mine"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, reportsDir, "left.html"), nil, 0o600))
	tell(t, programs, dir, 1)
	second := digests(t, dir)
	if _, ok := second["notes.txt"]; !ok {
		t.Error("a file that was not made here is gone")
	}
	delete(second, "notes.txt")
	for name, sum := range first {
		if second[name] != sum {
			t.Errorf("%s is not the same after a second run", name)
		}
	}
	if len(first) != len(second) {
		t.Errorf("%d files after the first run, %d after the second", len(first), len(second))
	}
}

// digests are those of all files below dir. Locks have nothing in them.
func digests(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		out[name] = fmt.Sprintf("%x", sha256.Sum256(b))
		return err
	}))
	return out
}

// saysLab looks at whatever a reader may take out of its place.
func saysLab(t *testing.T, l *lab, out string) {
	for _, name := range []string{markFile, rulesFile, rosterFile, releasesFile} {
		if b, err := os.ReadFile(l.path(name)); err != nil || !strings.Contains(string(b), "LAB") {
			t.Errorf("%s does not say LAB (%v)", name, err)
		}
	}
	for _, r := range relays {
		if b, err := os.ReadFile(l.report(r)); err != nil || !strings.Contains(string(b), "<title>LAB") {
			t.Errorf("the report of %s does not say LAB in its title (%v)", r.name, err)
		}
	}
	if !strings.Contains(out, "1. LAB:") {
		t.Errorf("the terminal does not say LAB:\n%s", out)
	}
	m, err := l.pages()
	must(t, err)
	defer m.Close()
	for _, path := range []string{"/", "/relay/" + relays[0].id(), fmt.Sprintf("/relay/%s/%s", relays[0].id(), told), fmt.Sprintf("/relay/%s/hour/%s", relays[0].id(), l.plot.from.Start().Format("2006-01-02T15"))} {
		status, page := get(t, m.Pages(), path)
		if status != http.StatusOK || !strings.Contains(page, "<title>LAB") {
			t.Errorf("%s: status %d, and its title is not of a LAB", path, status)
		}
	}
	// The month's page shows every hour that was told.
	_, page := get(t, m.Pages(), fmt.Sprintf("/relay/%s/%s", relays[0].id(), told))
	if got := len(regexp.MustCompile(`hour/\d{4}-\d\d-\d\dT\d\d"`).FindAllString(page, -1)); got < l.plot.hours() {
		t.Errorf("the page of the month links to %d hours, want %d at least", got, l.plot.hours())
	}
}

// explains runs the commands that are printed for the reader, as they stand there.
func explains(t *testing.T, out string) {
	_, script, ok := strings.Cut(out, "Go on by yourself:")
	script, _, _ = strings.Cut(script, "The reports, for")
	if !ok {
		t.Fatalf("no commands are printed:\n%s", out)
	}
	b, err := exec.Command("sh", "-e", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, b)
	}
	for _, want := range []string{"verdict: LAB", "down, disputed: the relay signed for a monitor in this hour", brokenLine + " (south): unknown: blind", "controls   0 of"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the commands print nothing of %q:\n%s", want, b)
		}
	}
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

// A folder of somebody else's is left alone.
func TestForeignFolder(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, bundlesDir, "mine.zip")
	must(t, os.Mkdir(filepath.Dir(mine), 0o755))
	must(t, os.WriteFile(mine, []byte("mine"), 0o600))
	err := Run(t.Context(), Options{Dir: dir, Once: true, Out: new(bytes.Buffer)})
	if err == nil || !strings.Contains(err.Error(), "was not made here") {
		t.Errorf("got %v, want a refusal", err)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Errorf("what was there is gone: %v", err)
	}
}

// The whole month has the story that docs/committee.md tells, without running it.
func TestPlot(t *testing.T) {
	p := newPlot(0)
	if p.hours() != 744 || !p.ends().Equal(p.until.Start().Add(73*time.Hour)) {
		t.Errorf("%d hours, as of %s: want 744, and final", p.hours(), p.ends())
	}
	both := 0
	from, until := p.lineBreaks()
	every(from, until, func(h evidence.Hour) {
		if p.lies(h) {
			both++
		}
	})
	if both == 0 {
		t.Error("the liar never lies while another is blind: nobody sees what that costs")
	}
}

// Ctrl-C is no error.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	if err := Run(ctx, Options{Dir: t.TempDir(), Days: 1, Out: &out}); err != nil || !strings.Contains(out.String(), "ended") {
		t.Errorf("got %v, %q; want it ended", err, out.String())
	}
}

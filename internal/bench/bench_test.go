package bench

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/internal/need"
)

// programs builds relayd and this package's own program.
func programs(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped: -short")
	}
	need.Root(t)
	need.Tools(t, "go")
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "../../relay/cmd/relayd", "./cmd/bench")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// measure runs the program and returns what it printed and what it measured.
func measure(t *testing.T, dir string, args ...string) (string, []Sample, error) {
	t.Helper()
	results := filepath.Join(t.TempDir(), "results.jsonl")
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "bench"), append(args, "--programs", dir, "--json", results)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	f, openErr := os.Open(results)
	if openErr != nil {
		t.Fatalf("%v: %v\n%s", openErr, err, out)
	}
	defer f.Close()
	samples, readErr := Read(f)
	if readErr != nil {
		t.Fatal(readErr)
	}
	return string(out), samples, err
}

// Every experiment runs once, with the real programs and next to no load, so that
// none of them rots. What it measures says nothing.
func TestEveryExperiment(t *testing.T) {
	need.NodeModules(t, "subject/js")
	out, samples, err := measure(t, programs(t), "run", "--scale", "smoke")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	has := map[string]bool{}
	for _, s := range samples {
		has[s.Experiment+" "+s.Variant] = true
	}
	for _, e := range experiments(Smoke) {
		for _, v := range e.variants {
			if _, err := exec.LookPath("haproxy"); strings.HasPrefix(v.subject, "haproxy") && err != nil {
				continue
			}
			if !has[e.name+" "+v.name()] {
				t.Errorf("%s was not measured:\n%s", e.name+" "+v.name(), out)
			}
		}
	}
}

// A soak of a few seconds says nothing about what grows; but nothing may fail.
func TestSoak(t *testing.T) {
	out, samples, err := measure(t, programs(t), "soak", "--for", "5s")
	if err != nil && !strings.Contains(out, "bench: not flat: ") {
		t.Fatalf("%v\n%s", err, out)
	}
	if len(samples) < 6 {
		t.Errorf("%d samples:\n%s", len(samples), out)
	}
	for _, want := range []string{"| goroutines ", "| came_and_left ", "| circuits ", "| the relay's warnings and errors "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestFlat(t *testing.T) {
	var samples []Sample
	for i := range 100 {
		samples = append(samples, Sample{Values: map[string]float64{
			"rss_mib":     50 + min(30, float64(i)),       // learns, and then no more
			"heap_mib":    20 + float64(i%10),             // breathes
			"goroutines":  1000 + 5*float64(i),            // leaks
			"open_files":  170,                            // stays
			"connections": 200 + 100*float64(1-min(i, 1)), // falls
		}})
	}
	rose := flat(io.Discard, samples)
	if want := []string{"goroutines rose to 1.07 times what it was"}; !slices.Equal(rose, want) {
		t.Errorf("%q, want %q", rose, want)
	}
}

func TestComplaints(t *testing.T) {
	log := filepath.Join(t.TempDir(), "relayd.log")
	if err := os.WriteFile(log, []byte(`time=2026-11-23T05:00:00Z level=INFO msg=ready
time=2026-11-23T05:00:01Z level=WARN msg="the \"list\" is not there" error="level=ERROR"
time=2026-11-23T05:00:02Z level=WARN msg="the \"list\" is not there" error=x
time=2026-11-23T05:00:03Z level=ERROR msg=stopped
`), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := complaints(log)
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{{"the relay's warnings and errors", "times"}, {`WARN "the \"list\" is not there"`, "2"}, {"ERROR stopped", "1"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A goal that names a value nobody measures would stay "not measured" for ever.
func TestGoalsNameWhatIsMeasured(t *testing.T) {
	have := map[string]bool{}
	for _, e := range experiments(Full) {
		for _, v := range e.variants {
			have[e.name+" "+v.name()] = true
		}
	}
	for _, g := range goals() {
		for _, v := range []value{g.of, g.to} {
			if v != (value{}) && !have[v.experiment+" "+v.variant] {
				t.Errorf("%s: there is no %s %s", g.name, v.experiment, v.variant)
			}
		}
	}
}

func TestJudge(t *testing.T) {
	sample := func(experiment, variant string, round int, name string, v float64) Sample {
		return Sample{Experiment: experiment, Variant: variant, Round: round, Time: time.Time{}, Values: map[string]float64{name: v}}
	}
	samples := []Sample{
		// The machine was slow in the second round: the ratio does not mind.
		sample("bulk", "haproxy", 1, "cpu_s_gib", 1), sample("bulk", "relayd tcp/noise", 1, "cpu_s_gib", 1.2),
		sample("bulk", "haproxy", 2, "cpu_s_gib", 3), sample("bulk", "relayd tcp/noise", 2, "cpu_s_gib", 3.6),
		sample("bulk", "haproxy", 3, "cpu_s_gib", 1), sample("bulk", "relayd tcp/noise", 3, "cpu_s_gib", 0.9),
		{Experiment: "bulk", Variant: "relayd tcp/noise", Round: 4, Error: "it failed"},
		sample("share", "relayd tcp/noise", 1, "share", 0.2),
		sample("crowd", "relayd tcp/noise", 1, "served", 1000),
	}
	got := map[string]string{}
	for _, o := range judge(samples) {
		got[o.name] = spread(o.measured) + " " + o.verdict()
	}
	for name, want := range map[string]string{
		"the same, against haproxy with AES":                          "1.2 (0.9 to 1.2) met",
		"a circuit's rate beside 50 of one other peer, against alone": "0.2 MISSED",
		"of 1,000 clients behind one address, served":                 "1000 aim",
		"CPU per GiB, quic, against haproxy":                          "- not measured",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
}

func TestTableIsMarkdown(t *testing.T) {
	var out bytes.Buffer
	if err := Table(&out, []Sample{{Experiment: "churn", Variant: "relayd quic", Round: 1, Values: map[string]float64{"cpu_ms": 1.26}}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| CPU per connect and identify, quic ", "| 1.26 ms ", "\nchurn\n\n| variant     | cpu_ms |\n|-------------|--------|\n| relayd quic | 1.26   |\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// The js relay that is compared with is the one that PSF software runs.
func TestJSRelayIsThePSFs(t *testing.T) {
	lock := func(name string) (versions map[string]string) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var l struct {
			Packages map[string]struct{ Version string }
		}
		if err := json.Unmarshal(data, &l); err != nil {
			t.Fatal(err)
		}
		versions = map[string]string{}
		for path, p := range l.Packages {
			versions[path] = p.Version
		}
		return versions
	}
	ours, theirs := lock("subject/js/package-lock.json"), lock("../e2e/psf/js/package-lock.json")
	for _, name := range []string{"libp2p", "@libp2p/tcp", "@libp2p/identify", "@libp2p/circuit-relay-v2", "@chainsafe/libp2p-noise", "@chainsafe/libp2p-yamux", "@libp2p/utils", "@multiformats/multiaddr"} {
		path := "node_modules/" + name
		if ours[path] == "" || ours[path] != theirs[path] {
			t.Errorf("%s: %q here, the PSF's is %q", name, ours[path], theirs[path])
		}
	}
}

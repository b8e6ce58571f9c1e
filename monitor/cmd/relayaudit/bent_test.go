package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// Each test here is one way in which somebody tried to bend a verdict, with the keys
// that he would have, against the built relayaudit. The lines of the table "Who is
// trusted with what" in BOUNTY.md stand behind them.

func one(a evidence.Attempt) []evidence.Attempt { return []evidence.Attempt{a} }

func TestHonestMonth(t *testing.T) {
	p := newPlay(t, 3).sees(nil).write()
	p.want(0, `^verdict: ELIGIBLE$`, `rests on +6 of the 6 hours`, `6 of the hours up are assured`, `dissent +Nobody`, `missing +Nobody`,
		`signed +The relay's own key signed for 6 of the 6 hours`, `pay +bitcoincash:qexample, signed by the relay's own key`,
		`rules +Serial 1, SHA-256 [0-9a-f]{64}`, `Yours, from .*/rules.yaml, and signed by the committee's key committee.example.org`, `roster +Serial 1, SHA-256 [0-9a-f]{64}`)
}

// Most monitors together, without the relay: hours up.
func TestTwoMonitorsWithoutTheRelay(t *testing.T) {
	p := newPlay(t, 3)
	p.sees(func(i int, m *scene.Watcher, n int, h evidence.Hour) []evidence.Attempt {
		if i == 1 && n > 0 {
			return p.down(m, h)
		}
		if i > 1 {
			return one(p.unsigned(m, h))
		}
		return nil
	}).write()
	p.want(3, `^verdict: (REVIEW|NOT_ELIGIBLE)$`, `signed for 1 of the 6 hours`, `0 of the hours up are assured`,
		`^! dissent +m1.example.org \(the committee's monitor, run by operator-1\) voted down in 5 hours that stay unknown: 2026-10-31T19:00Z`,
		`No word of m3.example.org .*: in 6 the relay signed nothing for its reservation \(unsigned\)`, `^R20 .*PASS`, `5 h are unknown although the committee's monitor voted down`)
	if html := p.entry("report.html"); !strings.Contains(html, "voted down in 5 hours that stay unknown") {
		t.Error("report.html does not name the dissent")
	}
	code, out := p.run("explain", "bundle.zip", "--rules", "rules.yaml", "--roster", "roster.yaml", "--committee", p.CommitteeKey, "--hour", (p.First + 2).String())
	if code != 0 || !strings.Contains(out, "unknown: unsigned") {
		t.Errorf("explain: exit code %d:\n%s", code, out)
	}
}

// Most monitors together, with the relay's help: hours up that the committee's monitor
// did not see. They are named, and make a REVIEW.
func TestTwoMonitorsWithTheRelay(t *testing.T) {
	p := newPlay(t, 3)
	p.sees(func(i int, m *scene.Watcher, n int, h evidence.Hour) []evidence.Attempt {
		if i == 1 && n > 0 {
			return p.down(m, h)
		}
		return nil
	}).write()
	p.want(3, `^verdict: REVIEW$`, `^! dissent +m1.example.org \(the committee's monitor, run by operator-1\) voted down in 5 hours that count up: 2026-10-31T19:00Z to 2026-11-01T00:00Z \(5 h\)`,
		`^R20 +dissent +REVIEW +5 h count up although the committee's monitor voted down, more than 2`, `^R19 +assurance +REVIEW +1 of the 6 hours`)
	for _, file := range []string{"report.md", "report.html"} {
		text := p.entry(file)
		if !strings.Contains(text, "voted down in 5 hours that count up") || strings.Index(text, "Who dissented?") > strings.Index(text, "R10") {
			t.Errorf("%s does not name the dissent on its first page", file)
		}
	}
}

// ... and their bundle has a log of the committee's monitor that ends after its one hour up.
func TestCommitteesLogCutOff(t *testing.T) {
	p := newPlay(t, 3)
	var early evidence.MonitorMonth
	p.sees(func(i int, m *scene.Watcher, n int, h evidence.Hour) []evidence.Attempt {
		if i == 1 && n == 1 {
			early = p.export(m, h.Start().Add(30*time.Minute))
		}
		if i == 1 && n > 0 {
			return p.down(m, h)
		}
		return nil
	})
	p.logs = func(all []evidence.MonitorMonth) []evidence.MonitorMonth { all[0] = early; return all }
	p.write()
	p.want(3, `^! missing +The log of m1.example.org \(the committee's monitor, run by operator-1\) ends at 2026-10-31T19:00:00Z: its word is not known in 5 hours`, `m1.example.org`)
	p.wantOf(3, []string{"--require", "eligible", "--without", "m1.example.org"}, `^verdict: REVIEW$`, `by your word`)
}

func TestLogLeftOut(t *testing.T) {
	for i, name := range []string{"m1.example.org", "m2.example.org", "m3.example.org"} {
		t.Run(name, func(t *testing.T) {
			p := newPlay(t, 3).sees(nil)
			p.logs = func(all []evidence.MonitorMonth) []evidence.MonitorMonth { return append(all[:i:i], all[i+1:]...) }
			p.write()
			p.want(3, `^! missing +The log of `+name+` .* is not in the bundle: its word is not known in 6 hours`)
			code, words := 0, `^verdict: ELIGIBLE$`
			if i == 0 { // the committee's own: no hour is assured without it
				code, words = 3, `^verdict: REVIEW$`
			}
			p.wantOf(code, []string{"--require", "eligible", "--without", name}, words, `without `+name+`.*by your word`)
			p.wantOf(2, []string{"--require", "eligible", "--without", "m9.example.org"}, `m9.example.org`)
		})
	}
}

// One monitor: false downs, in each place of the roster.
func TestFalseDowns(t *testing.T) {
	for liar := 1; liar <= 3; liar++ {
		t.Run(fmt.Sprintf("m%d", liar), func(t *testing.T) {
			p := newPlay(t, 3)
			p.sees(func(i int, m *scene.Watcher, n int, h evidence.Hour) []evidence.Attempt {
				if i == liar {
					return p.down(m, h)
				}
				return nil
			}).write()
			if liar == 1 {
				p.want(3, `^verdict: REVIEW$`, `^! dissent +m1.example.org`)
			} else {
				p.want(0, `^verdict: ELIGIBLE$`, fmt.Sprintf(`^! dissent +m%d.example.org \(run by operator-%d\) voted down in 6 hours that count up`, liar, liar))
			}
		})
	}
}

// One monitor: silence.
func TestSilentMonitor(t *testing.T) {
	for silent := 2; silent <= 3; silent++ {
		p := newPlay(t, 3)
		p.sees(func(i int, m *scene.Watcher, n int, h evidence.Hour) []evidence.Attempt {
			if i == silent {
				return []evidence.Attempt{}
			}
			return nil
		}).write()
		p.want(0, `^verdict: ELIGIBLE$`, fmt.Sprintf(`^! missing +No word of m%d.example.org \(run by operator-%d\) counts in any hour: in 6 .* \(missed\)`, silent, silent))
	}
}

// One monitor: what it says of the software, in each place of the roster.
func TestAgentLie(t *testing.T) {
	for liar := 1; liar <= 3; liar++ {
		for _, agent := range []string{"relayd/1.1.0", "somebody/0.0.1", ""} {
			p := newPlay(t, 3)
			p.sees(func(i int, m *scene.Watcher, n int, h evidence.Hour) []evidence.Attempt {
				if i != liar {
					return nil
				}
				a := p.good(m, h)
				a.Facts.AgentVersion = agent
				return one(a)
			}).write()
			p.want(0, `^verdict: ELIGIBLE$`, `^R13 +software +PASS`)
		}
	}
}

// One monitor: what it says of the distance, in each place of the roster.
func TestPingLie(t *testing.T) {
	for liar := 1; liar <= 3; liar++ {
		p := newPlay(t, 3)
		p.roster = func(yaml string) string { return p.placed(yaml, liar, "{lat: 40.7, lon: -74.0}") } // New York
		p.sees(func(i int, m *scene.Watcher, n int, h evidence.Hour) []evidence.Attempt {
			if i != liar {
				return nil
			}
			a := p.good(m, h)
			a.Facts.PingUS = []int64{1_000}
			return one(a)
		}).write()
		if liar == 1 {
			p.want(3, `^verdict: REVIEW$`, `^R14 +region +REVIEW +two round trips contradict`)
		} else {
			p.want(0, `^verdict: ELIGIBLE$`, `^R14 +region +PASS +strong`, `decide nothing: the relay answered m`)
		}
	}
}

// A witness: silence, and a clock that is wrong.
func TestWitnesses(t *testing.T) {
	for name, tc := range map[string]struct {
		sign  func(by int, sealed time.Time) time.Time
		code  int
		words []string
	}{
		"one is silent": {func(by int, sealed time.Time) time.Time {
			if by == 3 {
				return time.Time{}
			}
			return sealed.Add(3 * time.Minute)
		}, 0, []string{`^verdict: ELIGIBLE$`, `missing +Nobody`}},
		"one is a day behind": {func(by int, sealed time.Time) time.Time {
			if by == 3 {
				return sealed.Add(-24 * time.Hour)
			}
			return sealed.Add(3 * time.Minute)
		}, 0, []string{`^verdict: ELIGIBLE$`}},
		"all are silent": {func(int, time.Time) time.Time { return time.Time{} }, 3,
			[]string{`^verdict: REVIEW`, `rests on +0 of the 0 hours`}},
		"all are late": {func(_ int, sealed time.Time) time.Time { return sealed.Add(2 * time.Hour) }, 3,
			[]string{`^verdict: REVIEW`, `rests on +0 of the 6 hours`, `What m2.example.org .* wrote in 6 hours counts nowhere`}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlay(t, 3)
			p.Witness = func(by, _ *scene.Watcher, sealed time.Time) time.Time {
				return tc.sign(slices.Index(p.Monitors, by)+1, sealed)
			}
			p.sees(nil).write()
			p.want(tc.code, tc.words...)
		})
	}
}

// A region that round trips of one operator alone say, against both data sets.
func TestRegionAgainstDataSets(t *testing.T) {
	p := newPlay(t, 3)
	p.IP = "198.41.0.4"
	p.sees(nil).write()
	p.want(3, `^R14 +region +REVIEW +the data sets place 198.41.0.4 in US and US.*not eligible`, `and yet the relay answered`)
}

// One monitor: a browser check that failed.
func TestBrowserLie(t *testing.T) {
	for liar := 1; liar <= 3; liar++ {
		p := newPlay(t, 3)
		p.sees(func(i int, m *scene.Watcher, n int, h evidence.Hour) []evidence.Attempt {
			if i != liar || n != 2 {
				return nil
			}
			a := p.good(m, h)
			a.Rungs = append(a.Rungs, evidence.Rung{Name: bounty.BrowserRung, Outcome: evidence.Fail, Class: evidence.Refused, OffsetUS: 1_000_000, DurationUS: 2_000_000})
			for _, name := range []string{"c1", "c2", "c3"} {
				for _, c := range []evidence.Component{evidence.TCP4, evidence.WSS} {
					a.Controls = append(a.Controls, evidence.Control{Name: name, Component: c, Outcome: evidence.OK, Started: evidence.TimeOf(a.Started.Add(4 * time.Second))})
				}
			}
			return one(a)
		}).write()
		if liar == 1 {
			p.want(3, `^verdict: REVIEW$`, `^R15 +browsers +REVIEW +the browser check of m1`)
		} else {
			p.want(0, `^verdict: ELIGIBLE$`, `decide nothing: the browser check of m`)
		}
	}
}

// A relay's operator, with one monitor: vouchers that were signed beforehand.
func TestPresigned(t *testing.T) {
	for name, tc := range map[string]struct {
		reserve func(p *play, m *scene.Watcher, h evidence.Hour, at time.Time) *evidence.Reservation
		why     string
	}{
		"with nothing new in them": {func(p *play, m *scene.Watcher, h evidence.Hour, at time.Time) *evidence.Reservation {
			return p.stored(m, h, at, "", time.Hour)
		}, "unknown: not fresh"},
		"valid for a day": {func(p *play, m *scene.Watcher, h evidence.Hour, at time.Time) *evidence.Reservation {
			return p.stored(m, h, at, p.Fresh(m, h), 23*time.Hour)
		}, "unknown: presigned"},
		"for the hour before": {func(p *play, m *scene.Watcher, h evidence.Hour, at time.Time) *evidence.Reservation {
			return p.stored(m, h-1, at, p.Fresh(m, h), time.Hour)
		}, "unknown: bad voucher"},
		"for another monitor": {func(p *play, m *scene.Watcher, h evidence.Hour, at time.Time) *evidence.Reservation {
			return p.stored(p.Monitors[0], h, at, p.Fresh(p.Monitors[0], h), time.Hour)
		}, "unknown: bad voucher"},
		"with a cosignature of the evening before": {func(p *play, m *scene.Watcher, h evidence.Hour, at time.Time) *evidence.Reservation {
			return p.stored(m, h, at, p.Fresh(m, p.First), time.Hour)
		}, "unknown: bad voucher"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlay(t, 3)
			p.sees(func(i int, m *scene.Watcher, n int, h evidence.Hour) []evidence.Attempt {
				if i == 1 || n < 3 {
					return nil
				}
				a := p.good(m, h)
				a.Facts.Reservation = tc.reserve(p, m, h, a.Started.Time)
				return one(a)
			}).write()
			p.want(3, `^verdict: (REVIEW|NOT_ELIGIBLE)`, `rests on +3 of the 6 hours`)
			code, out := p.run("explain", "bundle.zip", "--rules", "rules.yaml", "--roster", "roster.yaml", "--committee", p.CommitteeKey, "--hour", (p.First + 4).String())
			if code != 0 || !strings.Contains(out, tc.why) {
				t.Errorf("explain: exit code %d, want %q:\n%s", code, tc.why, out)
			}
		})
	}
}

// One monitor: what it wrote and had cosigned, taken back or changed when it exports.
func TestRecordsTakenBack(t *testing.T) {
	lines := func(b []byte) [][]byte { return bytes.SplitAfter(bytes.TrimSuffix(b, []byte("\n")), []byte("\n")) }
	join := func(l [][]byte) []byte {
		var out []byte
		for _, line := range l {
			out = append(append(out, bytes.TrimSuffix(line, []byte("\n"))...), '\n')
		}
		return out
	}
	// The third hour is the one that somebody would rather not have written.
	const third = "2026-10-31T20:00:00Z"
	without := func(name string, files map[string][]byte) {
		l := lines(files[name])
		files[name] = join(append(l[:2:2], l[3:]...))
	}
	for name, tc := range map[string]struct {
		change func(t *testing.T, files map[string][]byte)
		words  string
	}{
		"withdrawn": {func(t *testing.T, files map[string][]byte) { without("records.jsonl", files) }, `the relay's record is missing`},
		"withdrawn with its proof": {func(t *testing.T, files map[string][]byte) {
			without("records.jsonl", files)
			without("proofs.jsonl", files)
		}, third + `.*nothing shows`},
		"withdrawn, and said to be absent": {func(t *testing.T, files map[string][]byte) {
			without("records.jsonl", files)
			l := lines(files["proofs.jsonl"])
			l[2] = bytes.Replace(l[2], []byte(`"present":true`), []byte(`"present":false`), 1)
			files["proofs.jsonl"] = join(l)
		}, third},
		"moved to another hour": {func(t *testing.T, files map[string][]byte) {
			files["records.jsonl"] = bytes.Replace(files["records.jsonl"], []byte(`"hour":"`+third), []byte(`"hour":"2026-10-31T21:00:00Z`), 1)
		}, third},
		"reordered": {func(t *testing.T, files map[string][]byte) {
			l := lines(files["records.jsonl"])
			l[1], l[2] = l[2], l[1]
			files["records.jsonl"] = join(l)
		}, `2026-10-31T19:00:00Z`},
		"doubled": {func(t *testing.T, files map[string][]byte) {
			l := lines(files["records.jsonl"])
			files["records.jsonl"] = join(append(l[:3:3], l[2:]...))
		}, `2026-10-31T21:00:00Z|record`},
		"doubled with its proof": {func(t *testing.T, files map[string][]byte) {
			for _, name := range []string{"records.jsonl", "proofs.jsonl"} {
				l := lines(files[name])
				files[name] = join(append(l[:3:3], l[2:]...))
			}
		}, `2026-10-31T21:00:00Z|proof`},
		"all of them": {func(t *testing.T, files map[string][]byte) {
			files["records.jsonl"], files["proofs.jsonl"] = nil, nil
			for name := range files {
				if strings.HasPrefix(name, "certificates/") {
					delete(files, name)
				}
			}
		}, `2026-10-31T18:00:00Z`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlay(t, 3).sees(nil).write()
			liar := p.Monitors[2]
			month := p.Logs()[2]
			files := p.forged(month, func(files map[string][]byte) { tc.change(t, files) })
			p.repack(func(all map[string][]byte) {
				for name := range all {
					if strings.HasPrefix(name, logDir(liar)) {
						delete(all, name)
					}
				}
				for name, data := range files {
					all[logDir(liar)+name] = data
				}
			}, nil)
			p.want(1, `is not good evidence: log of monitor m3.example.org`, tc.words)
		})
	}
}

// Who makes the bundle, with the key of one monitor: a date of his choice.
func TestAsOf(t *testing.T) {
	p := newPlay(t, 3)
	p.AsOf = p.First.Start().Add(31 * time.Hour) // the month is over, the 72 hours are not
	p.sees(nil).write()
	p.want(3, `^verdict: ELIGIBLE, PROVISIONAL$`, `as of 2026-11-02T00:00:00.000Z`)

	t.Run("one log into the future", func(t *testing.T) {
		p := newPlay(t, 3)
		p.AsOf = p.First.Start().Add(31 * time.Hour)
		p.sees(nil)
		liar := p.Monitors[2]
		_, err := liar.Log.Seal(p.First.Start().Add(200 * time.Hour)) // nobody cosigns that
		p.Must(err)
		late := p.export(liar, p.First.Start().Add(201*time.Hour))
		p.logs = func(all []evidence.MonitorMonth) []evidence.MonitorMonth { all[2] = late; return all }
		p.write()
		p.want(3, `^verdict: ELIGIBLE, PROVISIONAL$`, `as of 2026-11-02T00:00:00.000Z`)
	})
	t.Run("in the report", func(t *testing.T) {
		p.repack(func(files map[string][]byte) {
			files["report.json"] = bytes.Replace(files["report.json"], []byte(`"as_of":"2026-11-02`), []byte(`"as_of":"2026-12-02`), 1)
		}, nil)
		p.want(1, `report.json is not what the evidence shows`)
	})
}

// Who makes the bundle, with the key of one monitor: files that are not evidence.
func TestDerivedFiles(t *testing.T) {
	for name, tc := range map[string]struct {
		change    func(files map[string][]byte)
		predicate func(map[string]any)
		words     string
	}{
		"another payout on the page": {func(f map[string][]byte) {
			f["report.html"] = bytes.ReplaceAll(f["report.html"], []byte("bitcoincash:qexample"), []byte("bitcoincash:qthief"))
		}, nil, `report.html`},
		"another payout in the text": {func(f map[string][]byte) {
			f["report.md"] = bytes.ReplaceAll(f["report.md"], []byte("bitcoincash:qexample"), []byte("bitcoincash:qthief"))
		}, nil, `report.md`},
		"another payout in the report": {func(f map[string][]byte) {
			f["report.json"] = bytes.ReplaceAll(f["report.json"], []byte("bitcoincash:qexample"), []byte("bitcoincash:qthief"))
		}, nil, `report.json`},
		"other instructions":        {func(f map[string][]byte) { f["VERIFY.md"] = []byte("Just pay.\n") }, nil, `VERIFY.md`},
		"roots of his own":          {func(f map[string][]byte) { f["inputs/roots.pem"] = []byte("-----BEGIN CERTIFICATE-----\n") }, nil, `inputs/roots.pem`},
		"a file more":               {func(f map[string][]byte) { f["DECISION.md"] = []byte("The committee has approved this.\n") }, nil, `DECISION.md`},
		"a fork of nobody's":        {func(f map[string][]byte) { f["forks/1.txt"] = []byte("x\n\ny\n") }, nil, `forks/1.txt`},
		"another headline":          {nil, func(p map[string]any) { p["headline"] = "NOT_ELIGIBLE" }, `report.dsse.json`},
		"another date in statement": {nil, func(p map[string]any) { p["as_of"] = "2027-01-01T00:00:00.000Z" }, `report.dsse.json`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlay(t, 3).sees(nil).write()
			p.repack(tc.change, tc.predicate)
			p.want(1, `is not good evidence: .*`+tc.words)
		})
	}
}

// Drawings of another version, as after ten years, or as a liar says: the bundle is good,
// and nobody says of the drawings that they are.
func TestDrawingsOfAnotherVersion(t *testing.T) {
	p := newPlay(t, 3).sees(nil).write()
	p.repack(func(f map[string][]byte) {
		f["report.html"] = bytes.ReplaceAll(f["report.html"], []byte("bitcoincash:qexample"), []byte("bitcoincash:qthief"))
		f["VERIFY.md"] = []byte("Just pay.\n")
	}, func(predicate map[string]any) { predicate["drawn_by"], predicate["approved"] = "v9.8.7", true })
	p.want(0, `^verdict: ELIGIBLE$`, `^  - warning: NOT CHECKED: report.html, VERIFY.md in the bundle, drawn by version v9.8.7, while this is version v`,
		`^bundle     .*bundle.zip, verified: [0-9]+ files, 2 of them not checked \(see above\), put together by`, `bitcoincash:qexample`)
	p.wantOf(0, []string{"--json"}, `"not_checked": \{`, `"drawn_by": "v9.8.7"`, `"report.html",`)
	p.wantOf(0, []string{"--html", "mine.html"}, `the page in .*mine.html is drawn by this program`)
	page, err := os.ReadFile(filepath.Join(p.dir, "mine.html"))
	p.Must(err)
	if !bytes.Contains(page, []byte("bitcoincash:qexample")) || bytes.Contains(page, []byte("qthief")) {
		t.Error("the page is not drawn from the evidence")
	}
	p.wantOf(2, []string{"--html", "bundle.zip"}, `--html .*there is such a file already`)
}

// A month handed in as another one.
func TestPinned(t *testing.T) {
	p := newPlay(t, 3).sees(nil).write()
	p.wantOf(0, []string{"--require", "eligible", "--month", "2026-10", "--relay", p.RelayID}, `^verdict: ELIGIBLE$`)
	p.wantOf(1, []string{"--require", "eligible", "--month", "2026-11"}, `2026-10`)
	p.wantOf(1, []string{"--require", "eligible", "--relay", "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"}, p.RelayID)
}

func TestUnsignedIsNeverEligible(t *testing.T) {
	p := newPlay(t, 3).sees(nil).write()
	for _, args := range [][]string{{"verify", "--json"}, {"verify"}} {
		code, out := p.run(append(args, "bundle.zip", "--rules", "rules.yaml", "--roster", "roster.yaml", "--unsigned")...)
		if code != 0 || strings.Contains(out, "ELIGIBLE") {
			t.Errorf("%v: exit code %d:\n%s", args, code, out)
		}
	}
}

// A monitor that signed two histories, before the month even.
func TestForked(t *testing.T) {
	p := newPlay(t, 3)
	liar := p.Monitors[2]
	copied := filepath.Join(t.TempDir(), "copy")
	p.Must(os.CopyFS(copied, os.DirFS(liar.Dir)))
	twin, err := store.Open(copied)
	p.Must(err)
	t.Cleanup(func() { twin.Close() })
	_, err = twin.Seal(p.First.End().Add(18 * time.Minute)) // a minute later than the other one
	p.Must(err)
	other, err := twin.Checkpoint()
	p.Must(err)
	p.sees(nil)
	first, err := os.ReadFile(filepath.Join(liar.Dir, "checkpoints", "00000001"))
	p.Must(err)
	fork, err := evidence.NewFork(first, other, liar.Log.Key())
	p.Must(err)
	p.forks = [][]byte{fork}
	p.write()
	p.want(0, `^verdict: ELIGIBLE$`, `^! missing +Nothing of m3.example.org \(run by operator-3\) counts: it signed two roots`)
}

// Whoever makes the bundle leaves the fork of m2 out. A reader who has it brings it: it
// convicts as if it stood in the bundle.
func TestForkLeftOut(t *testing.T) {
	p := newPlay(t, 3)
	fork, stranger := p.Fork(p.Monitors[1]), newPlay(t, 2)
	p.save("m2.fork", fork)
	p.save("stranger.fork", stranger.Fork(stranger.Monitors[1]))
	p.save("agree.fork", bytes.Join([][]byte{before(fork), before(fork)}, []byte("\n")))
	p.save("alone.checkpoint", before(fork))
	p.save("large.fork", make([]byte, 1<<20))
	p.sees(func(i int, m *scene.Watcher, n int, h evidence.Hour) []evidence.Attempt {
		if i == 3 && n < 2 {
			return one(p.unsigned(m, h))
		}
		return nil
	}).write()
	p.want(0, `^verdict: ELIGIBLE$`)
	void := `^! missing +Nothing of m2.example.org \(run by operator-2\) counts: it signed two roots for size 1, .*: see .*m2.fork, which the reader brought`
	brought := []string{"--require", "eligible", "--fork", "m2.fork"}
	p.wantOf(notMet, brought, `^verdict: REVIEW$`, void,
		`warning: the fork .*m2.fork was brought by you, it is not from the bundle: monitor m2.example.org signed two histories, so nothing of it counts$`,
		`warning: without the forks that you brought it is ELIGIBLE, with them REVIEW: that counts$`)
	p.wantOf(notMet, append(brought, "--fork", "m2.fork"), `^verdict: REVIEW$`, `as another fork shows already$`)
	p.wantOf(notMet, append(brought, "--json", "--html", "page.html"), `^  "headline": "REVIEW",$`, `^  "result": "REVIEW",$`, `^      "file": ".*m2.fork",$`, `^      "monitor": "m2.example.org",$`, `^  "newest": `)
	page, err := os.ReadFile(filepath.Join(p.dir, "page.html"))
	p.Must(err)
	if !bytes.Contains(page, []byte("m2.fork, which the reader brought")) {
		t.Error("the page does not say that the reader brought the fork")
	}
	for _, name := range []string{"stranger.fork", "agree.fork", "alone.checkpoint", "rules.yaml"} {
		p.wantOf(cli.BadUsage, []string{"--fork", name}, `the fork .*`+name+` convicts no monitor of your newest roster: want two checkpoints of one size`)
	}
	p.wantOf(cli.BadUsage, []string{"--fork", "large.fork"}, `--fork: .*large.fork: more than `)

	hour := p.First.String()
	explain := []string{"explain", "bundle.zip", "--rules", "rules.yaml", "--roster", "roster.yaml", "--committee", p.CommitteeKey, "--hour", hour}
	if code, out := p.run(append(explain, "--fork", "m2.fork")...); code != 0 || !strings.Contains(out, "m2.example.org (operator-2): unknown: void\n") {
		t.Errorf("explain: exit code %d\n%s", code, out)
	}

	// The same verdict as that of a bundle with the fork in it; bringing it changes nothing.
	p.forks = [][]byte{fork}
	p.write()
	p.want(notMet, `^verdict: REVIEW$`)
	p.wantOf(notMet, brought, `^verdict: REVIEW$`, `m2.example.org signed two histories, so nothing of it counts, as another fork shows already$`)
	// A log that is not there can be convicted, too.
	p.forks, p.logs = nil, func(all []evidence.MonitorMonth) []evidence.MonitorMonth {
		return slices.DeleteFunc(all, func(m evidence.MonitorMonth) bool { return m.Key == p.Monitors[1].Log.Key() })
	}
	p.write()
	p.wantOf(notMet, brought, `m2.example.org signed two histories, and no log by that key is in the bundle$`)
}

// before is the first checkpoint of a fork.
func before(fork []byte) []byte {
	parts := bytes.SplitAfter(fork, []byte("\n\n"))
	return append(slices.Clone(parts[0]), bytes.TrimSuffix(parts[1], []byte("\n"))...)
}

// The committee's own files: what cannot be meant is refused, by name.
func TestCommitteesFiles(t *testing.T) {
	for name, tc := range map[string]struct {
		rules  map[string]string
		cut    string // a field that is left out of the rules
		roster func(string) string
		words  string
	}{
		"a number that begins with 0": {rules: map[string]string{"hours_required": "0600"}, words: `hours_required.*0600|0600.*hours_required`},
		"a number in hex":             {rules: map[string]string{"busy_cap": "0x48"}, words: `busy_cap`},
		"a number left out":           {cut: "committee_dissent", words: `committee_dissent`},
		"a payout that nobody signed": {roster: func(s string) string {
			i := strings.Index(s, `, statement: "`)
			j := strings.Index(s[i+14:], `"`) + i + 15
			return s[:i] + s[j:]
		}, words: `payout`},
		"another payout than the relay signed": {roster: func(s string) string {
			return strings.Replace(s, `payout: "bitcoincash:qexample"`, `payout: "bitcoincash:qthief"`, 1)
		}, words: `payout.*qexample.*qthief`},
		"operators that differ in a blank": {roster: func(s string) string {
			return strings.Replace(s, "operator: operator-3", `operator: "Operator-2 "`, 1)
		}, words: `(?i)operator-2`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlay(t, 3).sees(nil).write()
			for field, value := range tc.rules {
				p.rules[field] = value
			}
			rules := p.rulesFile()
			if tc.cut != "" {
				rules = p.Signed(withoutField(string(bounty.DefaultRules), tc.cut))
			}
			p.roster = tc.roster
			p.save("rules.yaml", rules)
			p.save("roster.yaml", p.rosterFile())
			p.want(2, tc.words)
		})
	}
	t.Run("deeply nested", func(t *testing.T) {
		p := newPlay(t, 3).sees(nil).write()
		for _, file := range []string{"rules.yaml", "roster.yaml"} {
			good, err := os.ReadFile(filepath.Join(p.dir, file))
			p.Must(err)
			p.save(file, p.Signed("countries: "+strings.Repeat("[", 200_000)+"\n"))
			p.want(2, strings.TrimSuffix(file, ".yaml")+`:1:.*more than 32 deep`)
			p.save(file, good)
		}
	})
}

// entry is a file of the bundle.
func (p *play) entry(name string) string {
	p.t.Helper()
	var out string
	p.peek(func(files map[string][]byte) { out = string(files[name]) })
	return out
}

// export is what a monitor's log shows of the month at a time.
func (p *play) export(m *scene.Watcher, at time.Time) evidence.MonitorMonth {
	p.t.Helper()
	var witnesses []string
	for _, o := range p.Monitors {
		witnesses = append(witnesses, o.CosignKey)
	}
	month, err := m.Log.Month(p.First.Month(), p.RelayID, at, witnesses...)
	p.Must(err)
	return month
}

// placed puts monitor i elsewhere.
func (p *play) placed(yaml string, i int, place string) string {
	lines := strings.Split(yaml, "\n")
	for k, line := range lines {
		if strings.Contains(line, fmt.Sprintf("name: m%d.example.org,", i)) {
			lines[k] = strings.Replace(line, p.Place, place, 1)
		}
	}
	return strings.Join(lines, "\n")
}

// withoutField is the rules without one of their lines.
func withoutField(rules, field string) string {
	var out []string
	for _, line := range strings.Split(rules, "\n") {
		if !strings.HasPrefix(line, field+":") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

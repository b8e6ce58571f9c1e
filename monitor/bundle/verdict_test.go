package bundle

import (
	"bytes"
	"encoding/base64"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bls"
	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// judged writes and verifies the world's bundle.
func judged(t testing.TB, w *scene.Scene, in Input) *bounty.Verdict {
	t.Helper()
	res, err := verify(bundleOf(w, in), optionsOf(w, in))
	if err != nil {
		t.Fatal(err)
	}
	return res.Verdict
}

func finding(t testing.TB, v *bounty.Verdict, rule string) bounty.Finding {
	t.Helper()
	i := slices.IndexFunc(v.Findings, func(f bounty.Finding) bool { return f.Rule == rule })
	if i < 0 {
		t.Fatalf("no finding of %s", rule)
	}
	return v.Findings[i]
}

func at(v *bounty.Verdict, h evidence.Hour) bounty.HourReport {
	i := slices.IndexFunc(v.Hourly, func(r bounty.HourReport) bool { return r.Hour == h })
	if i < 0 {
		return bounty.HourReport{}
	}
	return v.Hourly[i]
}

// TestPlan forges the times of attempts, and the plan: a monitor that looks before its
// plan says so, or has none that is its own, may have chosen the moment, and its hours are
// unknown.
func TestPlan(t *testing.T) {
	for _, network := range []evidence.Network{evidence.PSF, evidence.Lab} {
		t.Run(string(network), func(t *testing.T) {
			w := scene.New(t, network, 3)
			w.OffPlan = true
			liar, foreign := w.Monitors[0], w.Monitors[1]
			another, err := bls.GenerateKey()
			w.Must(err)
			foreign.PlanKey = another.Public().String() // in the roster: not the one that signs its records
			due := func(m *scene.Watcher, h evidence.Hour) time.Duration { return m.Log.Offset(w.RelayID, h) }
			// Hours with room before the one and after the other.
			w.Hours = 0
			var early, late evidence.Hour
			for h := w.First; early == 0 || late == 0; h++ {
				switch by := due(liar, h); {
				case early == 0 && by >= 3*time.Second:
					early = h
				case late == 0 && by <= 43*time.Minute:
					late = h
				}
				if w.Hours++; w.Hours == 6 {
					break
				}
			}
			w.Hours = 6
			if late == 0 {
				t.Skip("no hour of this random plan has room for a late attempt")
			}
			w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
				after := due(m, h)
				switch {
				case m == liar && h == early:
					after -= 2 * time.Second
				case m == liar && h == late:
					after += 16*time.Minute + time.Second
				}
				return []evidence.Attempt{w.Attempt(m, h, after)}
			})
			v := judged(t, w, inputOf(w))
			if network == evidence.Lab {
				if v.Monitors[0].Schedule != nil || v.Hours.Up != w.Hours {
					t.Errorf("a lab may choose its moment: %+v, %d hours up", v.Monitors[0].Schedule, v.Hours.Up)
				}
				return
			}
			for i, want := range []bounty.ScheduleReport{{Checked: w.Hours, Early: 1, Late: 1}, {Unplanned: w.Hours}, {Checked: w.Hours}} {
				if got := v.Monitors[i].Schedule; got == nil || *got != want {
					t.Errorf("the plan of m%d: got %+v, want %+v", i+1, got, want)
				}
			}
			for _, h := range v.Hourly {
				want := "up"
				if h.Hour == early {
					want = "unknown: early"
				}
				if got := h.Votes[liar.Name]; got != want {
					t.Errorf("%s: m1's vote is %q, want %q", h.Hour, got, want)
				}
				if got := h.Votes[foreign.Name]; got != "unknown: unplanned" {
					t.Errorf("%s: m2's vote is %q, want unknown: unplanned", h.Hour, got)
				}
			}
			for i, want := range []map[bounty.Why]map[bounty.Value]int{{bounty.Early: {bounty.Up: 1}}, {bounty.Unplanned: {bounty.Up: w.Hours}}, nil} {
				if got := v.Monitors[i].Voided; !maps.EqualFunc(got, want, maps.Equal) {
					t.Errorf("hours of m%d that count nowhere: got %v, want %v", i+1, got, want)
				}
			}
			for _, words := range []string{"of 6 hours with a plan 1 began early and 1 late", "of 0 hours with a plan 0 began early and 0 late; 6 have no good plan"} {
				if !strings.Contains(string(Markdown(v)), words) {
					t.Errorf("the report does not say %q", words)
				}
			}
		})
	}
}

// TestWhoseWordIsNone: the operator's own monitor and one that signed two
// histories say nothing about the region or the browsers, either.
// Nor does a browser that failed while the monitor's line was not seen to work, or while
// its clock was set.
func TestWhoseWordIsNone(t *testing.T) {
	for _, kind := range []string{"counts", "recused", "void", "blind", "stepped"} {
		t.Run(kind, func(t *testing.T) {
			w := scene.New(t, evidence.PSF, 4)
			w.Place = "{lat: 1.3521, lon: 103.8198}"
			liar := w.Monitors[3]
			if kind == "recused" {
				liar.Operator = "relay-operator"
			}
			fork := w.Fork(liar)
			w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
				if m == liar && h == w.First {
					return nil // it has begun
				}
				a := w.Attempt(m, h, 10*time.Minute)
				if m == liar {
					a.Facts.PingUS = []int64{100}
					a.Rungs = append(a.Rungs, evidence.Rung{Name: bounty.BrowserRung, Outcome: evidence.Fail})
					a.Stepped = kind == "stepped"
					if kind != "blind" {
						a.Controls = w.Down(m, h, 10*time.Minute).Controls
					}
				}
				return []evidence.Attempt{a}
			})
			in := inputOf(w)
			if kind == "void" {
				in.Forks = [][]byte{fork}
			}
			v := judged(t, w, in)
			region, browser := finding(t, v, "R14"), finding(t, v, "R15")
			heard := slices.ContainsFunc(v.Disks, func(d bounty.Disk) bool { return d.Monitor == liar.Name })
			// Alone, it decides nothing; but it is told.
			told := strings.Contains(strings.Join(region.Reasons, "; "), "decide nothing: the relay answered "+liar.Name)
			looked := strings.Contains(strings.Join(browser.Reasons, "; "), "decide nothing: the browser check of "+liar.Name)
			counts := kind == "counts" || kind == "blind" || kind == "stepped"
			if heard != counts || told != counts || looked != (kind == "counts") {
				t.Errorf("disk %v, region %s %q, browser %s %q", heard, region.Outcome, region.Reasons, browser.Outcome, browser.Reasons)
			}
		})
	}
}

// TestHours mixes what monitors can see, and looks at each hour's report.
func TestHours(t *testing.T) {
	w := scene.New(t, evidence.PSF, 3)
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		i := slices.Index(w.Monitors, m)
		up := []evidence.Attempt{w.Attempt(m, h, 10*time.Minute)}
		down := []evidence.Attempt{w.Down(m, h, 10*time.Minute), w.Down(m, h, 16*time.Minute)}
		busy := w.Attempt(m, h, 10*time.Minute)
		busy.Level, busy.Facts.Reservation, busy.Facts.HopReserve = 0, nil, 200
		busy.Results[evidence.Relay] = evidence.Result{Outcome: evidence.Busy, Class: "reservation-refused"}
		unsigned := w.Attempt(m, h, 10*time.Minute)
		unsigned.Facts.Reservation.Voucher = nil
		switch h - w.First {
		case 1: // all down
			return down
		case 2: // one sees it, two do not: the relay signed for the first
			if i == 0 {
				return up
			}
			return down
		case 3: // one up, two busy
			if i > 0 {
				return []evidence.Attempt{busy}
			}
		case 4: // nobody holds a signature
			return []evidence.Attempt{unsigned}
		case 5: // one up, one down, one says nothing
			switch i {
			case 1:
				return down
			case 2:
				return nil
			}
		}
		return up
	})
	v := judged(t, w, inputOf(w))
	for i, want := range []struct {
		state    bounty.State
		grade    bounty.Grade
		busy     bool
		disputed bool
	}{
		{bounty.StateUp, bounty.GradeA, false, false},
		{bounty.StateDown, "", false, false},
		{bounty.StateDown, "", false, true},
		{bounty.StateUp, bounty.GradeC, true, false},
		{bounty.StateUnknown, "", false, false}, // up, and the relay signed nothing
		{bounty.StateUnknown, "", false, false},
	} {
		h := at(v, w.First+evidence.Hour(i))
		if h.State != want.state || h.Grade != want.grade || h.Busy != want.busy || h.Disputed != want.disputed {
			t.Errorf("hour %d: got %+v, want %+v", i, h, want)
		}
	}
	if h := at(v, w.First+1); strings.Join(h.Causes, ", ") != "tcp4 refused, wss refused" {
		t.Errorf("causes: %q", h.Causes)
	}
	if h := at(v, w.First+5); h.Votes["m3.example.org"] != "unknown: missed" {
		t.Errorf("votes: %q", h.Votes)
	}
	if len(v.Disputed) != 1 || v.Disputed[0].From != w.First+2 {
		t.Errorf("disputed: %v", v.Disputed)
	}
	if v.Monitors[0].Vouchers != 4 || v.Monitors[0].Votes[bounty.Up] != 4 || v.Signed != 4 || v.Assured != 1 {
		t.Errorf("m1: %+v", v.Monitors[0])
	}
}

// An overloaded monitor's hours are unknown for that reason, unless it made the
// attempts that a vote takes.
func TestOverloadedMonitor(t *testing.T) {
	w := scene.New(t, evidence.PSF, 3)
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		if m != w.Monitors[2] {
			return []evidence.Attempt{w.Attempt(m, h, 10*time.Minute)}
		}
		if h != w.First+2 {
			w.Must(m.Log.Mark(h, evidence.Mark{Missed: 3}))
		}
		switch h - w.First {
		case 0:
			return nil
		case 1, 2:
			return []evidence.Attempt{w.Down(m, h, 10*time.Minute)}
		case 3:
			return []evidence.Attempt{w.Down(m, h, 10*time.Minute), w.Down(m, h, 16*time.Minute)}
		}
		return []evidence.Attempt{w.Attempt(m, h, 10*time.Minute)}
	})
	v := judged(t, w, inputOf(w))
	for i, want := range []string{"unknown: overloaded", "unknown: overloaded", "unknown: one failure", "down", "up"} {
		if got := at(v, w.First+evidence.Hour(i)).Votes["m3.example.org"]; got != want {
			t.Errorf("hour %d: got %q, want %q", i, got, want)
		}
	}
}

func TestLateMonitor(t *testing.T) {
	w := scene.New(t, evidence.PSF, 3)
	late := w.Monitors[2]
	for h := w.First; h < w.First+6; h++ {
		for _, m := range w.Monitors {
			w.Observe(m, h, []evidence.Attempt{w.Attempt(m, h, time.Minute)})
		}
		for _, m := range w.Monitors {
			if m == late && h == w.First+2 {
				continue // its checkpoint is cosigned an hour later than the others'
			}
			w.Seal(m, h.End().Add(17*time.Minute))
		}
	}
	v := judged(t, w, inputOf(w))
	for i := range evidence.Hour(6) {
		want := "up"
		if i == 2 {
			want = "unknown: late"
		}
		if got := at(v, w.First+i).Votes[late.Name]; got != want {
			t.Errorf("hour %d: got %q, want %q", i, got, want)
		}
	}
	if v.Hours.Up != 6 {
		t.Errorf("the two others are enough: %+v", v.Hours)
	}
}

func TestRunningLab(t *testing.T) {
	w := scene.New(t, evidence.Lab, 1)
	h := w.First
	w.Observe(w.Monitors[0], h, []evidence.Attempt{w.Attempt(w.Monitors[0], h, time.Minute)})
	w.AsOf = h.Start().Add(2 * time.Minute)
	in := inputOf(w)
	o := optionsOf(w, in)
	o.Committee = "" // a lab is capped anyway
	res, err := verify(bundleOf(w, in), o)
	if err != nil {
		t.Fatal(err)
	}
	v := res.Verdict
	if v.Headline != "LAB, PROVISIONAL" || res.Result != bounty.LabResult || len(res.Warnings) != 1 {
		t.Errorf("got %s, %s, %q", v.Headline, res.Result, res.Warnings)
	}
	if words := strings.Join(v.Reasons, "; "); !strings.Contains(words, "lab:") || !strings.Contains(words, "no hour of the enrolment has closed yet") {
		t.Errorf("reasons: %q", v.Reasons)
	}
	if v.Hours.Up != 0 {
		t.Errorf("hours up: got %d, want 0: the open hour counts nowhere", v.Hours.Up)
	}
	if !strings.Contains(string(Markdown(v)), "LAB, PROVISIONAL") {
		t.Error("not in the Markdown")
	}
}

func TestLabAndRealNeverMix(t *testing.T) {
	lab, real := scene.New(t, evidence.Lab, 1), scene.New(t, evidence.PSF, 1)
	lab.Watch(nil)
	lab.Network = evidence.PSF // a roster and rules of the real thing over a lab's log
	in := inputOf(lab)
	if _, err := Write(&bytes.Buffer{}, in); err == nil || !strings.Contains(err.Error(), "is a log of network lab") {
		t.Errorf("got %v", err)
	}
	real.Watch(nil)
	in = inputOf(real)
	in.Rules = real.Signed(scene.RulesOver(t, "network: lab"))
	if _, err := Write(&bytes.Buffer{}, in); err == nil || !strings.Contains(err.Error(), "never mixed") {
		t.Errorf("got %v", err)
	}
}

func TestFork(t *testing.T) {
	w := scene.New(t, evidence.PSF, 3)
	w.Hours = 3
	victim := w.Monitors[1]
	fork, more, another := w.Fork(victim), w.Fork(victim), w.Fork(w.Monitors[0])
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		if m == victim && h == w.First {
			return nil
		}
		return []evidence.Attempt{w.Attempt(m, h, 10*time.Minute)}
	})
	in := inputOf(w)
	in.Forks = [][]byte{fork}
	v := judged(t, w, in)
	if m := v.Monitors[1]; !strings.Contains(m.Void, "two roots for size 1") || m.Votes[bounty.Unknown] != 6 {
		t.Errorf("got %+v", m)
	}
	if got := at(v, w.First+1).Votes[victim.Name]; got != "unknown: void" || v.Hours.Up != 3 {
		t.Errorf("got %q, %+v", got, v.Hours)
	}
	// Others' forks convict nobody here, nor do checkpoints that agree, or a fork twice.
	own, err := victim.Log.Checkpoint()
	w.Must(err)
	if _, err := evidence.NewFork(own, own, victim.Log.Key()); err == nil || !strings.Contains(err.Error(), "they agree") {
		t.Errorf("got %v", err)
	}
	other := scene.New(t, evidence.PSF, 1)
	theirs := other.Fork(other.Monitors[0])
	if got := Convicting([][]byte{own, theirs, []byte("hello\n"), fork, fork}, in.Logs); len(got) != 1 || !bytes.Equal(got[0], fork) {
		t.Errorf("these convict: %q", got)
	}
	// One that is too large for a bundle must not prevent it: a log that forks would make it so.
	var long [2][]byte
	for i := range long {
		text := victim.Log.Origin() + "\n7\n" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(i)}, 32)) + "\n" + strings.Repeat("more\n", 1000)
		long[i] = evidencetest.SignedText(t, victim.Dir, text)
	}
	large, err := evidence.NewFork(long[0], long[1], victim.Log.Key())
	w.Must(err)
	if got := Convicting([][]byte{large}, in.Logs); len(got) != 0 {
		t.Errorf("a fork of %d bytes convicts", len(got[0]))
	}
	swapped := bytes.SplitAfterN(fork, []byte("\n\n"), 3)
	for name, tc := range map[string]struct {
		forks [][]byte
		want  string
	}{
		"one checkpoint":        {[][]byte{own}, "contradicts no log"},
		"others'":               {[][]byte{theirs}, "contradicts no log"},
		"the same twice":        {[][]byte{fork, fork}, "is the same as the one before"},
		"the other order":       {[][]byte{slices.Concat(swapped[2], []byte("\n"), swapped[0], bytes.TrimSuffix(swapped[1], []byte("\n")))}, "contradicts no log"},
		"two of the same":       {[][]byte{fork, more}, "another fork convicts already"},
		"more than any log has": {[][]byte{fork, append(bytes.Clone(another), make([]byte, maxFork)...)}, "at most"},
	} {
		in.Forks = tc.forks
		if _, err := Write(&bytes.Buffer{}, in); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
	in.Forks = [][]byte{fork}
	b := bundleOf(w, in)
	// Whoever makes another bundle of this one has the forks as well.
	if logs, forks, err := Logs(bytes.NewReader(b), int64(len(b))); err != nil || len(logs) != 3 || len(forks) != 1 || !bytes.Equal(forks[0], fork) {
		t.Errorf("%d logs, forks %q, %v", len(logs), forks, err)
	}
	// Without holes in the numbers.
	f, err := open(bytes.NewReader(b), int64(len(b)))
	w.Must(err)
	f.file(forkFile(0)).name = forkFile(1)
	if _, err := verifyFiles(f, optionsOf(w, in)); err == nil || !strings.Contains(err.Error(), "forks/1.txt is missing") {
		t.Errorf("got %v", err)
	}
}

// A fork that the verifier brings convicts, by a newer roster as well, and the bundle's own
// report stays what it was.
func TestForkBrought(t *testing.T) {
	w := scene.New(t, evidence.PSF, 3)
	w.Hours = 3
	victim := w.Monitors[1]
	fork := w.Fork(victim)
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		if m == victim && h == w.First {
			return nil
		}
		return []evidence.Attempt{w.Attempt(m, h, 10*time.Minute)}
	})
	in := inputOf(w)
	b := bundleOf(w, in)
	o := optionsOf(w, in)
	o.Forks = []GivenFork{{"mine", fork}}
	for serial, roster := range map[int][]byte{1: in.Roster, 2: nextRoster(w, in.Roster)} {
		o.Roster = roster
		res, err := verify(b, o)
		if err != nil || len(res.Forks) != 1 || res.Forks[0].Monitor != victim.Name || res.Forks[0].Size != 1 {
			t.Fatalf("serial %d: got %+v, %v", serial, res.Forks, err)
		}
		v := res.Counts()
		if was, m := res.Verdict.Monitors[1], v.Monitors[1]; was.Void != "" || !strings.Contains(m.Void, "see mine, which the reader brought") || m.Votes[bounty.Unknown] != 6 || v.Inputs.Roster.Serial != serial {
			t.Errorf("serial %d: got %+v, %+v by roster %d", serial, was, m, v.Inputs.Roster.Serial)
		}
		if again, err := res.Judge(res.Case.Rules); err != nil || again.Headline != v.Headline || again.Monitors[1].Void == "" {
			t.Errorf("serial %d: judged again: got %+v, %v", serial, again, err)
		}
	}
	var input *InputError
	o.Forks = append(o.Forks, GivenFork{"bad", fork[1:]})
	if _, err := verify(b, o); !errors.As(err, &input) || !strings.Contains(err.Error(), "the fork bad convicts no monitor of your newest roster") {
		t.Errorf("got %v", err)
	}
}

// A monitor that wrote two histories before the month is convicted as well: the size
// is one that its log of the month does not show.
func TestForkBeforeTheMonth(t *testing.T) {
	w := scene.New(t, evidence.PSF, 3)
	victim := w.Monitors[1]
	fork := w.Fork(victim)
	w.Hours = 9 // three of them are of November
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		if m == victim && h == w.First {
			return nil
		}
		return []evidence.Attempt{w.Attempt(m, h, 10*time.Minute)}
	})
	in := inputOf(w)
	in.Month++
	in.Logs = w.LogsOf(in.Month)
	in.Forks = [][]byte{fork}
	v := judged(t, w, in)
	if m := v.Monitors[1]; !strings.Contains(m.Void, "two roots for size 1") || m.Votes[bounty.Unknown] != 72 {
		t.Errorf("got %+v", m)
	}
}

func TestRecused(t *testing.T) {
	w := scene.New(t, evidence.PSF, 3)
	w.Monitors[2].Operator = "relay-operator"
	w.Watch(nil)
	v := judged(t, w, inputOf(w))
	if m := v.Monitors[2]; !m.Recused {
		t.Errorf("got %+v", m)
	}
	if h := at(v, w.First); h.Tally.Bench != 2 || h.Grade != bounty.GradeA || len(h.Votes) != 2 {
		t.Errorf("got %+v", h)
	}
	if len(v.Absent) != 0 {
		t.Errorf("nobody asks for its log: got %+v", v.Absent)
	}
}

// An operator who is his own only monitor, and calls himself independent, never
// gets further than REVIEW.
func TestSingleMonitor(t *testing.T) {
	w := scene.New(t, evidence.PSF, 1)
	w.Releases = []byte(releaseList)
	w.Beacon = []byte("round") // there is no other operator's witness
	w.Watch(nil)
	in := inputOf(w)
	in.Geo, in.Beacon = singapore{}, believes{}
	v := judged(t, w, in)
	if v.Result != bounty.ForReview || v.Hours.Up != 6 {
		t.Errorf("got %s, %+v", v.Result, v.Hours)
	}
	words, want := strings.Join(finding(t, v, "R19").Reasons, "; "), "in 6 h too few other operators' monitors"
	if !strings.Contains(words, want) {
		t.Errorf("%q is missing in %q", want, words)
	}
	if !slices.Contains(v.Labels, "unwitnessed") {
		t.Errorf("labels %q", v.Labels)
	}
}

// believes takes any bytes for a beacon.
type believes struct{}

func (believes) VerifyBeacon([]byte, time.Time) error { return nil }

func TestMonitorWithoutLog(t *testing.T) {
	w := scene.New(t, evidence.PSF, 3)
	w.Watch(nil)
	in := inputOf(w)
	in.Logs = in.Logs[:2]
	v := judged(t, w, in)
	if v.Monitors[2].Log || v.Hours.Up != 6 || at(v, w.First).Votes["m3.example.org"] != "unknown: missing" {
		t.Errorf("got %+v, %+v", v.Monitors[2], v.Hours)
	}
	in.Logs = in.Logs[:1]
	if v := judged(t, w, in); v.Hours.Unknown != 6 {
		t.Errorf("one of three is no quorum: %+v", v.Hours)
	}
}

// A relay as the PSF's own software sets it up: reservations succeed, and every
// circuit dies in its handshake. The report says so.
func TestTightCircuits(t *testing.T) {
	w := scene.New(t, evidence.PSF, 1)
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		dies := func(after time.Duration) evidence.Attempt {
			a := w.Attempt(m, h, after)
			a.Level, a.Facts.Reservation.LimitBytes = evidence.LevelConnected, 256
			a.Results[evidence.Relay] = evidence.Result{Outcome: evidence.Fail, Class: "circuit-closed"}
			a.Controls = w.Down(m, h, after).Controls
			a.Controls = append(a.Controls, evidence.Control{Name: bounty.LoopbackControl, Component: evidence.Relay, Outcome: evidence.OK, Started: evidence.TimeOf(a.Started.Add(11 * time.Second))})
			return a
		}
		return []evidence.Attempt{dies(10 * time.Minute), dies(16 * time.Minute)}
	})
	v := judged(t, w, inputOf(w))
	words := strings.Join(finding(t, v, "R10").Reasons, "; ")
	if v.Hours.Down != 6 || !strings.Contains(words, "in 6 h down") || !strings.Contains(words, "limits each circuit to 256 bytes") {
		t.Errorf("got %+v, %q", v.Hours, words)
	}
}

// Announced maintenance annotates its hours and changes none (rule R17).
func TestMaintenance(t *testing.T) {
	w := scene.New(t, evidence.PSF, 2)
	w.Notes = "notes:\n- {kind: maintenance, from: 2026-10-31T18:00:00Z, until: 2026-10-31T23:00:00Z, text: new disks}\n" +
		"- {kind: incident, from: 2026-09-01T00:00:00Z, until: 2026-09-02T00:00:00Z, text: of another month}\n"
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		if h < w.First+5 {
			return []evidence.Attempt{w.Down(m, h, 10*time.Minute), w.Down(m, h, 16*time.Minute)}
		}
		return []evidence.Attempt{w.Attempt(m, h, time.Minute)}
	})
	v := judged(t, w, inputOf(w))
	if v.Hours.Down != 5 || v.Hours.Up != 1 || len(v.Notes) != 1 || v.Notes[0].Text != "new disks" {
		t.Errorf("got %+v, %+v", v.Hours, v.Notes)
	}
}

// A monitor gets a new log key within the month: two logs, one name, and each
// counts in its own term only.
func TestNewKey(t *testing.T) {
	w := scene.New(t, evidence.PSF, 3)
	change := w.First + 3
	old := w.Monitors[2]
	w.Hours = 4 // the old log goes on for an hour longer than its term
	asOf := w.AsOf
	w.AsOf = w.First.Start() // they all go on
	w.Watch(nil)
	w.AsOf = asOf
	old.Until = &change
	w.First += 3
	w.Join(2)
	w.First -= 3
	renewed := w.Monitors[3]
	renewed.From = change
	others := w.Monitors[:2]
	for h := change; h < change+3; h++ {
		for _, m := range append(others[:2:2], renewed) {
			if m == renewed || h > change {
				w.Observe(m, h, []evidence.Attempt{w.Attempt(m, h, 10*time.Minute)})
				w.Seal(m, h.End().Add(17*time.Minute))
			}
		}
	}
	w.Settle()
	v := judged(t, w, inputOf(w))
	if len(v.Monitors) != 4 || v.Monitors[2].Votes[bounty.Up] != 3 || v.Monitors[3].Votes[bounty.Up] != 3 || v.Monitors[2].Origin != v.Monitors[3].Origin {
		t.Errorf("got %+v", v.Monitors)
	}
	if v.Hours.Up != 6 || v.Grades[bounty.GradeA] != 6 {
		t.Errorf("got %+v, %v", v.Hours, v.Grades)
	}
	for i := range evidence.Hour(6) {
		if h := at(v, w.First+i); h.Tally.Bench != 3 || h.Tally.Up != 3 {
			t.Errorf("hour %d: %+v", i, h)
		}
	}
}

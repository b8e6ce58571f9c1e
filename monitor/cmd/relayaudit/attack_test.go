package main

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Who makes the bundle: an older roster, whose release list does not know yet what the
// relay should have run.
func TestOlderReleaseList(t *testing.T) {
	p := newPlay(t, 3).sees(nil).write()
	later := releasesYAML + "  - {version: v1.3.0, published: 2026-10-05T00:00:00Z}\n"
	first := p.rosterFile()
	text := strings.Replace(p.RosterYAML(), "serial: 1\n", fmt.Sprintf("serial: 2\nprevious: %x\n", sha256.Sum256(first)), 1)
	text = strings.Replace(text, fmt.Sprintf("releases: %x", sha256.Sum256(p.Releases)), fmt.Sprintf("releases: %x", sha256.Sum256([]byte(later))), 1)
	p.save("roster.yaml", p.Signed(text))
	p.want(3, `^verdict: REVIEW$`, `names another release list than the bundle holds`)
	p.save("rules-b.yaml", []byte(strings.Replace(string(p.rulesFile()), "busy_cap: 72", "busy_cap: 71", 1)))
	if _, out := p.run("diff", "rules.yaml", "rules-b.yaml", "--bundle", "bundle.zip", "--roster", "roster.yaml", "--committee", p.CommitteeKey); strings.Contains(out, "ELIGIBLE") || !strings.Contains(out, "under B: REVIEW") {
		t.Errorf("diff says more than verify:\n%s", out)
	}
	p.save("releases.yaml", []byte(later))
	p.wantOf(3, []string{"--require", "eligible", "--releases", "releases.yaml"}, `^verdict: NOT_ELIGIBLE$`, `^R13 +software +FAIL +relayd v1.2.3, although v1.3.0 had been out`)
	p.save("releases.yaml", p.Releases) // not that list
	p.wantOf(2, []string{"--releases", "releases.yaml"}, `release list is not the list`)
}

// One monitor that says "busy", while another one is silent.
func TestBusyLie(t *testing.T) {
	p := newPlay(t, 3)
	p.rules["busy_cap"] = "0"
	p.sees(func(i int, m *scene.Watcher, n int, h evidence.Hour) []evidence.Attempt {
		switch i {
		case 2:
			return []evidence.Attempt{}
		case 3:
			a := p.good(m, h)
			a.Facts.Reservation, a.Level = nil, 0
			a.Rungs = a.Rungs[:3]
			a.Rungs[2].Outcome = evidence.Busy
			a.Results[evidence.Relay] = evidence.Result{Outcome: evidence.Busy}
			return one(a)
		}
		return nil
	}).write()
	p.want(3, `^verdict: REVIEW$`)
}

// Two monitors that are not the committee's: a relay in Frankfurt is said to be in
// Singapore, where its address is registered. The committee's monitor is near it.
func TestTwoPingLies(t *testing.T) {
	p := newPlay(t, 3)
	p.roster = func(yaml string) string { return p.placed(yaml, 1, "{lat: 50.1, lon: 8.7}") }
	p.sees(func(i int, m *scene.Watcher, n int, h evidence.Hour) []evidence.Attempt {
		a := p.good(m, h)
		if i == 1 {
			a.Facts.PingUS = []int64{20_000}
		}
		return one(a)
	}).write()
	p.want(3, `^verdict: REVIEW$`, `^R14 +region +REVIEW `, `SG is further than the 2001 km from m1.example.org`, `contradict one another, or the committee's, and so decide nothing: .* m2`)
}

// Two monitors that are not the committee's end a good month: both say that they are next
// to a relay that is next to the committee's monitor.
func TestTwoPingLiesAgainst(t *testing.T) {
	p := newPlay(t, 3)
	p.roster = func(yaml string) string {
		return p.placed(p.placed(yaml, 2, "{lat: 40.7, lon: -74.0}"), 3, "{lat: 51.5, lon: -0.1}")
	}
	p.sees(func(i int, m *scene.Watcher, n int, h evidence.Hour) []evidence.Attempt {
		a := p.good(m, h)
		if a.Facts.PingUS = []int64{1_000}; i == 1 {
			a.Facts.PingUS = []int64{60_000} // from Singapore: too far for a strong claim
		}
		return one(a)
	}).write()
	p.want(3, `^verdict: REVIEW$`, `^R14 +region +REVIEW +round trips contradict`)
}

// Two monitors that are not the committee's, one as the other's witness: a date to come.
func TestFutureCosigned(t *testing.T) {
	p := newPlay(t, 3)
	p.AsOf = p.First.Start().Add(31 * time.Hour)
	p.sees(nil)
	liar, helper := p.Monitors[2], p.Monitors[1]
	at := p.First.Start().Add(200 * time.Hour)
	_, err := liar.Log.Seal(at)
	p.Must(err)
	checkpoint, err := liar.Log.Checkpoint()
	p.Must(err)
	p.Must(liar.Log.AddCosignatures(liar.Log.Size(), scene.Cosign(helper.Cosigner, helper.CosignKey, checkpoint, at), helper.CosignKey))
	late := p.export(liar, at.Add(time.Hour))
	p.logs = func(all []evidence.MonitorMonth) []evidence.MonitorMonth { all[2] = late; return all }
	p.write()
	p.want(3, `^verdict: ELIGIBLE, PROVISIONAL$`, `the committee's own log reaches only to 2026-11-02T00:00:00.000Z`)
}

// One monitor: what it wrote is taken back by leaving out who cosigned it. Its headers never
// told of that.
func TestCosignaturesLeftOut(t *testing.T) {
	p := thirdDown(t)
	liar := p.Monitors[2]
	p.Reseal(liar, func(line []byte) []byte { return line }, func(line []byte) []byte {
		return p.changed(line, func(h map[string]any) { delete(h, "cosigned") })
	})
	bare, err := liar.Log.Month(p.First.Month(), p.RelayID, p.AsOf)
	p.Must(err)
	p.logs = func(all []evidence.MonitorMonth) []evidence.MonitorMonth { all[2] = bare; return all }
	p.write()
	p.want(0, `^! missing `, `What m3.example.org .* wrote in 6 hours counts nowhere \(late\): up in 0, down in 6, busy in 0`)
}

// thirdDown is a play in which the third monitor votes down in every hour, and the others up.
func thirdDown(t *testing.T) *play {
	p := newPlay(t, 3)
	return p.sees(func(i int, m *scene.Watcher, n int, h evidence.Hour) []evidence.Attempt {
		if i == 3 {
			return p.down(m, h)
		}
		return nil
	})
}

// One monitor: its last header tells of a cosignature that never was. No verifier takes that;
// what it said before stays said. Of a witness that nobody knows it may tell anything.
func TestToldNever(t *testing.T) {
	for name, change := range map[string]func(h map[string]any){
		"another time": func(h map[string]any) {
			h["cosigned"].([]any)[0].(map[string]any)["time"] = "2026-10-31T23:09:09.000Z"
		},
		"a witness that nobody knows": func(h map[string]any) {
			h["cosigned"] = append(h["cosigned"].([]any), map[string]any{"time": "2026-10-31T23:09:09.000Z", "witness": "zzz+00000001"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := thirdDown(t)
			p.Reseal(p.Monitors[2], func(line []byte) []byte { return line }, func(line []byte) []byte {
				return p.changed(line, func(h map[string]any) {
					if h["hour"] == (p.First + 5).String() {
						change(h)
					}
				})
			})
			p.write()
			if name == "a witness that nobody knows" {
				p.want(0, `^! dissent +m3.example.org .* voted down in 6 hours that count up`)
				return
			}
			p.want(3, `^! missing +The log of m3.example.org .* ends at `+(p.First+5).String()+`: its word is not known in 1 hour\.`,
				`m3.example.org .* voted down in 5 hours that count up`)
		})
	}
}

// One monitor: it writes that its clock was set in the hours in which it voted down.
func TestClockSet(t *testing.T) {
	p := thirdDown(t)
	p.Reseal(p.Monitors[2], func(line []byte) []byte { return line }, func(line []byte) []byte {
		return p.changed(line, func(h map[string]any) { h["clock"].(map[string]any)["drift_ms"] = 60_000 })
	})
	p.write()
	p.want(0, `^! missing `, `What m3.example.org .* wrote in 6 hours counts nowhere \(clock\): up in 0, down in 6, busy in 0`)
}

// Two monitors that are not the committee's, when the month is over: as witnesses they
// sign once more what the committee's monitor wrote when it voted down, of a time before
// it was sealed. So the committee's clock would be wrong, and its dissent gone.
func TestCosignedAnew(t *testing.T) {
	p := newPlay(t, 3)
	p.rules["committee_dissent"], p.rules["hours_required"] = "1", "4"
	p.sees(func(i int, m *scene.Watcher, n int, h evidence.Hour) []evidence.Attempt {
		if i == 1 && (n == 1 || n == 2) {
			return p.down(m, h)
		}
		return nil
	}).write()
	p.want(3, `^! dissent +m1.example.org`, `^R20 +dissent +REVIEW`)
	p.repack(func(files map[string][]byte) {
		name := logDir(p.Monitors[0]) + "checkpoints"
		notes := strings.Split(string(files[name]), "\n\n") // text and signatures by turns
		for _, n := range []int{1, 2} {
			text := notes[2*n]
			own, _, _ := strings.Cut(notes[2*n+1], "\n")
			sealed := (p.First + evidence.Hour(n)).End().Add(17 * time.Minute)
			for _, o := range p.Monitors[1:] {
				own += "\n" + strings.TrimSuffix(string(scene.Cosign(o.Cosigner, o.CosignKey, []byte(text+"\n\n"), sealed.Add(-10*time.Second))), "\n")
			}
			notes[2*n+1] = own
		}
		files[name] = []byte(strings.Join(notes, "\n\n"))
	}, nil)
	p.want(1, `tells that m2.example.org-witness\+.* and that cosignature is not there`)
}

// One monitor: it wants to take back what it wrote all month, and so writes a word of the
// relay's certificate in the last hour that does not stand in it.
func TestCertificateSpoiled(t *testing.T) {
	p := newPlay(t, 3)
	p.sees(func(i int, m *scene.Watcher, n int, h evidence.Hour) []evidence.Attempt {
		if i != 2 && 0 < n && n < 5 {
			return p.down(m, h)
		}
		return nil
	})
	n := 0
	p.Reseal(p.Monitors[2], func(line []byte) []byte {
		last := strings.Replace(string(line), `"issuer":"CN=relay.example.org"`, `"issuer":"CN=relay.example.orG"`, 1)
		if !strings.Contains(last, (p.First+5).String()) || last == string(line) {
			return line
		}
		n++
		return []byte(last)
	}, func(line []byte) []byte { return line })
	if n != 1 {
		t.Fatalf("%d records are changed, want 1", n)
	}
	p.write()
	p.want(3, `^verdict: NOT_ELIGIBLE$`, `^R10 +uptime +FAIL `)
}

package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
	"github.com/psf-relay/relay-appliance/monitor/store"
	"github.com/psf-relay/relay-appliance/monitor/web"
	"github.com/psf-relay/relay-appliance/monitor/witness"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// house is several monitors of one roster, each reached over loopback at an
// address that stays the same when the monitor is started anew.
type house struct {
	t      *testing.T
	first  evidence.Hour
	rules  string // the files
	roster string
	spots  []*spot
}

// spot is where a monitor is reached.
type spot struct {
	name, dir string
	srv       *httptest.Server
	mu        sync.Mutex
	handler   http.Handler // nil: it is down
	m         *Monitor     // nil: it was stopped
}

func (s *spot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	h := s.handler
	s.mu.Unlock()
	if h == nil {
		panic(http.ErrAbortHandler)
	}
	h.ServeHTTP(w, r)
}

func (s *spot) serve(h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = h
}

// newHouse makes n monitors whose logs began three hours ago, and starts them. If a month
// ends within the hours that tests seal, the logs begin eight hours before that end: an
// hour's cosignatures are those on the checkpoints of its own month.
func newHouse(t *testing.T, n int) *house {
	t.Helper()
	dir := t.TempDir()
	first := evidence.HourOf(time.Now()) - 3
	if next := (first + 7).Month(); first.Month() != next {
		first = next.First() - 8
	}
	h := &house{t: t, first: first, rules: filepath.Join(dir, "rules.yaml"), roster: filepath.Join(dir, "roster.yaml")}
	must(t, os.WriteFile(h.rules, []byte("network: lab\n"), 0o644))
	roster := "network: lab\nmonitors:\n"
	for i := range n {
		s := &spot{name: fmt.Sprintf("m%d", i+1), dir: t.TempDir()}
		s.srv = httptest.NewServer(s)
		t.Cleanup(s.srv.Close)
		l, err := store.Create(filepath.Join(s.dir, "log"), store.Options{Name: s.name, Network: evidence.Lab, First: h.first})
		must(t, err)
		roster += fmt.Sprintf("- {name: %s, operator: o%d, log_key: %q, witness_key: %q, witness_url: %q, from: %q}\n",
			s.name, i, l.Key(), l.WitnessKey(), s.srv.URL+"/witness", h.first)
		must(t, l.Close())
		h.spots = append(h.spots, s)
	}
	must(t, os.WriteFile(h.roster, []byte(roster), 0o644))
	for _, s := range h.spots {
		h.start(s)
	}
	return h
}

func (h *house) config(s *spot) Config {
	h.t.Helper()
	cfg, err := ParseConfig("test", fmt.Appendf(nil, "name: %s\nnetwork: lab\ndata_dir: %q\nrules: %q\nroster: %q\nbrowser: none\n", s.name, s.dir, h.rules, h.roster))
	must(h.t, err)
	return cfg
}

// start opens the monitor of a spot and serves what anybody may ask it for.
func (h *house) start(s *spot) *Monitor {
	h.t.Helper()
	m, err := Open(h.config(s), slog.New(slog.DiscardHandler))
	must(h.t, err)
	s.m = m
	s.serve(m.public())
	h.t.Cleanup(func() { h.stop(s) })
	return m
}

func (h *house) stop(s *spot) {
	h.t.Helper()
	s.serve(nil)
	if s.m != nil {
		must(h.t, s.m.Close())
		s.m = nil
	}
}

// seal makes the monitor seal until it has so many hours, and asks its witnesses.
func (h *house) seal(m *Monitor, blocks int64) {
	h.t.Helper()
	m.askWitnesses(h.t.Context())
	m.seal((m.store.First() + evidence.Hour(blocks)).Start().Add(evidence.CloseAfter))
	m.askWitnesses(h.t.Context())
}

func (h *house) overview(m *Monitor) web.Overview {
	h.t.Helper()
	o, err := m.overview(time.Now())
	must(h.t, err)
	return o
}

// wantCosigned checks that the log has so many blocks and that its last checkpoint
// bears the cosignatures of so many witnesses.
func wantCosigned(t *testing.T, m *Monitor, blocks int64, witnesses int) {
	t.Helper()
	cp, err := m.store.Checkpoint()
	must(t, err)
	if m.store.Size() != blocks || strings.Count(string(cp), "\n— ") != 1+witnesses {
		t.Fatalf("%s has %d blocks, want %d, and the last checkpoint\n%swant %d cosignatures", m.cfg.Name, m.store.Size(), blocks, cp, witnesses)
	}
}

func TestMonitorsCosignEachOther(t *testing.T) {
	h := newHouse(t, 3)
	began := time.Now().Truncate(time.Second)
	for blocks := int64(1); blocks <= 3; blocks++ {
		for _, s := range h.spots {
			h.seal(s.m, blocks)
		}
	}
	for _, s := range h.spots {
		wantCosigned(t, s.m, 3, 2)
		o := h.overview(s.m)
		if len(o.Witnesses) != 2 || o.Held != "" || o.Fault != "" {
			t.Fatalf("%s shows %+v, held %q, fault %q", s.name, o.Witnesses, o.Held, o.Fault)
		}
		for _, w := range o.Witnesses {
			if w.Size != 3 || w.Behind != 0 || w.Error != "" || w.At.Before(began) || w.At.After(time.Now()) {
				t.Errorf("%s shows of %s: %+v", s.name, w.Name, w)
			}
		}
		report, err := CheckLog(h.config(s))
		must(t, err)
		if len(report.Faults) > 0 || report.Cosignatures != 6 || report.Others != 0 {
			t.Errorf("%s: %+v", s.name, report)
		}
	}
}

// A witness that has lost its memory, or has an older one, is shown all again.
func TestForgetfulWitness(t *testing.T) {
	h := newHouse(t, 2)
	s, w := h.spots[0], h.spots[1]
	h.seal(s.m, 1)
	memory := filepath.Join(w.dir, "log", "witness")
	older := filepath.Join(t.TempDir(), "older")
	must(t, os.CopyFS(older, os.DirFS(memory)))
	h.seal(s.m, 2)
	must(t, os.RemoveAll(memory))
	must(t, os.CopyFS(memory, os.DirFS(older)))
	h.seal(s.m, 3)
	wantCosigned(t, s.m, 3, 1)
	must(t, os.RemoveAll(memory))
	must(t, os.Mkdir(memory, 0o755))
	h.seal(s.m, 4)
	wantCosigned(t, s.m, 4, 1)
	// At a start, too.
	must(t, os.RemoveAll(memory))
	must(t, os.Mkdir(memory, 0o755))
	h.stop(s)
	h.seal(h.start(s), 5)
	wantCosigned(t, s.m, 5, 1)
}

// The pages, the API and the witness are where a relay in front passes them on,
// and in a monitor that stands alone.
func TestPublicPaths(t *testing.T) {
	h := newHouse(t, 1)
	s := h.spots[0]
	for path, want := range map[string]int{
		"/": 200, "/status.json": 200, "/monitor/": 200, "/monitor/status.json": 200, "/healthz": 200, "/monitor/healthz": 200,
		"/check/": 200, "/monitor/check/": 200,
		"/witness/x/checkpoint": 404, "/witness/add-checkpoint": 405, "/probe?target=x": 404, "/monitor/probe?target=x": 404,
	} {
		resp, err := s.srv.Client().Get(s.srv.URL + path)
		must(t, err)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
}

// An older copy of a log signs nothing and says so, until it has what it lacks.
func TestRestoredCopySignsNothing(t *testing.T) {
	for name, hide := range map[string]bool{"witnesses show what they remember": false, "witnesses only tell a size": true} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, 3)
			s := h.spots[0]
			h.seal(s.m, 1)
			wantCosigned(t, s.m, 1, 2)
			h.stop(s)
			newer := s.dir
			older := filepath.Join(t.TempDir(), "older")
			must(t, os.CopyFS(older, os.DirFS(newer)))
			h.seal(h.start(s), 3)
			wantCosigned(t, s.m, 3, 2)
			h.stop(s)

			if hide {
				for _, o := range h.spots[1:] {
					full := o.m.public()
					o.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if r.Method == http.MethodGet {
							http.NotFound(w, r)
							return
						}
						full.ServeHTTP(w, r)
					}))
				}
			}
			s.dir = older
			m := h.start(s)
			if o := h.overview(m); o.Fault != "" {
				t.Fatalf("before anybody was asked: %s", o.Fault)
			}
			h.seal(m, 3)
			wantCosigned(t, m, 1, 2)
			o := h.overview(m)
			if !strings.Contains(o.Fault, "older copy") || !strings.Contains(o.Fault, "relaymon log adopt") {
				t.Fatalf("it says %q, held %q", o.Fault, o.Held)
			}
			resp, err := s.srv.Client().Get(s.srv.URL + "/healthz")
			must(t, err)
			resp.Body.Close()
			if resp.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("/healthz: %d", resp.StatusCode)
			}
			// Time does not make it newer.
			m.witnessing.pass(t.Context(), time.Now().Add(10*patience))
			h.seal(m, 3)
			wantCosigned(t, m, 1, 2)
			h.stop(s)

			blocks, err := AdoptLog(h.config(s), filepath.Join(newer, "log"))
			must(t, err)
			if blocks != 2 {
				t.Errorf("%d blocks were brought in, want 2", blocks)
			}
			h.seal(h.start(s), 4)
			wantCosigned(t, s.m, 4, 2)
			if o := h.overview(s.m); o.Fault != "" || o.Held != "" {
				t.Errorf("it says %q, %q", o.Fault, o.Held)
			}
		})
	}
}

// Two copies of one log at work: the witnesses take the first, the second stops.
func TestForkedLogStops(t *testing.T) {
	h := newHouse(t, 3)
	s := h.spots[0]
	h.seal(s.m, 1)
	h.stop(s)
	twin := &spot{name: s.name, dir: filepath.Join(t.TempDir(), "twin"), srv: s.srv}
	must(t, os.CopyFS(twin.dir, os.DirFS(s.dir)))
	a, b := h.start(s), h.start(twin)
	for range 2 { // both were the newest when they were compared
		b.askWitnesses(t.Context())
	}
	h.seal(a, 2)
	wantCosigned(t, a, 2, 2)
	second := b.store.First() + 1
	must(t, b.store.Begin(second, second.Start(), "another history"))
	h.seal(b, 2)
	wantCosigned(t, b, 2, 0)
	h.seal(b, 3)
	if b.store.Size() != 2 {
		t.Errorf("it goes on to %d blocks", b.store.Size())
	}
	if o := h.overview(b); !strings.Contains(o.Fault, "forked") {
		t.Errorf("it says %q", o.Fault)
	}
	h.seal(a, 3)
	wantCosigned(t, a, 3, 2)
	// What convicts the log is kept by those who saw it.
	own, err := b.store.Checkpoint()
	must(t, err)
	for _, o := range h.spots[1:] {
		forks, err := o.m.store.Forks()
		must(t, err)
		if len(forks) != 1 {
			t.Fatalf("%s keeps %q", o.name, forks)
		}
		text, _, _ := strings.Cut(string(own), "\n\n")
		if _, err := evidence.OpenFork(forks[0], b.store.Key()); err != nil || !strings.Contains(string(forks[0]), text) {
			t.Errorf("%s keeps %q: %v", o.name, forks, err)
		}
	}
}

// Witnesses that do not answer at a start are waited for, and then done without
// if the rules allow it.
func TestPatience(t *testing.T) {
	h := newHouse(t, 3)
	s := h.spots[0]
	start := time.Now()
	h.spots[1].serve(nil)
	h.spots[2].serve(nil)
	later := func(d time.Duration) {
		s.m.witnessing.pass(t.Context(), start.Add(d))
		s.m.seal((h.first + 1).Start().Add(evidence.CloseAfter))
	}
	later(0)
	later(patience + time.Second)
	if o := h.overview(s.m); s.m.store.Size() != 0 || !strings.Contains(o.Held, "0 of 2") || o.Fault != "" {
		t.Fatalf("without any witness: %d blocks, held %q, fault %q", s.m.store.Size(), o.Held, o.Fault)
	}
	h.spots[1].serve(h.spots[1].m.public())
	later(2 * patience)
	if o := h.overview(s.m); s.m.store.Size() != 1 || o.Held != "" {
		t.Fatalf("with one of two: %d blocks, held %q", s.m.store.Size(), o.Held)
	}
	h.stop(s)
	// Within the time of patience both are waited for.
	h.start(s)
	start = time.Now()
	later(patience - time.Second)
	if o := h.overview(s.m); s.m.store.Size() != 1 || !strings.Contains(o.Held, "m3") || !s.m.store.Held() {
		t.Fatalf("at once: %d blocks, held %q", s.m.store.Size(), o.Held)
	}
	if w := h.overview(s.m).Witnesses; w[0].Error != "" || w[1].Error == "" {
		t.Errorf("it shows %+v", w)
	}
	h.spots[2].serve(h.spots[2].m.public())
	later(2 * patience)
	later(3 * patience)
	wantCosigned(t, s.m, 1, 2)
	if o := h.overview(s.m); o.Held != "" || o.Witnesses[1].Error != "" {
		t.Errorf("held %q, it shows %+v", o.Held, o.Witnesses)
	}
}

// backup returns a data folder restored of a backup that is made now, while the monitor
// stands still.
func (h *house) backup(s *spot) string {
	h.t.Helper()
	h.stop(s)
	archive := filepath.Join(h.t.TempDir(), "backup")
	f, err := os.Create(archive)
	must(h.t, err)
	must(h.t, store.Backup(filepath.Join(s.dir, "log"), f))
	must(h.t, f.Close())
	dir := h.t.TempDir()
	f, err = os.Open(archive)
	must(h.t, err)
	must(h.t, store.Restore(f, filepath.Join(dir, "log"), func(string) error { return nil }))
	must(h.t, f.Close())
	return dir
}

// wantHeld wants nothing to be signed beyond so many blocks, however long it takes, and
// the operator to be told why, and his way out.
func (h *house) wantHeld(s *spot, blocks int64, why string) {
	h.t.Helper()
	h.seal(s.m, blocks+1)
	s.m.witnessing.pass(h.t.Context(), time.Now().Add(patience+time.Second))
	s.m.seal((s.m.store.First() + evidence.Hour(blocks+1)).Start().Add(evidence.CloseAfter))
	resp, err := s.srv.Client().Get(s.srv.URL + "/witness/x/checkpoint")
	must(h.t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		h.t.Errorf("as a witness it answers %d", resp.StatusCode)
	}
	o := h.overview(s.m)
	if s.m.store.Size() != blocks || !s.m.store.Held() {
		h.t.Fatalf("%d blocks, want %d held", s.m.store.Size(), blocks)
	}
	if o.Held != o.Fault || !strings.Contains(o.Fault, why) || !strings.Contains(o.Fault, "relaymon log release") {
		h.t.Errorf("held %q, fault %q; want a fault with %q", o.Held, o.Fault, why)
	}
}

// A log that came out of a backup has to be compared, or released by hand.
func TestRestoredWithoutWitnesses(t *testing.T) {
	h := newHouse(t, 1)
	s := h.spots[0]
	h.seal(s.m, 1)
	s.dir = h.backup(s)
	h.start(s)
	h.wantHeld(s, 1, "names no witness")
	h.stop(s)
	must(t, ReleaseLog(h.config(s)))
	h.seal(h.start(s), 2)
	wantCosigned(t, s.m, 2, 0)
}

// A backup of yesterday goes on only when the one witness that knows of today has spoken:
// neither time nor what the others say makes up for it.
func TestRestoredWithoutTheWitnessThatKnows(t *testing.T) {
	h := newHouse(t, 3)
	s, forgets, knows := h.spots[0], h.spots[1], h.spots[2]
	h.seal(s.m, 1)
	restored := h.backup(s)
	h.start(s).askWitnesses(t.Context())
	forgets.serve(nil)
	h.seal(s.m, 3)
	wantCosigned(t, s.m, 3, 1)
	h.stop(s)

	s.dir = restored
	forgets.serve(forgets.m.public())
	knows.serve(nil)
	h.start(s)
	h.wantHeld(s, 1, "waiting for [m3]")
	knows.serve(knows.m.public())
	s.m.witnessing.pass(t.Context(), time.Now().Add(2*patience))
	if o := h.overview(s.m); !s.m.store.Held() || !strings.Contains(o.Fault, "older copy") {
		t.Errorf("when it has spoken: held %q, fault %q", o.Held, o.Fault)
	}
}

// Witnesses that remember nothing of a log do not know whether it is the newest copy.
// Where one remembers it, the newest copy goes on by itself.
func TestRestoredAmongForgetful(t *testing.T) {
	h := newHouse(t, 3)
	s := h.spots[0]
	forget := func(o *spot) {
		memory := filepath.Join(o.dir, "log", "witness")
		must(t, os.RemoveAll(memory))
		must(t, os.Mkdir(memory, 0o755))
	}
	h.seal(s.m, 1)
	s.dir = h.backup(s)
	forget(h.spots[1])
	h.seal(h.start(s), 2)
	wantCosigned(t, s.m, 2, 2)

	s.dir = h.backup(s)
	forget(h.spots[1])
	forget(h.spots[2])
	h.start(s)
	h.wantHeld(s, 2, "no witness remembers anything of it")
}

// A monitor whose log has got a new key is cosigned under both around that hour,
// itself and those gone long ago never.
func TestWhoIsCosigned(t *testing.T) {
	now := evidence.HourOf(time.Now())
	at := func(h evidence.Hour) *evidence.Hour { return &h }
	m := &Monitor{cfg: Config{Name: "me"}, machine: schedule.ThisMachine()}
	m.inForce.Store(&basis{roster: &bounty.Roster{Monitors: []bounty.Monitor{
		{Name: "me", LogKey: "mine", Term: bounty.Term{From: 1}},
		{Name: "a", LogKey: "new", Term: bounty.Term{From: now}},
		{Name: "a", LogKey: "old", Term: bounty.Term{From: 1, Until: at(now)}},
		{Name: "b", LogKey: "gone", Term: bounty.Term{From: 1, Until: at(now - 1)}},
		{Name: "c", LogKey: "coming", Term: bounty.Term{From: now + 2}},
	}}})
	if got := strings.Join(m.cosigned(), " "); got != "old new" {
		t.Errorf("cosigned are %q, want old and then new", got)
	}
}

// inBubble is a client that reaches handlers without a network, which would keep
// the bubble's time from passing.
type inBubble map[string]func() http.Handler

func (b inBubble) RoundTrip(r *http.Request) (*http.Response, error) {
	h := b[r.URL.Host]()
	if h == nil {
		return nil, errors.New("connection refused")
	}
	rec := httptest.NewRecorder()
	in := r.Clone(r.Context())
	in.RemoteAddr = "127.0.0.1:1"
	h.ServeHTTP(rec, in)
	return rec.Result(), nil
}

// Three monitors through fifteen hours by cron's own ticks: every hour of each
// is cosigned by both others in time; while one does not answer the other one does,
// and when it is back it makes up for what it missed.
func TestRunWitnessed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hours = 15
		first := evidence.HourOf(time.Now())
		from, to := (first + 5).Start(), (first + 11).Start() // m2 is not reached meanwhile
		roster := &bounty.Roster{Network: evidence.Lab}
		net := inBubble{}
		var monitors []*Monitor
		for i := range 3 {
			f := &fakeNet{took: 5 * time.Second, outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
			m, _ := newTestMonitor(t, f, 1, 8)
			must(t, m.store.Close())
			name := fmt.Sprintf("m%d", i+1)
			store, err := store.Create(filepath.Join(t.TempDir(), "log"), store.Options{Name: name, Network: evidence.Lab, First: first})
			must(t, err)
			defer store.Close()
			m.cfg.Name, m.cfg.DataDir, m.store = name, t.TempDir(), store
			m.planner = m.newPlanner()
			m.identities = schedule.NewIdentities(store.Key())
			roster.Relays = m.basis().roster.Relays
			goBy(m, m.basis().rules, roster)
			roster.Monitors = append(roster.Monitors, bounty.Monitor{
				Name: name, Operator: name, LogKey: store.Key(), WitnessKey: store.WitnessKey(), WitnessURL: "http://" + name + "/witness",
				Term: bounty.Term{From: first},
			})
			m.witness, err = ownWitness(store)
			must(t, err)
			h := http.StripPrefix("/witness", witness.Handler(m.witness, m.cosigned, m.log))
			net[name] = func() http.Handler {
				if now := time.Now(); name == "m2" && !now.Before(from) && now.Before(to) {
					return nil
				}
				return h
			}
			monitors = append(monitors, m)
		}
		ctx, cancel := context.WithTimeout(t.Context(), hours*time.Hour+evidence.CloseAfter+5*time.Minute)
		defer cancel()
		var running sync.WaitGroup
		for _, m := range monitors {
			m.witnessing = newWitnessing(m, &http.Client{Transport: net})
			if !m.store.Held() {
				t.Fatal("nobody holds the log")
			}
			running.Go(func() {
				if err := m.Run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Until(from.Add(2 * time.Hour)))
		if list, _, _ := monitors[0].witnessing.state(); list[0].Name != "m2" || list[0].Error == "" || list[0].Behind == 0 || list[1].Error != "" {
			t.Errorf("while m2 does not answer m1 shows %+v", list)
		}
		running.Wait()
		for _, m := range monitors {
			if list, held, _ := m.witnessing.state(); held != "" || list[0].Behind != 0 || list[0].Error != "" {
				t.Errorf("%s shows %+v, %s", m.cfg.Name, list, held)
			}
			month := first.Month()
			export, err := m.store.Month(month, roster.Relays[0].PeerID, time.Now(), roster.WitnessKeys(month)...)
			must(t, err)
			v, err := evidence.VerifyMonth(export, evidence.Keys{Log: m.store.Key(), Plan: m.store.PlanKey(), Witnesses: roster.WitnessKeys(month)})
			must(t, err)
			if len(v.Hours) != hours {
				t.Fatalf("%s: %d hours, want %d", m.cfg.Name, len(v.Hours), hours)
			}
			for i := range v.Hours {
				h := v.Hours[i].Header.Hour
				sealed := bounty.Sealed(m.basis().rules, roster, roster.Monitor(m.cfg.Name, h), 3, &v.Hours[i])
				want := 2
				// It could have been cosigned from 16 minutes after its end on, for 44 minutes.
				if m.cfg.Name != "m2" && !h.End().Add(evidence.CloseAfter).Before(from) && !h.End().Add(time.Hour).After(to) {
					want = 1
				}
				// m2 is back in the very instant in which that time is over: either is right.
				edge := h.End().Add(time.Hour).Equal(to)
				if len(sealed.Witnesses) != want && !edge {
					t.Errorf("%s %s: cosigned in time by %v, want %d", m.cfg.Name, h, sealed.Witnesses, want)
				}
				if len(v.Hours[i].Cosigned) != 2 {
					t.Errorf("%s %s: cosigned by %v in the end", m.cfg.Name, h, v.Hours[i].Cosigned)
				}
			}
		}
	})
}

// ownWitness is the own witness of a log's owner.
func ownWitness(l *store.Log) (*witness.Witness, error) {
	dir, key, err := l.Witness()
	if err != nil {
		return nil, err
	}
	return witness.New(dir, key)
}

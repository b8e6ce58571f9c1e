package monitor

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/bls"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
	"github.com/psf-relay/relay-appliance/monitor/store"
	"github.com/psf-relay/relay-appliance/monitor/web"
)

// rosterFile is a roster of this monitor's: of each relay the peer ID and the port.
// Those that have a second port move there from the hour on.
func rosterFile(m *Monitor, logKey string, relays map[string][]int, moved evidence.Hour) []byte {
	first := m.store.First() - 1
	b := fmt.Appendf(nil, "network: lab\nmonitors:\n- {name: m1, operator: us, log_key: %q, from: %q}\nrelays:\n", logKey, first)
	for id, ports := range relays {
		host := sha256.Sum256([]byte(id)) // no two at one address
		ip := fmt.Sprintf("127.%d.%d.%d", host[0], host[1], host[2])
		b = fmt.Appendf(b, "- peer_id: %s\n  operator: them\n  ipv4: %s\n  tcp_port: %d\n  domain: relay.test\n  enrolled: %q\n", id, ip, ports[0], first)
		if len(ports) > 1 {
			b = fmt.Appendf(b, "  moves: [{from: %q, announced: %[1]q, ipv4: %s, tcp_port: %d, domain: relay.test}]\n", moved, ip, ports[1])
		}
	}
	return b
}

// byFile makes a test's monitor go by files: rules, and a roster of these relays.
func byFile(t *testing.T, m *Monitor, relays map[string][]int) {
	t.Helper()
	m.cfg.Rules, m.cfg.Roster = filepath.Join(m.cfg.DataDir, "rules.yaml"), filepath.Join(m.cfg.DataDir, "roster.yaml")
	must(t, os.WriteFile(m.cfg.Rules, []byte("network: lab\n"), 0o600))
	must(t, os.WriteFile(m.cfg.Roster, rosterFile(m, m.store.Key(), relays, 0), 0o600))
	b, err := readFiles(m.cfg)
	must(t, err)
	err = b.complete(m.cfg, m.store)
	must(t, err)
	m.inForce.Store(b)
}

// A new roster comes while a relay hangs: it is in force at once for all that begins
// after it, whatever is under way. That ends as it began, and is recorded once, also
// when its relay is not in the roster any more.
func TestNewRosterIsInForceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		var mu sync.Mutex
		hang := make(chan struct{})
		dialled := map[string][]string{} // by relay: the addresses, in order
		m, ids := newTestMonitor(t, &fakeNet{}, 5, 4)
		first := evidence.HourOf(time.Now())
		due := func(id string) time.Duration { return m.store.Offset(id, first) }
		slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(due(a), due(b)) })
		settled, hanging, moving, gone, added := ids[0], ids[1], ids[2], ids[3], ids[4]
		m.log = slog.New(slog.NewTextHandler(&said, nil))
		m.climb = func(_ context.Context, target probe.Target, _ *lookout, _ crypto.PrivKey) (evidence.Attempt, [][]byte) {
			id, start := target.PeerID.String(), time.Now()
			mu.Lock()
			dialled[id] = append(dialled[id], target.TCP4.String())
			mu.Unlock()
			if id == hanging {
				<-hang // longer than any real attempt, to see that nobody waits for it
			}
			a := attempt(start, evidence.OK)
			a.PeerID, a.Rungs = id, []evidence.Rung{}
			return a, nil
		}
		asked := func(id string) []string {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(dialled[id])
		}
		byFile(t, m, map[string][]int{settled: {4001}, hanging: {4001}, moving: {4001}, gone: {4001}})
		ctx, cancel := context.WithCancel(t.Context())
		var ran sync.WaitGroup
		ran.Go(func() { must(t, m.Run(ctx)) })
		defer ran.Wait()
		defer cancel()

		time.Sleep(due(hanging) + 2*time.Second)
		for id, want := range map[string]int{settled: 1, hanging: 1, moving: 0, gone: 0} {
			if got := asked(id); len(got) != want {
				t.Fatalf("before the new roster %s was dialled at %v, want %d times", id, got, want)
			}
		}
		// It does not name the relay that hangs any more.
		must(t, os.WriteFile(m.cfg.Roster, rosterFile(m, m.store.Key(), map[string][]int{settled: {4001, 4002}, moving: {4001, 4002}, added: {4001}}, first), 0o600))
		time.Sleep(time.Until(first.End().Add(-time.Second)))
		synctest.Wait()
		for id, want := range map[string][]string{settled: {"4001", "4002"}, hanging: {"4001"}, moving: {"4002"}, gone: nil, added: {"4001"}} {
			got := asked(id)
			for i := range got {
				got[i] = got[i][strings.LastIndex(got[i], "/")+1:]
			}
			if !slices.Equal(got, want) {
				t.Errorf("relay %d of the plan was dialled at ports %v, want %v", slices.Index(ids, id), got, want)
			}
		}
		m.mu.Lock()
		if !m.planner.Busy(hanging) {
			t.Error("the old attempt is over: this test shows nothing")
		}
		m.mu.Unlock()
		close(hang)
		time.Sleep(2 * time.Second)
		records, err := m.store.Records(first)
		must(t, err)
		of := map[string]int{}
		for _, r := range records {
			of[r.PeerID] = len(r.Attempts)
		}
		if want := map[string]int{settled: 2, hanging: 1, moving: 1, added: 1}; !maps.Equal(of, want) {
			t.Errorf("the hour has attempts of %v, want %v", of, want)
		}
		time.Sleep(20 * time.Minute)
		cancel()
		ran.Wait()
		// The hour was not interrupted.
		if h, err := m.store.Header(first); err != nil || h.State != evidence.StateOK {
			t.Errorf("the hour in which the roster came is %q (%v), want ok", h.State, err)
		}
		for _, want := range []string{"relays_added=" + added, "relays_changed=", "relays_removed="} {
			if n := strings.Count(said.String(), want); n != 1 {
				t.Errorf("the log says %q %d times, want once:\n%s", want, n, said.String())
			}
		}
	})
}

// A roster that is not good changes nothing, and is said once; so is one that names
// another log key for this monitor. The next good one is taken.
func TestBadRosterChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		m, ids := newTestMonitor(t, &fakeNet{}, 2, 4)
		m.log = slog.New(slog.NewTextHandler(&said, nil))
		byFile(t, m, map[string][]int{ids[0]: {4001}})
		other, err := store.Create(filepath.Join(t.TempDir(), "log"), store.Options{Name: "m1", Network: evidence.Lab, First: m.store.First()})
		must(t, err)
		defer other.Close()
		begun := m.basis()
		for _, bad := range []struct{ file, say string }{
			{"nonsense\n", "want keys with values"},
			{"network: lab\nrelays:\n" + strings.Repeat("- {peer_id: x}\n", 500), "relays[0]"},
			{"network: psf\n", "its network is psf, this monitor's is lab"},
			{string(rosterFile(m, other.Key(), map[string][]int{ids[1]: {4001}}, 0)), "the roster names another log key"},
			{string(rosterFile(m, m.store.Key(), map[string][]int{ids[1]: {4001}}, 0)) + "controls: [{name: c}]\n", "controls"},
		} {
			said.Reset()
			must(t, os.WriteFile(m.cfg.Roster, []byte(bad.file), 0o600))
			alerts := func() (names []string) {
				o := m.self(time.Now())
				for _, a := range m.monitorAlerts(&o, time.Now()) {
					names = append(names, a.Name)
				}
				return names
			}
			m.refuse("")
			m.reread(t.Context(), time.Now())
			if got := alerts(); slices.Contains(got, "CommitteeFilesRefused") {
				t.Errorf("at the first look, when the file may be half written: got %v, want no such alert", got)
			}
			for range 4 {
				m.reread(t.Context(), time.Now())
			}
			if got := alerts(); !slices.Contains(got, "CommitteeFilesRefused") {
				t.Errorf("got %v, want CommitteeFilesRefused", got)
			}
			if got := m.self(time.Now()).NotUsed; !strings.Contains(got, bad.say) {
				t.Errorf("the page says %q, want %q", got, bad.say)
			}
			if n := strings.Count(said.String(), "are not used"); n != 1 || said.Len() > 5000 || !strings.Contains(said.String(), bad.say) {
				t.Errorf("of a bad roster it is said %d times, want once, with %q:\n%s", n, bad.say, said.String())
			}
			if m.basis() != begun {
				t.Errorf("a bad roster is in force: %q", bad.file)
			}
		}
		must(t, os.WriteFile(m.cfg.Roster, rosterFile(m, m.store.Key(), map[string][]int{ids[1]: {4001}}, 0), 0o600))
		m.reread(t.Context(), time.Now())
		m.running.Wait()
		if got := m.self(time.Now()).NotUsed; got != "" {
			t.Errorf("the page says %q, want nothing: the roster is good", got)
		}
		if got := m.basis().targets(m.store.First()); !slices.Equal(got, ids[1:]) {
			t.Errorf("the relays are %v, want %v", got, ids[1:])
		}
	})
}

// A change of thousands of relays makes one line of the log of a bounded length.
func TestChangesAreBounded(t *testing.T) {
	is := &bounty.Roster{}
	for i := range 5000 {
		is.Relays = append(is.Relays, bounty.Relay{PeerID: fmt.Sprintf("%050d", i)})
	}
	got := fmt.Sprint(changes(&basis{roster: &bounty.Roster{}, rules: bounty.Defaults()}, &basis{roster: is, rules: bounty.Defaults()})...)
	if !strings.Contains(got, " and 4990 more") || len(got) > 1000 {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}

// Rosters that change all the time, under load and while everybody looks: each half
// minute at most one is read, and every relay has its one attempt an hour.
func TestRostersUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{took: 40 * time.Second, outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
		m, ids := newTestMonitor(t, f, 30, 2)
		var adopted int
		m.log = slog.New(counting{m.log.Handler(), "are in force from now on", &adopted})
		relays := map[string][]int{}
		for _, id := range ids {
			relays[id] = []int{4001}
		}
		byFile(t, m, relays)
		good := rosterFile(m, m.store.Key(), relays, 0)
		first := evidence.HourOf(time.Now())
		const hours = 2
		ctx, cancel := context.WithTimeout(t.Context(), hours*time.Hour-time.Second)
		defer cancel()
		var others sync.WaitGroup
		others.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				// Now and then a relay is out of it for a while.
				next := fmt.Appendf(bytes.Clone(good), "# %d\n", i)
				if i%4 == 0 {
					next = bytes.Replace(next, []byte("enrolled: \""+(first-1).String()), []byte("enrolled: \""+(first+1000).String()), 1)
				}
				must(t, os.WriteFile(m.cfg.Roster, next, 0o600))
				time.Sleep(7 * time.Second)
			}
		})
		others.Go(func() {
			for ctx.Err() == nil {
				if _, err := m.overview(time.Now()); err != nil {
					t.Error(err)
				}
				for _, id := range ids[:3] {
					// Now and then it is not enrolled.
					if _, err := m.month(id, first.Month(), time.Now()); err != nil && !errors.Is(err, web.ErrNotFound) {
						t.Error(err)
					}
				}
				m.fetchBeacons(ctx)
				time.Sleep(47 * time.Second)
			}
		})
		must(t, m.Run(ctx))
		others.Wait()
		if adopted < 60*hours || adopted > 2*60*hours {
			t.Errorf("in %d hours %d rosters were taken over, want one each half minute at most, and most of these", hours, adopted)
		}
		for h := first; h < first+hours-1; h++ {
			records, err := m.store.Records(h)
			must(t, err)
			if len(records) != len(ids) {
				t.Errorf("%s: %d relays have records, want %d", h, len(records), len(ids))
			}
			for _, r := range records {
				if len(r.Attempts) != 1 {
					t.Errorf("%s: %d attempts at %s, want one", h, len(r.Attempts), r.PeerID)
				}
			}
			if head, err := m.store.Header(h); err != nil || head.State != evidence.StateOK {
				t.Errorf("%s is %q (%v), want ok", h, head.State, err)
			}
		}
	})
}

// counting counts what is logged with a message.
type counting struct {
	slog.Handler
	what string
	n    *int
}

func (c counting) Enabled(context.Context, slog.Level) bool { return true }

func (c counting) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, c.what) {
		*c.n++
	}
	return nil
}

// rewrite makes the roster of a house name only some of its monitors, and has one of
// them read it.
func (h *house) rewrite(m *Monitor, only func(line string) bool) {
	h.t.Helper()
	all, err := os.ReadFile(h.roster)
	must(h.t, err)
	var kept strings.Builder
	for line := range strings.Lines(string(all)) {
		if !strings.HasPrefix(line, "- ") || only(line) {
			kept.WriteString(line)
		}
	}
	must(h.t, os.WriteFile(h.roster, []byte(kept.String()), 0o644))
	m.reread(h.t.Context(), time.Now())
	m.running.Wait()
	must(h.t, os.WriteFile(h.roster, all, 0o644))
}

// A witness that is named no more is not asked, one that is named anew is, both
// without a restart.
func TestNewRosterNamesOtherWitnesses(t *testing.T) {
	h := newHouse(t, 3)
	m := h.spots[0].m
	h.seal(m, 1)
	wantCosigned(t, m, 1, 2)
	h.rewrite(m, func(line string) bool { return !strings.Contains(line, "name: m3") })
	h.seal(m, 2)
	wantCosigned(t, m, 2, 1)
	m.reread(t.Context(), time.Now())
	m.running.Wait()
	h.seal(m, 3)
	wantCosigned(t, m, 3, 2)
	if keys := m.cosigned(); len(keys) != 2 {
		t.Errorf("it cosigns %d logs, want those of the two others", len(keys))
	}
}

// A log that waits for its witnesses waits for none that the roster does not name any
// more: it has come out of no backup.
func TestNewRosterEndsTheWaitForWitnesses(t *testing.T) {
	h := newHouse(t, 2)
	s := h.spots[0]
	h.stop(h.spots[1])
	h.stop(s)
	m := h.start(s)
	m.askWitnesses(t.Context())
	if !m.store.Held() {
		t.Fatal("the log does not wait for its witness")
	}
	h.rewrite(m, func(line string) bool { return strings.Contains(line, "name: m1") })
	m.askWitnesses(t.Context())
	if m.store.Held() {
		t.Errorf("the log waits for a witness that the roster does not name: %s", h.overview(m).Held)
	}
}

// The listener for announcements goes to the relays of the new roster, and to where
// they are by it.
func TestNewRosterMovesTheListener(t *testing.T) {
	h := newHouse(t, 1)
	m := h.spots[0].m
	m.begun = time.Now() // it is running
	key, _, err := crypto.GenerateEd25519Key(deterministic(1))
	must(t, err)
	id, err := peer.IDFromPrivateKey(key)
	must(t, err)
	all, err := os.ReadFile(h.roster)
	must(t, err)
	for range 2 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		must(t, err)
		defer l.Close()
		relay := fmt.Sprintf("relays:\n- {peer_id: %s, operator: them, ipv4: 127.0.0.1, tcp_port: %d, domain: relay.test, enrolled: %q}\n",
			id, l.Addr().(*net.TCPAddr).Port, h.first)
		must(t, os.WriteFile(h.roster, append(bytes.Clone(all), relay...), 0o644))
		m.reread(t.Context(), time.Now())
		m.running.Wait()
		must(t, l.(*net.TCPListener).SetDeadline(time.Now().Add(5*time.Minute)))
		c, err := l.Accept()
		if err != nil {
			t.Fatalf("the listener did not come to %s: %v", l.Addr(), err)
		}
		must(t, c.Close())
	}
}

// The roster's plan key is this log's: by another one no hour would count. A lab's roster
// may have none.
func TestPlanKeyOfTheRoster(t *testing.T) {
	m, _ := newTestMonitor(t, &fakeNet{}, 1, 1)
	another, err := bls.GenerateKey()
	must(t, err)
	for name, c := range map[string]struct {
		network evidence.Network
		key     string
		want    string // a part of the error; empty: it is good
	}{
		"its own":      {evidence.PSF, m.store.PlanKey(), ""},
		"another":      {evidence.PSF, another.Public().String(), "another plan key"},
		"none":         {evidence.PSF, "", "another plan key"},
		"another, lab": {evidence.Lab, another.Public().String(), "another plan key"},
		"none, lab":    {evidence.Lab, "", ""},
	} {
		m.cfg.Network = c.network
		roster := &bounty.Roster{Network: c.network, Monitors: []bounty.Monitor{{Name: "m1", LogKey: m.store.Key(), PlanKey: c.key, Term: bounty.Term{From: 1}}}}
		err := m.checkPlace(roster, evidence.HourOf(time.Now()))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

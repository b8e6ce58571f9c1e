package upgrade

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/maintenance"
)

// Of machines that name one another, each day exactly one has its turn, and each of
// them has one before the next has its second.
func TestTurns(t *testing.T) {
	all := []string{"c.example.org", "a.example.org", "b.example.org"}
	var machines []Settings
	for i, own := range all {
		s := DefaultSettings()
		s.Own = own
		for j, other := range all {
			if i != j {
				s.Siblings = append(s.Siblings, other)
			}
		}
		machines = append(machines, s)
	}
	last := map[int]int{}
	for d := range 400 {
		from := time.Date(2026, 1, d, 2, 0, 0, 0, time.UTC)
		turn := -1
		for i, s := range machines {
			if s.turnOn(from) {
				if turn >= 0 {
					t.Fatalf("on %s it is the turn of %s and of %s", from, all[turn], all[i])
				}
				turn = i
			}
		}
		if turn < 0 {
			t.Fatalf("on %s it is nobody's turn", from)
		}
		if before, seen := last[turn]; seen && d-before != len(all) {
			t.Fatalf("%s has its turn after %d days", all[turn], d-before)
		}
		last[turn] = d
	}
	alone := DefaultSettings()
	if !alone.turnOn(time.Now()) {
		t.Error("a machine without siblings waits")
	}
}

func TestMayBegin(t *testing.T) {
	s := DefaultSettings()
	in := time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)
	if err := s.mayBegin(in); err != nil {
		t.Error(err)
	}
	if err := s.mayBegin(in.Add(3 * time.Hour)); !errors.Is(err, errNotNow) || !strings.Contains(err.Error(), "2026-03-02 02:00 to 05:00 UTC") {
		t.Errorf("outside of the window: %v", err)
	}
	s.Automatic = false
	if err := s.mayBegin(in); !errors.Is(err, errOff) {
		t.Errorf("switched off: %v", err)
	}
}

// sibling is a machine that serves or does not, reached as b.example.org.
func sibling(t *testing.T, status *atomic.Int32) *http.Client {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" || r.Host != "b.example.org" {
			t.Errorf("asked for %s at %s", r.URL.Path, r.Host)
		}
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(server.Close)
	client := server.Client()
	transport := client.Transport.(*http.Transport)
	transport.TLSClientConfig.ServerName = "example.com" // whom the test's certificate names
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
	}
	return client
}

func TestSiblingsThatAreDown(t *testing.T) {
	r := newTree(t)
	s := &r.gate.Settings
	s.Own, s.Siblings = "a.example.org", []string{"b.example.org"}
	now, _ := s.next(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
	var status atomic.Int32
	client := sibling(t, &status)

	status.Store(http.StatusOK)
	if err := r.gate.Turn(t.Context(), client, now); err != nil {
		t.Fatal(err)
	}
	if err := r.gate.Turn(t.Context(), client, now.Add(day)); !errors.Is(err, errNotNow) {
		t.Fatalf("on the sibling's day: %v", err)
	}
	status.Store(http.StatusServiceUnavailable)
	if err := r.gate.Turn(t.Context(), client, now); !errors.Is(err, errNotNow) || !strings.Contains(err.Error(), "b.example.org does not serve: 503") {
		t.Fatalf("with the sibling down: %v", err)
	}
	if !r.state().Waiting.Equal(now) {
		t.Errorf("waiting since %s, want %s", r.state().Waiting, now)
	}
	if err := r.gate.Turn(t.Context(), client, now.Add(8*day)); !errors.Is(err, errNotNow) {
		t.Fatalf("after eight days: %v", err)
	}
	if err := r.gate.Turn(t.Context(), client, now.Add(maxWaiting)); err != nil {
		t.Fatalf("after too long: %v", err)
	}
	// What a clock noted that was wrong is noted anew.
	earlier := now.Add(-4 * day)
	if err := r.gate.Turn(t.Context(), client, earlier); !errors.Is(err, errNotNow) || !r.state().Waiting.Equal(earlier) {
		t.Fatalf("with the clock set back: %v, waiting since %s", err, r.state().Waiting)
	}
	status.Store(http.StatusOK)
	if err := r.gate.Turn(t.Context(), client, now.Add(maxWaiting)); err != nil || !r.state().Waiting.IsZero() {
		t.Fatalf("%v, waiting since %s", err, r.state().Waiting)
	}
}

func TestReboot(t *testing.T) {
	in := time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		prepare func(r *tree)
		now     time.Time
		why     string
		reboots int
	}{
		"nothing needs it":          {func(*tree) {}, in, "nothing needs", 0},
		"an update needs it":        {func(r *tree) { r.write(rebootFile, "") }, in, "the machine restarts", 1},
		"outside of the window":     {func(r *tree) { r.write(rebootFile, "") }, in.Add(-2 * time.Hour), "next window", 0},
		"switched off":              {func(r *tree) { r.write(rebootFile, ""); r.gate.Settings.Reboot = false }, in, "updates.reboot is off", 0},
		"all updates are off":       {func(r *tree) { r.write(rebootFile, ""); r.gate.Settings.Automatic = false }, in, "updates.automatic is off", 0},
		"it was restarted above":    {func(r *tree) { r.write(rebootFile, ""); r.rebootedAt(in.Add(-71 * time.Hour)) }, in, "the next one may be in 1h", 0},
		"long enough ago":           {func(r *tree) { r.write(rebootFile, ""); r.rebootedAt(in.Add(-72 * time.Hour)) }, in, "the machine restarts", 1},
		"by a clock that was wrong": {func(r *tree) { r.write(rebootFile, ""); r.rebootedAt(in.AddDate(10, 0, 0)) }, in, "the machine restarts", 1},
		"to be judged":              {func(r *tree) { r.write(rebootFile, ""); r.release("2.0", works) }, in, "still to be judged", 0},
		"being judged": {func(r *tree) {
			r.write(rebootFile, "")
			release, err := r.gate.Machine.alone()
			if err != nil {
				t.Fatal(err)
			}
			r.t.Cleanup(release)
		}, in, "another relay-appliance is judging", 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := settled(t)
			c.prepare(r)
			why, err := r.gate.RebootIfNeeded(t.Context(), http.DefaultClient, c.now)
			if err != nil || !strings.Contains(why, c.why) || r.units.rebooted != c.reboots {
				t.Errorf("%q, %v, %d restarts; want %q, %d", why, err, r.units.rebooted, c.why, c.reboots)
			}
			if c.reboots > 0 && !r.state().Rebooted.Equal(c.now) {
				t.Errorf("noted: %s", r.state().Rebooted)
			}
		})
	}
}

func (r *tree) rebootedAt(at time.Time) {
	r.t.Helper()
	s := r.state()
	s.Rebooted = at
	if err := r.gate.Machine.save(s, nil); err != nil {
		r.t.Fatal(err)
	}
}

func TestAPlannedRestartIsAnnounced(t *testing.T) {
	r := settled(t)
	r.write(rebootFile, "")
	now := time.Now() // before the gate's, so that a window that ends meanwhile is not over
	r.run(nil)
	n, err := maintenance.Read(filepath.Join(r.root, maintenance.File), now)
	if err != nil || n.Planned == nil {
		t.Fatalf("%+v, %v", n, err)
	}
	if p := n.Planned; p.To.Before(now) || p.To.Sub(p.From) > 3*time.Hour || p.From.After(time.Now().Add(day)) {
		t.Errorf("planned from %s to %s", p.From, p.To)
	}
	// One that may not be yet is announced for when it may.
	r.rebootedAt(time.Now())
	s := r.state()
	p := r.gate.Settings.planned(r.gate.Machine, s, time.Now())
	if p == nil || p.To.Before(s.Rebooted.Add(r.gate.Settings.RebootEvery)) {
		t.Errorf("planned %+v, not before %s", p, s.Rebooted.Add(r.gate.Settings.RebootEvery))
	}
}

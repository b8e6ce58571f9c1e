package monitor

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
	"github.com/psf-relay/relay-appliance/monitor/store"
	"github.com/psf-relay/relay-appliance/monitor/witness"
)

// counted is a witness of the world that is well, or not, from hour to hour; it does
// not tell what it remembers. It counts the requests that reach it.
type counted struct {
	began time.Time
	is    func(hour int) int // a status; 0: it is well, -1: it cannot be reached
	well  http.Handler
	at    []time.Time
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	status := c.is(int(time.Since(c.began) / time.Hour))
	switch {
	case status < 0:
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	case r.Method == http.MethodGet:
		http.NotFound(rec, r)
	case status > 0:
		c.at = append(c.at, time.Now())
		http.Error(rec, "no", status)
	default:
		c.at = append(c.at, time.Now())
		in := r.Clone(r.Context())
		in.RemoteAddr = "127.0.0.1:1"
		c.well.ServeHTTP(rec, in)
	}
	return rec.Result(), nil
}

// most is how many requests came within 24 hours, at most.
func (c *counted) most() int {
	most := 0
	for i, from := range c.at {
		n := slices.IndexFunc(c.at[i:], func(at time.Time) bool { return at.Sub(from) >= 24*time.Hour })
		if n < 0 {
			n = len(c.at) - i
		}
		most = max(most, n)
	}
	return most
}

// However a witness of the world is, and however often the monitor is started, it is
// asked no more than 24 times within any 24 hours, and once it is well it has all.
func TestAsksNoMoreThanRegistered(t *testing.T) {
	within := func(status, from, to int) func(int) int {
		return func(hour int) int {
			if from <= hour && hour < to {
				return status
			}
			return 0
		}
	}
	for _, c := range []struct {
		name     string
		is       func(int) int
		restarts int // an hour
	}{
		{"well", within(0, 0, 0), 0},
		{"not reached for 20 hours", within(-1, 30, 50), 0},
		{"500 for 20 hours", within(500, 30, 50), 0},
		{"429 for 20 hours", within(429, 30, 50), 0},
		{"does not know the log for a day", within(404, 0, 24), 0},
		{"asked by a monitor that starts anew thrice an hour", within(0, 0, 0), 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { rateOf(t, c.is, c.restarts) })
		})
	}
}

func rateOf(t *testing.T, is func(int) int, restarts int) {
	first := evidence.HourOf(time.Now())
	dir := t.TempDir()
	create := func(name string) *store.Log {
		l, err := store.Create(filepath.Join(dir, name), store.Options{Name: name, Network: evidence.Lab, First: first})
		must(t, err)
		t.Cleanup(func() { l.Close() })
		return l
	}
	log, other := create("m1"), create("world")
	at, key, err := other.Witness()
	must(t, err)
	w, err := witness.New(at, key)
	must(t, err)
	c := &counted{began: time.Now(), is: is}
	c.well = http.StripPrefix("/w", witness.Handler(w, func() []string { return []string{log.Key()} }, slog.New(slog.DiscardHandler)))
	m := &Monitor{cfg: Config{Name: "m1", DataDir: dir}, store: log, log: slog.New(slog.DiscardHandler),
		machine: schedule.Machine{Now: func() schedule.Moment { return schedule.Moment{Wall: time.Now().Round(0)} }}}
	goBy(m, &bounty.Rules{}, &bounty.Roster{Network: evidence.Lab, Witnesses: []bounty.Witness{
		{Name: "world", Operator: "world", Key: w.Key(), URL: "https://witness.example/w", Term: bounty.Term{From: first}},
	}})
	const hours = 80
	for h := range evidence.Hour(hours) {
		for i := range 120 {
			if i == 0 && h == 0 || restarts > 0 && i%(120/restarts) == 0 {
				m.witnessing = newWitnessing(m, &http.Client{Transport: c})
			}
			m.witnessing.pass(t.Context(), time.Now())
			if i == 32 && h > 0 && !log.Held() { // sixteen minutes past
				_, err := log.Seal(time.Now())
				must(t, err)
			}
			time.Sleep(30 * time.Second)
		}
	}
	list, held, _ := m.witnessing.state()
	t.Logf("asked %d times within 24 hours at most, %d times in all", c.most(), len(c.at))
	if c.most() > 24 {
		t.Errorf("it was asked %d times within 24 hours, want 24 at most", c.most())
	}
	if restarts == 0 && (held != "" || list[0].Behind != 0 || strings.Contains(list[0].Error, "answered")) {
		t.Errorf("after all that it shows %+v, held %q", list, held)
	}
}

// A file that says nothing is one without entries.
func TestQuotaOfNull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "witnesses.json")
	if err := os.WriteFile(path, []byte("null\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	q := readQuota(path, slog.New(slog.DiscardHandler))
	if err := q.begin("w", time.Now()); err != nil || len(q.by["w"].At) != 1 {
		t.Errorf("%+v, %v", q.by, err)
	}
}

package circuit

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/wallclock"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/refusal"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// testClock is the clock of a machine, which can be wrong, and set.
type testClock struct {
	wall  time.Time
	up    time.Duration
	kept  bool // by a time service
	built time.Time
}

func (c *testClock) run(d time.Duration) { c.wall, c.up = c.wall.Add(d), c.up+d }

// open starts a budget, as a relay does that is started.
func (c *testClock) open(t testing.TB, dir string, l config.Limits) *Budget {
	t.Helper()
	clock := &wallclock.Clock{Built: c.built, Kept: func() bool { return c.kept }, Uptime: func() time.Duration { return c.up }}
	return openBudgetBy(clock, dir, l, c.wall, relaytest.Log(t))
}

// A clock that is wrong and is set right takes no month's count away, and gives no
// month's budget twice.
func TestClockSteps(t *testing.T) {
	const old = `{"month":"2026-11","bytes":990}` + "\n"
	type step struct {
		at      string // what the clock says now; empty: it runs on
		kept    bool
		restart bool
		run     time.Duration
		carry   int64 // then
		month   string
		bytes   int64
		doubt   string // a part of it; empty: there is none
	}
	for name, steps := range map[string][]step{
		"1970, then right": {
			{at: "1970-01-01 00:00", restart: true, carry: 10, month: "2026-11", bytes: 1000, doubt: "made on 2026-10-05"},
			{at: "2026-11-20 12:00", kept: true, month: "2026-11", bytes: 1000},
		},
		"1970 for days": {
			{at: "1970-01-01 00:00", restart: true, carry: 5, month: "2026-11", bytes: 995, doubt: "1970"},
			{run: 100 * time.Hour, carry: 5, month: "2026-11", bytes: 1000, doubt: "1970"},
			{restart: true, month: "2026-11", bytes: 1000, doubt: "1970"},
			{at: "2026-12-02 12:00", kept: true, month: "2026-12", bytes: 10}, // what was carried in doubt
		},
		"the next month, then right": {
			{at: "2026-12-20 12:00", restart: true, carry: 10, month: "2026-11", bytes: 1000, doubt: "no time service"},
			{at: "2026-11-20 12:00", kept: true, month: "2026-11", bytes: 1000},
			{at: "2026-12-01 00:00", kept: true, month: "2026-12", bytes: 0},
		},
		"the next month, then right after a restart": {
			{at: "2026-12-20 12:00", restart: true, carry: 10, month: "2026-11", bytes: 1000, doubt: "no time service"},
			{at: "2026-11-20 12:00", kept: true, restart: true, month: "2026-11", bytes: 1000},
		},
		"the next month for so long that it is believed": {
			{at: "2026-11-20 12:00", kept: true, restart: true, month: "2026-11", bytes: 990},
			{at: "2026-12-20 12:00", restart: true, month: "2026-11", bytes: 990, doubt: "no time service"},
			{run: 2 * time.Hour, carry: 500, month: "2026-12", bytes: 500},
			{at: "2026-11-20 14:00", month: "2026-12", bytes: 500, doubt: "last count was written on 2026-12-20"},
			{kept: true, carry: 7, month: "2026-11", bytes: 1497},
			{at: "2026-12-01 00:00", kept: true, restart: true, carry: 1, month: "2026-12", bytes: 1}, // the real one is whole
			{at: "2027-01-01 00:00", kept: true, month: "2027-01", bytes: 0},
		},
		"now, the next month, now": {
			{at: "2026-11-20 12:00", kept: true, restart: true, carry: 5, month: "2026-11", bytes: 995},
			{at: "2026-12-20 12:00", carry: 5, month: "2026-11", bytes: 1000, doubt: "was set"},
			{at: "2026-11-20 12:01", kept: true, month: "2026-11", bytes: 1000},
		},
		"now, long ago, now": {
			{at: "2026-11-20 12:00", kept: true, restart: true, carry: 5, month: "2026-11", bytes: 995},
			{at: "2026-10-20 12:00", kept: true, carry: 5, month: "2026-10", bytes: 1000}, // a time service that errs
			{restart: true, kept: true, carry: 5, month: "2026-10", bytes: 1005},
			{at: "2026-11-20 13:00", kept: true, month: "2026-11", bytes: 1005},
		},
		"set back twice, then right": {
			{at: "2026-11-20 12:00", kept: true, restart: true, month: "2026-11", bytes: 990},
			{at: "2027-01-05 12:00", kept: true, carry: 5, month: "2027-01", bytes: 5},
			{at: "2026-10-20 12:00", kept: true, carry: 5, month: "2026-10", bytes: 1000},
			{at: "2026-11-21 12:00", kept: true, month: "2026-11", bytes: 1000},
		},
		"a month ends without a time service": {
			{at: "2026-11-30 22:00", restart: true, month: "2026-11", bytes: 990},
			{run: 2 * time.Hour, carry: 3, month: "2026-12", bytes: 3},
		},
		"a month ends while the relay is off, without a time service": {
			{at: "2026-12-01 12:00", restart: true, carry: 3, month: "2026-11", bytes: 993, doubt: "no time service"},
			{run: time.Hour, month: "2026-12", bytes: 3},
		},
		"a day back": {
			{at: "2026-11-20 12:00", kept: true, restart: true, month: "2026-11", bytes: 990},
			{at: "2026-11-19 12:00", carry: 1, month: "2026-11", bytes: 991, doubt: "last count was written on 2026-11-20"},
			{run: time.Hour, month: "2026-11", bytes: 991},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			relaytest.Must(t, os.WriteFile(filepath.Join(dir, trafficFile), []byte(old), 0o600))
			c := &testClock{built: relaytest.Day("2026-10-05 09:00"), wall: relaytest.Day("2026-11-20 12:00")}
			l := config.Limits{Month: 1000, CircuitsPerIP: 9}
			var b *Budget
			for i, s := range steps {
				if s.at != "" {
					c.wall = relaytest.Day(s.at)
				}
				c.kept = s.kept
				if s.restart {
					b = c.open(t, dir, l)
				}
				c.run(s.run)
				relaytest.Must(t, b.Tend(c.wall))
				bill, err := b.open("a", ipOf(1), c.wall)
				relaytest.Must(t, err)
				if err := bill.charge(int(s.carry)); (s.bytes >= 1000) != errors.Is(err, refusal.MonthSpent) {
					t.Errorf("step %d: %v with %d of 1000 bytes", i, err, s.bytes)
				}
				bill.done()
				relaytest.Must(t, b.Tend(c.wall))
				got := b.State()
				if got.Month != s.month || got.Bytes != s.bytes || (got.Doubt == "") != (s.doubt == "") || !strings.Contains(got.Doubt, s.doubt) {
					t.Errorf("step %d: got %+v, want %d bytes in %s, in doubt: %q", i, got, s.bytes, s.month, s.doubt)
				}
			}
		})
	}
}

// At the first start nothing is known but when the program was made.
func TestFirstStartIn1970(t *testing.T) {
	c := &testClock{built: relaytest.Day("2026-10-05 09:00"), wall: relaytest.Day("1970-01-01 00:00")}
	b := c.open(t, t.TempDir(), config.Limits{CircuitsPerIP: 9})
	bill, err := b.open("a", ipOf(1), c.wall)
	relaytest.Must(t, err)
	relaytest.Must(t, bill.charge(100))
	relaytest.Must(t, b.Tend(c.wall))
	if s := b.State(); s.Month != "2026-10" || s.Bytes != 100 || s.Doubt == "" {
		t.Errorf("in 1970: %+v", s)
	}
	c.wall, c.kept = relaytest.Day("2026-11-20 12:00"), true
	relaytest.Must(t, b.Tend(c.wall))
	if s := b.State(); s.Month != "2026-11" || s.Bytes != 100 || s.Doubt != "" {
		t.Errorf("set right: %+v", s)
	}
}

// The version before reads what this one writes.
func TestTrafficOfTheVersionBefore(t *testing.T) {
	dir := t.TempDir()
	c := &testClock{wall: relaytest.Day("2026-11-20 12:00"), kept: true}
	b := c.open(t, dir, config.Limits{CircuitsPerIP: 9})
	for range 20 {
		bill, err := b.open("a", ipOf(1), c.wall)
		relaytest.Must(t, err)
		relaytest.Must(t, bill.charge(100))
		c.wall = c.wall.AddDate(0, 1, 0)
		relaytest.Must(t, b.Tend(c.wall))
		relaytest.Must(t, bill.charge(7))
		relaytest.Must(t, b.Tend(c.wall))
		bill.done()
	}
	data, err := os.ReadFile(filepath.Join(dir, trafficFile))
	relaytest.Must(t, err)
	var before struct {
		Month string `json:"month"`
		Bytes int64  `json:"bytes"`
	}
	relaytest.Must(t, json.Unmarshal(data, &before))
	if before.Month != "2028-07" || before.Bytes != 7 {
		t.Errorf("the version before reads %+v", before)
	}
	var now months
	relaytest.Must(t, json.Unmarshal(data, &now))
	if len(now.Earlier) != maxMonths || now.Earlier["2028-06"].Bytes != 107 {
		t.Errorf("kept are %v", now.Earlier)
	}
}

// However wrong the clock is for a time: when it is right again and believed, the
// month's count holds all that was carried in that month.
func TestNoMonthIsLost(t *testing.T) {
	for seed := range uint64(8) { // 300 of them hold as well, and take minutes on a slow disk
		random := rand.New(rand.NewPCG(seed, 6))
		dir := t.TempDir()
		truth := relaytest.Day("2026-11-05 00:00")
		c := &testClock{built: relaytest.Day("2026-10-05 09:00"), wall: truth, kept: true}
		b := c.open(t, dir, config.Limits{CircuitsPerIP: 9})
		carried := map[string]int64{}
		var story []string
		right := false // so that the first look is at a right clock
		for range 60 {
			mended := !right
			right = mended || random.IntN(3) > 0
			restart := random.IntN(3) == 0
			off := time.Duration(random.IntN(40*24)) * time.Hour
			if restart && random.IntN(2) == 0 {
				truth = truth.Add(off) // the relay was off for a while
			}
			c.wall = truth
			c.kept = mended || random.IntN(3) > 0
			hours := time.Duration(random.IntN(50)) * time.Hour
			for !right {
				// Not in the month that it is, nor in the one that is counted, nor between the
				// last look and now: nobody can tell such a clock from a right one.
				c.wall = truth.Add(time.Duration(random.IntN(400*24)-200*24) * time.Hour)
				m := monthOf(c.wall)
				if m != monthOf(truth) && m != monthOf(truth.Add(hours)) && m != b.State().Month && m == monthOf(c.wall.Add(hours)) &&
					(c.wall.After(truth) || c.wall.Before(b.months.At)) {
					break
				}
			}
			if restart {
				b = c.open(t, dir, config.Limits{CircuitsPerIP: 9})
			}
			relaytest.Must(t, b.Tend(c.wall))
			begin := monthOf(truth)
			n := int64(random.IntN(1000))
			if truth = truth.Add(hours); monthOf(truth) != begin {
				n = 0 // what is carried over the month's end may be of either
			}
			c.run(hours)
			b.used.Add(n)
			carried[monthOf(truth)] += n
			relaytest.Must(t, b.Tend(c.wall))
			s := b.State()
			story = append(story, fmt.Sprintf("%s: the clock says %s (kept: %v, restart: %v), %d carried: %+v", truth.Format(time.DateTime), c.wall.Format(time.DateTime), c.kept, restart, n, s))
			if c.wall.Equal(truth) && s.Doubt == "" && (s.Month != monthOf(truth) || s.Bytes < carried[s.Month]) {
				t.Fatalf("seed %d: %d bytes were carried in %s:\n%s", seed, carried[monthOf(truth)], monthOf(truth), strings.Join(story, "\n"))
			}
		}
	}
}

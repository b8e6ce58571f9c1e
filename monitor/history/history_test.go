package history

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

var first = mustHour("2026-10-30T22:00:00Z")

func mustHour(s string) evidence.Hour {
	h, err := evidence.ParseHour(s)
	if err != nil {
		panic(err)
	}
	return h
}

// newLog is a real log on disk with a roster of n relays.
func newLog(t testing.TB, n int, first evidence.Hour) (*store.Log, *bounty.Roster) {
	t.Helper()
	log, err := store.Create(t.TempDir()+"/log", store.Options{Name: "m1", Network: evidence.Lab, First: first})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	roster := &bounty.Roster{Network: evidence.Lab}
	for range n {
		key, pub, err := crypto.GenerateEd25519Key(nil)
		if err != nil {
			t.Fatal(err)
		}
		id, err := peer.IDFromPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		signers.Store(id.String(), signer{key, log.Key()})
		roster.Relays = append(roster.Relays, bounty.Relay{
			PeerID: id.String(), Operator: "another", Enrolled: first,
			Address: bounty.Address{IPv4: "127.0.0.2", TCPPort: 4001, Domain: "relay.test", WSSPort: 443},
		})
	}
	return log, roster
}

// signer is a relay that signs vouchers for the monitor of a log.
type signer struct {
	key crypto.PrivKey
	log string
}

var signers sync.Map // by peer ID

// reserve is what the relay grants for the hour of at, to an identity with a beacon or none.
func reserve(relay string, at time.Time, beacon []byte) *evidence.Reservation {
	return reserveFor(relay, at, beacon, time.Hour)
}

func reserveFor(relay string, at time.Time, beacon []byte, ttl time.Duration) *evidence.Reservation {
	known, _ := signers.Load(relay)
	s := known.(signer)
	id, err := peer.Decode(relay)
	if err != nil {
		panic(err)
	}
	c := evidence.Challenge{Beacon: beacon, MonitorKey: s.log, Relay: id, Hour: evidence.HourOf(at), Salt: make([]byte, 32)}
	key, err := c.Key()
	if err != nil {
		panic(err)
	}
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		panic(err)
	}
	expires := at.Add(ttl)
	e, err := record.Seal(&relayv2.ReservationVoucher{Relay: id, Peer: self, Expiration: expires}, s.key)
	if err != nil {
		panic(err)
	}
	voucher, err := e.Marshal()
	if err != nil {
		panic(err)
	}
	return &evidence.Reservation{Peer: self.String(), Salt: c.Salt, Beacon: beacon, Voucher: voucher, Expires: evidence.TimeOf(expires)}
}

func up(r *bounty.Relay, at time.Time) evidence.Attempt {
	a := evidence.Attempt{
		Started: evidence.TimeOf(at), PeerID: r.PeerID, Level: evidence.LevelEchoed,
		Rungs: []evidence.Rung{}, Results: map[evidence.Component]evidence.Result{},
		Facts: evidence.Facts{AgentVersion: "relay/1", PingUS: []int64{2500, 2100}, Reservation: reserve(r.PeerID, at, nil)},
	}
	a.TCP4Addr, a.WSSAddr = r.Multiaddrs(r.PeerID)
	for i, c := range evidence.Components {
		a.Results[c] = evidence.Result{Outcome: evidence.OK, DurationUS: int64(1000 * (i + 1))}
	}
	return a
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func seal(t testing.TB, log *store.Log, h evidence.Hour) {
	t.Helper()
	_, err := log.Seal(h.End().Add(evidence.CloseAfter))
	must(t, err)
}

func hourOf(h *History, relay string, hour evidence.Hour) (Hour, error) {
	r, err := h.Month(hour.Month())
	return r.Of(relay).Hours[hour-hour.Month().First()], err
}

func TestMonth(t *testing.T) {
	log, roster := newLog(t, 2, first)
	relay := &roster.Relays[0]
	hist := New(log, bounty.Defaults(), roster, nil)
	watch := func(h evidence.Hour, attempts ...evidence.Attempt) {
		must(t, log.Begin(h, h.Start(), "test"))
		for _, a := range attempts {
			must(t, log.Append(h, a))
		}
	}
	watch(first, up(relay, first.Start()))
	seal(t, log, first)
	watch(first + 1) // watched, and nothing was tried
	seal(t, log, first+1)
	// Two hours without a monitor, then one that is still open in the same month.
	failed := up(relay, (first + 4).Start())
	failed.Results[evidence.WSS] = evidence.Result{Outcome: evidence.Fail, Class: evidence.CertExpired}
	failed.Results[evidence.Relay] = evidence.Result{Outcome: evidence.Skipped, Class: evidence.BelowFailed}
	failed.Level, failed.Facts.AgentVersion = 0, "relay/2"
	watch(first+4, failed)
	seal(t, log, first+4)
	watch(first+5, up(relay, (first+5).Start()))

	for range 2 { // the second time out of memory
		all, err := hist.Month(first.Month())
		must(t, err)
		got := all.Of(relay.PeerID)
		at := int(first - first.Month().First())
		want := []Hour{
			{Kind: Sealed, Vote: bounty.Up, Attempts: 1, PingUS: 2100, TCP4US: 1000, WSSUS: 2000, RelayUS: 3000},
			{Kind: Sealed, Why: bounty.Missed},
			{Kind: Gap, Why: bounty.Missing},
			{Kind: Gap, Why: bounty.Missing},
			{Kind: Sealed, Why: bounty.NoControls, Attempts: 1, PingUS: 2100, TCP4US: 1000},
			{Kind: Open, Vote: bounty.Up, Attempts: 1, PingUS: 2100, TCP4US: 1000, WSSUS: 2000, RelayUS: 3000},
			{},
		}
		if got.Hours[at-1] != (Hour{}) {
			t.Errorf("before the log: %+v", got.Hours[at-1])
		}
		for i, w := range want {
			if got.Hours[at+i] != w {
				t.Errorf("hour %d: %+v, want %+v", i, got.Hours[at+i], w)
			}
		}
		if len(got.Agents) != 3 || got.Agents[1].Agent != "relay/2" || got.Agents[0].From != first {
			t.Errorf("versions %+v", got.Agents)
		}
	}
	// What was open becomes what was sealed.
	seal(t, log, first+5)
	if got, err := hourOf(hist, relay.PeerID, first+5); err != nil || got.Kind != Sealed || got.Vote != bounty.Up {
		t.Errorf("%+v, %v", got, err)
	}
	// The other relay was not tried.
	if got, err := hourOf(hist, roster.Relays[1].PeerID, first); err != nil || got.Vote != bounty.Unknown || got.Why != bounty.Missed {
		t.Errorf("%+v, %v", got, err)
	}
}

// Whatever is asked for, memory is bounded: of months by use, of a relay's own
// words by number.
func TestBounds(t *testing.T) {
	log, roster := newLog(t, 2, first)
	hist := New(log, bounty.Defaults(), roster, nil)
	hist.most = 2 * 750 // two relays, one month
	relay := &roster.Relays[0]
	for h := first; h < first+2*maxSeen; h++ {
		must(t, log.Begin(h, h.Start(), "test"))
		for i := range roster.Relays {
			a := up(&roster.Relays[i], h.Start())
			a.Facts.AgentVersion = h.String()
			must(t, log.Append(h, a))
		}
		seal(t, log, h)
	}
	for range 2 {
		for m := first.Month(); m < first.Month()+2*maxMonths; m++ {
			all, err := hist.Month(m)
			must(t, err)
			r := all.Of(relay.PeerID)
			if len(r.Agents) > maxSeen || (len(r.Agents) == maxSeen) != r.More {
				t.Errorf("%s: %d versions, more: %v", m, len(r.Agents), r.More)
			}
			hours := 0
			for _, k := range hist.months {
				hours += k.hours
			}
			if hours > hist.most || len(hist.months) > maxMonths {
				t.Fatalf("%d hours of %d months in memory", hours, len(hist.months))
			}
		}
	}
	if got, err := hourOf(hist, relay.PeerID, first); err != nil || got.Vote != bounty.Up {
		t.Errorf("read a second time: %+v, %v", got, err)
	}
}

// Whoever stops reading keeps what was read.
func TestWarm(t *testing.T) {
	log, roster := newLog(t, 1, first)
	hist := New(log, bounty.Defaults(), roster, nil)
	must(t, log.Begin(first, first.Start(), "test"))
	must(t, log.Append(first, up(&roster.Relays[0], first.Start())))
	seal(t, log, first)
	ctx, cancel := context.WithCancel(t.Context())
	must(t, hist.Warm(ctx, first.Month()))
	if n := hist.months[first.Month()].hours; n != first.Month().Hours() {
		t.Errorf("%d hours in memory", n)
	}
	seal(t, log, first+1)
	cancel()
	if err := hist.Warm(ctx, first.Month()); err == nil {
		t.Error("read on")
	}
	if got, err := hourOf(hist, roster.Relays[0].PeerID, first); err != nil || got.Vote != bounty.Up {
		t.Errorf("%+v, %v", got, err)
	}
}

// counted counts how often an hour is read.
type counted struct {
	*store.Log
	headers int
	hours   map[evidence.Hour]int
}

func (c *counted) Headers(m evidence.Month) ([]evidence.Header, error) {
	c.headers++
	return c.Log.Headers(m)
}

func (c *counted) Records(h evidence.Hour) ([]evidence.Record, error) {
	c.hours[h]++
	return c.Log.Records(h)
}

// However many relays there are and however often somebody asks, an hour is read once,
// and again only when something was written to it. What did not change is the same.
func TestReadOnce(t *testing.T) {
	log, roster := newLog(t, 20, first+48)
	begun := first + 48
	c := &counted{Log: log, hours: map[evidence.Hour]int{}}
	hist := New(c, bounty.Defaults(), roster, nil)
	all := func() Relays {
		t.Helper()
		var got Relays
		for range 3 {
			for range roster.Relays { // as pages do that ask for each
				var err error
				got, err = hist.Month(begun.Month())
				must(t, err)
			}
		}
		return got
	}
	want := func(headers int, hours map[evidence.Hour]int) {
		t.Helper()
		if c.headers != headers || !maps.Equal(c.hours, hours) {
			t.Errorf("headers read %d times, hours %v; want %d, %v", c.headers, c.hours, headers, hours)
		}
		c.headers, c.hours = 0, map[evidence.Hour]int{}
	}
	for h := begun; h < begun+4; h++ {
		must(t, log.Begin(h, h.Start(), "test"))
		for i := range roster.Relays {
			must(t, log.Append(h, up(&roster.Relays[i], h.Start())))
		}
	}
	seal(t, log, begun+1)
	before := all()
	want(1, map[evidence.Hour]int{begun: 1, begun + 1: 1, begun + 2: 1, begun + 3: 1})
	all()
	want(0, map[evidence.Hour]int{})

	// A second attempt is seen at once, and is nothing new to the other relays.
	again := up(&roster.Relays[0], (begun + 3).Start().Add(time.Minute))
	again.Facts.AgentVersion = "relay/2"
	must(t, log.Append(begun+3, again))
	after := all()
	want(0, map[evidence.Hour]int{begun + 3: 1})
	for i := range roster.Relays {
		id := roster.Relays[i].PeerID
		if (before.Of(id) == after.Of(id)) == (i == 0) {
			t.Errorf("relay %d: the same: %v", i, i > 0)
		}
	}
	at := begun + 3 - begun.Month().First()
	if got := after.Of(roster.Relays[0].PeerID); got.Hours[at].Attempts != 2 || len(got.Agents) != 2 {
		t.Errorf("got %+v, versions %+v, want two attempts and two versions", got.Hours[at], got.Agents)
	}
	if got := before.Of(roster.Relays[0].PeerID); got.Hours[at].Attempts != 1 || len(got.Agents) != 1 {
		t.Errorf("what was given out has changed: %+v, %+v", got.Hours[at], got.Agents)
	}

	// What is sealed is read once more, with the header's controls.
	seal(t, log, begun+2)
	all()
	want(1, map[evidence.Hour]int{begun + 2: 1})
	if got, err := hourOf(hist, roster.Relays[1].PeerID, begun+2); err != nil || got.Kind != Sealed {
		t.Errorf("got %+v, %v, want a sealed hour", got, err)
	}
	want(0, map[evidence.Hour]int{})
}

// In the first days of a month the one before is asked for as often: of a large roster,
// too, both stay, whatever visitors ask for.
func TestTwoMonthsStay(t *testing.T) {
	log, roster := newLog(t, 1, first)
	for range maxHours / (31 * 24) {
		roster.Relays = append(roster.Relays, bounty.Relay{})
	}
	hist := New(log, bounty.Defaults(), roster, nil)
	last := first.Month()
	for _, m := range []evidence.Month{last, last - 1, last - 7, last - 8, last - 9, last - 7} {
		known := hist.use(m)
		for i := range roster.Relays {
			known.relays[fmt.Sprint(i)] = known.other
		}
		hist.account(known, m)
	}
	if hist.months[last] == nil || hist.months[last-1] == nil || hist.months[last-7] == nil || len(hist.months) != 3 {
		t.Errorf("months in memory: %v, want %s, %s and %s", slices.Sorted(maps.Keys(hist.months)), last, last-1, last-7)
	}
}

// The first request for a month of 100 relays, and every later one.
func BenchmarkMonth(b *testing.B) {
	start := evidence.MonthOf(time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)).First()
	log, roster := newLog(b, 100, start)
	const hours = 48 // of 744: a benchmark that waits for a disk is slow
	for h := start; h < start+hours; h++ {
		must(b, log.Begin(h, h.Start(), "test"))
		for i := range roster.Relays {
			must(b, log.Append(h, up(&roster.Relays[i], h.Start())))
		}
		seal(b, log, h)
	}
	b.Run("cold", func(b *testing.B) {
		var before, after runtime.MemStats
		for b.Loop() {
			hist := New(log, bounty.Defaults(), roster, nil)
			runtime.GC()
			runtime.ReadMemStats(&before)
			_, err := hist.Month(start.Month())
			must(b, err)
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/100, "B/relay-month")
			runtime.KeepAlive(hist)
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/hours/100, "µs/record")
	})
	hist := New(log, bounty.Defaults(), roster, nil)
	_, err := hist.Month(start.Month())
	must(b, err)
	b.Run("warm", func(b *testing.B) {
		for b.Loop() {
			_, err := hist.Month(start.Month())
			must(b, err)
		}
	})
}

// The pages show what an hour in which the clock was set comes to.
func TestHourOfAClockThatWasSet(t *testing.T) {
	log, roster := newLog(t, 1, first)
	relay := &roster.Relays[0]
	roster.Controls = []bounty.ControlHost{{Name: "c1", TCP4: "x", WSS: "x"}}
	for h := first; h < first+2; h++ {
		must(t, log.Begin(h, h.Start(), "test"))
		for i := range 2 {
			after := time.Duration(10*i) * time.Minute
			by := time.Duration(i) * 6 * time.Minute * time.Duration(h-first) // only in the second hour
			must(t, log.Mark(h, evidence.Mark{Clock: &evidence.ClockSample{At: evidence.TimeOf(h.Start().Add(after + by)), Synchronised: true, UpMS: after.Milliseconds()}}))
			a := up(relay, h.Start().Add(after+time.Minute))
			a.Level, a.Results[evidence.WSS] = 0, evidence.Result{Outcome: evidence.Fail}
			a.Controls = []evidence.Control{{Name: "c1", Component: evidence.WSS, Outcome: evidence.OK, Started: a.Started}}
			must(t, log.Append(h, a))
		}
		seal(t, log, h)
	}
	history := New(log, bounty.Defaults(), roster, nil)
	for h, want := range map[evidence.Hour]bounty.Vote{first: {Value: bounty.Down}, first + 1: {Why: bounty.Clock}} {
		got, err := hourOf(history, relay.PeerID, h)
		must(t, err)
		if (bounty.Vote{Value: got.Vote, Why: got.Why}) != want {
			t.Errorf("%s: got %s (%s), want %s (%s)", h, got.Vote, got.Why, want.Value, want.Why)
		}
	}
}

// What the clock did counts before the hour is sealed, too: else a page, a metric or
// an alert calls a relay down for which the sealed hour says that nobody knows.
func TestOpenHourGoesByItsClock(t *testing.T) {
	log, roster := newLog(t, 1, first)
	relay := &roster.Relays[0]
	for _, name := range []string{"c1", "c2", "c3"} {
		roster.Controls = append(roster.Controls, bounty.ControlHost{Name: name, Operator: name, TCP4: "/ip4/192.5.5.241/tcp/1", WSS: "/dns4/c.example/tcp/1/wss"})
	}
	hist := New(log, bounty.Defaults(), roster, nil)
	mark := func(after, up time.Duration) {
		t.Helper()
		must(t, log.Mark(first, evidence.Mark{Clock: &evidence.ClockSample{
			At: evidence.TimeOf(first.Start().Add(after)), Synchronised: true, UpMS: up.Milliseconds(), Boot: "b",
		}}))
	}
	vote := func(value bounty.Value, why bounty.Why) {
		t.Helper()
		got, err := hourOf(hist, relay.PeerID, first)
		must(t, err)
		if got.Vote != value || got.Why != why {
			t.Errorf("the page: got %s (%s), want %s (%s)", got.Vote, got.Why, value, why)
		}
		records, err := log.Records(first)
		must(t, err)
		clock := log.Clock(first)
		told := Tell(Facts{Monitor: "m1", Rules: bounty.Defaults(), Roster: roster, Relay: relay, Hour: first, Now: first.End(), Clock: &clock, Record: &records[0]})
		if told.Vote != value || told.Why != why {
			t.Errorf("the story: got %s (%s), want %s (%s)", told.Vote, told.Why, value, why)
		}
	}
	must(t, log.Begin(first, first.Start(), "test"))
	mark(0, time.Hour)
	for _, after := range []time.Duration{10 * time.Minute, 20 * time.Minute} {
		a := up(relay, first.Start().Add(after))
		a.Results[evidence.TCP4] = evidence.Result{Outcome: evidence.Fail, Class: evidence.Refused}
		a.Results[evidence.Relay] = evidence.Result{Outcome: evidence.Skipped, Class: evidence.BelowFailed}
		a.Level = 0
		for _, c := range roster.Controls {
			a.Controls = append(a.Controls, evidence.Control{Name: c.Name, Component: evidence.TCP4, Outcome: evidence.OK, Started: a.Started, DurationUS: 1, Sent: 100})
		}
		must(t, log.Append(first, a))
	}
	vote(bounty.Down, bounty.None)
	mark(2*time.Hour, time.Hour+30*time.Minute) // set forward; no attempt came after
	vote(bounty.Unknown, bounty.Clock)
}

package circuit

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/refusal"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// loggedAt is a relay of which a test reads the log.
func loggedAt(t testing.TB, c config.Config, level slog.Level) (*running, *relaytest.Club, *relaytest.LogPage) {
	t.Helper()
	log := &relaytest.LogPage{}
	r := startLogging(t, c, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: level})))
	members := &relaytest.Club{}
	r.service.SetMembership(members)
	return r, members, log
}

// More guests than reservations: those who have one keep it, the others are told so, and it
// stays like that.
func TestGuestsShareSettles(t *testing.T) {
	c := relaytest.LimitConfig(t)
	c.Limits.Reservations, c.Limits.GuestReservations = 20, 4
	r, _, log := loggedAt(t, c, slog.LevelDebug)
	relay := r.info()
	var hosts []host.Host
	for i := range 6 {
		hosts = append(hosts, relaytest.NewPeerAt(t, fmt.Sprintf("127.0.1.%d", i+1)))
	}
	for range 5 {
		for i, h := range hosts {
			_, err := relaytest.Reserve(t, h, relay)
			if i < 4 {
				relaytest.Must(t, err)
			} else {
				relaytest.WantStatus(t, err, pbv2.Status_RESERVATION_REFUSED)
			}
		}
	}
	for i, h := range hosts[:4] {
		if r.host.Network().Connectedness(h.ID()) != network.Connected || !r.service.reservations.has(h.ID()) {
			t.Errorf("holder %d lost its place", i)
		}
	}
	refused := refusal.Told{Status: "RESERVATION_REFUSED", Word: "guest_reservations"}
	if got := r.service.Refusals()[refused]; got != 10 {
		t.Errorf("counted %d refusals, want 10: %v", got, r.service.Refusals())
	}
	if got := r.service.Endings(); len(got) != 0 {
		t.Errorf("ended %v, want nothing", got)
	}
	if got := strings.Count(log.String(), "limits.guest_reservations"); got != 1 {
		t.Errorf("%d warnings in the log, want 1", got)
	}
	if got := strings.Count(log.String(), "reason=guest_reservations"); got != 10 {
		t.Errorf("%d lines at level debug have the metric's word, want 10", got)
	}

	// After the time a guest gives way, and is told by the code.
	l := r.config().Limits
	l.GuestReservationTime = 0
	r.service.Change(l)
	_, err := relaytest.Reserve(t, hosts[4], relay)
	relaytest.Must(t, err)
	relaytest.Eventually(t, "the oldest guest is gone", func() bool { return hosts[0].Network().Connectedness(relay.ID) != network.Connected })
	if got := r.service.Endings()[refusal.EndedGuest]; got != 1 {
		t.Errorf("counted %d that gave way, want 1", got)
	}
}

// Eighteen clients that never give up ask for sixteen reservations for a minute, each once
// a second, and come back when they are cut: the sixteen that have one keep it.
func TestHoldersKeepTheirsForAMinute(t *testing.T) {
	t.Parallel()
	const askers, reservations = 18, 16
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	c := relaytest.LimitConfig(t)
	c.Limits.Reservations, c.Limits.GuestReservations = 20, reservations
	r := start(t, c)
	relay := r.info()
	var hosts []host.Host
	for i := range askers {
		h := relaytest.NewPeerAt(t, fmt.Sprintf("127.0.1.%d", i+1))
		hosts = append(hosts, h)
		if got := askReserve(t, h, relay, nil); (got == pbv2.Status_OK) != (i < reservations) {
			t.Fatalf("asker %d: got %s at first", i, got)
		}
	}
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for round := range rounds {
		<-again.C
		for i := range askers {
			i := (i + round) % askers // none is always the first
			if got := askReserve(t, hosts[i], relay, nil); (got == pbv2.Status_OK) != (i < reservations) {
				t.Fatalf("asker %d, after %d s: got %s", i, round+1, got)
			}
		}
	}
	if ended := r.tally.Endings(); len(ended) != 0 {
		t.Errorf("ended %v, want nothing", ended)
	}
	if n := r.tally.Refusals()[refusal.Told{Status: "RESERVATION_REFUSED", Word: "guest_reservations"}]; n != uint64((askers-reservations)*(rounds+1)) {
		t.Errorf("refused %d times, want %d", n, (askers-reservations)*(rounds+1))
	}
}

// The other limits settle as well: those who have something keep it, those who come
// later are refused, however often they ask.
func TestOverCapacitySettles(t *testing.T) {
	for _, tc := range []struct {
		limit  string
		change func(*config.Limits)
		member bool
		refuse pbv2.Status
		same   bool // all come from one address
		ask    func(t *testing.T, h host.Host, relay peer.AddrInfo, holder host.Host) pbv2.Status
	}{
		{"reservations", func(l *config.Limits) { l.Reservations, l.GuestReservations = 4, 1 }, true, pbv2.Status_RESERVATION_REFUSED, false, askReserve},
		{"reservations_per_ip", func(l *config.Limits) { l.ReservationsPerIP = 3 }, false, pbv2.Status_RESERVATION_REFUSED, true, askReserve},
		{"circuits", func(l *config.Limits) { l.Circuits, l.GuestCircuits = 3, 1 }, true, pbv2.Status_RESOURCE_LIMIT_EXCEEDED, false, askConnect},
		{"guest_circuits", func(l *config.Limits) { l.GuestCircuits = 3 }, false, pbv2.Status_RESOURCE_LIMIT_EXCEEDED, false, askConnect},
		{"circuits_per_peer", func(l *config.Limits) { l.CircuitsPerPeer = 3 }, false, pbv2.Status_RESOURCE_LIMIT_EXCEEDED, false, askConnect},
		{"circuits_per_ip", func(l *config.Limits) { l.CircuitsPerIP = 3 }, false, pbv2.Status_RESOURCE_LIMIT_EXCEEDED, true, askConnect},
	} {
		t.Run(tc.limit, func(t *testing.T) {
			c := relaytest.LimitConfig(t)
			tc.change(&c.Limits)
			r, members, _ := loggedAt(t, c, slog.LevelInfo)
			relay := r.info()
			holder := relaytest.NewPeerAt(t, "127.0.2.1")
			relaytest.AcceptRaw(holder, relaytest.SendBack)
			if strings.Contains(tc.limit, "circuits") {
				if tc.member {
					members.Admit(holder.ID())
				}
				_, err := relaytest.Reserve(t, holder, relay)
				relaytest.Must(t, err)
			}
			var askers []host.Host
			for i := range 5 {
				ip := "127.0.1.1"
				if !tc.same {
					ip = fmt.Sprintf("127.0.1.%d", i+1)
				}
				h := relaytest.NewPeerAt(t, ip)
				if tc.member {
					members.Admit(h.ID())
				}
				relaytest.Must(t, h.Connect(relaytest.Context(t), relay))
				askers = append(askers, h)
			}
			has := map[int]bool{}
			for range 4 {
				for i, h := range askers {
					if has[i] && strings.Contains(tc.limit, "circuits") {
						continue // a second circuit would be one more
					}
					got, want := tc.ask(t, h, relay, holder), pbv2.Status_OK
					if i >= 3 {
						want = tc.refuse
					}
					if got != want {
						t.Fatalf("asker %d: got %s, want %s", i, got, want)
					}
					has[i] = got == pbv2.Status_OK
				}
			}
			for i, h := range askers {
				if r.host.Network().Connectedness(h.ID()) != network.Connected {
					t.Errorf("asker %d is no longer connected", i)
				}
			}
			if got := r.service.Refusals()[refusal.Told{Status: tc.refuse.String(), Word: tc.limit}]; got != 8 {
				t.Errorf("counted %v, want 8 for %s", r.service.Refusals(), tc.limit)
			}
			if got := r.service.Endings(); len(got) != 0 {
				t.Errorf("ended %v, want nothing", got)
			}
		})
	}
}

func askReserve(t *testing.T, h host.Host, relay peer.AddrInfo, _ host.Host) pbv2.Status {
	_, err := relaytest.Reserve(t, h, relay)
	var refused client.ReservationError
	if err != nil && !errors.As(err, &refused) {
		t.Fatal(err)
	}
	if err == nil {
		return pbv2.Status_OK
	}
	return refused.Status
}

// askConnect keeps the circuit that it gets.
func askConnect(t *testing.T, h host.Host, relay peer.AddrInfo, holder host.Host) pbv2.Status {
	_, err := relaytest.OpenRaw(relaytest.Context(t), h, relay.ID, holder.ID())
	var answer relaytest.RelayAnswer
	if err != nil && !errors.As(err, &answer) {
		t.Fatal(err)
	}
	if err == nil {
		return pbv2.Status_OK
	}
	return pbv2.Status(answer)
}

// lateClub knows a peer as a member only when it is asked for the third time.
type lateClub struct{ asked atomic.Int32 }

func (c *lateClub) IsMember(peer.ID) bool { return c.asked.Add(1) > 3 }

// A member whose RESERVE comes before its subscription gets a member's reservation though
// the guests' reservations are taken.
func TestNewcomerIsWaitedFor(t *testing.T) {
	c := relaytest.LimitConfig(t)
	c.Test.NewcomerTime = relaytest.Patience
	c.Limits.Reservations, c.Limits.GuestReservations = 4, 1
	r, _, _ := loggedAt(t, c, slog.LevelInfo)
	relay := r.info()
	_, err := relaytest.Reserve(t, relaytest.NewPeerAt(t, "127.0.1.1"), relay)
	relaytest.Must(t, err)
	_, err = relaytest.Reserve(t, relaytest.NewPeerAt(t, "127.0.1.2"), relay) // waits, and is none
	relaytest.WantStatus(t, err, pbv2.Status_RESERVATION_REFUSED)
	r.service.SetMembership(&lateClub{})
	_, err = relaytest.Reserve(t, relaytest.NewPeerAt(t, "127.0.1.3"), relay)
	relaytest.Must(t, err)
}

// A circuit that is opened before its peers are known as members has no limit, which
// both ends would go by for its life. Strangers get no more out of that than their
// share.
func TestNewcomersCircuits(t *testing.T) {
	t.Parallel()
	c := relaytest.LimitConfig(t)
	c.Test.NewcomerTime = time.Hour
	c.Limits.GuestCircuitData, c.Limits.GuestCircuits = 16<<10, 80 // of them 20 for newcomers
	r, members, _ := loggedAt(t, c, slog.LevelInfo)
	relay := r.info()
	to, from := relaytest.NewPeerAt(t, "127.0.1.1"), relaytest.NewPeerAt(t, "127.0.1.2")
	_, err := relaytest.Reserve(t, to, relay)
	relaytest.Must(t, err)
	relaytest.Must(t, relaytest.Echo(t, from, to, relay, 100<<10))
	if from.Network().ConnsToPeer(to.ID())[0].Stat().Limited {
		t.Error("a newcomer's circuit is limited")
	}

	// The share of one address, and of all.
	relaytest.AcceptRaw(to, relaytest.SendBack)
	unlimited := func(ip string) bool {
		h := relaytest.NewPeerAt(t, ip)
		return relaytest.ConnectStatus(t, h, relay, to.ID()).GetLimit() == nil
	}
	ofOne := 0
	for range ipNewcomers + 2 {
		if unlimited("127.0.1.3") {
			ofOne++
		}
	}
	if ofOne != ipNewcomers {
		t.Errorf("one address got %d circuits without a limit, want %d", ofOne, ipNewcomers)
	}
	if unlimited("127.0.1.3") {
		t.Error("one more for an address that had its share")
	}
	relaytest.Eventually(t, "those that are over have given their share back", func() bool {
		r.service.mu.Lock()
		defer r.service.mu.Unlock()
		return r.service.newcomers == 1
	})
	var open []network.Stream
	for i := range 20 {
		h := relaytest.NewPeerAt(t, fmt.Sprintf("127.0.1.%d", 10+i))
		relaytest.Must(t, h.Connect(relaytest.Context(t), relay))
		open = append(open, relaytest.MustOpenRaw(t, h, relay.ID, to.ID()))
	}
	if unlimited("127.0.1.40") {
		t.Error("one more when the share of newcomers was taken")
	}

	// When the time is over, circuits of members stay and all others end.
	members.Admit(open[5].Conn().LocalPeer())
	r.service.mu.Lock()
	var circuits []*circuit
	for c := range r.service.circuits {
		circuits = append(circuits, c)
	}
	r.service.mu.Unlock()
	for _, c := range circuits {
		c.settle()
	}
	relaytest.Eventually(t, "all circuits but the member's have ended", func() bool {
		m, g := r.service.Count()
		return m == 1 && g == 0
	})
	relaytest.Must(t, relaytest.Talk(open[5]))
	if r.service.Endings()[refusal.EndedNewcomer] == 0 {
		t.Error("not counted")
	}
}

// guest_circuit_data: 0 lifts the guests' limit, and no budget.
func TestGuestsWithoutLimit(t *testing.T) {
	c := relaytest.LimitConfig(t)
	c.Limits.GuestCircuitData = 0
	c.Limits.PeerDay = 4 << 20
	relaytest.Must(t, c.Validate())
	r, _, _ := loggedAt(t, c, slog.LevelInfo)
	relay := r.info()
	to, from := relaytest.NewPeerAt(t, "127.0.1.1"), relaytest.NewPeerAt(t, "127.0.1.2")
	rsvp, err := relaytest.Reserve(t, to, relay)
	relaytest.Must(t, err)
	if rsvp.LimitData != 0 || rsvp.LimitDuration != 0 {
		t.Errorf("a guest is told of a limit: %d bytes, %s", rsvp.LimitData, rsvp.LimitDuration)
	}
	relaytest.Must(t, relaytest.Echo(t, from, to, relay, 1<<20))
	if from.Network().ConnsToPeer(to.ID())[0].Stat().Limited {
		t.Error("the connection is marked as limited")
	}
	if s := r.Status().Circuits; s.Guests != 1 || s.Members != 0 {
		t.Errorf("circuits %+v, want one of guests", s)
	}
	if err := relaytest.Echo(t, from, to, relay, 8<<20); err == nil {
		t.Error("8 MiB came through a budget of 4 MiB")
	}
}

package probe

import (
	"slices"
	"strings"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/coord"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// announcer is a relay on the coordination topic.
func announcer(t *testing.T, ca *authority) (*testRelay, *pubsub.Topic) {
	t.Helper()
	r := newRelay(t, ca.leaf(t, nil), true, nil)
	ps, err := coord.NewPubSub(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	topic, err := ps.Join(coord.Topic)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := topic.Subscribe(); err != nil {
		t.Fatal(err)
	}
	return r, topic
}

// publish announces id again and again until the test is over: what is said
// before a newcomer is in the mesh passes it by.
func publish(t *testing.T, topic *pubsub.Topic, id peer.ID, at time.Time) {
	data, err := coord.Announcement{PeerID: id, BroadcastedAt: at, Type: "node.js", IsCircuitRelay: true}.Encode()
	if err != nil {
		t.Error(err)
		return
	}
	for topic.Publish(t.Context(), data) == nil {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-t.Context().Done():
			return
		}
	}
}

func newListener(t *testing.T, o Options) *Listener {
	t.Helper()
	l, err := NewListener(nil, o)
	if err != nil {
		t.Fatal(err)
	}
	l.redial = 20 * time.Millisecond
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestAnnouncement(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r, topic := announcer(t, ca)
	o := ca.options()
	o.Listener, o.AnnounceWait = newListener(t, o), 20*time.Second
	o.Listener.Watch([]Target{r.Target})
	at := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	go publish(t, topic, r.ID(), at)
	a := Run(within(t), r.Target, o)
	if got := rungOf(t, a, "announce"); got.Outcome != evidence.OK || a.Facts.Announced != evidence.TimeOf(at).String() {
		t.Errorf("announce %+v; heard %q, want %s", got, a.Facts.Announced, at)
	}
	if a.Level != evidence.LevelEchoed {
		t.Errorf("the listener is in the way: %+v", a.Rungs)
	}
	// What was heard once is there for the next attempt, without a wait.
	o.AnnounceWait = 0
	if a = Run(within(t), r.Target, o); a.Facts.Announced != evidence.TimeOf(at).String() {
		t.Errorf("heard %q", a.Facts.Announced)
	}
	if all := o.Listener.Heard(); len(all) != 1 || all[0].PeerID != r.ID() || !all[0].IsCircuitRelay {
		t.Errorf("heard %+v", all)
	}
}

// An announcement that is missing is no fault of a component.
func TestNoAnnouncement(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r, topic := announcer(t, ca)
	o := ca.options()
	o.Listener, o.AnnounceWait = newListener(t, o), soon
	o.Listener.Watch([]Target{r.Target})
	other, _ := newID(t)
	go publish(t, topic, other, time.Now()) // in the name of a peer that did not sign it
	a := Run(within(t), r.Target, o)
	checkShape(t, a)
	if got := rungOf(t, a, "announce"); got.Outcome != evidence.Fail || got.Class != evidence.NotHeard || a.Facts.Announced != "" {
		t.Errorf("announce %+v, heard %q", got, a.Facts.Announced)
	}
	for component, res := range a.Results {
		if res.Outcome != evidence.OK {
			t.Errorf("%s %+v", component, res)
		}
	}
	// The false one arrives all the while, as the right one shows that comes after it.
	go publish(t, topic, r.ID(), time.Now())
	if _, ok := o.Listener.Wait(within(t), r.ID()); !ok {
		t.Fatal("nothing arrives at all")
	}
	if all := o.Listener.Heard(); len(all) != 1 {
		t.Errorf("heard %+v", all)
	}
}

// The listener comes back after the relay has closed its connection, over wss
// where there is no other way, and leaves when it is told to.
func TestListenerStays(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r, topic := announcer(t, ca)
	l := newListener(t, ca.options())
	overWSS := Target{PeerID: r.PeerID, WSS: r.WSS}
	l.Watch([]Target{overWSS})
	connected := func() bool { return r.Network().Connectedness(l.host.ID()) == network.Connected }
	eventually(t, connected)
	first := r.Network().ConnsToPeer(l.host.ID())
	if !strings.HasSuffix(first[0].LocalMultiaddr().String(), "/wss") {
		t.Errorf("connected to %s", first[0].LocalMultiaddr())
	}
	r.Network().ClosePeer(l.host.ID())
	eventually(t, func() bool {
		now := r.Network().ConnsToPeer(l.host.ID())
		return len(now) == 1 && now[0] != first[0]
	})
	go publish(t, topic, r.ID(), time.Now())
	if _, ok := l.Wait(within(t), r.ID()); !ok {
		t.Error("not heard after the second connection")
	}
	l.Watch([]Target{overWSS}) // no change: the connection stays
	if !connected() {
		t.Error("gone although nothing has changed")
	}
	l.Watch(nil)
	eventually(t, func() bool { return !connected() })
}

// Strangers cannot make the listener remember without end.
func TestListenerForgets(t *testing.T) {
	t.Parallel()
	l := newListener(t, Options{})
	now := time.Now()
	var ids []peer.ID
	for i := range maxHeard + 10 {
		id := peer.ID(string(rune(i + 0x1000)))
		ids = append(ids, id)
		l.heard(coord.Heard{Announcement: coord.Announcement{PeerID: id, BroadcastedAt: now}, At: now.Add(time.Duration(i))})
	}
	if n := len(l.Heard()); n != maxHeard {
		t.Errorf("%d are remembered, want %d", n, maxHeard)
	}
	if _, ok := l.Last(ids[0]); ok {
		t.Error("the oldest is remembered")
	}
	newest := ids[len(ids)-1]
	if h, ok := l.Last(newest); !ok || l.Heard()[0].PeerID != newest {
		t.Errorf("the newest is gone: %+v", h)
	}
	// A replay of an older announcement changes nothing, and an old one is no news.
	l.heard(coord.Heard{Announcement: coord.Announcement{PeerID: newest, BroadcastedAt: now.Add(-time.Second)}, At: now.Add(time.Hour)})
	if h, _ := l.Last(newest); !h.BroadcastedAt.Equal(now) {
		t.Errorf("replayed: %+v", h)
	}
	l.heard(coord.Heard{Announcement: coord.Announcement{PeerID: ids[1], BroadcastedAt: now}, At: now.Add(-coord.MaxAge - time.Second)})
	if _, ok := l.Last(ids[1]); ok {
		t.Error("an announcement of long ago counts as the last")
	}
}

// A monitor watches many relays at once.
func TestListenerWatchesMany(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert := ca.leaf(t, nil)
	var targets []Target
	var relays []*testRelay
	for range 3 * fewPeers {
		r := newRelay(t, cert, false, nil)
		relays = append(relays, r)
		targets = append(targets, r.Target)
	}
	l := newListener(t, ca.options())
	l.Watch(targets)
	eventually(t, func() bool {
		return !slices.ContainsFunc(relays, func(r *testRelay) bool {
			return r.Network().Connectedness(l.host.ID()) != network.Connected
		})
	})
}

package coord

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"
)

// router is a relay's part in the network, with nothing else of a relay.
type router struct {
	*Member
	host  host.Host
	guard *guard
}

func newRouter(t testing.TB) router {
	t.Helper()
	h, ps, g := newGuarded(t)
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	m, err := Join(MemberConfig{PubSub: ps, ID: h.ID(), Key: key, OldTopic: true, Announcement: func() Announcement {
		return Announcement{IsCircuitRelay: true, JSONLD: JSONLD{Name: "router"}}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return router{m, h, g}
}

// node does what helia-coord does: it is subscribed to the coordination topic, to
// its own private topic, and to that of each peer that it hears of.
type node struct {
	host.Host
	t     testing.TB
	ps    *PubSub
	key   *Key
	coord *pubsub.Topic
	inbox *pubsub.Subscription
	mu    sync.Mutex
	heard []Announcement
	of    map[peer.ID]*pubsub.Topic
}

func newClient(t testing.TB) *node { return newClientOn(t, Topic) }

func newClientOn(t testing.TB, topic string) *node {
	t.Helper()
	h, ps := newNode(t, pubsub.WithFloodPublish(true))
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Host: h, t: t, ps: ps, key: key, of: make(map[peer.ID]*pubsub.Topic)}
	n.coord = joined(t, ps, topic)
	sub, err := n.coord.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	if n.inbox, err = joined(t, ps, h.ID().String()).Subscribe(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			m, err := sub.Next(context.Background())
			if err != nil {
				return
			}
			a, err := ParseAnnouncement(m.GetData())
			if err != nil || a.PeerID == h.ID() {
				continue
			}
			n.mu.Lock()
			if n.of[a.PeerID] == nil {
				if topic, err := ps.Join(a.PeerID.String()); err == nil {
					n.of[a.PeerID] = topic
					_, _ = topic.Subscribe()
				}
			}
			n.heard = append(n.heard, a)
			n.mu.Unlock()
		}
	}()
	return n
}

func (n *node) announce() {
	n.t.Helper()
	a := Announcement{PeerID: n.ID(), BroadcastedAt: time.Now(), EncryptPubKey: n.key.Public(), Type: "node.js", ConnectPref: "cr"}
	data, err := a.Encode()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.coord.Publish(testContext(n.t), data); err != nil {
		n.t.Fatal(err)
	}
}

// heardOf waits for a peer's announcement.
func (n *node) heardOf(id peer.ID) (found Announcement) {
	n.t.Helper()
	eventually(n.t, "the announcement of "+id.String(), func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		i := slices.IndexFunc(n.heard, func(a Announcement) bool { return a.PeerID == id })
		if i >= 0 {
			found = n.heard[i]
		}
		return i >= 0
	})
	return found
}

// send publishes on the topic of a peer that was heard of, once by is there too.
func (n *node) send(to peer.ID, by peer.ID, data []byte) {
	n.t.Helper()
	n.mu.Lock()
	topic := n.of[to]
	n.mu.Unlock()
	subscribed(n.t, topic, by)
	if err := topic.Publish(testContext(n.t), data); err != nil {
		n.t.Fatal(err)
	}
}

// receive reads the next private message, opened.
func (n *node) receive(from peer.ID) (private, string) {
	n.t.Helper()
	for {
		m, err := n.inbox.Next(testContext(n.t))
		if err != nil {
			n.t.Fatal(err)
		}
		if m.GetFrom() != from {
			continue
		}
		var p private
		if err := json.Unmarshal(m.GetData(), &p); err != nil {
			n.t.Fatal(err)
		}
		plain, err := n.key.decrypt(unhex(n.t, p.Payload))
		if err != nil {
			n.t.Fatal(err)
		}
		return p, string(plain)
	}
}

func TestMemberAnnouncesOnlyWhenReady(t *testing.T) {
	relay, alice, bob := newRouter(t), newClient(t), newClient(t)
	connect(t, alice, relay.host)
	connect(t, bob, relay.host)
	meshed(t, relay.host.ID(), Topic, alice.ID())
	subscribed(t, bob.coord, relay.host.ID())
	bob.announce()
	alice.heardOf(bob.ID())
	if at := relay.Stats().LastAnnounced; !at.IsZero() {
		t.Fatalf("announced at %v, before it was ready", at)
	}
	relay.Ready()
	relay.Ready() // twice does no harm
	a := alice.heardOf(relay.host.ID())
	if !a.IsCircuitRelay || a.JSONLD.Name != "router" || a.EncryptPubKey != relay.cfg.Key.Public() {
		t.Fatalf("announced %+v", a)
	}
	// Alice may have heard it before the relay made a note of it.
	eventually(t, "the relay knows when it announced itself", func() bool {
		return a.BroadcastedAt.Equal(relay.Stats().LastAnnounced.UTC().Truncate(time.Millisecond))
	})
}

func TestMemberAnswersAbout(t *testing.T) {
	relay, alice := newRouter(t), newClient(t)
	connect(t, alice, relay.host)
	subscribed(t, alice.coord, relay.host.ID())
	alice.announce()
	eventually(t, "alice is known by her announcement", func() bool { _, ok := relay.Announced(alice.ID()); return ok })
	meshed(t, relay.host.ID(), Topic, alice.ID())
	meshed(t, relay.host.ID(), alice.ID().String(), alice.ID())
	relay.Ready()
	public, err := parsePublic(alice.heardOf(relay.host.ID()).EncryptPubKey)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(id, plain string) {
		t.Helper()
		data, err := newPrivate(alice.ID(), relay.host.ID(), public, id, []byte(plain), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		alice.send(relay.host.ID(), relay.host.ID(), data)
	}
	const call = `{"jsonrpc":"2.0","id":"metrics42","method":"about"}`
	ask("the-uuid", call)
	got := make(map[string]private)
	for range 2 { // in either order: messages are verified side by side
		p, plain := alice.receive(relay.host.ID())
		got[plain] = p
	}
	if p := got[ack]; p.UUID != "the-uuid" || p.Sender != relay.host.ID().String() || p.Receiver != alice.ID().String() {
		t.Errorf("got %v, want the acknowledgement of the-uuid", got)
	}
	want := fmt.Sprintf(`{"jsonrpc":"2.0","id":"metrics42","result":{"method":"about","receiver":%q,"value":{"ipfsId":%q,"name":"router","protocol":"","version":""}}}`, alice.ID(), relay.host.ID())
	if p, ok := got[want]; !ok || p.UUID == "the-uuid" || p.UUID == "" {
		t.Errorf("got %v, want %s", got, want)
	}
	// The same message again, since the acknowledgement may have been lost: it is
	// acknowledged, not answered. Acknowledgements get no answer at all.
	ask("an-ack", ack)
	for _, m := range [][2]string{{"the-uuid", call}, {"other", `{"some":"thing"}`}} {
		ask(m[0], m[1])
		if p, plain := alice.receive(relay.host.ID()); plain != ack || p.UUID != m[0] {
			t.Fatalf("got %q as %+v, want the acknowledgement of %q", plain, p, m[0])
		}
	}
	if n := relay.Stats().Answered; n != 1 {
		t.Errorf("%d answered, want 1", n)
	}
}

// Two peers that know only the relay exchange private messages and chat.
func TestMemberRelaysTopics(t *testing.T) {
	relay, alice, bob := newRouter(t), newClient(t), newClient(t)
	connect(t, alice, relay.host)
	connect(t, bob, relay.host)
	subscribed(t, alice.coord, relay.host.ID())
	meshed(t, relay.host.ID(), Topic, bob.ID())
	meshed(t, relay.host.ID(), alice.ID().String(), alice.ID())
	alice.announce()
	bob.heardOf(alice.ID())
	bob.send(alice.ID(), relay.host.ID(), []byte(`{"hello":"alice"}`))
	m, err := alice.inbox.Next(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if m.GetFrom() != bob.ID() || m.ReceivedFrom != relay.host.ID() || string(m.GetData()) != `{"hello":"alice"}` {
		t.Fatalf("got %q of %s from %s", m.GetData(), m.GetFrom(), m.ReceivedFrom)
	}

	for _, name := range []string{ChatTopic, CoinJoinTopic} {
		in, out := joined(t, alice.ps, name), joined(t, bob.ps, name)
		sub, err := in.Subscribe()
		if err != nil {
			t.Fatal(err)
		}
		subscribed(t, out, relay.host.ID())
		meshed(t, relay.host.ID(), name, alice.ID())
		if err := out.Publish(testContext(t), []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if m, err := sub.Next(testContext(t)); err != nil || m.GetFrom() != bob.ID() {
			t.Fatalf("%s: %v, %v", name, m, err)
		}
	}
}

func TestMemberKnowsMembers(t *testing.T) {
	relay, alice := newRouter(t), newClient(t)
	stranger := newHost(t)
	connect(t, alice, relay.host)
	connect(t, stranger, relay.host)
	eventually(t, "alice is a member for being there", func() bool { return relay.IsMember(alice.ID()) })
	if _, ok := relay.Announced(alice.ID()); ok {
		t.Error("announced before she did")
	}
	since, ok := relay.SubscribedSince(alice.ID())
	if !ok || time.Since(since) > patience {
		t.Errorf("subscribed since %v, %v", since, ok)
	}
	if relay.IsMember(stranger.ID()) {
		t.Error("a peer that is only connected counts as a member")
	}
	eventually(t, "one neighbour and her topic", func() bool {
		s := relay.Stats()
		return s.Neighbours == 1 && s.Members == 1 && s.PrivateTopics == 1
	})
	if err := alice.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "alice left", func() bool {
		_, ok := relay.SubscribedSince(alice.ID())
		return !ok && !relay.IsMember(alice.ID()) && relay.Stats().PrivateTopics == 0
	})
}

func TestTopicsAreBounded(t *testing.T) {
	_, ps := newNode(t)
	ts := newTopics(ps.PubSub, newRouter(t).cfg.Log)
	now := time.Now()
	ids := make([]peer.ID, 3*maxTopics)
	for i := range ids {
		ids[i] = randomID(t)
	}
	near, distant := ids[:maxTopics], ids[maxTopics:]
	ts.relay(near, distant, now)
	if n := len(ts.relayed); n != topicsBurst {
		t.Fatalf("%d topics at once, want %d", n, topicsBurst)
	}
	ts.relay(near, distant, now.Add(time.Second))
	if n := len(ts.relayed); n != topicsBurst+topicsPerSecond {
		t.Fatalf("%d topics after a second, want %d", n, topicsBurst+topicsPerSecond)
	}
	ts.limit.SetLimit(1e9)
	ts.relay(nil, distant, now.Add(2*time.Second))
	ts.relay(nil, distant, now.Add(3*time.Second))
	for range maxTopics {
		now = now.Add(time.Second)
		ts.relay(near[:1], distant, now)
	}
	if n := len(ts.relayed); n != maxDistantTopics+1 {
		t.Fatalf("%d topics of peers elsewhere and one neighbour, want %d", n, maxDistantTopics+1)
	}
	kept := ts.relayed
	for range maxTopics {
		now = now.Add(time.Second)
		ts.relay(near, distant, now)
	}
	if n := len(ts.relayed); n != maxTopics {
		t.Fatalf("%d topics, want %d", n, maxTopics)
	}
	for _, id := range near {
		if _, ok := kept[id]; !ok {
			t.Fatal("a neighbour's topic gave way to that of a peer elsewhere")
		}
	}
	ts.leaveAll()
	if n := len(ts.relayed); n != 0 {
		t.Fatalf("%d topics left", n)
	}
}

// A crowd of peers that somebody makes up takes no more than the documented
// memory and topics, and does not keep the relay from hearing a real neighbour.
func TestMadeUpPeers(t *testing.T) {
	liars, each, effect := 20, 500, maxDistant
	if testing.Short() { // as under the race detector, where signing takes its time
		liars, each, effect = 10, 200, maxDistant/4
	}
	relay, alice := newRouter(t), newClient(t)
	relay.Ready()
	connect(t, alice, relay.host)
	subscribed(t, alice.coord, relay.host.ID())

	flood := make([][]byte, liars)
	for i := range flood {
		flood[i] = madeUp(t, each)
	}
	hosts := make([]host.Host, liars)
	for i := range hosts {
		hosts[i] = newHost(t)
		connect(t, hosts[i], relay.host)
	}
	before := heap()
	goroutines := runtime.NumGoroutine()
	for i, h := range hosts {
		s, err := h.NewStream(testContext(t), relay.host.ID(), pubsub.GossipSubID_v11)
		if err != nil {
			t.Fatal(err)
		}
		// The last thing on the stream is a subscription, by which its end is seen.
		if _, err := s.Write(append(flood[i], rpc(t, &pb.RPC{Subscriptions: []*pb.RPC_SubOpts{{Subscribe: proto.Bool(true), Topicid: proto.String(Topic)}}})...)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the flood is over", func() bool { _, ok := relay.SubscribedSince(h.ID()); return ok })
	}
	eventually(t, "it has an effect", func() bool { return len(relay.peersKnown()) > effect })
	var last time.Time
	eventually(t, "alice is heard through it", func() bool {
		if time.Since(last) >= time.Second { // as a node does that was not heard: gossipsub may drop one
			alice.announce()
			last = time.Now()
		}
		_, ok := relay.Announced(alice.ID())
		return ok
	})
	eventually(t, "alice's topic is relayed", func() bool { return slices.Contains(relayedBy(alice), relay.host.ID()) })

	if n := len(relay.peersKnown()); n > maxDistant+liars+1 {
		t.Errorf("%d peers known", n)
	}
	if n := relay.Stats().PrivateTopics; n > maxDistantTopics+liars+1 {
		t.Errorf("%d private topics", n)
	}
	if n := runtime.NumGoroutine(); n > goroutines+1000 {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	grown := heap() - before
	t.Logf("%d made-up peers: heap grew by %d KiB, %d peers known, %d topics", liars*each, grown>>10, len(relay.peersKnown()), relay.Stats().PrivateTopics)
	if grown > MemberMemory {
		t.Errorf("heap grew by %d bytes, at most %d are promised", grown, MemberMemory)
	}
	runtime.KeepAlive(flood)
}

func (r router) peersKnown() []peer.ID {
	near, distant := r.dir.members(time.Now())
	return append(near, distant...)
}

func relayedBy(n *node) []peer.ID { return n.ps.ListPeers(n.ID().String()) }

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// madeUp is the announcements of n peers that do not exist, as they go over a stream.
func madeUp(t testing.TB, n int) []byte {
	var out bytes.Buffer
	for range n {
		key := randomKey(t)
		id, err := peer.IDFromPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		a := sample(id)
		a.BroadcastedAt = time.Now()
		data, err := a.Encode()
		if err != nil {
			t.Fatal(err)
		}
		out.Write(rpc(t, &pb.RPC{Publish: []*pb.Message{signed(t, key, id, Topic, data)}}))
	}
	return out.Bytes()
}

func signed(t testing.TB, key crypto.PrivKey, id peer.ID, topic string, data []byte) *pb.Message {
	t.Helper()
	m := &pb.Message{From: []byte(id), Seqno: binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixNano())), Topic: &topic, Data: data}
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if m.Signature, err = key.Sign(append([]byte(pubsub.SignPrefix), b...)); err != nil {
		t.Fatal(err)
	}
	return m
}

func rpc(t testing.TB, r *pb.RPC) []byte {
	t.Helper()
	b, err := proto.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.AppendUvarint(nil, uint64(len(b))), b...)
}

// Subscriptions cost memory for as long as a peer stays: only so many are kept.
func TestSubscriptionsAreBounded(t *testing.T) {
	relay := newRouter(t)
	liar := newHost(t)
	connect(t, liar, relay.host)
	s, err := liar.NewStream(testContext(t), relay.host.ID(), pubsub.GossipSubID_v11)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(s)
	subscribe := func(topics ...string) {
		t.Helper()
		var r pb.RPC
		for _, name := range topics {
			r.Subscriptions = append(r.Subscriptions, &pb.RPC_SubOpts{Subscribe: proto.Bool(true), Topicid: proto.String(name)})
		}
		if _, err := w.Write(rpc(t, &r)); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		var names []string
		for range 100 {
			names = append(names, randomID(t).String())
		}
		subscribe(names...)
	}
	subscribe("anything", strings.Repeat("x", 1000), strings.ToLower(randomID(t).String()))
	subscribe(liar.ID().String(), Topic)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all of it was read", func() bool { _, ok := relay.SubscribedSince(liar.ID()); return ok })
	g := relay.guard
	g.mu.Lock()
	n, total := len(g.peers[liar.ID()].topics), g.subs
	g.mu.Unlock()
	if n != peerSubscriptions || total != peerSubscriptions {
		t.Errorf("%d subscriptions of the peer and %d in all are kept, want %d", n, total, peerSubscriptions)
	}
	if err := liar.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "they are forgotten", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.subs == 0 && g.peers[liar.ID()] == nil
	})
}

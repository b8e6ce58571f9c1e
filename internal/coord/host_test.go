package coord

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
)

// patience bounds what a test waits for; nothing is measured by it.
const patience = 2 * time.Minute

func randomKey(t testing.TB) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func randomID(t testing.TB) peer.ID {
	t.Helper()
	id, err := peer.IDFromPrivateKey(randomKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// newNode is a host on loopback with a pubsub of this package.
func newNode(t testing.TB, opts ...pubsub.Option) (host.Host, *PubSub) {
	t.Helper()
	h, ps, _ := newGuarded(t, opts...)
	return h, ps
}

// patientDials is for a busy machine: the library gives up after five seconds on a
// loopback address.
var patientDials = libp2p.SwarmOpts(swarm.WithDialTimeout(patience), swarm.WithDialTimeoutLocal(patience))

// newHost is a host on loopback.
func newHost(t testing.TB) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.2/tcp/0"), libp2p.DisableRelay(), patientDials)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func newGuarded(t testing.TB, opts ...pubsub.Option) (host.Host, *PubSub, *guard) {
	t.Helper()
	h := newHost(t)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	g := newGuard(h)
	m := &mesh{peers: make(map[string]bool)}
	meshes.Store(h.ID(), m)
	ps, err := newPubSub(ctx, h, g, append(opts, pubsub.WithEventTracer(m))...)
	if err != nil {
		t.Fatal(err)
	}
	return h, ps, g
}

func connect(t testing.TB, from, to host.Host) {
	t.Helper()
	if err := from.Connect(testContext(t), peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()}); err != nil {
		t.Fatal(err)
	}
}

// mesh follows whom a node forwards a topic to at once. A message that is
// published before the mesh stands reaches others late, or not at all.
type mesh struct {
	mu    sync.Mutex
	peers map[string]bool // by topic and peer
}

var meshes sync.Map // of peer.ID to *mesh

func (m *mesh) Trace(e *pb.TraceEvent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch e.GetType() {
	case pb.TraceEvent_GRAFT:
		m.peers[e.GetGraft().GetTopic()+" "+string(e.GetGraft().GetPeerID())] = true
	case pb.TraceEvent_PRUNE:
		delete(m.peers, e.GetPrune().GetTopic()+" "+string(e.GetPrune().GetPeerID()))
	}
}

// meshed waits until a node forwards a topic to a peer.
func meshed(t testing.TB, by peer.ID, topic string, to peer.ID) {
	t.Helper()
	v, _ := meshes.Load(by)
	m := v.(*mesh)
	eventually(t, "mesh of "+topic, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.peers[topic+" "+string(to)]
	})
}

// eventually waits until ok says so.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// What gossipsub would keep of each peer for ever does not reach it; that the peer
// was identified does.
func TestGossipsubDoesNotHearWherePeersAre(t *testing.T) {
	here, there := newHost(t), newHost(t)
	want := new(event.EvtPeerIdentificationCompleted)
	before, err := here.EventBus().Subscribe(want)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	sub, err := routerHost{Host: here}.EventBus().Subscribe([]any{want})
	if err != nil {
		t.Fatal(err)
	}
	connect(t, there, here)
	if e := (<-before.Out()).(event.EvtPeerIdentificationCompleted); e.SignedPeerRecord == nil {
		t.Fatal("the peer sent no signed addresses")
	}
	if e := (<-sub.Out()).(event.EvtPeerIdentificationCompleted); e.Peer != there.ID() || e.SignedPeerRecord != nil {
		t.Errorf("it hears of %s: %v", e.Peer, e.SignedPeerRecord)
	}
	// Nothing is left behind of a subscription that ends while something waits.
	connect(t, newHost(t), here)
	<-before.Out()
	if err := errors.Join(sub.Close(), sub.Close()); err != nil {
		t.Fatal(err)
	}
	for range sub.Out() {
	}
}

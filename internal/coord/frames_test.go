package coord

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"
)

// message is a frame with one message of n bytes, signed by a host.
func message(t testing.TB, h host.Host, topic string, n int) []byte {
	t.Helper()
	return rpc(t, &pb.RPC{Publish: []*pb.Message{signed(t, h.Peerstore().PrivKey(h.ID()), h.ID(), topic, bytes.Repeat([]byte("x"), n))}})
}

// raw is a peer's stream to a router, written by hand.
func raw(t testing.TB, from, to host.Host) network.Stream {
	t.Helper()
	if from.Network().Connectedness(to.ID()) != network.Connected {
		connect(t, from, to)
	}
	s, err := from.NewStream(testContext(t), to.ID(), pubsub.GossipSubID_v11)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t testing.TB, w io.Writer, parts ...[]byte) {
	t.Helper()
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
	}
}

func subscribing(t testing.TB, topics ...string) []byte {
	var r pb.RPC
	for _, name := range topics {
		r.Subscriptions = append(r.Subscriptions, &pb.RPC_SubOpts{Subscribe: proto.Bool(true), Topicid: proto.String(name)})
	}
	return rpc(t, &r)
}

// padded is a frame's length with so many zero bytes.
func padded(size, sent int) []byte {
	return append(binary.AppendUvarint(nil, uint64(size)), make([]byte, sent)...)
}

func (r router) dropped(why drop) uint64 { return r.Stats().Dropped[string(why)].Messages }

func (r router) subscriber(id peer.ID) bool { _, ok := r.SubscribedSince(id); return ok }

// A frame that is too large, or too full, is passed over; the stream goes on.
func TestFramesThatAreSkipped(t *testing.T) {
	var grafts, topics pb.RPC
	grafts.Control = &pb.ControlMessage{}
	for range maxEntries + 1 {
		grafts.Control.Graft = append(grafts.Control.Graft, &pb.ControlGraft{})
	}
	for range maxControl/64 + 1 {
		topics.Subscriptions = append(topics.Subscriptions, &pb.RPC_SubOpts{Subscribe: proto.Bool(true), Topicid: proto.String(strings.Repeat("x", 64))})
	}
	for name, c := range map[string]struct {
		frame []byte
		why   drop
	}{
		"above 4 MiB":                   {padded(5<<20, 5<<20), dropOversize},
		"many entries":                  {rpc(t, &grafts), dropControl},
		"much beside messages":          {rpc(t, &topics), dropControl},
		"no RPC":                        {append(binary.AppendUvarint(nil, 10), "0123456789"...), dropControl},
		"nothing, which is not counted": {[]byte{0}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			relay, peer := newRouter(t), newHost(t)
			write(t, raw(t, peer, relay.host), c.frame, subscribing(t, Topic))
			eventually(t, "what follows is read", func() bool { return relay.subscriber(peer.ID()) })
			if c.why != "" && relay.dropped(c.why) != 1 {
				t.Errorf("counted: %v", relay.Stats().Dropped)
			}
		})
	}
}

// A frame whose length is beyond all reason ends the stream of the peer that sent it,
// and nobody else's.
func TestSenselessFrame(t *testing.T) {
	relay, honest, liar := newRouter(t), newHost(t), newHost(t)
	write(t, raw(t, honest, relay.host), subscribing(t, Topic))
	eventually(t, "an honest neighbour", func() bool { return relay.subscriber(honest.ID()) })
	s := raw(t, liar, relay.host)
	write(t, s, padded(1<<40, 0))
	if _, err := s.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("the stream ended with %v, want a reset", err)
	}
	if !relay.subscriber(honest.ID()) {
		t.Error("the honest neighbour is gone")
	}
}

// All that js peers may send at once comes through: 8,000 subscriptions, for
// helia-coord subscribes to each peer that it ever heard of and says so in one frame.
func TestManySubscriptionsAtOnce(t *testing.T) {
	relay, peer := newRouter(t), newHost(t)
	topics := make([]string, 8000)
	id := randomID(t).String()
	for i := range topics {
		topics[i] = id
	}
	write(t, raw(t, peer, relay.host), subscribing(t, append(topics, Topic)...))
	eventually(t, "the last of them is read", func() bool { return relay.subscriber(peer.ID()) })
}

// sink is a peer on a topic, and what arrives there.
func sink(t testing.TB, relay router, topic string) (host.Host, <-chan int) {
	t.Helper()
	h, ps, _ := newGuarded(t)
	top := joined(t, ps, topic)
	sub, err := top.Subscribe(pubsub.WithBufferSize(64))
	if err != nil {
		t.Fatal(err)
	}
	sizes := make(chan int, 64)
	go func() {
		for {
			m, err := sub.Next(context.Background())
			if err != nil {
				return
			}
			sizes <- len(m.GetData())
		}
	}()
	connect(t, h, relay.host)
	meshed(t, relay.host.ID(), topic, h.ID())
	return h, sizes
}

func receive(t testing.TB, sizes <-chan int, want int) {
	t.Helper()
	select {
	case got := <-sizes:
		if got != want {
			t.Fatalf("a message of %d bytes, want %d", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("no message of %d bytes", want)
	}
}

// Messages up to the bound are passed on, one by one and several in one frame.
func TestLargeMessages(t *testing.T) {
	relay := newRouter(t)
	_, sizes := sink(t, relay, ChatTopic)
	from := newHost(t)
	s := raw(t, from, relay.host)
	for _, n := range []int{300 << 10, 3900 << 10, 100} {
		write(t, s, message(t, from, ChatTopic, n))
		receive(t, sizes, n)
	}
	key := from.Peerstore().PrivKey(from.ID())
	var several pb.RPC
	for range 6 {
		several.Publish = append(several.Publish, signed(t, key, from.ID(), ChatTopic, make([]byte, 100<<10)))
	}
	write(t, s, rpc(t, &several))
	for range 6 {
		receive(t, sizes, 100<<10)
	}
}

// Twenty answers of 60 KiB at once are within a neighbour's budget, and what is not
// is counted.
func TestBudgetOfLargeMessages(t *testing.T) {
	relay := newRouter(t)
	_, sizes := sink(t, relay, ChatTopic)
	from := newHost(t)
	s := raw(t, from, relay.host)
	for range 20 {
		write(t, s, message(t, from, ChatTopic, 60<<10))
		receive(t, sizes, 60<<10)
	}
	for range 3 { // two of them fit
		write(t, s, message(t, from, ChatTopic, 3900<<10))
	}
	write(t, s, subscribing(t, Topic))
	eventually(t, "all is read", func() bool { return relay.subscriber(from.ID()) })
	if n := relay.dropped(dropPeerBudget); n == 0 {
		t.Errorf("counted: %v", relay.Stats().Dropped)
	}
}

// A large private message goes to its reader and to nobody else who listens; a small
// one, which costs little, takes every way there is.
func TestLargePrivateMessageGoesToItsReader(t *testing.T) {
	relay := newRouter(t)
	relay.Ready()
	reader := newClient(t)
	connect(t, reader, relay.host)
	topic := reader.ID().String()
	eventually(t, "the reader's topic is relayed", func() bool { return relay.Stats().PrivateTopics == 1 })
	meshed(t, relay.host.ID(), topic, reader.ID())
	_, overheard := sink(t, relay, topic)
	from := newHost(t)
	s := raw(t, from, relay.host)
	for _, n := range []int{200 << 10, 300} {
		write(t, s, message(t, from, topic, n))
		m, err := reader.inbox.Next(testContext(t))
		if err != nil || len(m.GetData()) != n {
			t.Fatalf("the reader's message: %v", err)
		}
	}
	receive(t, overheard, 300)
}

// Many peers that announce the largest frame and stop take next to nothing, those that
// send a part of it take no more than there is, and a frame that moves finds room.
func TestStalledFramesAreBounded(t *testing.T) {
	relay := newRouter(t)
	_, sizes := sink(t, relay, ChatTopic)
	const peers = 200
	liar := newHost(t)
	connect(t, liar, relay.host)
	eventually(t, "the liar is connected", func() bool { return relay.guard.affords(liar.ID(), 1) })
	stalled := func(sent int) (grown int64) {
		before := heap()
		for range peers {
			r, w := io.Pipe()
			t.Cleanup(func() { w.Close() })
			f := &frameReader{Stream: given{Reader: r, id: liar.ID()}, streams: relay.streams()}
			go func() { _, _ = f.Read(make([]byte, 10)) }()
			write(t, w, padded(MaxMessage, sent))
		}
		grown = heap() - before
		t.Logf("%d frames of 4 MiB of which %d bytes came: heap grew by %d KiB", peers, sent, grown>>10)
		return grown
	}
	if grown := stalled(1); grown > 16<<20 {
		t.Errorf("frames that were announced take %d bytes", grown)
	}
	if grown := stalled(1 << 20); grown > 2*readingRoom+16<<20 {
		t.Errorf("frames of which a part came take %d bytes", grown)
	}
	relay.streams().reading.mu.Lock()
	used := relay.streams().reading.used
	relay.streams().reading.mu.Unlock()
	if used < readingRoom*3/4 || used > readingRoom {
		t.Errorf("the room is filled with %d bytes, want it full", used)
	}
	relay.streams().reading.mu.Lock()
	relay.streams().reading.now = func() time.Time { return time.Now().Add(time.Hour) } // they had their time
	relay.streams().reading.mu.Unlock()
	from := newHost(t)
	write(t, raw(t, from, relay.host), message(t, from, ChatTopic, 3<<20))
	receive(t, sizes, 3<<20)
}

func (r router) streams() *streams { return r.cfg.PubSub.streams }

// Gossipsub looks at all that frames name in one loop, for all neighbours: a peer that
// sends full frames, or very many, waits between them. One that sends two does not.
func TestFullFramesAreSlowed(t *testing.T) {
	full := rpc(t, &pb.RPC{Subscriptions: slices.Repeat([]*pb.RPC_SubOpts{{}}, maxEntries)})
	tiny := []byte{2, 0x1a, 0} // an empty control message
	for name, c := range map[string]struct {
		frame []byte
		free  int // so many come without a pause
	}{
		"full":        {full, 2},
		"too full":    {rpc(t, &pb.RPC{Subscriptions: slices.Repeat([]*pb.RPC_SubOpts{{}}, maxEntries+1)}), 2},
		"tiny":        {tiny, peerNamesBurst / 2},
		"of length 0": {[]byte{0}, peerNamesBurst},
	} {
		t.Run(name, func(t *testing.T) {
			id, now := randomID(t), clock()
			var slept []time.Duration
			s := &streams{drops: newDrops(), reading: newRoom(readingRoom), frames: map[peer.ID][]*frame{}, sleep: func(d time.Duration) { slept = append(slept, d) }}
			s.guard = &guard{now: func() time.Time { return now }, drops: s.drops, peers: map[peer.ID]*neighbour{id: newNeighbour()}}
			r := &frameReader{Stream: given{Reader: bytes.NewReader(bytes.Repeat(c.frame, c.free)), id: id}, streams: s}
			if _, err := io.Copy(io.Discard, r); err != nil || len(slept) != 0 {
				t.Fatalf("%d frames: %v, pauses %v", c.free, err, slept)
			}
			r = &frameReader{Stream: given{Reader: bytes.NewReader(bytes.Repeat(c.frame, 2)), id: id}, streams: s}
			if _, err := io.Copy(io.Discard, r); err != nil || len(slept) == 0 {
				t.Errorf("and two more: %v, pauses %v", err, slept)
			}
			if most := 2 * time.Second * (maxEntries + 2) / peerNames; len(slept) > 0 && slices.Max(slept) > most {
				t.Errorf("pauses %v, want none above %s", slept, most)
			}
		})
	}
}

// Reading a frame never takes more than came, whatever is written, and what is handed
// on is what gossipsub can read.
func FuzzFrames(f *testing.F) {
	id := randomID(f)
	f.Add([]byte{0})
	f.Add(padded(5, 5))
	f.Add(padded(MaxMessage, 100))
	f.Add(padded(MaxMessage+1, 100))
	f.Add(padded(1<<40, 0))
	f.Add(bytes.Repeat([]byte{0xff}, 20))
	f.Add(subscribing(f, Topic, id.String()))
	f.Add(append(subscribing(f, Topic), rpc(f, &pb.RPC{Publish: []*pb.Message{{Data: make([]byte, 10000), Topic: proto.String(Topic)}}})...))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &streams{drops: newDrops(), reading: newRoom(readingRoom), frames: map[peer.ID][]*frame{}, sleep: func(time.Duration) {}}
		s.guard = &guard{now: clock, drops: s.drops, peers: map[peer.ID]*neighbour{id: newNeighbour()}}
		r := &frameReader{Stream: given{Reader: bytes.NewReader(data), id: id}, streams: s}
		out, _ := io.ReadAll(r)
		r.ended()
		for len(out) > 0 {
			size, n := binary.Uvarint(out)
			if n <= 0 || size > MaxMessage || int(size) > len(out)-n {
				t.Fatalf("a frame of %d bytes is handed on, %d follow", size, len(out)-n)
			}
			if err := pb.ValidateRawRPCControlMessageSize(out[n:n+int(size)], maxControl); err != nil {
				t.Fatal(err)
			}
			out = out[n+int(size):]
			s.inspected(id)
		}
		if s.reading.used != 0 || len(s.frames) != 0 {
			t.Errorf("%d bytes of room and %d frames are left", s.reading.used, len(s.frames[id]))
		}
	})
}

// given is a stream of a peer with a given content.
type given struct {
	network.Stream
	io.Reader
	id peer.ID
}

func (g given) Read(p []byte) (int, error) { return g.Reader.Read(p) }
func (g given) Conn() network.Conn         { return whose{id: g.id} }

type whose struct {
	network.Conn
	id peer.ID
}

func (w whose) RemotePeer() peer.ID { return w.id }

// stuck is a stream to a neighbour that takes nothing until it is reset.
type stuck struct {
	given
	writes chan struct{}
	reset  chan struct{}
	once   *sync.Once
}

func (s stuck) Write([]byte) (int, error) {
	s.writes <- struct{}{}
	<-s.reset
	return 0, network.ErrReset
}
func (s stuck) SetWriteDeadline(time.Time) error { return nil }
func (s stuck) Reset() error                     { s.once.Do(func() { close(s.reset) }); return nil }

// taken is one that takes everything.
type taken struct {
	given
	n *int
}

func (s taken) Write(p []byte) (int, error)      { *s.n += len(p); return len(p), nil }
func (s taken) SetWriteDeadline(time.Time) error { return nil }

// Neighbours that take nothing hold no more than the room, and in time none of it;
// subscriptions go out all the same.
func TestSlowNeighboursAreBounded(t *testing.T) {
	now := time.Now()
	s := &streams{drops: newDrops(), sending: newRoom(sendingRoom), to: map[peer.ID]network.Stream{}}
	s.sending.now = func() time.Time { return now }
	h := newHost(t)
	frame := message(t, h, ChatTopic, 3<<20)
	held, writes := sendingRoom/len(frame), make(chan struct{}, 100)
	var all sync.WaitGroup
	var slow []stuck
	for range held + 5 {
		w := stuck{given{id: randomID(t)}, writes, make(chan struct{}), new(sync.Once)}
		slow = append(slow, w)
		all.Go(func() { _, _ = (&frameWriter{w, s}).Write(frame) })
	}
	for range held {
		<-writes
	}
	eventually(t, "those beyond the room are left out", func() bool { return s.drops.counts()[string(dropSending)].Messages == 5 })
	n := 0
	w := &frameWriter{taken{given{id: randomID(t)}, &n}, s}
	hello := rpc(t, &pb.RPC{Subscriptions: []*pb.RPC_SubOpts{{Topicid: proto.String(strings.Repeat("x", 2*smallFrame))}}})
	if _, err := w.Write(hello); err != nil || n != len(hello) {
		t.Errorf("subscriptions: %d of %d bytes, %v", n, len(hello), err)
	}
	n, now = 0, now.Add(settling)
	if _, err := w.Write(frame); err != nil || n != len(frame) {
		t.Errorf("a frame for a neighbour that reads: %d of %d bytes, %v", n, len(frame), err)
	}
	for _, w := range slow {
		_ = w.Reset()
	}
	all.Wait()
	if s.sending.used != 0 {
		t.Errorf("%d bytes of the room are left", s.sending.used)
	}
}

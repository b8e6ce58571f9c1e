package coord

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/encoding/protowire"
)

// streams are gossipsub's, one from and one to each neighbour. Both pass through
// here for the sake of memory, and so that a dead one is noticed.
type streams struct {
	host    host.Host
	guard   *guard
	drops   *drops
	reading *room
	sending *room

	mendAfter, mendAgain time.Duration // the constants, or others in tests
	sleep                func(time.Duration)

	mu     sync.Mutex
	from   map[peer.ID]network.Stream
	to     map[peer.ID]network.Stream
	frames map[peer.ID][]*frame // handed on, and not looked at
	mends  map[peer.ID]mends
}

type mends struct {
	n    int
	last time.Time
}

// A js-libp2p peer opens one stream to us in the life of a connection, and when that
// was reset, by whatever, it is dumb without noticing. But it notices the end of our
// own stream to it, forgets us as a neighbour, and when ours comes again it begins
// anew (gossipsub 9 to 17: handlePeerReadStreamError, onIncomingStream). The
// connection and the circuits on it stay. A Go peer opens its stream again by itself.
const (
	mendAfter = 2 * time.Second
	mendAgain = 20 * time.Second // if it did not help
	// go-libp2p-pubsub opens a stream again four times, and then only when ten
	// minutes have passed: one that does not come back must not use them up.
	mostMends  = 3
	mendsAfter = 11 * time.Minute
)

func newStreams(h host.Host, g *guard) *streams {
	s := &streams{
		host: h, guard: g, drops: g.drops, mendAfter: mendAfter, mendAgain: mendAgain, sleep: time.Sleep,
		reading: newRoom(readingRoom), sending: newRoom(sendingRoom),
		from: make(map[peer.ID]network.Stream), to: make(map[peer.ID]network.Stream),
		frames: make(map[peer.ID][]*frame), mends: make(map[peer.ID]mends),
	}
	h.Network().Notify(&network.NotifyBundle{DisconnectedF: func(n network.Network, c network.Conn) {
		if n.Connectedness(c.RemotePeer()) != network.Connected {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.mends, c.RemotePeer())
		}
	}})
	return s
}

// arrived notes a frame that gossipsub is about to read.
func (s *streams) arrived(from peer.ID, f *frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frames[from] = append(s.frames[from], f)
}

// inspected says that gossipsub looks at the next frame of a neighbour: from here on
// it is the guard's to bound.
func (s *streams) inspected(from peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.frames[from]; len(q) > 0 {
		s.remove(from, q[0])
	}
}

// refused says that gossipsub will not look at a frame.
func (s *streams) refused(from peer.ID, f *frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(from, f)
}

func (s *streams) remove(from peer.ID, f *frame) {
	q := s.frames[from]
	for i := range q {
		if q[i] == f {
			f.release()
			q = append(q[:i], q[i+1:]...)
			break
		}
	}
	if len(q) == 0 {
		delete(s.frames, from)
		return
	}
	s.frames[from] = q
}

// serve has gossipsub read a neighbour's stream.
func (s *streams) serve(stream network.Stream, read network.StreamHandler) {
	r := &frameReader{Stream: stream, streams: s}
	id := stream.Conn().RemotePeer()
	s.mu.Lock()
	s.from[id] = r
	s.mu.Unlock()
	read(r)
	r.ended()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.from[id] == r {
		delete(s.from, id)
		time.AfterFunc(s.mendAfter, func() { s.mend(id) })
	}
}

// mend has a neighbour that fell silent begin anew.
func (s *streams) mend(id peer.ID) {
	now := clock()
	s.mu.Lock()
	if s.host.Network().Connectedness(id) != network.Connected { // else nothing would forget its entry
		s.mu.Unlock()
		return
	}
	to, silent, m := s.to[id], s.from[id] == nil, s.mends[id]
	if now.Sub(m.last) > mendsAfter {
		m.n = 0
	}
	if to == nil || !silent || m.n >= mostMends {
		s.mu.Unlock()
		return
	}
	s.mends[id] = mends{m.n + 1, now}
	time.AfterFunc(s.mendAgain, func() { s.mend(id) })
	s.mu.Unlock()
	_ = to.Reset()
}

// speakers counts the connected peers that speak gossipsub, on whatever topic.
func (s *streams) speakers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.to)
}

// open opens gossipsub's stream to a neighbour.
func (s *streams) open(ctx context.Context, id peer.ID, protocols []protocol.ID) (network.Stream, error) {
	stream, err := s.host.NewStream(ctx, id, protocols...)
	if err != nil {
		return nil, err
	}
	w := &frameWriter{Stream: stream, streams: s}
	s.mu.Lock()
	s.to[id] = w
	s.mu.Unlock()
	return w, nil
}

func (s *streams) closed(w *frameWriter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id := w.Conn().RemotePeer(); s.to[id] == w {
		delete(s.to, id)
	}
}

// reaches says whether there is a stream to a neighbour.
func (s *streams) reaches(id peer.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.to[id] != nil
}

// frameWriter stands between gossipsub and a stream to a neighbour. Gossipsub makes
// a copy of each frame for each neighbour and holds it until the network has taken
// it, for half a minute at most.
type frameWriter struct {
	network.Stream
	streams *streams
}

const (
	elsewhere  = 64 << 10 // from this size on a private message goes to its reader alone
	writeChunk = 64 << 10 // what has to go out
	writeTime  = 30 * time.Second
)

// Write sends one whole frame, or says so of one that is left out.
func (w *frameWriter) Write(p []byte) (int, error) {
	if len(p) <= smallFrame {
		return w.Stream.Write(p)
	}
	topic, alone, ok := published(p)
	if !ok { // subscriptions and the like have to arrive
		return w.Stream.Write(p)
	}
	if len(p) > elsewhere && alone {
		// Every helia-coord node is on every private topic, and has no use for what
		// is for others. A peer that asked for a message gets it: that is not alone.
		if id, err := peer.Decode(topic); err == nil && id != w.Conn().RemotePeer() && w.streams.reaches(id) {
			return len(p), nil
		}
	}
	c := w.streams.sending.claim(func() { go func() { _ = w.Stream.Reset() }() })
	if !c.grow(len(p)) {
		w.streams.drops.count(dropSending, len(p))
		return len(p), nil
	}
	defer c.release()
	for at := 0; at < len(p); {
		// Gossipsub's half a minute is for the whole frame: too little on a slow line.
		if err := w.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
			return at, err
		}
		n, err := w.Stream.Write(p[at:min(at+writeChunk, len(p))])
		at += n
		if !c.move(n, nil) || err != nil {
			w.streams.drops.count(dropSending, len(p))
			if err == nil {
				err = network.ErrReset
			}
			return at, err
		}
	}
	return len(p), nil
}

// Close implements network.Stream.
func (w *frameWriter) Close() error {
	w.streams.closed(w)
	return w.Stream.Close()
}

// Reset implements network.Stream.
func (w *frameWriter) Reset() error {
	w.streams.closed(w)
	return w.Stream.Reset()
}

// published is the topic of the first message of a frame with its length, if there
// is nothing before the message, and says whether there is nothing behind it either.
func published(p []byte) (topic string, alone, ok bool) {
	const publish, topicOf = 2, 4 // fields of pb.RPC and pb.Message
	_, length := protowire.ConsumeVarint(p)
	if length < 0 {
		return "", false, false
	}
	p = p[length:]
	field, kind, tag := protowire.ConsumeTag(p)
	if tag < 0 || field != publish || kind != protowire.BytesType {
		return "", false, false
	}
	m, n := protowire.ConsumeBytes(p[tag:])
	if n < 0 {
		return "", false, false
	}
	alone = tag+n == len(p)
	for len(m) > 0 {
		field, kind, tag := protowire.ConsumeTag(m)
		if tag < 0 {
			return "", false, false
		}
		value := protowire.ConsumeFieldValue(field, kind, m[tag:])
		if value < 0 {
			return "", false, false
		}
		if field == topicOf && kind == protowire.BytesType {
			b, _ := protowire.ConsumeBytes(m[tag:])
			topic = string(b)
		}
		m = m[tag+value:]
	}
	return topic, alone, true
}

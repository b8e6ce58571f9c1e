package coord

import (
	"slices"
	"sync"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Bounds of the directory. Anybody can make up peers and announce them through
// one neighbour, so that those who are not connected to us share a part of it,
// and of that part each neighbour that passes them on has its own.
const (
	maxPeers          = 4096
	maxDistant        = 1024
	maxDistantThrough = 128
)

// newcomerTime is how long a peer counts as a member for being subscribed to the
// coordination topic: helia-coord announces itself only 122 s after its start.
const newcomerTime = 10 * time.Minute

// directory knows who lives on the coordination topic. Who said nothing for
// MaxAge and left the topic is forgotten.
type directory struct {
	mu    sync.Mutex
	peers map[peer.ID]*entry
}

type entry struct {
	subscribed time.Time // since when it is on a topic, as our neighbour; zero: it is not
	topics     []string  // the coordination topics it is on, as our neighbour
	heard      time.Time // when its last announcement arrived; zero: none did
	sent       time.Time // the time that stood in it
	key        *secp256k1.PublicKey
	via        peer.ID // the neighbour through whom it arrived
}

func newDirectory() *directory { return &directory{peers: make(map[peer.ID]*entry)} }

func (e *entry) announced(now time.Time) bool {
	return !e.heard.IsZero() && now.Sub(e.heard) <= MaxAge
}

func (e *entry) member(now time.Time) bool {
	return e.announced(now) || !e.subscribed.IsZero() && now.Sub(e.subscribed) <= newcomerTime
}

// near says whether the peer is our neighbour.
func (e *entry) near() bool { return !e.subscribed.IsZero() }

// subscribe notes that a neighbour came to a topic.
func (d *directory) subscribe(id peer.ID, topic string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.peers[id]
	if e == nil {
		if e = d.add(id, true); e == nil {
			return
		}
	}
	if !slices.Contains(e.topics, topic) {
		e.topics = append(slices.Clone(e.topics), topic) // get hands out copies of the entry
	}
	if e.subscribed.IsZero() {
		e.subscribed = now
	}
}

// leave notes that a neighbour left a topic, or its connection.
func (d *directory) leave(id peer.ID, topic string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.peers[id]; e != nil {
		e.topics = slices.DeleteFunc(slices.Clone(e.topics), func(t string) bool { return t == topic })
		if len(e.topics) > 0 {
			return
		}
		e.subscribed = time.Time{}
		if e.heard.IsZero() {
			delete(d.peers, id)
		}
	}
}

// announce notes an announcement. One that is not newer than the last is a
// replay: upstream ignores it too.
func (d *directory) announce(h Heard) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.peers[h.PeerID]
	if e == nil {
		if d.through(h.Via) >= maxDistantThrough {
			return
		}
		if e = d.add(h.PeerID, false); e == nil {
			return
		}
	}
	if !h.BroadcastedAt.After(e.sent) {
		return
	}
	e.heard, e.sent, e.via = h.At, h.BroadcastedAt, h.Via
	e.key, _ = parsePublic(h.EncryptPubKey)
}

// add makes room for a peer, or returns nil. A neighbour takes the place of the
// distant peer that was silent for longest.
func (d *directory) add(id peer.ID, near bool) *entry {
	distant := 0
	var oldest peer.ID
	for id, e := range d.peers {
		if !e.near() {
			distant++
			if oldest == "" || e.heard.Before(d.peers[oldest].heard) {
				oldest = id
			}
		}
	}
	switch {
	case !near && (distant >= maxDistant || len(d.peers) >= maxPeers):
		return nil
	case near && len(d.peers) >= maxPeers:
		if oldest == "" {
			return nil
		}
		delete(d.peers, oldest)
	}
	e := &entry{}
	d.peers[id] = e
	return e
}

// through counts the distant peers that a neighbour told us of.
func (d *directory) through(via peer.ID) (n int) {
	for _, e := range d.peers {
		if e.via == via && !e.near() {
			n++
		}
	}
	return n
}

// expire forgets who is neither on the topic nor announced of late.
func (d *directory) expire(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, e := range d.peers {
		if e.announced(now) {
			continue
		}
		e.heard, e.key, e.via = time.Time{}, nil, ""
		if e.subscribed.IsZero() {
			delete(d.peers, id)
		}
	}
}

// get is a copy of a peer's entry.
func (d *directory) get(id peer.ID) (entry, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.peers[id]
	if e == nil {
		return entry{}, false
	}
	return *e, true
}

// neighbours counts the connected peers on the topic.
func (d *directory) neighbours() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.peers {
		if e.near() {
			n++
		}
	}
	return n
}

// members lists the members, neighbours apart from the others, each in order of
// their peer ID.
func (d *directory) members(now time.Time) (near, distant []peer.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, e := range d.peers {
		switch {
		case !e.member(now):
		case e.near():
			near = append(near, id)
		default:
			distant = append(distant, id)
		}
	}
	slices.Sort(near)
	slices.Sort(distant)
	return near, distant
}

package relay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"
)

var errGuestLimit = errors.New("the circuit's data limit is reached")

// class is what decides whether a circuit has a limit, and in whose share it counts.
type class int

const (
	ofMember   class = iota // at either end: no limit
	ofGuests                // limits.guest_circuit_data and guest_circuit_time
	ofNewcomer              // at either end, the other one a guest: no limit for a while
)

// classOf is the class of a circuit that is asked for now.
func (g *gate) classOf(src, dest peer.ID, now time.Time) class {
	switch {
	case g.member(src) || g.member(dest):
		return ofMember
	case g.newcomer(src, now) || g.newcomer(dest, now):
		return ofNewcomer
	}
	return ofGuests
}

// guestLimit is the limit of a circuit between guests; nil: there is none.
func (l Limits) guestLimit() *circuitLimit {
	if l.GuestCircuitData == 0 {
		return nil
	}
	return &circuitLimit{data: int64(l.GuestCircuitData), time: l.GuestCircuitTime}
}

// newcomerCircuits is how many circuits without a limit there may be at once whose
// ends are not known as members yet.
func (l Limits) newcomerCircuits() int { return l.GuestCircuits / 4 }

// circuitLimit is what a circuit may carry in each direction, and how long.
type circuitLimit struct {
	data int64
	time time.Duration
}

// message is how circuit v2 tells a limit; none is none.
func (l *circuitLimit) message() *pbv2.Limit {
	if l == nil {
		return nil
	}
	seconds, data := uint32(l.time/time.Second), uint64(l.data)
	return &pbv2.Limit{Duration: &seconds, Data: &data}
}

// stamp is a moment that one goroutine notes and others read, in Unix nanoseconds.
type stamp = atomic.Int64

// circuit is one relayed connection, from the request for it to its end.
type circuit struct {
	gate      *gate
	src, dest peer.ID
	limit     *circuitLimit // between guests; nil: none
	tab       *tab
	payer     *payer
	to, back  *user // of the connections to dest and to src
	carrying  atomic.Bool
	up, down  int64 // carried from src and from dest, each counted by the loop that copies it

	// Since when the loop waits for the end that it copies to; 0: it does not.
	upSince, downSince stamp

	class class // of the gate's mutex

	paired func() // the stop stream is found, or the circuit has ended

	mu    sync.Mutex
	ended bool
	cause bool // why the relay ends it was counted
	hop   network.Stream
	stop  network.Stream // nil until the service opened it
	timer *time.Timer    // of the limit, or of the newcomer
}

func (g *gate) openCircuit(s *hopStream, src, dest peer.ID, ip netip.Prefix, of class, now time.Time) (*circuit, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case len(g.circuits) >= g.limits.Circuits:
		return nil, errTooManyCircuits
	case of != ofMember && g.guests >= g.limits.GuestCircuits:
		return nil, errGuestCircuits
	case g.perPeer[src] >= g.limits.CircuitsPerPeer || g.perPeer[dest] >= g.limits.CircuitsPerPeer:
		return nil, errPeerCircuits
	}
	tab, err := g.ledger.open(src, ip, now)
	if err != nil {
		return nil, err
	}
	limit := g.limits.guestLimit()
	if of == ofNewcomer && (limit == nil || g.newcomers >= g.limits.newcomerCircuits() || !g.ledger.newcomer(src, ip, now)) {
		of = ofGuests
	}
	if of != ofGuests {
		limit = nil
	}
	c := &circuit{gate: g, src: src, dest: dest, limit: limit, class: of, tab: tab, payer: g.turns.enter(src), to: g.lanes.enter(dest, src), back: g.lanes.enter(src, src), hop: s.Stream}
	g.circuits[c] = struct{}{}
	g.countClass(of, 1)
	for _, p := range []peer.ID{src, dest} {
		if g.perPeer[p]++; g.perPeer[p] == 1 {
			g.Host.ConnManager().Protect(p, circuitTag)
		}
	}
	g.awaiting[pair{src, dest}] = c
	return c, nil
}

// countClass counts n more circuits of a class; the gate's mutex is held.
func (g *gate) countClass(of class, n int) {
	if of != ofMember {
		g.guests += n
	}
	if of == ofNewcomer {
		g.newcomers += n
	}
}

// pair is the two ends of a circuit: who asked for it, and who holds the reservation.
type pair struct{ src, dest peer.ID }

// pairing lets the circuits of a pair ask for their other end one after the other.
type pairing struct {
	turn  chan struct{}
	users int
}

// alone waits until no other circuit between the two is on its way to its other end.
// All that the library tells of a stop stream is between whom it is. Were it given to
// another circuit of the same two, and that one refused, nobody would count what the
// stream carries.
func (g *gate) alone(key pair) (done func(), err error) {
	g.mu.Lock()
	p := g.pairings[key]
	if p == nil {
		p = &pairing{turn: make(chan struct{}, 1)}
		g.pairings[key] = p
	}
	if p.users >= g.limits.CircuitsPerPeer {
		g.mu.Unlock()
		return nil, errPeerCircuits
	}
	p.users++
	g.mu.Unlock()
	leave := func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if p.users--; p.users == 0 {
			delete(g.pairings, key)
		}
	}
	// It lasts only while that peer takes no stream.
	wait := time.NewTimer(requestTime)
	defer wait.Stop()
	select {
	case p.turn <- struct{}{}:
		return sync.OnceFunc(func() { <-p.turn; leave() }), nil
	case <-wait.C:
		leave()
		return nil, errNotTaken
	}
}

// claim finds the circuit that a stop stream belongs to.
func (g *gate) claim(key pair, stop network.Stream) *circuit {
	g.mu.Lock()
	c := g.awaiting[key]
	delete(g.awaiting, key)
	g.mu.Unlock()
	if c == nil {
		return nil
	}
	c.mu.Lock()
	c.stop = stop
	c.mu.Unlock()
	c.paired()
	return c
}

// begin starts the circuit's time, if it has one: both ends have agreed.
func (c *circuit) begin() {
	c.carrying.Store(true)
	c.gate.mu.Lock()
	of := c.class
	c.gate.mu.Unlock()
	after, then := c.gate.newcomerTime, c.settle
	switch {
	case c.limit != nil:
		after, then = c.limit.time, func() { c.cut(endedTime) }
	case of != ofNewcomer:
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.timer = time.AfterFunc(after, then)
	}
}

// settle looks at a newcomer's circuit when its time is over. With a member at one end
// it stays as it is. Else it is cut: both ends were told that it has no limit.
func (c *circuit) settle() {
	g := c.gate
	if !g.member(c.src) && !g.member(c.dest) {
		c.cut(endedNewcomer)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, open := g.circuits[c]; open {
		g.countClass(c.class, -1)
		c.class = ofMember
	}
}

// carry counts n bytes that were read from one end and says how many of them may
// go on to the other.
func (c *circuit) carry(n int, carried *int64) (int, error) {
	if !c.carrying.Load() {
		return n, nil
	}
	*carried += int64(n)
	if c.limit != nil {
		if over := *carried - c.limit.data; over > 0 {
			n = max(0, n-int(over))
			return n, errors.Join(errGuestLimit, c.tab.charge(n))
		}
	}
	return n, c.tab.charge(n)
}

// read reads what is to be carried.
func (c *circuit) read(from io.Reader, p []byte, carried *int64) (int, error) {
	n, err := from.Read(p)
	if n > 0 {
		var cut error
		if n, cut = c.carry(n, carried); cut != nil {
			c.because(reasonFor(cut))
			return n, cut
		}
		c.gate.turns.take(c.payer, n)
	}
	return n, err
}

// reasonFor is the word for what ends a circuit while it carries.
func reasonFor(cut error) string {
	if errors.Is(cut, errGuestLimit) {
		return endedData
	}
	return wordOf(cut)
}

// because counts once why the relay ends the circuit.
func (c *circuit) because(reason string) {
	c.mu.Lock()
	first := !c.ended && !c.cause
	c.cause = true
	c.mu.Unlock()
	if first {
		c.gate.end(reason, peerAttr(c.src))
	}
}

// cut ends the circuit for both peers at once.
func (c *circuit) cut(reason string) {
	c.because(reason)
	c.mu.Lock()
	hop, stop := c.hop, c.stop
	c.mu.Unlock()
	_ = hop.Reset() // fails only on a stream that is gone
	if stop != nil {
		_ = stop.Reset()
	}
}

// end gives back what the circuit held.
func (c *circuit) end() {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	c.ended = true
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	c.tab.done()
	c.gate.turns.leave(c.payer)
	c.gate.lanes.leave(c.to)
	c.gate.lanes.leave(c.back)
	defer c.paired() // with the gate unlocked
	g := c.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.circuits, c)
	g.countClass(c.class, -1)
	if key := (pair{c.src, c.dest}); g.awaiting[key] == c {
		delete(g.awaiting, key)
	}
	for _, p := range []peer.ID{c.src, c.dest} {
		if g.perPeer[p]--; g.perPeer[p] <= 0 {
			delete(g.perPeer, p)
			g.Host.ConnManager().Unprotect(p, circuitTag)
		}
	}
}

// hopStream is the stream on which a peer asked for something.
type hopStream struct {
	network.Stream
	gate    *gate
	replay  []byte // the request, for the service to read again
	head    []byte // of the service's answer, until it is whole
	answer  func(*pbv2.HopMessage)
	circuit *circuit
	hidden  bool // the service is not told from where
}

// nowhere is the address that the service is told.
var nowhere = ma.StringCast("/ip4/0.0.0.0/tcp/0")

// hiddenConn comes from nowhere. For each RESERVE, and for each peer that leaves,
// the service writes its list of reservations of every address anew, though the
// gate's table has decided already: that was 0.8 ms with 4,000 peers on addresses
// of their own. From nowhere come all, and there is one list.
type hiddenConn struct{ network.Conn }

func (hiddenConn) RemoteMultiaddr() ma.Multiaddr { return nowhere }

func (s *hopStream) Conn() network.Conn {
	if s.hidden {
		return hiddenConn{s.Stream.Conn()}
	}
	return s.Stream.Conn()
}

func (s *hopStream) Read(p []byte) (int, error) {
	if len(s.replay) > 0 {
		n := copy(p, s.replay)
		s.replay = s.replay[n:]
		return n, nil
	}
	if s.circuit == nil {
		return s.Stream.Read(p)
	}
	return s.circuit.read(s.Stream, p, &s.circuit.up)
}

// Write sees the service's answer, which comes first, and may add to it.
func (s *hopStream) Write(p []byte) (int, error) {
	if s.answer == nil {
		if s.circuit == nil {
			return s.Stream.Write(p)
		}
		return s.circuit.write(s.Stream, p, s.circuit.back, &s.circuit.downSince)
	}
	if s.head = append(s.head, p...); !whole(s.head) {
		return len(p), nil
	}
	answer := s.answer
	s.answer = nil
	var m pbv2.HopMessage
	if err := unframe(s.head, &m); err != nil {
		return 0, fmt.Errorf("the relay service's answer: %w", err)
	}
	s.head = nil
	answer(&m)
	out, err := frame(&m)
	if err != nil {
		return 0, err
	}
	if _, err := s.Stream.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *hopStream) Close() error {
	err := s.Stream.Close()
	s.over()
	return err
}

func (s *hopStream) Reset() error {
	err := s.Stream.Reset()
	s.over()
	return err
}

func (s *hopStream) ResetWithError(code network.StreamErrorCode) error {
	err := s.Stream.ResetWithError(code)
	s.over()
	return err
}

func (s *hopStream) over() {
	if s.circuit != nil {
		s.circuit.end()
	}
}

// stopStream is the circuit's other half, towards the peer with the reservation.
type stopStream struct {
	network.Stream
	negotiated io.ReadWriter // the stream, with the choice of its protocol before the first bytes
	gate       *gate
	dest       peer.ID
	head       []byte // of the service's message, until it is whole
	told       bool
	circuit    *circuit
}

// Write sees the service's first message, which says whose circuit this is.
func (s *stopStream) Write(p []byte) (int, error) {
	if s.told {
		if s.circuit == nil {
			return s.negotiated.Write(p)
		}
		return s.circuit.write(s.negotiated, p, s.circuit.to, &s.circuit.upSince)
	}
	if s.head = append(s.head, p...); !whole(s.head) {
		return len(p), nil
	}
	s.told = true
	var m pbv2.StopMessage
	if err := unframe(s.head, &m); err != nil {
		return 0, fmt.Errorf("the relay service's request: %w", err)
	}
	s.head = nil
	src, err := peer.IDFromBytes(m.GetPeer().GetId())
	if err != nil {
		return 0, fmt.Errorf("the relay service's request: %w", err)
	}
	if s.circuit = s.gate.claim(pair{src, s.dest}, s.Stream); s.circuit == nil {
		return 0, errors.New("the circuit has ended")
	}
	m.Limit = s.circuit.limit.message()
	out, err := frame(&m)
	if err != nil {
		return 0, err
	}
	if _, err := s.negotiated.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *stopStream) Read(p []byte) (int, error) {
	if s.circuit == nil {
		return s.negotiated.Read(p)
	}
	return s.circuit.read(s.negotiated, p, &s.circuit.down)
}

// maxFrame is the longest message of circuit v2, as in the library.
const maxFrame = 4096

// readFrame reads one length-prefixed message and not a byte more, and returns
// what it read.
func readFrame(r io.Reader, into proto.Message) ([]byte, error) {
	var raw bytes.Buffer
	rd := util.NewDelimitedReader(io.TeeReader(r, &raw), maxFrame)
	defer rd.Close()
	err := rd.ReadMsg(into)
	return raw.Bytes(), err
}

// whole says whether raw holds a message to its end.
func whole(raw []byte) bool {
	size, n := binary.Uvarint(raw)
	return n < 0 || n > 0 && uint64(len(raw)-n) >= size
}

// unframe reads the one message that raw is.
func unframe(raw []byte, into proto.Message) error {
	read, err := readFrame(bytes.NewReader(raw), into)
	if err == nil && len(read) != len(raw) {
		err = fmt.Errorf("%d bytes behind the message", len(raw)-len(read))
	}
	return err
}

func frame(m proto.Message) ([]byte, error) {
	var raw bytes.Buffer
	err := util.NewDelimitedWriter(&raw).WriteMsg(m)
	return raw.Bytes(), err
}

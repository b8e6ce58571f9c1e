package circuit

import (
	"errors"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	pool "github.com/libp2p/go-buffer-pool"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/refusal"
)

// class is what decides whether a circuit has a limit, and in whose share it counts.
type class int

const (
	ofMember   class = iota // at either end: no limit
	ofGuests                // limits.guest_circuit_data and guest_circuit_time
	ofNewcomer              // at either end, the other one a guest: no limit for a while
)

// classOf is the class of a circuit that is asked for now.
func (svc *Service) classOf(src, dest peer.ID, now time.Time) class {
	switch {
	case svc.Member(src) || svc.Member(dest):
		return ofMember
	case svc.newcomer(src, now) || svc.newcomer(dest, now):
		return ofNewcomer
	}
	return ofGuests
}

// guestLimit is the limit of a circuit between guests; nil: there is none.
func guestLimit(l config.Limits) *circuitLimit {
	if l.GuestCircuitData == 0 {
		return nil
	}
	return &circuitLimit{data: int64(l.GuestCircuitData), time: l.GuestCircuitTime}
}

// newcomerCircuits is how many circuits without a limit there may be at once whose
// ends are not known as members yet.
func newcomerCircuits(l config.Limits) int { return l.GuestCircuits / 4 }

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
	service   *Service
	src, dest peer.ID
	limit     *circuitLimit // between guests; nil: none
	bill      *bill
	memory    network.ResourceScopeSpan // of its buffers
	site      netip.Prefix              // of src
	asked     time.Time
	up, down  direction // from src, and from dest

	class class // of the service's mutex

	mu    sync.Mutex
	ended bool
	cause bool           // why the relay ends it was counted
	hop   network.Stream // to src
	stop  network.Stream // to dest; nil until it is open
	timer *time.Timer    // of the limit, or of the newcomer
	ways  int            // directions that still carry

	resetting sync.Once
}

// direction is one of a circuit's two.
type direction struct {
	payer   *payer // of the connection that it leads to
	carried int64
	since   stamp // since when it waits for the end that it copies to; 0: it does not
}

// openCircuit takes what a circuit needs on account, or says what there is too little of.
func (svc *Service) openCircuit(s network.Stream, src, dest peer.ID, ip netip.Prefix, of class, now time.Time) (*circuit, error) {
	svc.mu.Lock()
	defer svc.mu.Unlock()
	if svc.perPeer[src] >= svc.limits.CircuitsPerPeer {
		return nil, refusal.PeerCircuits
	}
	leave, err := svc.makeRoom(of, dest, siteOf(ip))
	if err != nil {
		return nil, err
	}
	memory, err := svc.scope.BeginSpan()
	if err != nil {
		return nil, refusal.Resources
	}
	bill, err := svc.budget.open(src, ip, now)
	if err != nil {
		memory.Done()
		return nil, err
	}
	for c, word := range leave {
		svc.countOut(c)
		go c.cut(word) // a reset waits for a peer that does not read
	}
	limit := guestLimit(svc.limits)
	if of == ofNewcomer && (limit == nil || svc.newcomers >= newcomerCircuits(svc.limits) || !svc.budget.newcomer(src, ip, now)) {
		of = ofGuests
	}
	if of != ofGuests {
		limit = nil
	}
	c := &circuit{
		service: svc, src: src, dest: dest, limit: limit, class: of, bill: bill, memory: memory, site: siteOf(ip), asked: now, hop: s,
	}
	svc.circuits[c] = struct{}{}
	svc.bySite.add(c.site, 1)
	if svc.toPeer[dest] == nil {
		svc.toPeer[dest] = siteCounts{}
	}
	svc.toPeer[dest].add(c.site, 1)
	svc.countClass(c, 1)
	for _, p := range []peer.ID{src, dest} {
		if svc.perPeer[p]++; svc.perPeer[p] == 1 {
			svc.host.ConnManager().Protect(p, circuitTag)
		}
	}
	svc.metrics.ConnectionOpened()
	return c, nil
}

// share is a number of circuits that a few could hold among them: of all, of those between
// guests, of those to one peer. Everybody else would find the relay busy, or the peer not
// to be reached. So the site that opened most gives its oldest one up.
type share struct {
	n, max int
	bySite siteCounts
	has    func(*circuit) bool
	full   *refusal.Reason
	word   string // for the end of what gives way
}

func (svc *Service) shares(of class, dest peer.ID) []share {
	all := []share{
		{svc.perPeer[dest], svc.limits.CircuitsPerPeer, svc.toPeer[dest], func(c *circuit) bool { return c.dest == dest }, refusal.PeerCircuits, refusal.EndedPeerCircuits},
		{len(svc.circuits), svc.limits.Circuits, svc.bySite, func(*circuit) bool { return true }, refusal.TooManyCircuits, refusal.EndedCircuits},
	}
	if of != ofMember {
		all = append(all, share{svc.guests, svc.limits.GuestCircuits, svc.guestsBySite, func(c *circuit) bool { return c.class != ofMember }, refusal.GuestCircuits, refusal.EndedGuestCircuits})
	}
	return all
}

// makeRoom says which circuits give way for one more, and with which words. The service's
// mutex is held.
func (svc *Service) makeRoom(of class, dest peer.ID, asks netip.Prefix) (leave map[*circuit]string, err error) {
	leave = map[*circuit]string{}
	for _, sh := range svc.shares(of, dest) {
		n := sh.n
		for c := range leave {
			if sh.has(c) {
				n--
			}
		}
		if n < sh.max {
			continue
		}
		most, ok := sh.bySite.most(asks)
		if !ok {
			return nil, sh.full
		}
		var oldest *circuit
		for c := range svc.circuits {
			if c.site == most && sh.has(c) && (oldest == nil || c.asked.Before(oldest.asked)) {
				oldest = c
			}
		}
		leave[oldest] = sh.word
	}
	return leave, nil
}

// countOut has a circuit that ends count in no share any more.
func (svc *Service) countOut(c *circuit) {
	if _, counted := svc.circuits[c]; counted {
		delete(svc.circuits, c)
		svc.bySite.add(c.site, -1)
		svc.toPeer[c.dest].add(c.site, -1)
		if len(svc.toPeer[c.dest]) == 0 {
			delete(svc.toPeer, c.dest)
		}
		svc.countClass(c, -1)
	}
}

// countClass counts n more circuits like c in the shares of its class; the service's mutex
// is held.
func (svc *Service) countClass(c *circuit, n int) {
	if c.class != ofMember {
		svc.guests += n
		svc.guestsBySite.add(c.site, n)
	}
	if c.class == ofNewcomer {
		svc.newcomers += n
	}
}

// siteCounts are how many circuits each site opened.
type siteCounts map[netip.Prefix]int

func (s siteCounts) add(at netip.Prefix, n int) {
	if s[at] += n; s[at] <= 0 {
		delete(s, at)
	}
}

// most is the site with most, if it has far more than the one that asks.
func (s siteCounts) most(asks netip.Prefix) (most netip.Prefix, ok bool) {
	for at, n := range s {
		if n >= s[asks]+fairGap && n > s[most] {
			most, ok = at, true
		}
	}
	return most, ok
}

// opened notes the stream to dest, unless the circuit has ended meanwhile.
func (c *circuit) opened(stop network.Stream) bool {
	c.mu.Lock()
	c.stop = stop
	cut := c.cause
	c.mu.Unlock()
	if cut {
		_ = stop.ResetWithError(network.StreamGarbageCollected)
	}
	return !cut
}

// begin carries from here on, for the circuit's time, if it has one: both ends have agreed.
func (c *circuit) begin() {
	c.service.mu.Lock()
	of := c.class
	c.service.mu.Unlock()
	after, then := c.service.newcomerTime, c.settle
	if c.limit != nil {
		after, then = c.limit.time, func() { c.cut(refusal.EndedTime) }
	}
	c.mu.Lock()
	if c.limit != nil || of == ofNewcomer {
		c.timer = time.AfterFunc(after, then)
	}
	c.ways = 2
	c.up.payer = c.service.scheduler.enter(c.stop.Conn(), c.src)
	c.down.payer = c.service.scheduler.enter(c.hop.Conn(), c.src)
	c.mu.Unlock()
	go c.carry(c.hop, c.stop, &c.up)
	go c.carry(c.stop, c.hop, &c.down)
}

// settle looks at a newcomer's circuit when its time is over. With a member at one end
// it stays as it is. Else it is cut: both ends were told that it has no limit.
func (c *circuit) settle() {
	svc := c.service
	if !svc.Member(c.src) && !svc.Member(c.dest) {
		c.cut(refusal.EndedNewcomer)
		return
	}
	svc.mu.Lock()
	defer svc.mu.Unlock()
	if _, open := svc.circuits[c]; open {
		svc.countClass(c, -1)
		c.class = ofMember
	}
}

// carry copies what one end says to the other, to its last word.
func (c *circuit) carry(from, to network.Stream, d *direction) {
	buf := pool.Get(c.service.buffer)
	err := c.copy(from, to, d, buf)
	pool.Put(buf)
	if errors.Is(err, io.EOF) {
		err = to.CloseWrite()
	}
	if err != nil {
		c.reset(resetCode(err))
	}
	c.mu.Lock()
	c.ways--
	last := c.ways == 0
	c.mu.Unlock()
	if last {
		_ = from.Close()
		_ = to.Close()
		c.end()
	}
}

// copy returns why it stopped, io.EOF at the end of what from says.
func (c *circuit) copy(from, to network.Stream, d *direction, buf []byte) error {
	for {
		n, readErr := from.Read(buf)
		if n > 0 {
			n, cut := c.charge(n, d)
			if n > 0 {
				if err := c.write(to, buf[:n], d); err != nil {
					return err
				}
				c.service.metrics.BytesTransferred(n)
			}
			if cut != nil {
				c.because(refusal.Of(cut).Word)
				return cut
			}
		}
		if readErr != nil {
			return readErr
		}
	}
}

// charge counts n bytes that were read and says how many of them go on, and why it
// ends with them.
func (c *circuit) charge(n int, d *direction) (int, error) {
	d.carried += int64(n)
	over := int64(0)
	if c.limit != nil {
		over = max(0, d.carried-c.limit.data)
	}
	n = max(0, n-int(over))
	why := c.bill.charge(n)
	if over > 0 {
		why = refusal.GuestData
	}
	return n, why
}

// resetCode is what the other end is told when one was reset.
func resetCode(err error) network.StreamErrorCode {
	var reset *network.StreamError
	var cut *refusal.Reason
	switch {
	case errors.As(err, &reset) && reset.Remote:
		return reset.ErrorCode
	case errors.As(err, &cut):
		return network.StreamResourceLimitExceeded
	}
	return network.StreamNoError
}

// because counts once why the relay ends the circuit.
func (c *circuit) because(reason string) {
	c.mu.Lock()
	first := !c.ended && !c.cause
	c.cause = true
	c.mu.Unlock()
	if first {
		c.service.Ended(reason, refusal.Peer(c.src))
	}
}

// cut ends the circuit for both peers at once.
func (c *circuit) cut(reason string) {
	c.because(reason)
	c.reset(network.StreamResourceLimitExceeded)
}

// reset ends both streams; what carries them gives the rest back. The first code counts: the
// other direction fails by this very reset, and knows none. It waits until both are told.
func (c *circuit) reset(code network.StreamErrorCode) {
	c.resetting.Do(func() {
		c.mu.Lock()
		hop, stop := c.hop, c.stop
		c.mu.Unlock()
		_ = hop.ResetWithError(code) // fails only on a stream that is gone
		if stop != nil {
			_ = stop.ResetWithError(code)
		}
	})
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
	svc := c.service
	c.bill.done()
	c.memory.Done()
	for _, d := range []*direction{&c.up, &c.down} {
		if d.payer != nil {
			svc.scheduler.leave(d.payer)
		}
	}
	svc.metrics.ConnectionClosed(time.Since(c.asked))
	svc.mu.Lock()
	defer svc.mu.Unlock()
	svc.countOut(c)
	for _, p := range []peer.ID{c.src, c.dest} {
		if svc.perPeer[p]--; svc.perPeer[p] <= 0 {
			delete(svc.perPeer, p)
			svc.host.ConnManager().Unprotect(p, circuitTag)
		}
	}
}

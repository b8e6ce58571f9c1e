package listen

import (
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds say how many visitors there may be at once.
type Bounds struct {
	All        int
	PerAddress int // from one IPv4 address or one IPv6 /64
	// LoopbackCounts lifts the exemption of loopback addresses from PerAddress, which
	// otherwise no test could reach. A proxy on the same machine brings the visitors of
	// many addresses by one.
	LoopbackCounts bool
}

// Reasons of refusals.
const (
	Address = "address" // its address has as many as it may
	Full    = "full"    // it was closed to make room for another
	Files   = "files"   // the process has no open file left
)

var reasons = []string{Address, Full, Files}

// Room keeps visitors within bounds. It never makes anybody wait, and nobody can
// fill it for others: when it is full, the address with most visitors in it loses
// the one that has done nothing for longest.
type Room struct {
	*Refusals
	bounds Bounds

	mu   sync.Mutex
	n    int
	from map[netip.Prefix]map[*Visit]struct{}
}

// NewRoom is an empty room.
func NewRoom(name string, b Bounds, log *slog.Logger) *Room {
	return &Room{Refusals: NewRefusals(name, log), bounds: b, from: map[netip.Prefix]map[*Visit]struct{}{}}
}

// Visit is one connection, or one request, in a room.
type Visit struct {
	room   *Room
	addr   netip.Addr
	prefix netip.Prefix
	leave  func()
	used   atomic.Int64
	gone   bool
}

// Enter takes a visitor in. leave must end the visit at once: the room calls it when
// it needs the place for another. Without a place there is no visit.
func (r *Room) Enter(addr netip.Addr, leave func()) (*Visit, bool) {
	addr = addr.Unmap()
	v := &Visit{room: r, addr: addr, prefix: prefixOf(addr), leave: leave}
	v.Used()
	r.mu.Lock()
	if len(r.from[v.prefix]) >= r.bounds.PerAddress && (r.bounds.LoopbackCounts || !addr.IsLoopback()) {
		r.mu.Unlock()
		r.Add(Address, addr)
		return nil, false
	}
	var out *Visit
	if r.n >= r.bounds.All {
		if out = r.pick(v.prefix); out != nil {
			r.remove(out)
		}
	}
	if r.from[v.prefix] == nil {
		r.from[v.prefix] = map[*Visit]struct{}{}
	}
	r.from[v.prefix][v] = struct{}{}
	r.n++
	r.mu.Unlock()
	if out != nil {
		out.leave()
		r.Add(Full, out.addr)
	}
	return v, true
}

// pick is the visit that gives way to one from newcomer: of the address with most,
// the one that was used least recently.
func (r *Room) pick(newcomer netip.Prefix) (out *Visit) {
	most := 0
	for prefix, visits := range r.from {
		size := len(visits)
		if prefix == newcomer {
			size++
		}
		if size < most {
			continue
		}
		if size > most {
			most, out = size, nil
		}
		for v := range visits {
			if out == nil || v.used.Load() < out.used.Load() {
				out = v
			}
		}
	}
	return out
}

func (r *Room) remove(v *Visit) {
	if v.gone {
		return
	}
	v.gone = true
	r.n--
	delete(r.from[v.prefix], v)
	if len(r.from[v.prefix]) == 0 {
		delete(r.from, v.prefix)
	}
}

// Open is how many visitors are in the room.
func (r *Room) Open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

// Used notes that the visitor does something.
func (v *Visit) Used() { v.used.Store(time.Now().UnixNano()) }

// End gives the place back. It may be called more than once.
func (v *Visit) End() {
	v.room.mu.Lock()
	defer v.room.mu.Unlock()
	v.room.remove(v)
}

// prefixOf is what counts as one address: an IPv4 address, or the /64 that an
// IPv6 customer has at the least.
func prefixOf(a netip.Addr) netip.Prefix {
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: all of these are one
	}
	return p
}

// Refusals counts what a listener refuses, and logs it, however often it happens,
// about once a minute.
type Refusals struct {
	name string
	log  *slog.Logger

	mu     sync.Mutex
	counts map[string]uint64
	unsaid map[string]uint64
	said   time.Time
}

// NewRefusals counts from zero.
func NewRefusals(name string, log *slog.Logger) *Refusals {
	r := &Refusals{name: name, log: log, counts: map[string]uint64{}, unsaid: map[string]uint64{}}
	for _, reason := range reasons {
		r.counts[reason] = 0 // a counter that begins above 0 shows no increase
	}
	return r
}

const sayEvery = time.Minute

// Add counts a refusal. The address stands in debug lines only.
func (r *Refusals) Add(reason string, addr netip.Addr) {
	if r == nil {
		return
	}
	r.mu.Lock()
	r.counts[reason]++
	r.unsaid[reason]++
	now := time.Now()
	if now.Sub(r.said) < sayEvery {
		r.mu.Unlock()
		return
	}
	r.said = now
	args := []any{"listener", r.name}
	for _, reason := range reasons {
		if n := r.unsaid[reason]; n > 0 {
			args = append(args, reason, n)
		}
	}
	clear(r.unsaid)
	r.mu.Unlock()
	r.log.Warn("connections are refused: too many at once, by reason", args...)
	r.log.Debug("a connection was refused", "listener", r.name, "reason", reason, "addr", addr.String())
}

// Name is the listener's.
func (r *Refusals) Name() string { return r.name }

// Counts are the refusals since the start, by reason.
func (r *Refusals) Counts() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}

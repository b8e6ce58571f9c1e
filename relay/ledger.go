package relay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"

	"github.com/psf-relay/relay-appliance/internal/durable"
)

// trafficFile keeps the month's count across restarts.
const trafficFile = "traffic.json"

// How many requests a peer and an address may make: a burst, and what refills it
// per second. A RESERVE costs about 0.2 ms of CPU.
const (
	peerRequests, peerRequestRate = 64, 2
	ipRequests, ipRequestRate     = 1024, 50
)

// The reasons for which a budget refuses. All of them pass with time.
var (
	errMonthSpent = errors.New("the month's transfer budget is spent")
	errPeerSpent  = errors.New("the peer's daily budget is spent")
	errIPSpent    = errors.New("the address's daily budget is spent")
	errTooOften   = errors.New("too many requests")
)

// ledger counts what is carried, and for whom. Every byte is charged to the peer
// that opened the circuit, to its address, and to the month.
type ledger struct {
	path     string
	log      *slog.Logger
	monthMax int64
	peerDay  int64
	ipDay    int64

	used atomic.Int64 // in the month

	mu     sync.Mutex
	month  string
	saved  int64
	warned bool
	peers  map[peer.ID]*account
	ips    map[netip.Prefix]*account
}

// account is what one peer or one address has left. Budgets are token buckets: a
// day's worth at once, refilled evenly over a day.
type account struct {
	bytes    *rate.Limiter // nil: no budget
	requests *rate.Limiter
	open     int // circuits
}

type traffic struct {
	Month string `json:"month"`
	Bytes int64  `json:"bytes"`
}

func openLedger(dataDir string, l Limits, now time.Time, log *slog.Logger) *ledger {
	b := &ledger{
		path: filepath.Join(dataDir, trafficFile), log: log,
		monthMax: int64(l.Month), peerDay: int64(l.PeerDay), ipDay: int64(l.IPDay),
		month: monthOf(now),
		peers: map[peer.ID]*account{}, ips: map[netip.Prefix]*account{},
	}
	data, err := os.ReadFile(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return b
	}
	var t traffic
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	if err == nil && t.Bytes < 0 {
		err = fmt.Errorf("%d bytes", t.Bytes)
	}
	if err != nil {
		// A wrong count must not keep a relay from serving.
		log.Error("this month's traffic count is unreadable, counting from zero", "file", b.path, "error", err)
		return b
	}
	if t.Month == b.month {
		b.used.Store(t.Bytes)
		b.saved = t.Bytes
	}
	return b
}

func monthOf(t time.Time) string { return t.UTC().Format("2006-01") }

// admit says whether a request may be served now, and charges it.
func (b *ledger) admit(p peer.ID, ip netip.Prefix, now time.Time) error {
	if b.monthSpent() {
		return errMonthSpent
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	of, at := b.accounts(p, ip)
	// The peer's own first, or one peer would spend its neighbours' share too.
	if !of.requests.AllowN(now, 1) || !at.requests.AllowN(now, 1) {
		return errTooOften
	}
	return nil
}

// open begins a circuit at p's expense; what it returns charges n bytes and says
// whether anything is left, and done ends it.
func (b *ledger) open(p peer.ID, ip netip.Prefix, now time.Time) (charge func(n int) error, done func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	of, at := b.accounts(p, ip)
	if of.spent(now) {
		return nil, nil, errPeerSpent
	}
	if at.spent(now) {
		return nil, nil, errIPSpent
	}
	of.open++
	at.open++
	charge = func(n int) error {
		b.used.Add(int64(n))
		now := time.Now()
		switch {
		case b.monthSpent():
			return errMonthSpent
		case of.charge(n, now):
			return errPeerSpent
		case at.charge(n, now):
			return errIPSpent
		}
		return nil
	}
	return charge, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		of.open--
		at.open--
	}, nil
}

func (b *ledger) accounts(p peer.ID, ip netip.Prefix) (of, at *account) {
	if of = b.peers[p]; of == nil {
		of = newAccount(b.peerDay, peerRequests, peerRequestRate)
		b.peers[p] = of
	}
	if at = b.ips[ip]; at == nil {
		at = newAccount(b.ipDay, ipRequests, ipRequestRate)
		b.ips[ip] = at
	}
	return of, at
}

func newAccount(day int64, burst int, perSecond rate.Limit) *account {
	a := &account{requests: rate.NewLimiter(perSecond, burst)}
	if day > 0 {
		a.bytes = rate.NewLimiter(rate.Limit(day)/(24*60*60), int(day))
	}
	return a
}

// charge takes n bytes, also below zero: they were carried already. It says
// whether the budget is spent with that.
func (a *account) charge(n int, now time.Time) bool {
	if a.bytes == nil {
		return false
	}
	// ReserveN refuses only what is more than the whole budget.
	for n > 0 {
		part := min(n, a.bytes.Burst())
		a.bytes.ReserveN(now, part)
		n -= part
	}
	return a.spent(now)
}

func (a *account) spent(now time.Time) bool {
	return a.bytes != nil && a.bytes.TokensAt(now) <= 0
}

// idle accounts know nothing that a new one would not.
func (a *account) idle(now time.Time) bool {
	return a.open == 0 && a.requests.TokensAt(now) >= float64(a.requests.Burst()) &&
		(a.bytes == nil || a.bytes.TokensAt(now) >= float64(a.bytes.Burst()))
}

func (b *ledger) monthSpent() bool { return b.monthMax > 0 && b.used.Load() >= b.monthMax }

// tend keeps the ledger: a new month begins, idle accounts are forgotten, the
// count is written down.
func (b *ledger) tend(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m := monthOf(now); m != b.month {
		b.month, b.warned = m, false
		b.used.Store(0)
	}
	for k, a := range b.peers {
		if a.idle(now) {
			delete(b.peers, k)
		}
	}
	for k, a := range b.ips {
		if a.idle(now) {
			delete(b.ips, k)
		}
	}
	used := b.used.Load()
	if !b.warned && b.monthMax > 0 && used >= b.monthMax/10*8 {
		b.warned = true
		b.log.Warn("80 % of the month's transfer budget is used; when it is spent, new reservations and circuits are refused until the month ends",
			"used", Bytes(used).String(), "budget", Bytes(b.monthMax).String())
	}
	if used == b.saved {
		return nil
	}
	data, err := json.Marshal(traffic{b.month, used})
	if err == nil {
		err = durable.Replace(b.path, append(data, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the month's traffic count: %w", err)
	}
	b.saved = used
	return nil
}

// state is the month so far.
func (b *ledger) state() Traffic {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Traffic{Month: b.month, Bytes: b.used.Load(), Budget: b.monthMax}
}

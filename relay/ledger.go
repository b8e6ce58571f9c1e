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
	// Circuits without a limit that an address may open before either end is known as
	// a member: a burst, and one more in each newcomerTime.
	ipNewcomers = 16
)

// ledger counts what is carried, and for whom. Every byte is charged to the peer
// that opened the circuit, to its address, and to the month.
type ledger struct {
	path string
	log  *slog.Logger

	used     atomic.Int64 // in the month
	monthMax atomic.Int64

	mu     sync.Mutex
	limits Limits
	month  string
	saved  int64
	warned bool
	peers  map[peer.ID]*account
	ips    map[netip.Prefix]*account
}

// account is what one peer or one address has left. Budgets are token buckets: a
// day's worth at once, refilled evenly over a day.
type account struct {
	bytes    atomic.Pointer[rate.Limiter] // nil: no budget
	requests *rate.Limiter
	newcomer *rate.Limiter // circuits of newcomers, see ipNewcomers
	open     int           // circuits
}

type traffic struct {
	Month string `json:"month"`
	Bytes int64  `json:"bytes"`
}

func openLedger(dataDir string, l Limits, now time.Time, log *slog.Logger) *ledger {
	b := &ledger{
		path: filepath.Join(dataDir, trafficFile), log: log,
		limits: l, month: monthOf(now),
		peers: map[peer.ID]*account{}, ips: map[netip.Prefix]*account{},
	}
	b.monthMax.Store(int64(l.Month))
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

// tab is the account of one circuit.
type tab struct {
	charge func(n int) error // n bytes were carried; an error says that nothing is left
	done   func()
}

// open begins a circuit at p's expense.
func (b *ledger) open(p peer.ID, ip netip.Prefix, now time.Time) (*tab, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	of, at := b.accounts(p, ip)
	if of.spent(now) {
		return nil, errPeerSpent
	}
	if at.spent(now) {
		return nil, errIPSpent
	}
	if at.open >= b.limits.CircuitsPerIP {
		return nil, errIPCircuits
	}
	of.open++
	at.open++
	charge := func(n int) error {
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
	return &tab{charge: charge, done: func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		of.open--
		at.open--
	}}, nil
}

// newcomer says whether an address may open one more circuit without a limit before
// either end is known as a member, and charges it.
func (b *ledger) newcomer(p peer.ID, ip netip.Prefix, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, at := b.accounts(p, ip)
	return at.newcomer.AllowN(now, 1)
}

func (b *ledger) accounts(p peer.ID, ip netip.Prefix) (of, at *account) {
	if of = b.peers[p]; of == nil {
		of = newAccount(b.limits.PeerDay, peerRequests, peerRequestRate)
		b.peers[p] = of
	}
	if at = b.ips[ip]; at == nil {
		at = newAccount(b.limits.IPDay, ipRequests, ipRequestRate)
		b.ips[ip] = at
	}
	return of, at
}

func newAccount(day Bytes, burst int, perSecond rate.Limit) *account {
	a := &account{requests: rate.NewLimiter(perSecond, burst), newcomer: rate.NewLimiter(rate.Every(newcomerTime), ipNewcomers)}
	a.grant(day)
	return a
}

// grant gives the account a whole day's budget.
func (a *account) grant(day Bytes) {
	if day == 0 {
		a.bytes.Store(nil)
		return
	}
	a.bytes.Store(rate.NewLimiter(rate.Limit(day)/(24*60*60), int(day)))
}

// charge takes n bytes, also below zero: they were carried already. It says
// whether the budget is spent with that.
func (a *account) charge(n int, now time.Time) bool {
	budget := a.bytes.Load()
	if budget == nil {
		return false
	}
	// ReserveN refuses only what is more than the whole budget.
	for n > 0 {
		part := min(n, budget.Burst())
		budget.ReserveN(now, part)
		n -= part
	}
	return budget.TokensAt(now) < 1
}

func (a *account) spent(now time.Time) bool {
	budget := a.bytes.Load()
	return budget != nil && budget.TokensAt(now) < 1
}

// idle accounts know nothing that a new one would not.
func (a *account) idle(now time.Time) bool {
	budget := a.bytes.Load()
	return a.open == 0 && a.requests.TokensAt(now) >= float64(a.requests.Burst()) &&
		a.newcomer.TokensAt(now) >= float64(a.newcomer.Burst()) &&
		(budget == nil || budget.TokensAt(now) >= float64(budget.Burst()))
}

func (b *ledger) monthSpent() bool {
	budget := b.monthMax.Load()
	return budget > 0 && b.used.Load() >= budget
}

// change sets new budgets. A peer's or an address's begins anew if it changed.
func (b *ledger) change(l Limits) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.PeerDay != b.limits.PeerDay {
		for _, a := range b.peers {
			a.grant(l.PeerDay)
		}
	}
	if l.IPDay != b.limits.IPDay {
		for _, a := range b.ips {
			a.grant(l.IPDay)
		}
	}
	b.limits, b.warned = l, false
	b.monthMax.Store(int64(l.Month))
}

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
	used, budget := b.used.Load(), b.monthMax.Load()
	if !b.warned && budget > 0 && used >= budget/10*8 {
		b.warned = true
		b.log.Warn("80 % of the month's transfer budget is used; when it is spent, new reservations and circuits are refused until the month ends",
			"used", Bytes(used).String(), "budget", Bytes(budget).String())
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
	return Traffic{Month: b.month, Bytes: b.used.Load(), Budget: b.monthMax.Load()}
}

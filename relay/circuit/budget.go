package circuit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/internal/wallclock"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/refusal"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// trafficFile keeps the counts by month across restarts.
const trafficFile = "traffic.json"

// maxMonths bounds how many months before the current one are kept.
const maxMonths = 12

// How many requests a peer and an address may make: a burst, and what refills it
// per second. A RESERVE costs about 0.2 ms of CPU.
const (
	peerRequests, peerRequestRate = 64, 2
	ipRequests, ipRequestRate     = 1024, 50
	// Circuits without a limit that an address may open before either end is known as
	// a member: a burst, and one more in each newcomerTime.
	ipNewcomers = 16
)

// Budget counts what is carried, and for whom. Every byte is charged to the peer
// that opened the circuit, to its address, and to the month.
type Budget struct {
	path    string
	log     *slog.Logger
	replace func(path string, data []byte, perm fs.FileMode) error

	file sync.Mutex // held while the file is written, and taken before mu

	carried  atomic.Int64 // since the start, whatever month the clock says
	used     atomic.Int64 // in the month
	monthMax atomic.Int64

	mu     sync.Mutex
	clock  *wallclock.Clock
	limits config.Limits
	months months
	doubt  string // why the clock is not believed; empty: it is
	saved  int64
	stale  bool   // the file says something else than the count besides
	fault  string // why the file could not be written
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

// months says how much was carried in which month. A month's count falls in one case
// only: the clock is set back before it. What was counted is then of the month that
// the clock was set back to; it is kept aside too, for the case that this was the
// mistake.
type months struct {
	Month string    `json:"month"` // the current one
	Bytes int64     `json:"bytes"` // in it; the budget has the newest number
	At    time.Time `json:"at,omitzero"`
	// Unsure of the bytes were carried while the clock was in doubt.
	Unsure  int64            `json:"unsure,omitempty"`
	Earlier map[string]count `json:"earlier,omitempty"`
	// Ahead are later months that the clock was in before it was set back. At that time
	// the current month had Before bytes; Moved bytes were added to them, which had
	// been counted for later months.
	Ahead  map[string]count `json:"ahead,omitempty"`
	Before int64            `json:"before,omitempty"`
	Moved  int64            `json:"moved,omitempty"`
	// Lost is when the file could not be read: what the current month had carried
	// before is not counted.
	Lost time.Time `json:"lost,omitzero"`
}

// count is what was carried in a month.
type count struct {
	Bytes int64     `json:"bytes"`
	At    time.Time `json:"at,omitzero"` // when a clock that was believed was last in it
}

func OpenBudget(dataDir string, l config.Limits, now time.Time, log *slog.Logger) *Budget {
	return openBudgetBy(wallclock.New(), dataDir, l, now, log)
}

func openBudgetBy(clock *wallclock.Clock, dataDir string, l config.Limits, now time.Time, log *slog.Logger) *Budget {
	b := &Budget{
		path: filepath.Join(dataDir, trafficFile), log: log, replace: durable.Replace,
		clock: clock, limits: l,
		peers: map[peer.ID]*account{}, ips: map[netip.Prefix]*account{},
	}
	b.monthMax.Store(int64(l.Month))
	b.read(now)
	b.used.Store(b.months.Bytes)
	b.saved = b.months.Bytes
	b.turn(now)
	return b
}

// read reads the file. Without one there is no month yet.
func (b *Budget) read(now time.Time) {
	data, err := os.ReadFile(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var m months
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err == nil {
		err = m.check()
	}
	if err != nil {
		// A wrong count must not keep a relay from serving.
		b.log.Error("this month's traffic count is unreadable, counting from zero", "file", b.path, "error", err)
		b.months.Lost, b.stale = now.UTC().Truncate(time.Second), true
		return
	}
	b.months = m
}

func (m months) check() error {
	names := append(slices.Collect(maps.Keys(m.Earlier)), slices.Collect(maps.Keys(m.Ahead))...)
	for _, name := range append(names, m.Month) {
		if _, err := time.Parse(monthForm, name); err != nil {
			return fmt.Errorf("month %q", name)
		}
	}
	numbers := []int64{m.Bytes, m.Before, m.Moved, m.Unsure}
	for _, c := range append(slices.Collect(maps.Values(m.Earlier)), slices.Collect(maps.Values(m.Ahead))...) {
		numbers = append(numbers, c.Bytes)
	}
	if least := slices.Min(numbers); least < 0 {
		return fmt.Errorf("%d bytes", least)
	}
	if parts := max(m.Before+m.Moved, m.Unsure); parts > m.Bytes {
		return fmt.Errorf("%d bytes, of which %d are of other months or in doubt", m.Bytes, parts)
	}
	return nil
}

const monthForm = "2006-01"

func monthOf(t time.Time) string { return t.UTC().Format(monthForm) }

// turn looks at the clock and begins the month that it says, if it is believed. The
// caller holds the lock.
func (b *Budget) turn(now time.Time) {
	why := b.clock.Doubt(now)
	m, name := &b.months, monthOf(now)
	if m.Month == "" { // the first start: nothing contradicts the clock but the program itself
		m.Month = name
		if now.Before(b.clock.Built) && why != "" {
			m.Month = monthOf(b.clock.Built)
		}
	}
	used := b.used.Load()
	if b.doubt != "" {
		m.Unsure += used - m.Bytes // carried since the last look
	}
	m.Bytes = used
	if why != "" && (name != m.Month || now.Before(m.At.Add(-time.Hour))) {
		if now.Before(m.At) {
			why = fmt.Sprintf("the last count was written on %s", m.At.UTC().Format(time.DateOnly))
		}
		b.doubtful(fmt.Sprintf("the clock says %s, but %s: traffic is counted for %s until the clock can be believed", now.UTC().Format("2006-01-02 15:04 MST"), why, m.Month))
		return
	}
	b.doubtful("")
	if name != m.Month {
		b.log.Info("another month is counted", "month", name, "before", m.Month, "carried", config.Bytes(used).String())
		m.move(name, now)
		b.used.Add(m.Bytes - used) // more may be carried meanwhile
		b.warned, b.stale = false, true
	}
	m.Unsure = 0
	if why == "" {
		m.At = now.UTC().Truncate(time.Second)
	}
}

// doubtful notes whether the clock is in doubt, and says so once.
func (b *Budget) doubtful(why string) {
	switch {
	case why != "" && b.doubt == "":
		b.log.Warn(why)
	case why == "" && b.doubt != "":
		b.log.Info("the clock is believed again")
	}
	b.doubt = why
}

// move makes another month the current one.
func (m *months) move(name string, now time.Time) {
	if m.Earlier == nil {
		m.Earlier = map[string]count{}
	}
	if name < m.Month {
		m.back(name)
	} else {
		m.on(name, now)
		m.Lost = time.Time{}
	}
	m.Month = name
	for len(m.Earlier) > maxMonths {
		delete(m.Earlier, slices.Min(slices.Collect(maps.Keys(m.Earlier))))
	}
}

// back is for a clock that is set back before the current month: what was counted
// for later months was carried by now.
func (m *months) back(name string) {
	known := m.Bytes - m.Unsure
	ahead := map[string]count{m.Month: {max(0, known-m.Moved), m.At}}
	maps.Copy(ahead, m.Ahead)
	m.Moved = known
	for k, c := range m.Earlier {
		if k > name {
			ahead[k] = c
			m.Moved += c.Bytes
			delete(m.Earlier, k)
		}
	}
	m.Ahead, m.Before = ahead, m.Earlier[name].Bytes
	delete(m.Earlier, name)
	m.Bytes = m.Before + m.Moved + m.Unsure
}

// on is for time that goes on into a later month.
func (m *months) on(name string, now time.Time) {
	// If time has gone on from where a later month was left, setting the clock back was
	// the mistake. Such months have their own counts again, and what was carried since
	// then is of the month that begins.
	lived := map[string]count{}
	for k, c := range m.Ahead {
		if !c.At.IsZero() && !now.Before(c.At) {
			lived[k] = c
		}
	}
	since := m.Bytes - m.Before - m.Moved
	if len(lived) == 0 {
		m.Earlier[m.Month] = count{m.Bytes - m.Unsure, m.At}
		m.Bytes = m.Unsure
	} else {
		m.Earlier[m.Month] = count{m.Before, m.At}
		m.Bytes = since
	}
	m.Before, m.Moved = lived[name].Bytes, 0
	ahead := map[string]count{}
	for k, c := range m.Ahead {
		_, was := lived[k]
		switch {
		case k > name:
			ahead[k] = c
			if len(lived) > 0 {
				m.Moved += c.Bytes
				m.Bytes += c.Bytes
			}
		case was && k < name:
			m.Earlier[k] = c
		case len(lived) > 0:
			m.Bytes += c.Bytes
		}
	}
	m.Ahead = ahead
}

// admit says whether a request may be served now, and charges it.
func (b *Budget) admit(p peer.ID, ip netip.Prefix, now time.Time) error {
	if b.monthSpent() {
		return refusal.MonthSpent
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	of, at := b.accounts(p, ip)
	// The peer's own first, or one peer would spend its neighbours' share too.
	if !of.requests.AllowN(now, 1) || !at.requests.AllowN(now, 1) {
		return refusal.TooOften
	}
	return nil
}

// bill is what one circuit is charged to.
type bill struct {
	budget *Budget
	of, at *account // its peer's and its address's
}

// charge takes n bytes that were carried; an error says that nothing is left.
func (b *bill) charge(n int) error {
	b.budget.carried.Add(int64(n))
	b.budget.used.Add(int64(n))
	now := time.Now()
	switch {
	case b.budget.monthSpent():
		return refusal.MonthSpent
	case b.of.charge(n, now):
		return refusal.PeerSpent
	case b.at.charge(n, now):
		return refusal.IPSpent
	}
	return nil
}

func (b *bill) done() {
	b.budget.mu.Lock()
	defer b.budget.mu.Unlock()
	b.of.open--
	b.at.open--
}

// open begins a circuit at p's expense.
func (b *Budget) open(p peer.ID, ip netip.Prefix, now time.Time) (*bill, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	of, at := b.accounts(p, ip)
	if of.spent(now) {
		return nil, refusal.PeerSpent
	}
	if at.spent(now) {
		return nil, refusal.IPSpent
	}
	if at.open >= b.limits.CircuitsPerIP {
		return nil, refusal.IPCircuits
	}
	of.open++
	at.open++
	return &bill{b, of, at}, nil
}

// newcomer says whether an address may open one more circuit without a limit before
// either end is known as a member, and charges it.
func (b *Budget) newcomer(p peer.ID, ip netip.Prefix, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, at := b.accounts(p, ip)
	return at.newcomer.AllowN(now, 1)
}

func (b *Budget) accounts(p peer.ID, ip netip.Prefix) (of, at *account) {
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

func newAccount(day config.Bytes, burst int, perSecond rate.Limit) *account {
	a := &account{requests: rate.NewLimiter(perSecond, burst), newcomer: rate.NewLimiter(rate.Every(newcomerTime), ipNewcomers)}
	a.grant(day)
	return a
}

// grant gives the account a whole day's budget.
func (a *account) grant(day config.Bytes) {
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

func (b *Budget) monthSpent() bool {
	budget := b.monthMax.Load()
	return budget > 0 && b.used.Load() >= budget
}

// Change sets new budgets. A peer's or an address's begins anew if it changed.
func (b *Budget) Change(l config.Limits) {
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

// Tend keeps the budget: a new month begins, idle accounts are forgotten, the
// counts are written down.
func (b *Budget) Tend(now time.Time) error {
	b.file.Lock()
	defer b.file.Unlock()
	data, used, err := b.tend(now)
	if data == nil && err == nil {
		return nil
	}
	// Requests are charged meanwhile: a disk that is slow must not hold them up.
	if err == nil {
		err = b.replace(b.path, data, 0o600)
	}
	return b.written(used, err)
}

// tend does what there is to do in memory. It returns what is to be written, nil if that
// is written already.
func (b *Budget) tend(now time.Time) (data []byte, used int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn(now)
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
	used = b.used.Load()
	budget := b.monthMax.Load()
	if !b.warned && budget > 0 && used >= budget/100*status.NearlySpent {
		b.warned = true
		b.log.Warn(fmt.Sprintf("%d %% of the month's transfer budget is used; when it is spent, new reservations and circuits are refused until the month ends", status.NearlySpent),
			"used", config.Bytes(used).String(), "budget", config.Bytes(budget).String())
	}
	if used == b.saved && !b.stale {
		return nil, used, nil
	}
	m := b.months
	m.Bytes = used
	data, err = json.Marshal(m)
	return append(data, '\n'), used, err
}

// written notes whether the counts could be written down.
func (b *Budget) written(used int64, err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("write the month's traffic count: %w", err)
		said := "the month's traffic count cannot be written (" + durable.Reason(err) + "): it would be lost by a restart"
		if said != b.fault {
			b.log.Error(said, "error", err)
		}
		b.fault = said
		return err
	}
	if b.fault != "" {
		b.log.Info("the month's traffic count can be written again")
	}
	b.saved, b.stale, b.fault = used, false, ""
	return nil
}

// Carried is how many bytes were carried since the program was started: unlike the
// month's count it never falls.
func (b *Budget) Carried() int64 { return b.carried.Load() }

// State is the month so far.
func (b *Budget) State() status.Traffic {
	b.mu.Lock()
	defer b.mu.Unlock()
	return status.Traffic{Month: b.months.Month, Bytes: b.used.Load(), Budget: b.monthMax.Load(), Lost: b.months.Lost, Doubt: b.doubt, StoreError: b.fault}
}

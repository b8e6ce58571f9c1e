package monitor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// controlsTimeout bounds the controls after an attempt that failed.
const controlsTimeout = 80 * time.Second

// climber climbs the ladder once, with the roster's controls; it returns what was
// seen and the leaf certificates (DER) that the attempt refers to.
type climber func(ctx context.Context, t probe.Target, look *lookout, key crypto.PrivKey) (evidence.Attempt, [][]byte)

// attempt makes a planned attempt.
func (m *Monitor) attempt(ctx context.Context, j schedule.Job) {
	began := m.machine.Now()
	a, err := m.observe(ctx, j, m.browse)
	m.mu.Lock()
	defer m.mu.Unlock()
	if errors.Is(err, store.ErrSealed) || errors.Is(err, evidence.ErrOutside) {
		m.log.Warn("an attempt counts nowhere: by the clock its hour is another", "err", err)
	} else if errors.Is(err, store.ErrUnfit) {
		m.log.Error("an attempt is lost, since the log refuses it; please report this", "relay", j.Relay, "err", err)
	} else if err != nil {
		m.interrupt(err)
	}
	if a != nil {
		m.remember(*a)
	}
	// An attempt that could not be kept was made all the same: the relay is not
	// to be dialled again for it.
	m.planner.End(j, a, began.Steady)
}

// observe makes one attempt and puts it into the log: it counts when it is
// there, and not before. What also sees besides is recorded with it. The result is
// nil if none was made.
func (m *Monitor) observe(ctx context.Context, j schedule.Job, also func(context.Context, schedule.Job, *lookout, *evidence.Attempt)) (*evidence.Attempt, error) {
	b := m.basis()
	e, err := m.equip(b, j)
	if err != nil || e == nil {
		return nil, err
	}
	began, steps := m.look()
	awake := time.Now() // of a clock that stands still while the machine sleeps
	climbing, cancel := context.WithTimeout(ctx, timeLeft(j.Hour, began.Wall))
	defer cancel()
	a, certs := m.climb(climbing, e.target, e.lookout, e.identity.Key)
	also(ctx, j, e.lookout, &a)
	ended, more := m.look()
	asleep := ended.Steady - began.Steady - time.Since(awake)
	a.Stepped = more != steps || ended.Stepped(began) || asleep >= evidence.MinStep
	if ctx.Err() != nil {
		return nil, nil // given up: what is half seen is not evidence
	}
	m.browsing.note(b, j.Hour, &a)
	e.identity.Sign(&a)
	m.log.Info("attempt", "relay", j.Relay, "hour", j.Hour,
		"tcp4", a.Results[evidence.TCP4].Outcome, "wss", a.Results[evidence.WSS].Outcome,
		"relayed", a.Results[evidence.Relay].Outcome, "level", a.Level)
	if m.cfg.Network != evidence.Lab && m.onOwnHost(e.address.IPv4) {
		return &a, nil // watched, but never evidence
	}
	err = m.store.Append(j.Hour, a, certs...)
	if errors.Is(err, store.ErrUnfit) && !errors.Is(err, evidence.ErrOutside) {
		// What a stranger said is not worth a lost attempt: its outcome is kept, and
		// what the relay signed.
		why := err
		bare := evidence.Facts{}
		if r := a.Facts.Reservation; r != nil {
			granted := *r
			granted.Addrs = nil
			bare.Reservation = &granted
		}
		a.Facts = bare
		for i := range a.Rungs {
			a.Rungs[i].Detail = ""
		}
		if err = m.store.Append(j.Hour, a); err == nil {
			m.log.Error("the facts of an attempt are left out, since the log refuses them; please report this", "relay", j.Relay, "err", why)
		}
	}
	return &a, err
}

// look is a look at the clocks, and how many times the wall's was set so far.
func (m *Monitor) look() (now schedule.Moment, steps int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.machine.Now(), m.steps
}

// timeLeft is how long an attempt may take, its controls included: what is not in the
// log when the hour is sealed counts nowhere.
func timeLeft(h evidence.Hour, wall time.Time) time.Duration {
	return min(schedule.AttemptTimeout+roundEvery+controlsTimeout, h.End().Add(evidence.CloseAfter-10*time.Second).Sub(wall))
}

// errand is a job with all that it needs: what the roster says is looked up once.
type errand struct {
	address  bounty.Address
	target   probe.Target
	lookout  *lookout
	identity schedule.Identity
}

// equip looks up what a job needs; nil: the relay is not under judgement in that hour.
func (m *Monitor) equip(b *basis, j schedule.Job) (*errand, error) {
	relay := b.roster.Relay(j.Relay)
	if relay == nil || !relay.EnrolledAt(j.Hour) {
		return nil, nil
	}
	e := &errand{address: relay.At(j.Hour), lookout: b.lookout}
	var err error
	if e.target, err = target(j.Relay, e.address); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e.identity, err = m.identify(b.roster, relay, j.Hour)
	return e, err
}

// onOwnHost says whether the address is one of this machine's: a monitor never
// judges its own host.
func (m *Monitor) onOwnHost(ipv4 string) bool {
	ip, err := netip.ParseAddr(ipv4)
	if err != nil || ip.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		m.log.Error("list this machine's addresses", "err", err)
		return true // when in doubt it is no evidence
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == ip {
			return true
		}
	}
	return false
}

// announceWait is how long a single round waits to hear a relay. A relay
// announces itself soon after a new peer has joined the topic.
const announceWait = 20 * time.Second

// Once makes one attempt at every relay now, whatever the plan says, and returns
// them in the roster's order. Only a lab may choose its minute like that: on the
// real network the schedule decides (rule R2).
func (m *Monitor) Once(ctx context.Context) ([]evidence.Attempt, error) {
	if m.cfg.Network != evidence.Lab {
		return nil, fmt.Errorf("once is for a lab: in network %s the schedule decides when a relay is probed (rule R2): use \"relaymon run\", or \"relaymon probe\" for a look that counts nowhere", m.cfg.Network)
	}
	now := m.machine.Now().Wall
	h := evidence.HourOf(now)
	m.askWitnesses(ctx)
	if _, err := m.store.Seal(now); err != nil && !errors.Is(err, store.ErrHeld) {
		return nil, err
	}
	m.askWitnesses(ctx)
	m.freshen(ctx)
	m.mu.Lock()
	err := m.begin(h, now)
	m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	m.ladder.wait = announceWait
	var out []evidence.Attempt
	for _, relay := range m.basis().targets(h) {
		a, err := m.observe(ctx, schedule.Job{Relay: relay, Hour: h}, func(context.Context, schedule.Job, *lookout, *evidence.Attempt) {})
		if err != nil {
			return out, err
		}
		if a == nil {
			return out, context.Cause(ctx) // interrupted
		}
		out = append(out, *a)
	}
	m.noteClock()
	return out, nil
}

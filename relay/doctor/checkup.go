package doctor

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// Subject is what the checkup asks of the relay that it is of.
type Subject interface {
	ID() peer.ID
	Config() config.Config
	Status() status.Status
	// Answered is how often PSF peers were answered that measure the relay.
	Answered() uint64
	// HeldFrom is how many reservations count for one address.
	HeldFrom(netip.Addr) int
	// TryCertificate ends the pause before the next attempt to get a certificate.
	TryCertificate()
}

// Checkup is what the running relay finds out about itself beside its work: its
// status page shows by it which requirements of the bounty are met.
type Checkup struct {
	of        Subject
	log       *slog.Logger
	observers *observers

	mu       sync.Mutex
	reach    *reach // nil: not up yet
	findings findings
	trial    trial
	since    time.Time // of this version
	answered uint64
	measured time.Time // when a PSF peer last measured the relay
	files    int       // open
	proxied  *status.Proxied
	warned   bool // of a proxy
}

const (
	lookFirst = 20 * time.Second // the certificate should be there, some peers connected
	lookAgain = 10 * time.Minute
	tryAgain  = 30 * time.Second // a reservation on trial, while it is not known that one can be had
	lookLate  = 3 * lookAgain    // then something hangs, and what was found says nothing about now
	countTime = 15 * time.Second
	dnsTime   = 30 * time.Second // while the certificate waits for the domain's records
)

// NewCheckup makes one that has found out nothing yet. own are the addresses that the
// relay announces now.
func NewCheckup(of Subject, own func() []ma.Multiaddr, log *slog.Logger) *Checkup {
	return &Checkup{of: of, log: log, observers: newObservers(of.Config(), own)}
}

// Begin begins the checkup, which runs until ctx ends. What fails in it never touches
// the relay's work.
func (c *Checkup) Begin(ctx context.Context, h host.Host, wg *sync.WaitGroup) {
	// At once: nobody who comes is missed.
	loop, err := c.observers.watch(ctx, h)
	if err != nil {
		c.log.Warn("what peers see of the relay's address is not noted", "error", err)
	} else {
		wg.Go(loop)
	}
	// At once, too: the library learns of peers only while they come.
	reach, err := newReach(h, c.of.Config())
	if err != nil {
		c.log.Warn("peers cannot be asked whether they reach the relay", "error", err)
	}
	wg.Go(func() { c.examine(ctx, h, reach) })
}

func (c *Checkup) examine(ctx context.Context, h host.Host, reach *reach) {
	c.mu.Lock()
	c.reach = reach
	c.mu.Unlock()
	var wg sync.WaitGroup
	defer wg.Wait()
	if reach != nil {
		wg.Go(func() {
			defer reach.close()
			every(ctx, c.pause(askEvery), func() {
				for range len(h.Addrs()) {
					if !reach.ask(ctx, h.Addrs()) {
						return
					}
				}
			})
		})
	}
	wg.Go(func() {
		every(ctx, c.pause(countTime), func() {
			c.countMeasured()
			c.lookForProxy(h)
			c.countFiles()
		})
	})
	c.lookAround(ctx)
	wg.Go(func() { every(ctx, c.pause(dnsTime), func() { c.lookUpAgain(ctx) }) })
	select {
	case <-ctx.Done():
		return
	case <-time.After(c.pause(lookFirst)):
	}
	wg.Go(func() {
		c.tryReserve(ctx, func() trial {
			s := c.of.Status()
			return reserveOnTrial(ctx, c.of.ID(), localAddrs(c.of.Config(), &s))
		})
	})
	every(ctx, c.pause(lookAgain), func() { c.lookAround(ctx) })
}

// pause is d, but in tests.
func (c *Checkup) pause(d time.Duration) time.Duration {
	return cmp.Or(c.of.Config().Test.CheckupEvery, d)
}

// noteVersion keeps since when this version runs here.
func (c *Checkup) noteVersion() {
	since, err := noteVersion(c.of.Config().DataDir, buildinfo.Version(), time.Now())
	if err != nil {
		c.log.Warn("could not note the version", "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = since
}

func (c *Checkup) lookAround(ctx context.Context) {
	c.noteVersion() // again: by now the clock may be right
	looked := look(ctx, c.of.Config(), "", true)
	c.found(func(f *findings) { *f = looked })
}

// lookUpAgain looks at the domain's records and at the interfaces while there is no
// certificate: an operator who has just mended them waits to see it.
func (c *Checkup) lookUpAgain(ctx context.Context) {
	s := c.of.Status()
	if s.Certificate == nil || s.Certificate.Valid(time.Now()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	interfaces, _ := config.InterfaceIPs() // none is then what the requirement says
	r := lookUp(ctx, "", c.of.Config().Domain)
	c.found(func(f *findings) { f.records, f.interfaces = r, interfaces })
}

// found notes what was found. When the records have come right by it, the certificate is
// tried at once.
func (c *Checkup) found(note func(*findings)) {
	lead := func() bool { return c.of.Status().Requirement("records").Outcome == status.Met }
	did := lead()
	c.mu.Lock()
	note(&c.findings)
	c.mu.Unlock()
	if !did && lead() {
		c.of.TryCertificate()
	}
}

// tryReserve reserves on trial, time and again until ctx ends. A trial that failed is
// repeated soon: on a machine that has just started it may have been too slow.
func (c *Checkup) tryReserve(ctx context.Context, try func() trial) {
	every(ctx, c.pause(tryAgain), func() {
		if !c.trialDue() {
			return
		}
		done := make(chan trial, 1)
		go func() { done <- try() }()
		select {
		case t := <-done:
			c.mu.Lock()
			defer c.mu.Unlock()
			c.trial = t
		case <-ctx.Done(): // a stop does not wait until the visitor has closed
		}
	})
}

// trialDue says whether a trial would tell something new. While somebody holds a
// reservation it would not: that is proof enough, and nobody shall have to give way.
func (c *Checkup) trialDue() bool {
	if r := c.of.Status().Reservations; r.Members+r.Guests > 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trial.at.IsZero() || c.trial.err != nil || time.Since(c.trial.at) >= c.pause(lookAgain)
}

func (c *Checkup) countFiles() {
	n := openFiles()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files = n
}

// countMeasured sees by the answers given whether PSF peers measure the relay,
// which only those do that heard its announcement.
func (c *Checkup) countMeasured() {
	answered := c.of.Answered()
	c.mu.Lock()
	defer c.mu.Unlock()
	if answered != c.answered {
		c.answered, c.measured = answered, time.Now()
	}
}

// AddTo completes the status by what the checkup knows.
func (c *Checkup) AddTo(s *status.Status, cfg config.Config, now time.Time) {
	c.mu.Lock()
	reach, f := c.reach, c.findings
	s.VersionSince, s.Capacity.FilesUsed, s.Proxied = c.since, c.files, c.proxied
	if s.Reservations.Members+s.Reservations.Guests == 0 { // else what is held says more
		f.trial = c.trial
	}
	if s.PSF != nil {
		s.PSF.LastMeasured = c.measured
	}
	c.mu.Unlock()
	s.Observed, s.Incoming = c.observers.seen(now)
	if reach != nil {
		s.Reach = reach.state(now)
	}
	if f.at.IsZero() {
		return // not looked yet
	}
	f.at, f.id = now, c.of.ID()
	s.Requirements = requirements(cfg, s, f)
}

// every runs f at once and then again and again until ctx ends.
func every(ctx context.Context, pause time.Duration, f func()) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		f()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

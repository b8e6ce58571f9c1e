package relay

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
)

// checkup is what the running relay finds out about itself beside its work: its
// status page shows by it which requirements of the bounty are met.
type checkup struct {
	observers *observers

	mu       sync.Mutex
	reach    *reach // nil: not up yet
	findings findings
	trial    trial
	since    time.Time // of this version
	answered uint64
	measured time.Time // when a PSF peer last measured the relay
	files    int       // open
	proxied  *Proxied
	warned   bool // of a proxy
}

const (
	lookFirst = 20 * time.Second // the certificate should be there, some peers connected
	lookAgain = 10 * time.Minute
	lookLate  = 3 * lookAgain // then something hangs, and what was found says nothing about now
	countTime = 15 * time.Second
)

// startExamining begins the checkup, which runs until ctx ends. What fails in it
// never touches the relay's work.
func (r *Relay) startExamining(ctx context.Context, h host.Host, wg *sync.WaitGroup) {
	// At once: nobody who comes is missed.
	loop, err := r.checkup.observers.watch(ctx, h)
	if err != nil {
		r.log.Warn("what peers see of the relay's address is not noted", "error", err)
	} else {
		wg.Go(loop)
	}
	// At once, too: the library learns of peers only while they come.
	reach, err := newReach(h, r.config())
	if err != nil {
		r.log.Warn("peers cannot be asked whether they reach the relay", "error", err)
	}
	wg.Go(func() { r.examine(ctx, h, reach) })
}

func (r *Relay) examine(ctx context.Context, h host.Host, reach *reach) {
	c := &r.checkup
	c.mu.Lock()
	c.reach = reach
	c.mu.Unlock()
	var wg sync.WaitGroup
	defer wg.Wait()
	if reach != nil {
		wg.Go(func() {
			defer reach.close()
			every(ctx, askEvery, func() {
				for range len(h.Addrs()) {
					if !reach.ask(ctx, h.Addrs()) {
						return
					}
				}
			})
		})
	}
	wg.Go(func() {
		every(ctx, countTime, func() {
			r.countMeasured()
			r.lookForProxy()
			r.countFiles()
		})
	})
	r.lookAround(ctx)
	select {
	case <-ctx.Done():
		return
	case <-time.After(lookFirst):
	}
	every(ctx, lookAgain, func() {
		r.tryPlace(ctx)
		r.lookAround(ctx)
	})
}

// noteVersion keeps since when this version runs here.
func (r *Relay) noteVersion() {
	since, err := noteVersion(r.config().DataDir, buildinfo.Version(), time.Now())
	if err != nil {
		r.log.Warn("could not note the version", "error", err)
	}
	r.checkup.mu.Lock()
	defer r.checkup.mu.Unlock()
	r.checkup.since = since
}

func (r *Relay) lookAround(ctx context.Context) {
	r.noteVersion() // again: by now the clock may be right
	f := look(ctx, r.config(), "", true)
	r.checkup.mu.Lock()
	defer r.checkup.mu.Unlock()
	r.checkup.findings = f
}

// tryPlace reserves a place on trial while nobody holds one: those who do are proof
// enough, and none of them shall have to give way.
func (r *Relay) tryPlace(ctx context.Context) {
	s := r.Status()
	if s.Reservations.Members+s.Reservations.Guests > 0 {
		return
	}
	done := make(chan trial, 1)
	go func() { done <- reserveOnTrial(ctx, r.id, localAddrs(r.config(), &s)) }()
	select {
	case t := <-done:
		r.checkup.mu.Lock()
		defer r.checkup.mu.Unlock()
		r.checkup.trial = t
	case <-ctx.Done(): // a stop does not wait until the visitor has closed
	}
}

func (r *Relay) countFiles() {
	n := openFiles()
	r.checkup.mu.Lock()
	defer r.checkup.mu.Unlock()
	r.checkup.files = n
}

// countMeasured sees by the answers given whether PSF peers measure the relay,
// which only those do that heard its announcement.
func (r *Relay) countMeasured() {
	r.mu.Lock()
	m := r.member
	r.mu.Unlock()
	if m == nil {
		return
	}
	answered := m.Stats().Answered
	r.checkup.mu.Lock()
	defer r.checkup.mu.Unlock()
	if answered != r.checkup.answered {
		r.checkup.answered, r.checkup.measured = answered, time.Now()
	}
}

// addTo completes the status by what the checkup knows.
func (c *checkup) addTo(s *Status, cfg Config, id peer.ID, now time.Time) {
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
	f.at, f.id = now, id
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

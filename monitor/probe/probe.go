// Package probe climbs the ladder of one relay, as its users would: a browser
// over a secure websocket, a server over TCP, and the two of them through the
// relay (rule R3).
//
// [Run] does one attempt and returns facts. It judges nothing: an attempt says
// what was seen, rung by rung, each with an outcome and a class; whether the
// relay counts as up is decided elsewhere.
//
//	tcp4      dial the literal IPv4 address, Noise, peer ID equal
//	identify  identify and ping on that connection
//	wss       DNS, TLS with pinned roots, upgrade with an Origin, Noise, peer ID equal
//	reserve   peer A, connected over wss, reserves
//	circuit   peer B, connected over tcp4, dials A through the relay; 4 KiB echoed
//	announce  the relay's announcement on the coordination topic: a fact, no vote
//
// [Find] reads a relay's addresses from its own page, for those who know its domain only.
//
// What went by the relay's name and failed is the relay's failure only if other
// resolvers say of the name what this machine's says; see [Options.Second].
//
// A rung is one function in a file of its own and one line in the ladder's table;
// deadlines and panics are the runner's business.
//
// The hosts of a probe reach nothing but what a rung has dialled: their swarms
// have no dialling transport, only one that takes over connections which are
// already made. They listen nowhere, and to the relay they look like any client
// of go-libp2p: a relay that serves only its judges must not be able to tell
// them from others.
package probe

import (
	"context"
	"crypto/x509"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// MaxAttempt bounds an attempt, without the wait for an announcement (rule R2).
const MaxAttempt = 120 * time.Second

// Options say how to probe. The zero value is a one-off probe of a public relay.
type Options struct {
	// Roots verify certificates; nil: Mozilla's, as pinned in go.mod.
	Roots *x509.CertPool
	// ExtraCAs are trusted as well.
	ExtraCAs []*x509.Certificate
	// Resolve pins names, as curl does; see [ParsePin].
	Resolve map[string]netip.Addr
	// Resolver names the resolvers of the other names; nil: those of /etc/resolv.conf.
	Resolver func() ([]NameServer, error)
	// Second are asked for a second opinion when something fails that went by a
	// relay's name and that name is not pinned; without one nothing is doubted.
	Second []NameServer
	// AllowPrivate admits addresses that are not public. Never for evidence.
	AllowPrivate bool
	// Deadlines replace those of the ladder, by the rung's name, and that of a second
	// opinion, by "second".
	Deadlines map[string]time.Duration
	// Pace keeps the dials to one relay apart, across attempts and listeners that
	// share it; nil: this attempt's own, at OneOffPace.
	Pace *Pace
	// ProbeKey is the identity that reserves; nil: a new one.
	ProbeKey crypto.PrivKey
	// NoRelay leaves out the component relay: nothing is reserved.
	NoRelay bool
	// Listener, if any, tells what the relay announced. AnnounceWait is how long
	// to wait for that when the ladder is climbed; 0: only look.
	Listener     *Listener
	AnnounceWait time.Duration
	// OnCertificate is handed the leaf that the server showed, trusted or not.
	OnCertificate func(leaf *x509.Certificate)
	// OnRung is told when a rung begins (its outcome is then empty) and ends.
	OnRung func(evidence.Rung)

	// meddle, in tests, spoils the two peers before the circuit is asked for.
	meddle func(a, b *peerHost)
	// control, in tests, lets sockets fail.
	control controlFunc
}

// OneOffPace is for probes by hand. js-libp2p refuses more than 5 inbound
// connections a second from one address, which would look like an outage.
const OneOffPace = 250 * time.Millisecond

// Pace keeps dials to one relay apart.
type Pace struct {
	least time.Duration
	mu    sync.Mutex
	next  map[string]time.Time
}

// NewPace keeps dials to one relay at least so long apart.
func NewPace(least time.Duration) *Pace {
	return &Pace{least: least, next: map[string]time.Time{}}
}

// wait returns when the host may be dialled, and counts that dial.
func (p *Pace) wait(ctx context.Context, host string) error {
	p.mu.Lock()
	now := time.Now()
	for other, t := range p.next {
		if t.Before(now) {
			delete(p.next, other)
		}
	}
	at := p.next[host]
	if at.Before(now) {
		at = now
	}
	p.next[host] = at.Add(p.least)
	p.mu.Unlock()
	if at.Equal(now) {
		return ctx.Err()
	}
	timer := time.NewTimer(at.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run climbs the ladder of t once. It returns within MaxAttempt (and
// o.AnnounceWait), or soon after ctx ends; the rungs that this cuts off are
// blind or skipped, never failed.
func Run(ctx context.Context, t Target, o Options) evidence.Attempt {
	c := newClimb(t, o)
	defer c.close()
	c.all(ctx)
	return c.attempt
}

func newClimb(t Target, o Options) *climb {
	c := &climb{
		target: t,
		opts:   o,
		attempt: evidence.Attempt{
			Started:  evidence.TimeOf(time.Now()),
			PeerID:   t.PeerID.String(),
			TCP4Addr: t.with(t.TCP4),
			WSSAddr:  t.with(t.WSS),
			Results:  map[evidence.Component]evidence.Result{},
		},
		began:   time.Now(),
		traffic: map[evidence.Component]traffic{},
	}
	if c.opts.Pace == nil {
		c.opts.Pace = NewPace(OneOffPace)
	}
	return c
}

// all climbs every rung.
func (c *climb) all(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, MaxAttempt)
	defer cancel()
	for _, r := range ladder {
		if !r.part(c) {
			continue
		}
		if r.component == "" {
			c.step(ctx, r) // not part of a vote: may take longer than the attempt
		} else {
			c.step(bounded, r)
		}
	}
	for _, component := range evidence.Components {
		c.attempt.Results[component] = result(c.attempt.Rungs, component)
	}
}

// result is that of the component's last rung that was climbed.
func result(rungs []evidence.Rung, component evidence.Component) evidence.Result {
	var res evidence.Result
	climbed := false
	for _, r := range rungs {
		if r.Component != component {
			continue
		}
		res.DurationUS += r.DurationUS
		if r.Outcome != evidence.Skipped {
			res.Outcome, res.Class, climbed = r.Outcome, r.Class, true
		} else if !climbed {
			res.Outcome, res.Class = r.Outcome, r.Class
		}
	}
	return res
}

// climb is one attempt while it is made.
type climb struct {
	target  Target
	opts    Options
	attempt evidence.Attempt
	began   time.Time
	hosts   []*peerHost
	line    line
	traffic map[evidence.Component]traffic // what each component's rungs sent
	try     int                            // of the present rung, from 1
	control bool                           // it is a control's

	tcp *peerHost // connected over tcp4: peer B
	web *peerHost // connected over wss: peer A
	a   *peerHost // the peer that reserved: web, or another one over tcp4
}

func (c *climb) close() {
	for _, h := range c.hosts {
		h.close()
	}
}

// outcome is that of a rung that was already passed.
func (c *climb) outcome(rung string) evidence.Outcome {
	for _, r := range c.attempt.Rungs {
		if r.Name == rung {
			return r.Outcome
		}
	}
	return ""
}

// Outcomes that a rung's needs may have; a skipped one was not asked for.
func stands(o evidence.Outcome) bool {
	return slices.Contains([]evidence.Outcome{evidence.OK, evidence.Skipped}, o)
}

package probe

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// rung is one step. Its climb function returns nil when all was well, else a
// *fault; what was seen on the way is in the climb's facts either way.
type rung struct {
	name      string
	component evidence.Component
	needs     []string // rungs that must not have failed
	deadline  time.Duration
	part      func(*climb) bool // whether it is part of this attempt at all
	asked     func(Target) bool // else it is skipped
	dials     func(*climb) bool // whether it connects to the relay, and so waits for its turn
	named     func(*climb) bool // whether it goes by the relay's name, so that a resolver may be why it failed
	climb     func(*climb, context.Context) error
}

const circuitDeadline = 30 * time.Second

// The ladder, from the bottom. Neither of tcp4 and wss skips the other.
var ladder = []rung{
	{name: "tcp4", component: evidence.TCP4, deadline: 15 * time.Second, part: always, asked: hasTCP4, dials: always, climb: (*climb).tcp4},
	{name: "identify", component: evidence.TCP4, deadline: 15 * time.Second, part: always, asked: hasTCP4, climb: (*climb).identify, needs: []string{"tcp4"}},
	{name: "wss", component: evidence.WSS, deadline: 30 * time.Second, part: always, asked: hasWSS, dials: always, named: always, climb: (*climb).wss},
	{name: "reserve", component: evidence.Relay, deadline: 25 * time.Second, part: always, asked: hasAny, dials: withoutWeb, named: triedAgain, climb: (*climb).reserve, needs: []string{"tcp4", "identify", "wss"}},
	{name: "circuit", component: evidence.Relay, deadline: circuitDeadline, part: always, asked: hasAny, dials: withoutTCP, named: withoutTCP, climb: (*climb).circuit, needs: []string{"tcp4", "identify", "wss", "reserve"}},
	{name: "announce", part: listens, asked: hasAny, climb: (*climb).announce},
}

func always(*climb) bool       { return true }
func listens(c *climb) bool    { return c.opts.Listener != nil }
func withoutWeb(c *climb) bool { return c.web == nil }
func withoutTCP(c *climb) bool { return c.tcp == nil }
func triedAgain(c *climb) bool { return c.try > 1 } // it may have connected by the name anew
func hasTCP4(t Target) bool    { return t.TCP4 != nil }
func hasWSS(t Target) bool     { return t.WSS != nil }
func hasAny(t Target) bool     { return hasTCP4(t) || hasWSS(t) }

// Rungs names the ladder's rungs from the bottom; announce is there only with a
// listener.
func Rungs() []string {
	names := make([]string, len(ladder))
	for i, r := range ladder {
		names[i] = r.name
	}
	return names
}

// step climbs one rung under its deadline and notes what came of it.
func (c *climb) step(ctx context.Context, r rung) {
	note := evidence.Rung{Name: r.name, Component: r.component}
	if c.opts.OnRung != nil {
		c.opts.OnRung(note)
	}
	asked, standing := r.asked(c.target) && !(c.opts.NoRelay && r.component == evidence.Relay), c.standing(r.needs)
	if asked && standing && r.dials != nil && r.dials(c) {
		// Our own patience counts neither as the relay's time nor against its deadline.
		_ = c.opts.Pace.wait(ctx, string(c.target.PeerID))
	}
	start := time.Now()
	note.OffsetUS = start.Sub(c.began).Microseconds()
	switch {
	case !asked:
		note.Outcome, note.Class = evidence.Skipped, evidence.NotAsked
	case !standing:
		note.Outcome, note.Class = evidence.Skipped, evidence.BelowFailed
	case ctx.Err() != nil:
		note.Outcome, note.Class = evidence.Skipped, evidence.Stopped
	default:
		before := c.line.total()
		note.Outcome, note.Class, note.Detail = c.run(ctx, r)
		note.DurationUS = time.Since(start).Microseconds()
		if c.try > 1 {
			note.Tries = c.try
		}
		c.traffic[r.component] = c.traffic[r.component].plus(c.line.total().minus(before))
	}
	c.attempt.Rungs = append(c.attempt.Rungs, note)
	if c.opts.OnRung != nil {
		c.opts.OnRung(note)
	}
}

func (c *climb) standing(needs []string) bool {
	for _, name := range needs {
		if !stands(c.outcome(name)) {
			return false
		}
	}
	return true
}

// deadlineOf is how long a rung may take; 0: as long as it likes.
func (o *Options) deadlineOf(r rung) time.Duration {
	if d, ok := o.Deadlines[r.name]; ok {
		return d
	}
	return r.deadline
}

// run turns whatever a rung does into an outcome.
func (c *climb) run(ctx context.Context, r rung) (_ evidence.Outcome, _ evidence.Class, detail string) {
	within := ctx
	if deadline := c.opts.deadlineOf(r); deadline > 0 {
		var cancel context.CancelFunc
		within, cancel = context.WithTimeout(ctx, deadline)
		defer cancel()
	}
	var f *fault
	for c.try = 1; ; c.try++ {
		start, before := time.Now(), f
		f = asFault(c.guarded(within, r))
		if f != nil && before != nil && within.Err() != nil {
			f = before // the last try had no time left to say why
		}
		took := time.Since(start)
		// A control shows how the line is, and not how it is a moment later.
		if !again(within, f, took) || c.control && f.class == evidence.Unreachable {
			break
		}
		if rest := slow - took; rest > 0 {
			select {
			case <-time.After(rest): // again has seen that there is time for it
			case <-ctx.Done():
			}
		}
	}
	if f != nil && f.outcome == evidence.Fail && r.named != nil && r.named(c) && ctx.Err() == nil {
		f = asFault(c.confirm(ctx, f)) // has its own time
	}
	switch {
	case f == nil:
		return evidence.OK, "", ""
	case f.class == "": // a remark, see remark
		return evidence.OK, "", clean(f.Error(), maxDetail)
	case ctx.Err() != nil:
		return evidence.Blind, evidence.Stopped, clean(f.Error(), maxDetail)
	default:
		return f.outcome, f.class, clean(f.Error(), maxDetail)
	}
}

// slow is how long something must have taken before it is tried again.
const slow = 4 * time.Second

// unheard are the failures in which the relay said nothing, as when packets are lost.
var unheard = []evidence.Class{
	evidence.NameLookup, evidence.ConnectTimeout, evidence.TLSTimeout, evidence.UpgradeTimeout,
	evidence.HandshakeTimeout, evidence.Dropped, evidence.IdentifyTimeout, evidence.PingFailed,
	evidence.ReserveTimeout, evidence.CircuitTimeout, evidence.CircuitCut, evidence.CircuitNotConnected,
}

// again says whether a rung is tried again that failed after so long: it gave up waiting
// under a bound of its own, such as the 5 s of go-libp2p's identify or the 10 s of its
// multiplexer. A packet that was lost in one try need not be lost in the next. The
// rung's time is the bound. A network that knows no way, which is said at once, may be
// a line that is down for a moment: when that is all that failed, controls which are
// tried a second later find all well.
func again(ctx context.Context, f *fault, took time.Duration) bool {
	end, bounded := ctx.Deadline()
	return f != nil && f.outcome == evidence.Fail && bounded && ctx.Err() == nil && time.Until(end) >= slow &&
		(f.class == evidence.Unreachable || took >= slow && slices.Contains(unheard, f.class))
}

// guarded lets no panic of one rung end a monitor that watches many relays.
func (c *climb) guarded(ctx context.Context, r rung) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = blind(evidence.OwnFault, fmt.Errorf("panic: %v", p))
		}
	}()
	return r.climb(c, ctx)
}

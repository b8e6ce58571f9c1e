package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// ControlHost is a host that is known to be up. It need not be a libp2p peer:
// without a peer ID any server will do, and the control asks only whether the
// line leads to it.
type ControlHost struct {
	Name string
	Target
}

// ParseControl reads a control's addresses as [ParseTarget] does, but they may
// end without /p2p/ID.
func ParseControl(name string, addrs ...string) (ControlHost, error) {
	t, err := parseAddrs(addrs, false)
	if err == nil && len(addrs) == 0 {
		err = errors.New("no address given")
	}
	if err != nil {
		return ControlHost{}, fmt.Errorf("control %s: %w", name, err)
	}
	return ControlHost{name, t}, nil
}

// LoopbackName names the control of component relay: a relay inside this very
// process.
const LoopbackName = "loopback"

// loopbackDeadline bounds that control.
const loopbackDeadline = 20 * time.Second

// Needed are the components whose controls an attempt calls for: those that
// failed, and for relay all three, since a circuit goes both ways (rule R5).
func Needed(a evidence.Attempt) []evidence.Component {
	var list []evidence.Component
	for _, c := range evidence.Components {
		if a.Results[c].Outcome == evidence.Fail || a.Results[evidence.Relay].Outcome == evidence.Fail {
			list = append(list, c)
		}
	}
	return list
}

// Controls tries every host for each component, all at the same time, and a loopback
// relay for relay. A control is no easier than what it stands for: it makes as many
// round trips, of the same kind, within the same deadlines. A host with a peer ID
// climbs the ladder as the relay does, and where it is a relay, through circuits as
// well. The order is that of the hosts, whatever answers first.
func Controls(ctx context.Context, hosts []ControlHost, components []evidence.Component, o Options) []evidence.Control {
	if o.Pace == nil {
		o.Pace = NewPace(OneOffPace)
	}
	// What the relay's own attempt is told is not for its controls.
	o.Listener, o.OnCertificate, o.OnRung, o.Second = nil, nil, nil, nil
	var tries []func() []evidence.Control
	for _, h := range hosts {
		switch {
		case h.PeerID != "" && h.TCP4 != nil && h.WSS != nil && slices.Contains(components, evidence.Relay):
			tries = append(tries, func() []evidence.Control { return h.climb(ctx, h.Target, false, o) })
		case h.PeerID != "":
			if h.TCP4 != nil && slices.Contains(components, evidence.TCP4) {
				tries = append(tries, func() []evidence.Control {
					return h.climb(ctx, Target{PeerID: h.PeerID, TCP4: h.TCP4}, true, o)
				})
			}
			if h.WSS != nil && slices.Contains(components, evidence.WSS) {
				tries = append(tries, func() []evidence.Control {
					return h.climb(ctx, Target{PeerID: h.PeerID, WSS: h.WSS}, true, o)
				})
			}
		default:
			if h.TCP4 != nil && slices.Contains(components, evidence.TCP4) {
				tries = append(tries, func() []evidence.Control { return []evidence.Control{h.plain(ctx, evidence.TCP4, o)} })
			}
			if h.WSS != nil && slices.Contains(components, evidence.WSS) {
				tries = append(tries, func() []evidence.Control { return []evidence.Control{h.plain(ctx, evidence.WSS, o)} })
			}
		}
	}
	if slices.Contains(components, evidence.Relay) {
		tries = append(tries, func() []evidence.Control { return []evidence.Control{Loopback(ctx)} })
	}
	results := make([][]evidence.Control, len(tries))
	var all sync.WaitGroup
	for i, try := range tries {
		all.Go(func() { results[i] = try() })
	}
	all.Wait()
	return slices.Concat(results...)
}

// climb climbs the ladder of a host that is a libp2p peer. It need not be a relay:
// then it has no result for that component.
func (h ControlHost) climb(ctx context.Context, t Target, noRelay bool, o Options) []evidence.Control {
	o.NoRelay = noRelay
	c := newClimb(t, o)
	c.control = true
	defer c.close()
	c.all(ctx)
	var list []evidence.Control
	for _, component := range evidence.Components {
		result := c.attempt.Results[component]
		if result.Outcome == evidence.Skipped || result.Class == evidence.NoHop {
			continue
		}
		control := evidence.Control{
			Name: h.Name, Component: component, Outcome: result.Outcome, DurationUS: result.DurationUS,
			Started: c.attempt.Started,
		}
		control.Sent, control.Resent = c.traffic[component].packets()
		if component == evidence.WSS && result.Outcome == evidence.OK {
			control.Outcome = c.fresh(ctx)
		}
		for _, r := range c.attempt.Rungs {
			if r.Component == component {
				control.Started = evidence.TimeOf(c.attempt.Started.Add(time.Duration(r.OffsetUS) * time.Microsecond))
				break
			}
		}
		list = append(list, control)
	}
	return list
}

// fresh is what becomes of a look-up that no cache can answer.
func (c *climb) fresh(ctx context.Context) evidence.Outcome {
	outcome, _, _ := c.run(ctx, rung{deadline: freshDeadline, climb: func(c *climb, ctx context.Context) error {
		return c.dialer().uncached(ctx, c.target.host(), port(c.target.WSS))
	}})
	return outcome
}

const freshDeadline = 20 * time.Second

// The round trips of a control without a peer ID, which stand for those of the ladder.
// Over tcp4 these are the connection, the choice of the security protocol and its
// handshake, the choice of identify, identify, and the first ping; over wss the first
// four are the name, TCP, TLS and the upgrade, and the same four again stand for the
// security protocol, its handshake, the stream and the question on it.
const (
	plainConnections = 6
	plainUpgrades    = 2
)

// plain tries a host of which only this is known that it takes TCP connections, or that
// it answers HTTP under a trusted certificate, whatever it says.
func (h ControlHost) plain(ctx context.Context, component evidence.Component, o Options) evidence.Control {
	c := newClimb(h.Target, o)
	c.control = true
	defer c.close()
	r := rung{name: string(component), climb: (*climb).connections}
	if component == evidence.WSS {
		r.climb = (*climb).upgrades
	}
	// The deadline is that of the rung of the same name.
	r.deadline = ladder[slices.IndexFunc(ladder, func(l rung) bool { return l.name == r.name })].deadline
	waited := c.opts.Pace.wait(ctx, "control "+h.Name)
	start := time.Now()
	control := evidence.Control{Name: h.Name, Component: component, Started: evidence.TimeOf(start), Outcome: evidence.Blind}
	if waited == nil {
		control.Outcome, _, _ = c.run(ctx, r)
	}
	t := c.line.total()
	control.DurationUS, control.Sent, control.Resent = time.Since(start).Microseconds(), t.sent, t.resent
	return control
}

func (c *climb) connections(ctx context.Context) error {
	for range plainConnections {
		conn, err := c.dialer().tcp4(ctx, c.target)
		if err != nil {
			return err
		}
		conn.Close()
	}
	return nil
}

func (c *climb) upgrades(ctx context.Context) error {
	for range plainUpgrades {
		if err := c.upgradeOnce(ctx); err != nil {
			return err
		}
	}
	return c.dialer().uncached(ctx, c.target.host(), port(c.target.WSS))
}

func (c *climb) upgradeOnce(ctx context.Context) error {
	d := c.dialer()
	secured, err := d.secured(ctx, c.target)
	if err != nil {
		return err
	}
	defer secured.NetConn().Close()
	c.attempt.Facts.HTTPStatus = 0
	ws, err := d.upgrade(ctx, secured, c.target.host(), port(c.target.WSS))
	if err == nil {
		ws.Close()
	}
	if c.attempt.Facts.HTTPStatus != 0 {
		return nil
	}
	return err
}

// Loopback climbs the ladder of a relay that runs in this process for as long as
// that takes: it shows that the monitor's own part of a circuit works.
func Loopback(ctx context.Context) evidence.Control {
	start := time.Now()
	result := evidence.Control{Name: LoopbackName, Component: evidence.Relay, Started: evidence.TimeOf(start), Outcome: evidence.Blind}
	h, err := newPeerHost(nil, serves)
	if err != nil {
		return result
	}
	defer h.close()
	relay, err := relayv2.New(h)
	if err != nil {
		return result
	}
	defer relay.Close()
	ctx, cancel := context.WithTimeout(ctx, loopbackDeadline)
	defer cancel()
	a := Run(ctx, Target{PeerID: h.ID(), TCP4: h.Network().ListenAddresses()[0]}, Options{AllowPrivate: true, Pace: NewPace(0)})
	result.Outcome = a.Results[evidence.Relay].Outcome
	result.DurationUS = time.Since(start).Microseconds()
	return result
}

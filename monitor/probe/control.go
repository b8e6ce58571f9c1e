package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"golang.org/x/sync/errgroup"

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

// Bounds of one control, and of how many run at once.
const (
	controlDeadline = 20 * time.Second
	controlsAtOnce  = 6
)

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

// Controls tries each host for each component, and a loopback relay for relay.
// It is to run right after the attempt that called for it. The order is that of
// the hosts, whatever answers first. At most 20 s pass for each round of six.
func Controls(ctx context.Context, hosts []ControlHost, components []evidence.Component, o Options) []evidence.Control {
	var tries []func() evidence.Control
	for _, h := range hosts {
		for _, c := range components {
			if c == evidence.TCP4 && h.TCP4 != nil || c == evidence.WSS && h.WSS != nil {
				tries = append(tries, func() evidence.Control { return Control(ctx, h, c, o) })
			}
		}
	}
	if slices.Contains(components, evidence.Relay) {
		tries = append(tries, func() evidence.Control { return Loopback(ctx) })
	}
	list := make([]evidence.Control, len(tries))
	var group errgroup.Group
	group.SetLimit(controlsAtOnce)
	for i, try := range tries {
		group.Go(func() error {
			list[i] = try()
			return nil
		})
	}
	_ = group.Wait() // none returns an error
	return list
}

// Control tries one host for tcp4 or wss, in the way in which a relay is tried:
// with a peer ID up to the libp2p handshake, else up to the TCP connection, or
// over wss up to an HTTP answer under a trusted certificate, whatever it says.
func Control(ctx context.Context, h ControlHost, component evidence.Component, o Options) evidence.Control {
	if o.Pace == nil {
		o.Pace = NewPace(OneOffPace)
	}
	key := string(h.PeerID) // a control may be a relay that is probed as well
	if key == "" {
		key = "control " + h.Name
	}
	waited := o.Pace.wait(ctx, key)
	ctx, cancel := context.WithTimeout(ctx, controlDeadline)
	defer cancel()
	result := evidence.Control{Name: h.Name, Component: component, Started: evidence.TimeOf(time.Now())}
	c := &climb{target: h.Target, opts: o}
	defer c.close()
	r := rung{climb: func(c *climb, ctx context.Context) error {
		if waited != nil {
			return blind(evidence.Stopped, waited)
		}
		return c.control(ctx, component)
	}}
	result.Outcome, _, _ = c.run(ctx, r)
	return result
}

func (c *climb) control(ctx context.Context, component evidence.Component) error {
	d := dialer{&c.opts, &c.attempt.Facts}
	switch {
	case component == evidence.TCP4 && c.target.PeerID != "":
		_, err := c.connect(ctx, overTCP4, dials, nil)
		return err
	case component == evidence.WSS && c.target.PeerID != "":
		_, err := c.connect(ctx, overWSS, dials, nil)
		return err
	case component == evidence.TCP4:
		conn, err := d.tcp4(ctx, c.target)
		if err == nil {
			conn.Close()
		}
		return err
	case component == evidence.WSS:
		secured, err := d.secured(ctx, c.target)
		if err != nil {
			return err
		}
		defer secured.NetConn().Close()
		ws, err := d.upgrade(ctx, secured, c.target.host(), port(c.target.WSS))
		if err == nil {
			ws.Close()
		}
		if c.attempt.Facts.HTTPStatus != 0 {
			return nil
		}
		return err
	}
	return fmt.Errorf("no control host for component %s", component)
}

// Loopback climbs the ladder of a relay that runs in this process for as long as
// that takes: it shows that the monitor's own part of a circuit works.
func Loopback(ctx context.Context) evidence.Control {
	result := evidence.Control{Name: LoopbackName, Component: evidence.Relay, Started: evidence.TimeOf(time.Now()), Outcome: evidence.Blind}
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
	ctx, cancel := context.WithTimeout(ctx, controlDeadline)
	defer cancel()
	a := Run(ctx, Target{PeerID: h.ID(), TCP4: h.Network().ListenAddresses()[0]}, Options{AllowPrivate: true, Pace: NewPace(0)})
	result.Outcome = a.Results[evidence.Relay].Outcome
	return result
}

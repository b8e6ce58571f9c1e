package month

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
)

// network is the one thing that is made up: it answers a monitor's probes, by the plot.
// Vouchers are signed by the relays' keys, as real relays sign them.
type network struct {
	plot   plot
	relays map[string]*dialled // by peer ID
}

// dialled is a relay with what it needs to answer.
type dialled struct {
	relay
	key   crypto.PrivKey
	certs []leaf
}

// leaf is a certificate from an hour on.
type leaf struct {
	from evidence.Hour
	der  []byte
	cert *evidence.Certificate
}

func newNetwork(p plot) (*network, error) {
	n := &network{plot: p, relays: map[string]*dialled{}}
	for _, r := range relays {
		d := &dialled{relay: r, key: r.key()}
		add := func(from evidence.Hour, days int) error {
			issued := (from - 24).Start()
			der := r.certificate(int64(len(d.certs)+1), issued, issued.AddDate(0, 0, days))
			c, err := evidence.NewCertificate(der)
			d.certs = append(d.certs, leaf{from, der, c})
			return err
		}
		err := add(p.first, 90)
		if r.name == flaky { // it is renewed too late
			issued := p.expires().Start().AddDate(0, 0, -90)
			d.certs[0].der = r.certificate(1, issued, p.expires().Start())
			d.certs[0].cert, err = evidence.NewCertificate(d.certs[0].der)
			if err == nil {
				err = add(p.renews(), 90)
			}
		}
		if err == nil && r.name == steady {
			err = add(p.at(0.5), 90)
		}
		if err != nil {
			return nil, err
		}
		n.relays[r.id()] = d
	}
	return n, nil
}

// lives is for how long a reservation lasts.
const lives = time.Hour

// climb is what a monitor's program notes of an attempt at that time. What the liar's
// notes is what it likes; its records are as well-formed as others'.
func (n *network) climb(o observer, now time.Time, t probe.Target, key crypto.PrivKey) (evidence.Attempt, [][]byte) {
	r := n.relays[t.PeerID.String()]
	a := &attempt{network: n, observer: o, dialled: r, hour: evidence.HourOf(now)}
	a.Started, a.PeerID = evidence.TimeOf(now), t.PeerID.String()
	a.TCP4Addr = fmt.Sprintf("%s/p2p/%s", t.TCP4, t.PeerID)
	a.WSSAddr = fmt.Sprintf("%s/p2p/%s", t.WSS, t.PeerID)
	a.ping = roundTrip(o.place, n.plot.place(r.relay, a.hour).at) + chance("ping", o.name, a.PeerID, now).Int64N(4000)
	a.Results = map[evidence.Component]evidence.Result{}

	state := n.plot.of(r.relay, now)
	line := true
	if from, until := n.plot.lineBreaks(); o.name == brokenLine && from <= a.hour && a.hour < until {
		state, line = silent, false
	}
	if o.name == liar {
		switch {
		case r.name == steady && n.plot.lies(a.hour):
			state = refusing // it is up
		case r.name == dead:
			state = up // whoever has the key at home signs for it
		case r.name == flaky && state == refusing:
			state, key = up, nil // it says so, and nobody has signed
		}
	}
	switch state {
	case up:
		a.up(key)
	case refusing:
		a.down(evidence.Refused, a.ping, line)
	case silent:
		a.down(evidence.ConnectTimeout, (15 * time.Second).Microseconds(), line)
	case full:
		a.full()
	case expired:
		a.expired()
	}
	return a.Attempt, a.ders
}

// attempt is one while it is made.
type attempt struct {
	evidence.Attempt
	*network
	observer
	*dialled
	hour evidence.Hour
	ping int64 // microseconds
	ders [][]byte
	at   int64 // offset of the next rung
}

// rung adds one; it is the last of its component so far.
func (a *attempt) rung(name string, c evidence.Component, o evidence.Outcome, class evidence.Class, took int64) {
	a.Rungs = append(a.Rungs, evidence.Rung{Name: name, Component: c, Outcome: o, Class: class, OffsetUS: a.at, DurationUS: took})
	a.Results[c] = evidence.Result{Outcome: o, Class: class, DurationUS: a.Results[c].DurationUS + took}
	a.at += took
}

// reached is what is seen of a relay that answers over tcp4.
func (a *attempt) reached() {
	a.rung("tcp4", evidence.TCP4, evidence.OK, "", 3*a.ping)
	a.Facts.AgentVersion = a.plot.agent(a.dialled.relay, a.hour)
	a.Facts.PingUS = []int64{a.ping, a.ping + 130, a.ping + 270}
}

// secure is the way in by secure websocket, as browsers have it.
func (a *attempt) secure(o evidence.Outcome, class evidence.Class) {
	a.rung("wss", evidence.WSS, o, class, 5*a.ping)
	a.Facts.ResolvedIPv4 = []string{a.plot.place(a.dialled.relay, a.hour).ipv4}
	for _, c := range a.certs {
		if c.from <= a.hour {
			a.Facts.Certificate, a.ders = c.cert, [][]byte{c.der}
		}
	}
	if o == evidence.OK {
		a.Facts.HTTPStatus = 101
	}
}

// up is a climb to the top. Without a key for the reservation there is no voucher.
func (a *attempt) up(key crypto.PrivKey) {
	a.reached()
	a.secure(evidence.OK, "")
	a.rung("reserve", evidence.Relay, evidence.OK, "", 2*a.ping)
	a.rung("circuit", evidence.Relay, evidence.OK, "", 6*a.ping)
	a.Level = evidence.LevelEchoed
	a.Facts.HopReserve, a.Facts.HopConnect = 100, 100
	if key != nil {
		a.Facts.Reservation = a.grant(key)
	}
}

// grant is the reservation, with the relay's signature.
func (a *attempt) grant(key crypto.PrivKey) *evidence.Reservation {
	relay, err := peer.IDFromPrivateKey(a.dialled.key)
	if err != nil {
		panic(err)
	}
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		panic(err)
	}
	expires := a.Started.Add(lives)
	e, err := record.Seal(&relayv2.ReservationVoucher{Relay: relay, Peer: self, Expiration: expires}, a.dialled.key)
	if err != nil {
		panic(err)
	}
	voucher, err := e.Marshal()
	if err != nil {
		panic(err)
	}
	return &evidence.Reservation{Peer: self.String(), Voucher: voucher, Expires: evidence.TimeOf(expires)}
}

// down is a climb that finds nobody.
func (a *attempt) down(class evidence.Class, took int64, line bool) {
	for _, c := range []evidence.Component{evidence.TCP4, evidence.WSS} {
		a.rung(string(c), c, evidence.Fail, class, took)
		a.lookout(took/2, line)
	}
	a.rung("reserve", evidence.Relay, evidence.Skipped, evidence.BelowFailed, 0)
	a.lookout(time.Second.Microseconds(), line)
}

// full is a relay all of whose places are taken.
func (a *attempt) full() {
	a.reached()
	a.secure(evidence.OK, "")
	a.rung("reserve", evidence.Relay, evidence.Busy, evidence.ReserveRefused, 2*a.ping)
	a.Level, a.Facts.HopReserve = 0, 200
}

// expired is a relay with a certificate that is no longer good.
func (a *attempt) expired() {
	a.reached()
	a.secure(evidence.Fail, evidence.CertExpired)
	a.rung("reserve", evidence.Relay, evidence.Skipped, evidence.BelowFailed, 0)
	a.lookout(time.Second.Microseconds(), true)
}

// lookout tries the controls, so long after the last rung began or, if that took no
// time, ended.
func (a *attempt) lookout(after int64, line bool) {
	last := a.Rungs[len(a.Rungs)-1]
	at := evidence.TimeOf(a.Started.Add(time.Duration(last.OffsetUS+after) * time.Microsecond))
	for _, name := range controls {
		for _, c := range []evidence.Component{evidence.TCP4, evidence.WSS} {
			o := evidence.OK
			if !line {
				o = evidence.Fail
			}
			a.Controls = append(a.Controls, evidence.Control{Name: name, Component: c, Outcome: o, Started: at, DurationUS: 80_000, Sent: 9})
		}
	}
}

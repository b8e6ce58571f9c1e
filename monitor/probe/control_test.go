package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

func TestLoopback(t *testing.T) {
	t.Parallel()
	if c := Loopback(within(t)); c.Outcome != evidence.OK || c.Name != LoopbackName || c.Component != evidence.Relay {
		t.Errorf("%+v", c)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if c := Loopback(stopped); c.Outcome == evidence.OK {
		t.Errorf("ok although it was stopped: %+v", c)
	}
}

func TestControls(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert := ca.leaf(t, nil)
	web := listenAnd(t, func(l net.Listener) { status(http.StatusNotFound)(t, l, cert) })
	untrusted := listenAnd(t, func(l net.Listener) { status(http.StatusOK)(t, l, newAuthority(t).leaf(t, nil)) })
	mute := listenAnd(t, func(l net.Listener) { overTLS(func(c *tls.Conn) { c.Close() })(t, l, cert) })
	_, closed := boundSocket(t)
	peerOnly := newRelay(t, cert, false, nil).Target
	relay := newRelay(t, cert, true, []relayv2.Option{everyAddr}).Target
	impostor := relay
	impostor.PeerID, _ = newID(t)

	at := func(name string, tcp4, wss int) ControlHost {
		h, err := ParseControl(name, tcp4At(tcp4).String(), wssAt(wss).String())
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	hosts := []ControlHost{
		at("web", web, web), at("untrusted", untrusted, untrusted), at("mute", mute, mute), at("closed", closed, closed),
		{"peer", peerOnly}, {"relay", relay}, {"impostor", impostor}, {"half", Target{TCP4: relay.TCP4}},
	}
	want := []string{
		"web tcp4 ok", "web wss ok",
		"untrusted tcp4 ok", "untrusted wss fail",
		"mute tcp4 ok", "mute wss fail",
		"closed tcp4 fail", "closed wss fail",
		"peer tcp4 ok", "peer wss ok",
		"relay tcp4 ok", "relay wss ok", "relay relay ok",
		"impostor tcp4 fail", "impostor wss fail",
		"half tcp4 ok",
		"loopback relay ok",
	}
	list := Controls(within(t), hosts, evidence.Components, ca.options())
	var got []string
	for _, c := range list {
		got = append(got, fmt.Sprint(c.Name, " ", c.Component, " ", c.Outcome))
		if c.Started.IsZero() {
			t.Errorf("%s was never started", c.Name)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("controls\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if list := Controls(within(t), hosts[:1], []evidence.Component{evidence.WSS}, ca.options()); len(list) != 1 || list[0].Component != evidence.WSS {
		t.Errorf("only wss was needed: %+v", list)
	}
	// Without AllowPrivate a control on loopback is not dialled either.
	o := ca.options()
	o.AllowPrivate = false
	if list := Controls(within(t), hosts[:1], []evidence.Component{evidence.TCP4}, o); list[0].Outcome != evidence.Fail {
		t.Errorf("got %+v, want a failure", list)
	}
	// A control that was cut off says nothing of the line.
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range Controls(stopped, hosts, evidence.Components, ca.options()) {
		if c.Outcome != evidence.Blind && c.Outcome != evidence.Skipped {
			t.Errorf("stopped: got %+v, want blind or skipped", c)
		}
	}
}

// A control makes as many round trips as what it stands for: one connection would tell
// little of a line that loses packets.
func TestControlIsNoEasier(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert := ca.leaf(t, nil)
	var accepted atomic.Int32
	count := func(l net.Listener) net.Listener { return countingListener{l, &accepted} }
	web := listenAnd(t, func(l net.Listener) { status(http.StatusNotFound)(t, count(l), cert) })
	h, err := ParseControl("web", tcp4At(web).String(), wssAt(web).String())
	if err != nil {
		t.Fatal(err)
	}
	for component, want := range map[evidence.Component]int32{evidence.TCP4: plainConnections, evidence.WSS: plainUpgrades} {
		accepted.Store(0)
		list := Controls(within(t), []ControlHost{h}, []evidence.Component{component}, ca.options())
		if len(list) != 1 || list[0].Outcome != evidence.OK {
			t.Fatalf("got %+v, want one that is ok", list)
		}
		if c := list[0]; c.Sent < 2*int64(want) || c.Resent != 0 || c.DurationUS <= 0 {
			t.Errorf("%s: got %d packets sent, %d again, in %d us, want at least %d, none again", component, c.Sent, c.Resent, c.DurationUS, 2*want)
		}
		// The server may not have taken the last connection yet.
		for end := time.Now().Add(2 * time.Minute); accepted.Load() < want && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		if got := accepted.Load(); got != want {
			t.Errorf("%s: got %d connections, want %d", component, got, want)
		}
	}
	// A peer climbs the ladder: what was sent is more than a connection takes.
	relay := newRelay(t, cert, false, nil).Target
	for _, c := range Controls(within(t), []ControlHost{{"peer", relay}}, []evidence.Component{evidence.TCP4, evidence.WSS}, ca.options()) {
		if c.Outcome != evidence.OK || c.Sent < 10 {
			t.Errorf("got %+v, want ok after at least 10 packets", c)
		}
	}
}

type countingListener struct {
	net.Listener
	n *atomic.Int32
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

func TestNeeded(t *testing.T) {
	results := func(tcp4, wss, relay evidence.Outcome) evidence.Attempt {
		return evidence.Attempt{Results: map[evidence.Component]evidence.Result{
			evidence.TCP4: {Outcome: tcp4}, evidence.WSS: {Outcome: wss}, evidence.Relay: {Outcome: relay},
		}}
	}
	for _, test := range []struct {
		attempt evidence.Attempt
		want    string
	}{
		{results(evidence.OK, evidence.OK, evidence.OK), "[]"},
		{results(evidence.OK, evidence.OK, evidence.Busy), "[]"},
		{results(evidence.Fail, evidence.OK, evidence.Skipped), "[tcp4]"},
		{results(evidence.OK, evidence.Fail, evidence.Skipped), "[wss]"},
		{results(evidence.Fail, evidence.Fail, evidence.Skipped), "[tcp4 wss]"},
		{results(evidence.OK, evidence.OK, evidence.Fail), "[tcp4 wss relay]"},
		{results(evidence.Blind, evidence.OK, evidence.Skipped), "[]"},
	} {
		if got := fmt.Sprint(Needed(test.attempt)); got != test.want {
			t.Errorf("%+v needs %s, want %s", test.attempt.Results, got, test.want)
		}
	}
}

func TestParseControl(t *testing.T) {
	h, err := ParseControl("one", "/ip4/1.1.1.1/tcp/443", "/dns4/one.one.one.one/tcp/443/wss")
	if err != nil || h.PeerID != "" || h.with(h.TCP4) != "/ip4/1.1.1.1/tcp/443" || h.with(h.WSS) != "/dns4/one.one.one.one/tcp/443/wss" {
		t.Errorf("%+v %v", h, err)
	}
	h, err = ParseControl("two", "/ip4/1.1.1.1/tcp/4001/p2p/"+idA)
	if id, _ := peer.Decode(idA); err != nil || h.PeerID != id {
		t.Errorf("%+v %v", h, err)
	}
	for _, addrs := range [][]string{nil, {"/ip4/1.1.1.1"}, {"/dns4/a/tcp/1"}, {"/ip4/1.1.1.1/tcp/1/p2p/" + idA, "/dns4/a/tcp/1/wss/p2p/" + idB}} {
		if h, err := ParseControl("three", addrs...); err == nil || !strings.HasPrefix(err.Error(), "control three: ") {
			t.Errorf("%q: %+v %v", addrs, h, err)
		}
	}
}

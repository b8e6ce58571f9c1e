package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/internal/coord"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
)

// nasty is a name that a terminal would obey.
const nasty = "\x1b[31m\nrelay"

// crowd is a part of the network on loopback: a router that is heard through, and
// behind it a good relay, one that claims nothing of use, and a peer that is none.
type crowd struct {
	router          host.Host
	good, bad, none peer.ID
}

func newCrowd(t *testing.T) crowd {
	t.Helper()
	router := member(t, nil, coord.Announcement{Type: "node.js"})
	c := crowd{router: router}
	c.good = member(t, router, coord.Announcement{
		IsCircuitRelay: true, Type: "node.js",
		CircuitRelayInfo: coord.RelayInfo{IP4: "198.41.0.4", TCPPort: 4001, CRDomain: "Relay.example.org"},
		JSONLD:           coord.JSONLD{Name: "my-relay", Version: "1.2.3"},
		Multiaddrs:       []string{"/ip4/198.41.0.4/udp/4001/quic-v1"},
	}).ID()
	c.bad = member(t, router, coord.Announcement{
		IsCircuitRelay: true, Type: "node.js",
		CircuitRelayInfo: coord.RelayInfo{IP4: "10.0.0.1\n" + nasty, TCPPort: 4001, CRDomain: "relay"},
		JSONLD:           coord.JSONLD{Name: nasty},
		Multiaddrs:       []string{nasty},
	}).ID()
	c.none = member(t, router, coord.Announcement{Type: "browser"}).ID()
	return c
}

// member is a peer of the network that announces itself, to those that come and
// go at router.
func member(t *testing.T, router host.Host, a coord.Announcement) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay(), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	ps, err := coord.NewPubSub(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	topic, err := ps.Join(coord.Topic)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := topic.Subscribe(); err != nil {
		t.Fatal(err)
	}
	if router != nil {
		if err := h.Connect(t.Context(), peer.AddrInfo{ID: router.ID(), Addrs: router.Addrs()}); err != nil {
			t.Fatal(err)
		}
	}
	go func() { // again and again: what is said before a newcomer is in the mesh passes it by
		for {
			a.PeerID, a.BroadcastedAt = h.ID(), time.Now()
			data, err := a.Encode()
			if err != nil {
				t.Error(err)
				return
			}
			if topic.Publish(t.Context(), data) != nil {
				return
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-t.Context().Done():
				return
			}
		}
	}()
	return h
}

func (c crowd) via() string { return c.router.Addrs()[0].String() + "/p2p/" + c.router.ID().String() }

// until calls stop when all the words were written to it.
type until struct {
	mu    sync.Mutex
	seen  strings.Builder
	words []string
	stop  func()
}

func (u *until) Write(b []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen.Write(b)
	for _, w := range u.words {
		if !strings.Contains(u.seen.String(), w) {
			return len(b), nil
		}
	}
	u.stop()
	return len(b), nil
}

// discover runs the command until it has told of both relays, or a minute.
func (c crowd) discover(t *testing.T, cmd discoverCmd) string {
	t.Helper()
	cmd.Via, cmd.Wait = []string{c.via()}, time.Minute
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var stdout bytes.Buffer
	progress := &until{words: []string{"heard " + c.good.String(), "heard " + c.bad.String()}, stop: interrupt}
	cmd.AllowPrivate = true // the router stands on loopback
	if err := cmd.Run(ctx, &cli.IO{Stdout: &stdout, Stderr: progress}); err != nil {
		t.Fatalf("%v\n%s", err, progress.seen.String())
	}
	for _, text := range []string{progress.seen.String(), stdout.String()} {
		if strings.Contains(text, "\x1b") {
			t.Errorf("a stranger's words reach the terminal:\n%q", text)
		}
	}
	return stdout.String()
}

func TestDiscover(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	text := c.discover(t, discoverCmd{})
	for _, want := range []string{
		c.good.String() + "\n  says it is \"my-relay\", version \"1.2.3\"; heard 20",
		"try it: relaymon probe /ip4/198.41.0.4/tcp/4001/p2p/" + c.good.String() + " /dns4/relay.example.org/tcp/443/wss/p2p/" + c.good.String(),
		"/ip4/198.41.0.4/udp/4001/quic-v1",
		c.bad.String(), `\x1b[31m`, "cannot be enrolled as it stands:\n    ipv4: want an IPv4 address", "    domain: want a DNS name",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("not printed: %s\n%s", want, text)
		}
	}
}

func TestDiscoverJSON(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	var claims []claim
	if err := json.Unmarshal([]byte(c.discover(t, discoverCmd{JSON: true})), &claims); err != nil {
		t.Fatal(err)
	}
	if len(claims) != 2 {
		t.Fatalf("%+v", claims)
	}
	for _, got := range claims {
		switch got.PeerID {
		case c.good.String():
			if got.Name != "my-relay" || got.Version != "1.2.3" || got.IPv4 != "198.41.0.4" || got.TCPPort != 4001 || got.Domain != "relay.example.org" ||
				got.WSSPort != 443 || len(got.Multiaddrs) != 1 || got.Heard.IsZero() || got.InRoster != nil || len(got.Faults) != 0 {
				t.Errorf("%+v", got)
			}
		case c.bad.String():
			if got.Name != nasty || len(got.Faults) != 2 {
				t.Errorf("%+v", got)
			}
		default:
			t.Errorf("%s is no relay", got.PeerID)
		}
	}
}

// What --yaml prints is the rest of a roster, once the committee says who operates
// the relay.
func TestDiscoverYAML(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	entries := c.discover(t, discoverCmd{YAML: true})
	roster := "version: 1\nnetwork: psf\nrelays:\n" + entries
	if _, _, err := bounty.OpenRoster("roster", []byte(roster), ""); err == nil || !strings.Contains(err.Error(), "operator: want who runs it") {
		t.Errorf("without an operator: %v", err)
	}
	r, _, err := bounty.OpenRoster("roster", []byte(strings.Replace(roster, `operator: ""`, "operator: alice", 1)), "")
	if err != nil {
		t.Fatalf("%v\n%s", err, roster)
	}
	if len(r.Relays) != 1 || r.Relays[0].PeerID != c.good.String() || r.Relays[0].Enrolled <= evidence.HourOf(time.Now().Add(-time.Minute)) {
		t.Errorf("%+v", r.Relays)
	}
	if !strings.Contains(entries, "# "+c.bad.String()+" cannot be enrolled as it stands: ipv4: want") {
		t.Errorf("not told why a relay is missing:\n%s", entries)
	}
}

// A peer that does not say it is a relay is heard, and not listed.
func TestDiscoverListsRelaysOnly(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	d, err := (&discoverCmd{Via: []string{c.via()}, AllowPrivate: true, Wait: time.Minute}).read()
	if err != nil {
		t.Fatal(err)
	}
	l, err := probe.NewListener(nil, d.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Watch(d.via)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	all := []peer.ID{c.good, c.bad, c.none, c.router.ID()}
	for _, id := range all {
		if _, ok := l.Wait(ctx, id); !ok {
			t.Fatalf("%s was not heard", id)
		}
	}
	if l.Connected() != 1 {
		t.Errorf("connected to %d peers, want the router", l.Connected())
	}
	done, stop := context.WithCancel(ctx)
	stop()
	if claims := d.listen(done, l, new(bytes.Buffer)); len(claims) != 2 {
		t.Errorf("of %d peers these are listed: %+v", len(all), claims)
	}
}

// Where an announcement does not say where the relay is found, its multiaddrs do:
// the first public address, and the port of a secure websocket that is not 443.
func TestClaimByMultiaddrs(t *testing.T) {
	h := startRelay(t, nil, "/ip4/127.0.0.1/tcp/0")
	id := h.ID().String()
	d := discovery{network: evidence.PSF, roster: &bounty.Roster{Relays: []bounty.Relay{{PeerID: id}}}}
	got := d.claim(coord.Heard{At: time.Now(), Announcement: coord.Announcement{PeerID: h.ID(), IsCircuitRelay: true, Multiaddrs: []string{
		"/ip4/127.0.0.1/tcp/4002/p2p/" + id, "/ip4/198.41.0.4/tcp/4001/p2p/" + id,
		"/ip4/198.41.0.5/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
		"/dns4/relay.example.org/tcp/8443/tls/ws/p2p/" + id,
	}}})
	if got.IPv4 != "198.41.0.4" || got.TCPPort != 4001 || got.Domain != "relay.example.org" || got.WSSPort != 8443 || len(got.Faults) != 0 || got.InRoster == nil || !*got.InRoster {
		t.Errorf("%+v", got)
	}
}

// What was handed in wrong is told at once, and so is that nobody was heard.
func TestDiscoverScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/discover"})
}

// A domain is asked for the addresses of its relay; a page that somebody else may have
// written says nothing.
func TestViaDomain(t *testing.T) {
	ca := newAuthority(t)
	h := startRelay(t, nil, "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws")
	addrs := func(wss string) []string { return []string{tcp4Of(h), wss} }
	for want, until := range map[string]time.Time{"": ca.root.NotAfter, "the certificate has expired (cert-expired)": time.Now().Add(-time.Minute)} {
		site := startSite(t, ca.leaf(t, until), h, addrs)
		d, err := (&discoverCmd{Via: []string{site}, Wait: time.Second, AllowPrivate: true, Resolve: []string{"relay.test:127.0.0.1"}}).read()
		if err != nil {
			t.Fatal(err)
		}
		if d.opts.ExtraCAs, err = probe.ParseCAs(ca.pem); err != nil {
			t.Fatal(err)
		}
		switch err := d.find(t.Context()); {
		case want == "" && (err != nil || len(d.via) != 1 || d.via[0].PeerID != h.ID() || d.via[0].TCP4 == nil || d.via[0].WSS == nil):
			t.Errorf("got %v, %v; want both addresses of %s", d.via, err, h.ID())
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || len(d.via) != 0):
			t.Errorf("got %v, %v; want an error with %q", d.via, err, want)
		}
	}
}

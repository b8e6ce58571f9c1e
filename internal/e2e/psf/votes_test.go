package psf

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	libp2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/pebble"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
)

// How the relays that exist fare under the bounty's rules: relayd, the relay of
// go-libp2p as it comes, and helia-coord's own relay mode. Each is probed as a
// monitor does, with controls, and judged by the default rules.
func TestVotes(t *testing.T) {
	if !isolated(t) {
		return
	}
	t.Run("relayd", voteForRelayd)
	t.Run("go-libp2p", voteForGoLibp2p)
	t.Run("helia-coord", voteForHeliaCoord)
	t.Run("helia-coord without wss", voteForHeliaCoordWithoutWSS)
}

func voteForRelayd(t *testing.T) {
	m := newMonitor(t)
	ca, err := pebble.Start(t.Context(), pebble.Options{TLSPort: 443, Names: map[string]netip.Addr{domain: netip.MustParseAddr(relayIP)}})
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, ca.RootPEM, 0o644); err != nil {
		t.Fatal(err)
	}
	roots, err := probe.ParseCAs(ca.RootPEM)
	if err != nil {
		t.Fatal(err)
	}
	m.opts.ExtraCAs = append(m.opts.ExtraCAs, roots...)
	r := newRelay(t, map[string]any{
		"domain": domain,
		"listen": listen(byTCP, byWSS),
		"acme":   map[string]any{"directory": ca.DirectoryURL, "ca_file": root},
		"psf":    map[string]any{"bootstrap": []string{}, "bootstrap_list": ""},
	})
	r.start()
	until(t, time.Minute, "relayd has its certificate", func() bool {
		c, err := tls.Dial("tcp", relayIP+":443", &tls.Config{ServerName: domain, InsecureSkipVerify: true}) // whose it is the probe sees
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	a, ballot := m.judge(t, relayAt(r.id, 4001, 443))
	want(t, a, evidence.LevelEchoed, "ok", "ok", "ok")
	if ballot.Value != bounty.Up || !ballot.WSS {
		t.Errorf("%+v, want up", ballot)
	}
}

func voteForGoLibp2p(t *testing.T) {
	m := newMonitor(t)
	h, err := libp2p.New(
		libp2p.ListenAddrStrings("/ip4/"+relayIP+"/tcp/0", "/ip4/"+relayIP+"/tcp/0/tls/ws"),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(websocket.New, websocket.WithTLSConfig(&tls.Config{Certificates: []tls.Certificate{m.certificate(t, domain)}})),
		libp2p.ForceReachabilityPublic(), libp2p.EnableRelayService(),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	until(t, time.Minute, "go-libp2p offers HOP", func() bool { return slices.Contains(h.Mux().Protocols(), proto.ProtoIDv2Hop) })
	relay := relayAt(h.ID().String(), 0, 0)
	for _, a := range h.Network().ListenAddresses() {
		port, err := a.ValueForProtocol(ma.P_TCP)
		if err != nil {
			continue // /p2p-circuit
		}
		into := &relay.TCPPort
		if _, err := a.ValueForProtocol(ma.P_WS); err == nil {
			into = &relay.WSSPort
		}
		if *into, err = strconv.Atoi(port); err != nil {
			t.Fatal(err)
		}
	}
	a, ballot := m.judge(t, relay)
	want(t, a, evidence.LevelEchoed, "ok", "ok", "ok")
	if ballot.Value != bounty.Up || !ballot.WSS {
		t.Errorf("%+v, want up", ballot)
	}
}

// helia-coord as a relay, with the TLS in front that its operators put there for
// browsers. It lets one reserve and connect; then 256 bytes end every circuit
// within the handshake. That is the relay's fault and the hour's vote is down.
func voteForHeliaCoord(t *testing.T) {
	m := newMonitor(t)
	carol := newPeer(t, peerConfig{Name: "carol", TCPPort: 4001, WSPort: 4003, IP: relayIP, Relay: true, Seeds: []string{nobody}, Seconds: fast})
	terminateTLS(t, m.certificate(t, domain), relayIP+":443", relayIP+":4003")
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m.opts.ProbeKey = key
	relay := relayAt(carol.id, 4001, 443)
	a, ballot := m.judge(t, relay)
	want(t, a, evidence.LevelConnected, "ok", "ok", "fail limit-too-small")
	// It means two minutes: js-libp2p sends milliseconds where circuit v2 has seconds.
	if f := a.Facts; f.Reservation == nil || f.Reservation.LimitBytes != 256 || f.Reservation.LimitSeconds != 120_000 {
		t.Errorf("reservation %+v, want 256 bytes and 120,000 seconds", f.Reservation)
	}
	if ballot.Value != bounty.Down || !slices.Equal(ballot.Causes, []string{"relay limit-too-small"}) || !ballot.WSS {
		t.Errorf("%+v, want down for relay limit-too-small alone", ballot)
	}

	// Its places leak: nobody is there any more, the place is still held. An identity
	// that comes again takes no second one.
	var places struct {
		Held      []string
		Connected int
	}
	id, err := libp2ppeer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	until(t, time.Minute, "the monitor's connections are gone", func() bool {
		if err := carol.call("places", nil, &places); err != nil {
			t.Fatal(err)
		}
		return places.Connected == 0
	})
	if !slices.Equal(places.Held, []string{id.String()}) {
		t.Errorf("after two attempts with one identity these hold places: %v, want %s alone", places.Held, id)
	}

	// With all 15 places taken by peers that have left, a stranger finds it busy.
	to, err := libp2ppeer.AddrInfoFromString(byTCP[0] + "/p2p/" + carol.id)
	if err != nil {
		t.Fatal(err)
	}
	for range 14 {
		h, err := libp2p.New(libp2p.NoListenAddrs)
		if err != nil {
			t.Fatal(err)
		}
		until(t, time.Minute, "a guest takes a place", func() bool { // js-libp2p takes 5 connections a second from one address
			_, err := client.Reserve(t.Context(), h, *to)
			return err == nil
		})
		h.Close()
	}
	time.Sleep(2 * time.Second) // so that the guests' connections are not counted with the stranger's
	m.opts.ProbeKey = nil
	a, ballot = m.judge(t, relay)
	want(t, a, evidence.LevelNone, "ok", "ok", "busy reserve-refused")
	if ballot.Value != bounty.Busy || !slices.Equal(ballot.Causes, []string{"relay reserve-refused"}) {
		t.Errorf("%+v, want busy for relay reserve-refused alone", ballot)
	}
}

// As it comes, it speaks no TLS: nothing answers where browsers look. A look over
// tcp4 alone finds the same limit, and says that wss was not asked for; such
// attempts can count against the relay, never for it.
func voteForHeliaCoordWithoutWSS(t *testing.T) {
	m := newMonitor(t)
	carol := newPeer(t, peerConfig{Name: "carol-tcp", TCPPort: 4001, WSPort: 4003, IP: relayIP, Relay: true, Seeds: []string{nobody}, Seconds: fast})
	relay := relayAt(carol.id, 4001, 443)
	a, ballot := m.judge(t, relay)
	want(t, a, evidence.LevelNone, "ok", "fail refused", "skipped below-failed")
	if ballot.Value != bounty.Down || !slices.Equal(ballot.Causes, []string{"wss refused"}) || ballot.WSS {
		t.Errorf("%+v, want down for wss refused alone", ballot)
	}

	m.tcp4Only = true
	a, ballot = m.judge(t, relay)
	want(t, a, evidence.LevelConnected, "ok", "skipped not-asked", "fail limit-too-small")
	if ballot.Value != bounty.Down || !slices.Equal(ballot.Causes, []string{"relay limit-too-small"}) || ballot.WSS {
		t.Errorf("over tcp4 alone: %+v, want down for relay limit-too-small alone", ballot)
	}
}

// nobody is a bootstrap peer that is not there; helia-coord wants one.
const nobody = "/ip4/127.0.0.3/tcp/4001/p2p/12D3KooWEBzgK8a5TpMfLotuj7jJnEK41gbD9LZK6qCpxNrX43E9"

func relayAt(id string, tcpPort, wssPort int) *bounty.Relay {
	return &bounty.Relay{PeerID: id, Operator: "another", Address: bounty.Address{IPv4: relayIP, TCPPort: tcpPort, Domain: domain, WSSPort: wssPort}}
}

// monitor probes and judges as relaymon does.
type monitor struct {
	opts     probe.Options
	controls []probe.ControlHost
	roster   *bounty.Roster
	tcp4Only bool

	root *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newMonitor has a CA of its own and three control hosts with its certificates.
func newMonitor(t *testing.T) *monitor {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := &monitor{key: key, roster: &bounty.Roster{Network: evidence.Lab}}
	m.root = m.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	m.opts = probe.Options{
		AllowPrivate: true, ExtraCAs: []*x509.Certificate{m.root}, Pace: probe.NewPace(time.Second),
		Resolve: map[string]netip.Addr{domain: netip.MustParseAddr(relayIP)},
	}
	for i := range 3 {
		name, ip := fmt.Sprintf("control%d.test", i), netip.AddrFrom4([4]byte{127, 0, 0, byte(11 + i)})
		l, err := net.Listen("tcp4", netip.AddrPortFrom(ip, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.NotFoundHandler(), ErrorLog: log.New(io.Discard, "", 0)}, TLS: &tls.Config{Certificates: []tls.Certificate{m.certificate(t, name)}}}
		s.StartTLS()
		t.Cleanup(s.Close)
		port := netip.MustParseAddrPort(l.Addr().String()).Port()
		host := bounty.ControlHost{Name: name, Operator: name, TCP4: fmt.Sprintf("/ip4/%s/tcp/%d", ip, port), WSS: fmt.Sprintf("/dns4/%s/tcp/%d/wss", name, port)}
		control, err := probe.ParseControl(name, host.TCP4, host.WSS)
		if err != nil {
			t.Fatal(err)
		}
		m.opts.Resolve[name] = ip
		m.controls = append(m.controls, control)
		m.roster.Controls = append(m.roster.Controls, host)
	}
	return m
}

func (m *monitor) sign(t *testing.T, cert *x509.Certificate) *x509.Certificate {
	t.Helper()
	parent := m.root
	if parent == nil {
		parent = cert
	}
	cert.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<62))
	cert.NotBefore, cert.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, m.key.Public(), m.key)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func (m *monitor) certificate(t *testing.T, name string) tls.Certificate {
	t.Helper()
	leaf := m.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, m.root.Raw}, PrivateKey: m.key}
}

// judge makes an hour's attempts, as many as its outcome asks for, and returns the
// last and the vote. A second attempt is dated as the schedule would have it: this
// test does not wait.
func (m *monitor) judge(t *testing.T, relay *bounty.Relay) (evidence.Attempt, bounty.Ballot) {
	t.Helper()
	m.roster.Relays = []bounty.Relay{*relay}
	rec := &evidence.Record{PeerID: relay.PeerID}
	for i := range bounty.Defaults().DownAttempts {
		tcp4, wss := relay.Multiaddrs(relay.PeerID)
		addrs := []string{tcp4, wss}
		if m.tcp4Only {
			addrs = addrs[:1]
		}
		target, err := probe.ParseTarget(addrs)
		if err != nil {
			t.Fatal(err)
		}
		a := probe.Run(t.Context(), target, m.opts)
		if needed := probe.Needed(a); len(needed) > 0 {
			a.Controls = probe.Controls(t.Context(), m.controls, needed, m.opts)
		}
		for _, r := range a.Rungs {
			t.Logf("%-8s %s %s %s", r.Name, r.Outcome, r.Class, r.Detail)
		}
		later := time.Duration(i) * bounty.Defaults().DownSpacing
		a.Started = evidence.TimeOf(a.Started.Add(later))
		for k := range a.Controls {
			a.Controls[k].Started = evidence.TimeOf(a.Controls[k].Started.Add(later))
		}
		rec.Attempts = append(rec.Attempts, a)
		if a.Level == evidence.LevelEchoed {
			break
		}
	}
	rec.Hour = evidence.HourOf(rec.Attempts[0].Started.Time)
	ballot := bounty.VoteOf(bounty.Defaults(), m.roster, nil, &m.roster.Relays[0], rec, nil)
	t.Logf("vote %s %s %v", ballot.Value, ballot.Why, ballot.Causes)
	return rec.Attempts[len(rec.Attempts)-1], ballot
}

// want compares an attempt's level and the outcomes of tcp4, wss and relay.
func want(t *testing.T, a evidence.Attempt, level evidence.Level, outcomes ...string) {
	t.Helper()
	if a.Level != level {
		t.Errorf("level %d, want %d", a.Level, level)
	}
	for i, c := range evidence.Components {
		got := string(a.Results[c].Outcome)
		if class := a.Results[c].Class; class != "" {
			got += " " + string(class)
		}
		if got != outcomes[i] {
			t.Errorf("%s: %s, want %s", c, got, outcomes[i])
		}
	}
}

// terminateTLS is the reverse proxy before a plain websocket.
func terminateTLS(t *testing.T, cert tls.Certificate, at, to string) {
	t.Helper()
	l, err := tls.Listen("tcp4", at, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := net.Dial("tcp4", to)
				if err != nil {
					return
				}
				defer out.Close()
				go func() {
					defer out.Close()
					_, _ = io.Copy(out, in)
				}()
				_, _ = io.Copy(in, out)
			}()
		}
	}()
}

package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	libp2phost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/coord"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
)

// refusals says, for each word of the table in relay/README.md that a monitor can meet,
// how a relay comes to refuse for that reason.
var refusals = map[string]struct {
	limits string
	reach  func(*standing)
}{
	"connections": {
		"connections: 16, reservations: 16, guest_reservations: 16",
		func(s *standing) { s.reserve(16) },
	},
	"connections_per_ip": {
		"connections_per_ip: 16",
		func(s *standing) { s.reserve(16) },
	},
	"connects_per_second": {
		"connections_per_ip: 16, connects_per_second: 1",
		func(s *standing) { // each second one gets in, but seldom the probe
			for range 4 {
				s.while(func() { s.dial(func(net.Conn) {}) })
			}
		},
	},
	"unfinished": {
		"connections_per_ip: 32",
		func(s *standing) {
			for range 12 {
				s.while(func() { s.dial(func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }) })
			}
		},
	},
	"banned": {"", func(s *standing) { s.run("relayd", "ban", "--config", s.config, everybody) }},
	"requests": {"", func(s *standing) {
		for range 40 { // of which each may ask 64 times, and then twice a second
			h := s.client()
			s.while(func() {
				c, err := h.NewStream(s.t.Context(), s.relay.ID, proto.ProtoIDv2Hop)
				if err != nil {
					return
				}
				_, _ = c.Write([]byte{2, 8, 0}) // RESERVE
				_, _ = io.Copy(io.Discard, c)   // until the answer has come
				_ = c.Reset()
			})
		}
	}},
	"month_budget":        {"month: 1MB", nil}, // spent before the start
	"reservations":        {"reservations: 1, guest_reservations: 1", func(s *standing) { s.join(s.reserve(1)[0]) }},
	"guest_reservations":  {"guest_reservations: 0", nil},
	"reservations_per_ip": {"reservations_per_ip: 1", func(s *standing) { s.reserve(1) }},
	"circuits":            {"circuits: 1, guest_circuits: 1, guest_circuit_time: 1h", func(s *standing) { s.circuit() }},
	"guest_circuits":      {"guest_circuits: 0", nil},
	"circuits_per_ip":     {"circuits_per_ip: 1", func(s *standing) { s.circuit() }},
	"ip_budget": {"ip_day: 64KiB", func(s *standing) {
		c := s.circuit()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := c.Write(make([]byte, 1<<20)); err == nil {
			_, err = io.Copy(io.Discard, c)
			s.t.Logf("after more than the budget: %v", err)
		}
	}},
}

// The table says what a monitor sees when a relay refuses it, and how it votes. Each
// row is tried on the programs as they are, in a network without exempt addresses.
func TestRefusals(t *testing.T) {
	if !isolated(t) {
		return
	}
	var rows []row
	for _, cells := range table(t, "| Word | Limit that is reached | The peer is told | `relaymon probe` | Vote |") {
		rows = append(rows, readRow(t, cells))
	}
	if len(rows) != len(refusals) {
		t.Errorf("the table has %d rows, this test %d", len(rows), len(refusals))
	}
	ca := newAuthority(t)
	for i, r := range rows {
		t.Run(r.word, func(t *testing.T) {
			how, ok := refusals[r.word]
			if !ok {
				t.Fatal("this test does not know how to come to this refusal")
			}
			s := ca.standing(t, i+1, "debug", how.limits)
			if r.word == "month_budget" {
				write(t, filepath.Join(s.data, "traffic.json"), fmt.Sprintf(`{"month":%q,"bytes":1000000}`, time.Now().UTC().Format("2006-01")))
			}
			s.start()
			if how.reach != nil {
				how.reach(s)
			}
			// What fills a limit takes its time, and now and then a probe slips through.
			var got seen
			for end := time.Now().Add(90 * time.Second); ; {
				got = s.probe()
				if fault := r.compare(got, s.refused(r.word)); fault == "" {
					break
				} else if time.Now().After(end) {
					t.Fatalf("%s; the probe: %s", fault, got.raw)
				}
			}
			if !strings.Contains(s.log(), "msg=refused reason="+r.word+" ") {
				t.Errorf("the log at level debug does not say reason=%s", r.word)
			}
			if ballot := s.vote(got); ballot.Value.String() != r.vote {
				t.Errorf("the vote is %s %s %v, the table says %s", ballot.Value, ballot.Why, ballot.Causes, r.vote)
			}
		})
	}
}

// The smallest limits that the configuration takes let a monitor through.
func TestSmallestLimits(t *testing.T) {
	if !isolated(t) {
		return
	}
	s := newAuthority(t).standing(t, 100, "debug", `connections_per_ip: 16, connects_per_second: 1, reservations: 1, guest_reservations: 1,
  reservations_per_ip: 1, circuits: 1, guest_circuits: 1, circuits_per_peer: 1, circuits_per_ip: 1,
  guest_circuit_data: 16KiB, guest_circuit_time: 10s, peer_day: 64KiB, ip_day: 64KiB`)
	s.start()
	got := s.probe()
	if ballot := s.vote(got); ballot.Value != bounty.Up {
		t.Errorf("the vote is %s %v, want up: %s", ballot.Value, ballot.Causes, got.raw)
	}
}

// So many connections README.md counts for one monitor, and so many monitors may stand
// behind one address whatever coincides.
const (
	perMonitor    = 5
	monitorsAtOne = 8
)

// Monitors behind one address, with the default limits: each listens, looks, and takes
// the relay for a control, all at once. None is refused.
func TestMonitorsBehindOneAddress(t *testing.T) {
	if !isolated(t) {
		return
	}
	ca := newAuthority(t)
	s := ca.standing(t, 101, "debug", "")
	s.start()
	target, err := probe.ParseTarget(s.addrs())
	if err != nil {
		t.Fatal(err)
	}
	roots, err := probe.ParseCAs(ca.pem)
	if err != nil {
		t.Fatal(err)
	}
	look := func(pace time.Duration) (probe.Options, func() (evidence.Attempt, []evidence.Control)) {
		o := probe.Options{ExtraCAs: roots, AllowPrivate: true, Resolve: map[string]netip.Addr{s.domain: s.ip}, Pace: probe.NewPace(pace)}
		l, err := probe.NewListener(nil, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		o.Listener = l
		return o, func() (evidence.Attempt, []evidence.Control) {
			l.Watch([]probe.Target{target})
			var wg sync.WaitGroup
			var a evidence.Attempt
			var controls []evidence.Control
			wg.Go(func() { a = probe.Run(t.Context(), target, o) })
			wg.Go(func() {
				controls = probe.Controls(t.Context(), []probe.ControlHost{{Name: "relay", Target: target}}, []evidence.Component{evidence.TCP4, evidence.WSS}, o)
			})
			wg.Wait()
			s.until("the listener is connected", func() bool { return l.Connected() == 1 })
			return a, controls
		}
	}
	good := func(a evidence.Attempt, controls []evidence.Control) {
		if a.Level != evidence.LevelEchoed {
			t.Errorf("a monitor came to level %d: %+v", a.Level, a.Rungs)
		}
		for _, c := range controls {
			if c.Outcome != evidence.OK {
				t.Errorf("a control: %+v", c)
			}
		}
	}
	_, first := look(0)
	good(first())
	// A control may be over before its handshake is, and is not counted then.
	if got := s.metric(`libp2p_swarm_connections_opened_total{dir="inbound",`); got < 3 || got > perMonitor {
		t.Errorf("one monitor made %v connections, README.md counts %d at most", got, perMonitor)
	}
	var wg sync.WaitGroup
	for range monitorsAtOne - 1 {
		_, again := look(0) // and no pace, as if there were more monitors
		wg.Go(func() { good(again()) })
	}
	wg.Wait()
	if got := s.metric("relayd_refused_total"); got != 0 {
		t.Errorf("%v refusals, want none", got)
	}
}

// row is one line of the table.
type row struct {
	word, vote string
	statuses   []int
	rungs      []string
	class      evidence.Class
}

var (
	quoted = regexp.MustCompile("`([^`]+)`")
	status = regexp.MustCompile(`\((\d{3})\)`)
)

func readRow(t *testing.T, cells []string) (r row) {
	t.Helper()
	words := func(cell string) (out []string) {
		for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
			out = append(out, m[1])
		}
		return out
	}
	at, class, ok := strings.Cut(cells[3], ":")
	if len(words(cells[0])) != 1 || !ok || len(words(class)) != 1 {
		t.Fatalf("a row of another form: %q", cells)
	}
	r = row{word: words(cells[0])[0], vote: cells[4], rungs: words(at), class: evidence.Class(words(class)[0])}
	for _, m := range status.FindAllStringSubmatch(cells[2], -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		r.statuses = append(r.statuses, n)
	}
	return r
}

// table reads the cells of the table under this head in relay/README.md.
func table(t *testing.T, head string) (rows [][]string) {
	t.Helper()
	_, rest, ok := strings.Cut(string(read(t, filepath.Join("..", "..", "relay", "README.md"))), head+"\n")
	if !ok {
		t.Fatalf("relay/README.md has no table %s", head)
	}
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			break
		}
		if strings.HasPrefix(line, "|---") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}

// compare says what is not as in the table; empty: nothing.
func (r row) compare(got seen, refused float64) string {
	for _, g := range got.Rungs {
		wanted := slices.Contains(r.rungs, g.Name)
		switch {
		case wanted && g.Class != r.class:
			return fmt.Sprintf("%s: %s %s, the table says %s", g.Name, g.Outcome, g.Class, r.class)
		case !wanted && g.Outcome != evidence.OK && g.Class != evidence.BelowFailed:
			return fmt.Sprintf("%s: %s %s, of which the table says nothing", g.Name, g.Outcome, g.Class)
		}
	}
	told := max(got.Facts.HopReserve, got.Facts.HopConnect) // the refused one is above OK
	if ok := slices.Contains(r.statuses, int(told)) || told == 0 && len(r.statuses) == 0; !ok {
		return fmt.Sprintf("told status %d, the table says %v", told, r.statuses)
	}
	if refused == 0 {
		return "not counted under reason=" + r.word
	}
	return ""
}

// seen is what `relaymon probe --json` prints.
type seen struct {
	raw        string
	PeerID     string        `json:"peer_id"`
	Started    evidence.Time `json:"started"`
	TCP4Addr   string        `json:"tcp4_addr"`
	WSSAddr    string        `json:"wss_addr"`
	Components map[evidence.Component]struct {
		Outcome evidence.Outcome `json:"outcome"`
		Class   evidence.Class   `json:"class"`
		Level   evidence.Level   `json:"level"`
	} `json:"components"`
	Rungs []struct {
		Name    string           `json:"name"`
		Outcome evidence.Outcome `json:"outcome"`
		Class   evidence.Class   `json:"class"`
	} `json:"rungs"`
	Facts evidence.Facts `json:"facts"`
}

// standing is the program relayd at an address of its own, and what stands around it.
type standing struct {
	t      *testing.T
	ip     netip.Addr
	domain string
	ca     *authority
	dir    string
	data   string
	config string
	relay  peer.AddrInfo
	ended  chan struct{}
}

const logFile = "relayd.log"

// standing prepares a relay.
func (a *authority) standing(t *testing.T, n int, logLevel, limits string) *standing {
	t.Helper()
	dir := t.TempDir()
	s := &standing{
		t: t, ip: netip.AddrFrom4([4]byte{198, 18, 1, byte(n)}), domain: fmt.Sprintf("relay%d.test", n), ca: a, dir: dir,
		data: filepath.Join(dir, "data"), config: filepath.Join(dir, "relayd.yaml"),
	}
	write(t, filepath.Join(dir, "ca.pem"), string(a.pem))
	a.issue(t, s.domain, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	write(t, s.config, fmt.Sprintf(`
data_dir: %s
domain: %s
listen: {tcp: [/ip4/%[3]s/tcp/4001], wss: [/ip4/%[3]s/tcp/443/tls/ws], quic: [], webtransport: [], webrtc: [], http: ""}
tls: {cert: %[4]s/cert.pem, key: %[4]s/key.pem}
network: {allow_private: true}
psf: {bootstrap: [], bootstrap_list: ""}
metrics: {listen: "%[3]s:9464"}
log: {level: %[5]s}
limits: {%[6]s}
`, s.data, s.domain, s.ip, dir, logLevel, limits))
	s.run("relayd", "init", "--config", s.config)
	id, err := peer.Decode(strings.TrimSpace(s.run("relayd", "id", "--config", s.config)))
	if err != nil {
		t.Fatal(err)
	}
	s.relay = peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/" + s.ip.String() + "/tcp/4001")}}
	return s
}

func (s *standing) run(program string, args ...string) string {
	s.t.Helper()
	out, err := exec.CommandContext(s.t.Context(), filepath.Join(bin, program), args...).Output()
	if err != nil {
		s.t.Fatalf("%s %v: %v %s", program, args, err, out)
	}
	return string(out)
}

// start starts the relay and waits until it is ready, without one connection to it.
func (s *standing) start() {
	s.t.Helper()
	log, err := os.Create(filepath.Join(s.dir, logFile))
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, "relayd"), "run", "--config", s.config)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.ended = make(chan struct{})
	go func() {
		defer close(s.ended)
		_ = cmd.Wait() // how it ended is in its log
		log.Close()
	}()
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-s.ended
		if s.t.Failed() {
			lines := strings.Split(strings.TrimSpace(s.log()), "\n")
			s.t.Logf("the end of the relay's log:\n%s", strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
	})
	s.until("the relay is ready", func() bool { return s.metric("relayd_ready") == 1 })
	// The service registers itself a moment later.
	s.until("the relay serves", func() bool {
		resp, err := http.Get("http://" + s.ip.String() + ":9464/healthz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func (s *standing) until(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(90 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("not within 90 s: %s", what)
		}
	}
}

func (s *standing) log() string {
	data, err := os.ReadFile(filepath.Join(s.dir, logFile))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// metric is the sum of the metrics whose lines begin so.
func (s *standing) metric(prefix string, with ...string) (sum float64) {
	resp, err := http.Get("http://" + s.ip.String() + ":9464/metrics")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, prefix) || slices.ContainsFunc(with, func(w string) bool { return !strings.Contains(line, w) }) {
			continue
		}
		fields := strings.Fields(line)
		if n, err := strconv.ParseFloat(fields[len(fields)-1], 64); err == nil {
			sum += n
		}
	}
	return sum
}

func (s *standing) refused(word string) float64 {
	return s.metric("relayd_refused_total", fmt.Sprintf("reason=%q", word))
}

// while repeats f until the test is over.
func (s *standing) while(f func()) {
	ctx, stop := context.WithCancel(s.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			f()
			time.Sleep(5 * time.Millisecond)
		}
	})
	s.t.Cleanup(func() {
		stop()
		wg.Wait()
	})
}

// dial makes a bare connection, which ends with the test at the latest.
func (s *standing) dial(use func(net.Conn)) {
	c, err := new(net.Dialer).DialContext(s.t.Context(), "tcp4", s.ip.String()+":4001")
	if err != nil {
		return
	}
	defer c.Close()
	stop := context.AfterFunc(s.t.Context(), func() { c.Close() })
	defer stop()
	use(c)
}

// everybody is the network of this test. The kernel chooses one address of it for all
// who dial, the probe and what is in its way.
const everybody = "198.18.0.0/15"

// client is a peer that is connected to the relay.
func (s *standing) client() libp2phost.Host {
	s.t.Helper()
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.Transport(tcp.NewTCPTransport), libp2p.Security(noise.ID, noise.New),
		libp2p.EnableRelay(), libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { h.Close() })
	s.until("a peer is connected", func() bool { return h.Connect(s.t.Context(), s.relay) == nil })
	return h
}

// reserve has n peers hold reservations.
func (s *standing) reserve(n int) (hosts []libp2phost.Host) {
	s.t.Helper()
	for range n {
		h := s.client()
		if _, err := client.Reserve(s.t.Context(), h, s.relay); err != nil {
			s.t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	return hosts
}

// join makes a peer a member of the PSF network.
func (s *standing) join(h libp2phost.Host) {
	s.t.Helper()
	ps, err := coord.NewPubSub(s.t.Context(), h)
	if err == nil {
		_, err = coord.Listen(ps, func(coord.Heard) {})
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// circuit is a stream through a circuit to a peer with a reservation, which reads what
// comes.
func (s *standing) circuit() network.Stream {
	s.t.Helper()
	const swallow = "/test/swallow"
	to, from := s.reserve(1)[0], s.client()
	to.SetStreamHandler(swallow, func(c network.Stream) {
		_, _ = io.Copy(io.Discard, c)
		_ = c.Reset()
	})
	through := ma.StringCast(s.relay.Addrs[0].String() + "/p2p/" + s.relay.ID.String() + "/p2p-circuit")
	if err := from.Connect(s.t.Context(), peer.AddrInfo{ID: to.ID(), Addrs: []ma.Multiaddr{through}}); err != nil {
		s.t.Fatal(err)
	}
	c, err := from.NewStream(network.WithAllowLimitedConn(s.t.Context(), "test"), to.ID(), swallow)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// addrs are the relay's two addresses.
func (s *standing) addrs() []string {
	return []string{s.relay.Addrs[0].String() + "/p2p/" + s.relay.ID.String(), "/dns4/" + s.domain + "/tcp/443/wss/p2p/" + s.relay.ID.String()}
}

// probe runs `relaymon probe` once.
func (s *standing) probe() (got seen) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), filepath.Join(bin, "relaymon"), append([]string{"probe", "--json", "--allow-private",
		"--ca", filepath.Join(s.dir, "ca.pem"), "--resolve", s.domain + ":" + s.ip.String()}, s.addrs()...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit := new(exec.ExitError); err != nil && (!errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).ExitStatus() != 1) {
		s.t.Fatalf("relaymon probe: %v %s", err, stderr.Bytes())
	}
	if err := json.Unmarshal(out, &got); err != nil {
		s.t.Fatalf("relaymon probe: %v: %s", err, out)
	}
	got.raw = string(out)
	return got
}

// vote is a monitor's, by the default rules, when two looks far enough apart were both
// like this one and its own line worked.
func (s *standing) vote(got seen) bounty.Ballot {
	const name, other = "control", "another"
	roster := &bounty.Roster{Network: evidence.Lab, Controls: []bounty.ControlHost{{Name: name, Operator: other, TCP4: "/ip4/198.18.0.9/tcp/1", WSS: "/dns4/control.test/tcp/1/wss"}}}
	relay := bounty.Relay{PeerID: got.PeerID, Operator: "somebody", Address: bounty.Address{IPv4: s.ip.String(), TCPPort: 4001, Domain: s.domain, WSSPort: 443}}
	roster.Relays = []bounty.Relay{relay}
	rules := bounty.Defaults()
	rec := &evidence.Record{PeerID: got.PeerID, Hour: evidence.HourOf(got.Started.Time)}
	for i := range rules.DownAttempts {
		a := evidence.Attempt{
			Started: evidence.TimeOf(got.Started.Add(time.Duration(i) * rules.DownSpacing)), PeerID: got.PeerID,
			TCP4Addr: got.TCP4Addr, WSSAddr: got.WSSAddr, Level: got.Components[evidence.Relay].Level, Results: map[evidence.Component]evidence.Result{},
		}
		for c, r := range got.Components {
			a.Results[c] = evidence.Result{Outcome: r.Outcome, Class: r.Class}
		}
		for _, c := range evidence.Components {
			n := name
			if c == evidence.Relay {
				n = bounty.LoopbackControl
			}
			a.Controls = append(a.Controls, evidence.Control{Name: n, Component: c, Started: a.Started, Outcome: evidence.OK})
		}
		rec.Attempts = append(rec.Attempts, a)
	}
	return bounty.VoteOf(rules, roster, nil, &relay, rec, nil)
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

// issue writes a certificate for a domain, and its key.
func (a *authority) issue(t *testing.T, domain, certFile, keyFile string) {
	t.Helper()
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: domain}, NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, DNSNames: []string{domain},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
}

package e2e

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	libp2pws "github.com/libp2p/go-libp2p/p2p/transport/websocket"
	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/monitor"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// envLossTable asks for the whole table, which takes an hour: see [TestLoss].
const envLossTable = "RELAY_LOSS_TABLE"

// lossRow says how many look, and how often. Three attempts at a relay make a vote.
type lossRow struct {
	percent         int
	healthy, broken int // monitors that look at healthy relays, and at each kind of those that are not
	times           int // attempts of each monitor at a healthy relay
}

var (
	// So few show the fault that rule R5 once had: of those at 35 % two thirds counted.
	someLoss = []lossRow{{35, 24, 0, 1}, {20, 24, 0, 1}, {0, 12, 3, 1}}
	allLoss  = []lossRow{{0, 12, 24, 3}, {1, 12, 24, 3}, {5, 68, 24, 3}, {10, 68, 24, 3}, {20, 68, 24, 3}, {35, 68, 24, 3}, {50, 68, 24, 3}}
)

// maxLossCounted is the loss up to which no failure of a healthy relay counts at all.
// No vote may be DOWN at any loss.
const maxLossCounted = 20

// lossAtOnce bounds how many monitors look at the same time.
const lossAtOnce = 40

// The monitor's own line loses packets, in each direction as many in a hundred as the
// subtest's name says, and the relays are well: no failure counts (rule R5). Relays,
// controls, the DNS server and the monitors are real, and so is the loss: nft drops
// every kind of packet on its way in, whoever sent it. Each monitor is a process: those
// of one process would share one another's lookups of names, and with these their luck.
//
// A relay on whose port nothing listens, and one that takes connections and says
// nothing, must count all the same where nothing is lost. Where packets are lost this
// table only says how often they do.
//
// "make loss-table" makes all the attempts, and prints the table in Markdown; to have
// one rate only: RELAY_LOSS_TABLE=1 go test -v -timeout 3h -run 'TestLoss/^35$' ./internal/e2e
func TestLoss(t *testing.T) {
	t.Parallel() // most of the time goes by in waiting
	rows, whole := someLoss, os.Getenv(envLossTable) != ""
	if whole {
		rows = allLoss
	}
	if os.Getenv(envPrograms) == "" { // once, outside the namespaces
		t.Cleanup(func() { t.Logf("\n%s", lossTable(t, rows)) })
	}
	for _, row := range rows {
		t.Run(strconv.Itoa(row.percent), func(t *testing.T) {
			if !whole {
				t.Parallel()
			}
			if isolated(t) {
				row.run(t)
			}
		})
	}
}

func (row lossRow) run(t *testing.T) {
	l := newLossLab(t)
	l.lose(row.percent)
	l.look(row.percent, row.plans(l, kinds...))
	// What must be seen where nothing is lost is looked for again: a machine that is
	// busy may make a control late, and the attempt is blind then.
	for range 10 {
		if again := slices.DeleteFunc(slices.Clone(kinds), l.sawAsItIs); row.percent == 0 && len(again) > 0 {
			l.look(row.percent, row.plans(l, again...))
		}
	}
	text := ""
	for _, kind := range kinds {
		sum := l.sums[kind]
		if sum.attempts == 0 {
			continue
		}
		text += sum.row(row.percent, kind)
		if kind == healthy && row.percent <= maxLossCounted && sum.counted > 0 {
			t.Errorf("%d %% loss: %d of %d attempts at healthy relays counted as failed, want none", row.percent, sum.counted, sum.attempts)
		}
		if kind == healthy && sum.votes[bounty.Down] > 0 {
			t.Errorf("%d %% loss: %d votes on healthy relays are DOWN, want none", row.percent, sum.votes[bounty.Down])
		}
		if row.percent == 0 && !l.sawAsItIs(kind) {
			t.Errorf("no loss: the votes on a %s relay are not what it is: %+v", kind, *sum)
		}
	}
	write(t, lossRows(row.percent), text)
	l.lose(0)
	for _, s := range l.started {
		for word := range refusals { // a lost packet ends a request for other reasons
			if n := s.refused(word); n != 0 {
				t.Errorf("relay %s refused for the reason %s %v times, want 0: this test's limits are too low to say anything", s.ip, word, n)
			}
		}
	}
}

// plans are those of the row for these kinds of relays.
func (row lossRow) plans(l *lossLab, kinds ...string) (plans []lossPlan) {
	for _, kind := range kinds {
		monitors, times := row.broken, 1
		if kind == healthy {
			monitors, times = row.healthy, row.times
		}
		for i := range monitors {
			plans = append(plans, lossPlan{kind, l.relays[kind][i%len(l.relays[kind])], times})
		}
	}
	return plans
}

// sawAsItIs says whether there was a vote UP on a healthy relay, or DOWN on another one.
func (l *lossLab) sawAsItIs(kind string) bool {
	if kind == healthy {
		return l.sums[kind].votes[bounty.Up] > 0
	}
	return l.sums[kind].votes[bounty.Down] > 0
}

// lossRows is where the process inside the namespace leaves its part of the table: in
// the one folder that the one outside knows, too.
func lossRows(percent int) string {
	return filepath.Join(bin, fmt.Sprintf("loss-%d.md", percent))
}

func lossTable(t *testing.T, rows []lossRow) string {
	text := "| Loss | Relays | Attempts | Up | Failed | Counted | Votes: up | unknown | down | Median | Longest |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
	for _, row := range slices.SortedFunc(slices.Values(rows), func(a, b lossRow) int { return a.percent - b.percent }) {
		part, err := os.ReadFile(lossRows(row.percent))
		if err != nil && !errors.Is(err, os.ErrNotExist) { // not run, or not to its end
			t.Error(err)
		}
		text += string(part)
	}
	return text
}

// Kinds of relays.
const (
	healthy = "healthy"
	dead    = "dead"   // nothing listens
	silent  = "silent" // connections are taken, and that is all
)

var kinds = []string{healthy, dead, silent}

// lossLab is a network with relays, controls and a DNS server.
type lossLab struct {
	t        *testing.T
	ca       *authority
	from     evidence.Hour
	names    sync.Map // domain -> address
	started  []*standing
	relays   map[string][]bounty.Relay // by kind
	controls string                    // as the roster has them
	monitors int
	sums     map[string]*lossSum // by kind
}

func newLossLab(t *testing.T) *lossLab {
	t.Helper()
	need.Tools(t, "ip", "nft")
	l := &lossLab{t: t, ca: newAuthority(t), from: evidence.HourOf(time.Now()), relays: map[string][]bounty.Relay{},
		sums: map[string]*lossSum{healthy: {}, dead: {}, silent: {}}}
	// As on a line: a packet that is lost is one of 1,500 bytes.
	l.command("ip", "link", "set", "dev", "lo", "mtu", "1500", "gso_max_segs", "1")
	l.serveDNS()
	for n := range 5 {
		// All monitors have one address here, each attempt its own peer IDs.
		s := l.ca.standing(t, n+1, "info", `connections: 4000, connections_per_ip: 4000, connects_per_second: 4000, reservations: 4000, guest_reservations: 2000,
  reservations_per_ip: 2000, circuits: 4000, guest_circuits: 2000, circuits_per_ip: 2000`)
		s.start()
		l.started = append(l.started, s)
		l.names.Store(s.domain, s.ip.String())
		if n == 0 {
			l.control("relay", s.addrs()...)
		} else {
			l.relay(healthy, s.relay.ID, s.ip.String(), s.domain)
		}
	}
	l.startServer()
	l.startPeer()
	l.startBroken()
	return l
}

func (l *lossLab) command(name string, args ...string) string {
	l.t.Helper()
	out, err := exec.CommandContext(l.t.Context(), name, args...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// lose has so many in a hundred packets dropped. Each packet between two addresses of
// 198.18.0.0/15 goes from a monitor to a server or back, and comes in once; what a
// monitor does within its own process goes by way of 127.0.0.1. A packet that is
// dropped on its way out would not be lost but refused: its sender is told.
func (l *lossLab) lose(percent int) {
	l.t.Helper()
	script := filepath.Join(l.t.TempDir(), "loss.nft")
	write(l.t, script, fmt.Sprintf(`
table inet loss
delete table inet loss
table inet loss {
	counter sent { }
	counter lost { }
	chain in {
		type filter hook input priority 0
		ip saddr %[1]s counter name sent
		ip saddr %[1]s numgen random mod 100 < %[2]d counter name lost drop
	}
}
`, everybody, percent))
	l.command("nft", "-f", script)
}

// lost says how many packets were dropped.
func (l *lossLab) lost() string {
	return strings.Join(strings.Fields(l.command("nft", "list", "counters", "table", "inet", "loss")), " ")
}

// address gives a name an address.
func (l *lossLab) address(name, ip string) (domain string) {
	domain = name + ".test"
	l.names.Store(domain, ip)
	return domain
}

// serveDNS makes the system's resolver ask a DNS server over the line.
func (l *lossLab) serveDNS() {
	const server = "198.18.0.53"
	file := filepath.Join(l.t.TempDir(), "resolv.conf")
	write(l.t, file, "nameserver "+server+"\n")
	if err := unix.Mount(file, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		l.t.Fatalf("mount over /etc/resolv.conf: %v", err)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		for _, question := range q.Question {
			ip, ok := l.names.Load(strings.TrimSuffix(question.Name, "."))
			switch {
			case !ok:
				m.Rcode = dns.RcodeNameError
			case question.Qtype == dns.TypeA:
				m.Answer = append(m.Answer, &dns.A{
					Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
					A:   net.ParseIP(ip.(string)),
				})
			}
		}
		_ = w.WriteMsg(m) // who asked may be gone
	})
	packets, err := net.ListenPacket("udp4", server+":53")
	if err != nil {
		l.t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: l.listen(server + ":53"), Handler: handler}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go s.ActivateAndServe()
		<-started
		l.t.Cleanup(func() { _ = s.Shutdown() })
	}
}

func (l *lossLab) listen(addr string) net.Listener {
	l.t.Helper()
	listener, err := net.Listen("tcp4", addr)
	if err != nil {
		l.t.Fatal(err)
	}
	return listener
}

func (l *lossLab) relay(kind string, id peer.ID, ip, domain string) {
	l.relays[kind] = append(l.relays[kind], bounty.Relay{
		PeerID: id.String(), Operator: "somebody", Address: bounty.Address{IPv4: ip, TCPPort: 4001, Domain: domain, WSSPort: 443}, Enrolled: l.from,
	})
}

func (l *lossLab) control(name string, addrs ...string) {
	l.controls += fmt.Sprintf("  - {name: %s, operator: of-%[1]s, tcp4: %s, wss: %s}\n", name, addrs[0], addrs[1])
}

func (l *lossLab) tls(domain string) *tls.Config {
	l.t.Helper()
	dir := l.t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	l.ca.issue(l.t, domain, certFile, keyFile)
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		l.t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

// startServer starts a control that knows nothing of libp2p.
func (l *lossLab) startServer() {
	const ip = "198.18.2.1"
	domain := l.address("server", ip)
	s := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	go s.Serve(tls.NewListener(l.listen(ip+":443"), l.tls(domain)))
	l.t.Cleanup(func() { _ = s.Close() })
	l.control("server", "/ip4/"+ip+"/tcp/443", "/dns4/"+domain+"/tcp/443/wss")
}

// startPeer starts a control that is a libp2p peer, and no relay.
func (l *lossLab) startPeer() {
	const ip = "198.18.2.2"
	domain := l.address("peer", ip)
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/"+ip+"/tcp/4001", "/ip4/"+ip+"/tcp/443/tls/ws"),
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Transport(libp2pws.New, libp2pws.WithTLSConfig(l.tls(domain))),
		libp2p.Security(noise.ID, noise.New), libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = h.Close() })
	l.control("peer", "/ip4/"+ip+"/tcp/4001/p2p/"+h.ID().String(), "/dns4/"+domain+"/tcp/443/wss/p2p/"+h.ID().String())
}

// startBroken makes the relays that are not well.
func (l *lossLab) startBroken() {
	for kind, ip := range map[string]string{dead: "198.18.3.1", silent: "198.18.3.2"} {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			l.t.Fatal(err)
		}
		id, err := peer.IDFromPrivateKey(key)
		if err != nil {
			l.t.Fatal(err)
		}
		l.relay(kind, id, ip, l.address(kind, ip))
		if kind == dead {
			continue
		}
		for _, port := range []string{"4001", "443"} {
			listener := l.listen(ip + ":" + port)
			var taken []net.Conn // or they would be closed as garbage
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					taken = append(taken, conn)
				}
			}()
			l.t.Cleanup(func() { _ = listener.Close() })
		}
	}
}

// lossPlan is one monitor: so many attempts at one relay, one after the other.
type lossPlan struct {
	kind  string
	relay bounty.Relay
	times int
}

// lossSum is what became of the attempts.
type lossSum struct {
	attempts, up, failed, counted int
	votes                         [4]int // by value
	took                          []time.Duration
}

func (s *lossSum) row(percent int, kind string) string {
	slices.Sort(s.took)
	round := func(d time.Duration) time.Duration { return d.Round(time.Second) }
	return fmt.Sprintf("| %d %% | %s | %d | %d | %d | %d | %d | %d | %d | %s | %s |\n", percent, kind, s.attempts, s.up, s.failed, s.counted,
		s.votes[bounty.Up], s.votes[bounty.Unknown], s.votes[bounty.Down], round(s.took[len(s.took)/2]), round(s.took[len(s.took)-1]))
}

// look has the monitors look, and judges what is in their logs.
func (l *lossLab) look(percent int, plans []lossPlan) {
	l.t.Helper()
	type looked struct {
		config   string
		cfg      monitor.Config
		roster   *bounty.Roster
		took     []time.Duration
		attempts []evidence.Attempt
	}
	all := make([]looked, len(plans))
	for i, p := range plans {
		all[i].config, all[i].cfg = l.monitor(p.relay)
		var err error
		if all[i].roster, err = bounty.ParseRoster("roster", read(l.t, all[i].cfg.Roster)); err != nil {
			l.t.Fatal(err)
		}
	}
	var group errgroup.Group
	group.SetLimit(lossAtOnce)
	var mu sync.Mutex // over the sums
	var made atomic.Int64
	planned := 0
	for _, p := range plans {
		planned += p.times
	}
	for i, p := range plans {
		group.Go(func() (err error) {
			v := &all[i]
			v.took, err = lossAttempts(l.t.Context(), v.config, p.times, func() {
				l.t.Logf("%d %%: %d of %d attempts are made", percent, made.Add(1), planned)
			})
			if err == nil {
				v.attempts, err = logged(v.cfg)
			}
			if err == nil && len(v.attempts) != p.times {
				err = fmt.Errorf("%d attempts in the log, want %d", len(v.attempts), p.times)
			}
			if err != nil {
				return fmt.Errorf("monitor %s: %w", v.cfg.Name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			sum := l.sums[p.kind]
			for j, a := range v.attempts {
				sum.add(l.t, p, v.roster, a, v.took[j])
			}
			l.t.Logf("%d %%: %d attempts at %s relays: %d failed, %d counted", percent, sum.attempts, p.kind, sum.failed, sum.counted)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		l.t.Fatal(err)
	}
	lost := l.lost()
	l.t.Logf("%d %%: %s", percent, lost)
	if none := strings.Contains(lost, "counter lost { packets 0 "); none != (percent == 0) {
		l.t.Errorf("%d %% loss: %s", percent, lost)
	}

	// Three attempts at one relay are an hour's. Those of one monitor stand together.
	threes := map[string]*[]evidence.Attempt{}
	for i, p := range plans {
		for _, a := range all[i].attempts {
			three := cmp.Or(threes[a.PeerID], &[]evidence.Attempt{})
			threes[a.PeerID] = three
			if *three = append(*three, a); len(*three) == 3 {
				ballot := lossVote(bounty.Defaults().DownAttempts, all[i].roster, &p.relay, *three...)
				l.sums[p.kind].votes[ballot.Value]++
				if ballot.Value == bounty.Down && p.kind == healthy {
					l.t.Logf("a vote is DOWN: %v", ballot.Causes)
				}
				*three = nil
			}
		}
	}
}

// add counts an attempt.
func (s *lossSum) add(t *testing.T, p lossPlan, roster *bounty.Roster, a evidence.Attempt, took time.Duration) {
	s.attempts++
	s.took = append(s.took, took)
	ballot := lossVote(1, roster, &p.relay, a)
	switch ballot.Value {
	case bounty.Up:
		s.up++
		return
	case bounty.Down:
		s.counted++
	}
	s.failed++
	if (ballot.Value == bounty.Down) == (p.kind == healthy) { // the news
		text := fmt.Sprintf("an attempt at a %s relay: %s %s %v", p.kind, ballot.Value, ballot.Why, ballot.Causes)
		for _, r := range a.Rungs {
			text += fmt.Sprintf("\n  %s: %s %s %s", r.Name, r.Outcome, r.Class, r.Detail)
		}
		for _, c := range a.Controls {
			text += fmt.Sprintf("\n  control %+v", c)
		}
		t.Log(text)
	}
}

// lossVote judges attempts by the default rules, as if they lay as far apart as a
// monitor's do, which is always far enough for the rules.
func lossVote(downAttempts int, roster *bounty.Roster, relay *bounty.Relay, attempts ...evidence.Attempt) bounty.Ballot {
	rules := bounty.Defaults()
	rules.DownAttempts, rules.DownSpacing = downAttempts, 0
	slices.SortFunc(attempts, func(a, b evidence.Attempt) int { return a.Started.Compare(b.Started.Time) })
	rec := &evidence.Record{PeerID: relay.PeerID, Hour: evidence.HourOf(attempts[0].Started.Time), Attempts: attempts}
	return bounty.VoteOf(rules, roster, nil, relay, rec, nil)
}

// lossAttempts has the program make a monitor's attempts, and says how long each took.
func lossAttempts(ctx context.Context, config string, times int, made func()) (took []time.Duration, err error) {
	for range times {
		began := time.Now()
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "relaymon"), "once", "--config", config)
		cmd.Env = append(os.Environ(), "GODEBUG=netdns=go") // as where it is built without cgo
		out, err := cmd.CombinedOutput()
		if exit := new(exec.ExitError); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) { // 1: not all was ok
			return nil, fmt.Errorf("relaymon once: %w\n%s", err, out)
		}
		took = append(took, time.Since(began))
		made()
	}
	return took, nil
}

// logged reads the attempts from a monitor's log.
func logged(cfg monitor.Config) (attempts []evidence.Attempt, err error) {
	l, err := store.OpenRead(filepath.Join(cfg.DataDir, "log"))
	if err != nil {
		return nil, err
	}
	defer l.Close()
	for h := l.First(); h <= evidence.HourOf(time.Now()); h++ {
		records, err := l.Records(h)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			attempts = append(attempts, r.Attempts...)
		}
	}
	return attempts, nil
}

// monitor makes a monitor for one relay: so its attempts at others keep none waiting.
func (l *lossLab) monitor(relay bounty.Relay) (config string, cfg monitor.Config) {
	l.t.Helper()
	l.monitors++
	dir := l.t.TempDir()
	write(l.t, filepath.Join(dir, "ca.pem"), string(l.ca.pem))
	write(l.t, filepath.Join(dir, "rules.yaml"), "network: lab\n")
	file := filepath.Join(dir, "relaymon.yaml")
	write(l.t, file, fmt.Sprintf(`
name: m%d
network: lab
data_dir: data
roster: roster.yaml
rules: rules.yaml
listen: ""
browser: none
second_resolvers: []
lab: {ca: ca.pem}
`, l.monitors))
	cfg, err := monitor.LoadConfig(file)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := monitor.Init(cfg); err != nil {
		l.t.Fatal(err)
	}
	keys, err := monitor.Keys(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	write(l.t, cfg.Roster, fmt.Sprintf(`network: lab
monitors:
  - {name: %s, operator: another, log_key: %q, from: %s}
relays:
  - {peer_id: %s, operator: %s, ipv4: %s, tcp_port: %d, domain: %s, wss_port: %d, enrolled: %s}
controls:
%s`, cfg.Name, keys.LogKey, l.from, relay.PeerID, relay.Operator, relay.IPv4, relay.TCPPort, relay.Domain, relay.WSSPort, l.from, l.controls))
	return file, cfg
}

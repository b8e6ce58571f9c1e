package psf

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	libp2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/coord"
	"github.com/psf-relay/relay-appliance/internal/pebble"
)

// fast is the period of the peers' timers, in seconds, where it is not upstream's.
const fast = 4

// unmeasured is the latency by which helia-coord ranks a relay that never answered.
const unmeasured = 20000

// relay is the program relayd, which can be killed and started again.
type relay struct {
	*process
	t      *testing.T
	config string
	id     string
}

// newRelay prepares a relay; start starts it. The configuration is JSON, hence
// YAML too.
func newRelay(t *testing.T, config map[string]any) *relay {
	t.Helper()
	dir := t.TempDir()
	config["data_dir"] = filepath.Join(dir, "data")
	config["network"] = map[string]any{"allow_private": true}
	config["metrics"] = map[string]any{"listen": ""}
	config["log"] = map[string]any{"level": "debug"}
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{t: t, config: filepath.Join(dir, "relayd.yaml")}
	if err := os.WriteFile(r.config, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(os.Getenv(envRelayd), "init", "--config", r.config).CombinedOutput()
	if err != nil {
		t.Fatalf("relayd init: %v\n%s", err, out)
	}
	out, err = exec.Command(os.Getenv(envRelayd), "id", "--config", r.config).Output()
	if err != nil {
		t.Fatalf("relayd id: %v", err)
	}
	r.id = strings.TrimSpace(string(out))
	return r
}

func (r *relay) start() {
	r.t.Helper()
	r.process = start(r.t, "relayd", exec.Command(os.Getenv(envRelayd), "run", "--config", r.config))
}

// listen is where a relay listens that serves these addresses only.
func listen(tcp, wss []string) map[string]any {
	return map[string]any{"tcp": tcp, "wss": wss, "quic": []string{}, "webtransport": []string{}, "webrtc": []string{}, "http": ""}
}

var (
	byTCP = []string{"/ip4/" + relayIP + "/tcp/4001"}
	byWSS = []string{"/ip4/" + relayIP + "/tcp/443/tls/ws"}
)

// newSeed is where the peers meet: a router of the coordination topic that is no
// relay, and knows nobody's private topic.
func newSeed(t *testing.T) (h host.Host, addr string) {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.3/tcp/4001"), libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	ps, err := coord.NewPubSub(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := coord.Listen(ps, func(coord.Heard) {}); err != nil {
		t.Fatal(err)
	}
	return h, h.Addrs()[0].String() + "/p2p/" + h.ID().String()
}

// newPair starts two peers that know nobody but the seeds.
func newPair(t *testing.T, seconds int, seeds []string, env ...string) (alice, bob *peer) {
	t.Helper()
	var wg sync.WaitGroup
	for i, p := range []**peer{&alice, &bob} {
		wg.Go(func() {
			*p = newPeer(t, peerConfig{Name: []string{"alice", "bob"}[i], TCPPort: 5001 + 10*i, WSPort: 5002 + 10*i, Seeds: seeds, Seconds: seconds}, env...)
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return alice, bob
}

// story is what two peers of the network do with a relay that they have never
// heard of.
func story(t *testing.T, config map[string]any, seconds int, started func(r *relay), env ...string) {
	patience := 2 * time.Minute
	if seconds == 0 {
		patience = 6 * time.Minute
	}
	seed, seedAddr := newSeed(t)
	config["psf"] = map[string]any{"bootstrap": []string{seedAddr}, "bootstrap_list": ""}
	r := newRelay(t, config)
	begin := time.Now()
	alice, bob := newPair(t, seconds, []string{seedAddr}, env...)
	t.Logf("%8.1f s  both peers are up", time.Since(begin).Seconds())
	both := func(ok func(state) bool) func() bool {
		return func() bool { return ok(alice.state()) && ok(bob.state()) }
	}
	until(t, patience, "both peers are connected to the seed", both(func(s state) bool { return s.connected(seed.ID().String()) }))
	for _, p := range []*peer{alice, bob} {
		if s := p.state(); len(s.Relays) != 0 {
			t.Fatalf("%s knows relays before there is one: %+v", p.name, s.Relays)
		}
	}

	r.start()
	if started != nil {
		started(r)
	}
	until(t, patience, "both peers listed the relay, from its announcement", both(func(s state) bool { return len(s.Relays) == 1 && s.Relays[0].ID == r.id }))
	until(t, patience, "both peers hold a reservation", both(func(s state) bool { return s.reserved(r.id) }))
	if err := seed.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, patience, "the seed is gone: there is only the relay", both(func(s state) bool { return !s.connected(seed.ID().String()) }))

	together(t, r, alice, bob, patience)
	until(t, 2*patience, "both peers ranked the relay by a measured latency", both(func(s state) bool {
		last, score, ok := s.sample(r.id)
		return ok && last < unmeasured && score < unmeasured
	}))
	for _, p := range []*peer{alice, bob} {
		for _, l := range p.state().Relays {
			t.Logf("%8s    %s: samples %v ms, score %v, %s", "", p.name, l.Samples, l.Score, l.Addr)
		}
	}

	for _, p := range []*peer{alice, bob} {
		// A router whose message ids differ from theirs is thought to break its promises.
		if score, ok := p.state().Scores[r.id]; !ok || score < 0 {
			t.Errorf("%s: the relay's score in gossipsub is %v, %v, want at least 0", p.name, score, ok)
		}
	}

	r.kill()
	until(t, patience, "kill -9: both peers lost the reservation", both(func(s state) bool { return !s.connected(r.id) && !s.reserved(r.id) }))
	r.start()
	until(t, patience, "started again: both peers hold a reservation", both(func(s state) bool { return s.reserved(r.id) }))
	together(t, r, alice, bob, patience)
}

// together has two peers that hold reservations meet through the relay.
func together(t *testing.T, r *relay, alice, bob *peer, patience time.Duration) {
	t.Helper()
	until(t, patience, "they know each other", func() bool {
		return strings.Contains(fmt.Sprint(alice.state().Peers), bob.id) && strings.Contains(fmt.Sprint(bob.state().Peers), alice.id)
	})
	const size = 10 << 20
	var got struct {
		Bytes        int
		SHA256, Sent string
		Via          string
		Limited      bool
		Milliseconds float64
	}
	// Where both dial at the same moment, js-libp2p keeps one of the two circuits and
	// resets the other, under whatever was just begun on it.
	for try := 1; ; try++ {
		until(t, patience, "helia-coord connected them by a circuit", func() bool { return bob.state().circuit(alice.id, r.id) })
		err := bob.call("push", map[string]any{"to": alice.id, "bytes": size}, &got)
		if err == nil {
			break
		}
		if try == 3 {
			t.Fatalf("10 MiB through the circuit: %v", err)
		}
		t.Logf("%10s  10 MiB through the circuit, try %d: %v", "", try, err)
	}
	if got.Bytes != size || got.SHA256 != got.Sent || got.Limited {
		t.Fatalf("10 MiB through the circuit: %+v", got)
	}
	t.Logf("%8.1f s  10 MiB through %s", got.Milliseconds/1000, got.Via)

	for from, to := range map[*peer]*peer{alice: bob, bob: alice} {
		text := fmt.Sprintf(`{"jsonrpc":"2.0","id":"%d","method":"a word from %s"}`, time.Now().UnixNano(), from.name)
		if err := from.call("say", map[string]any{"to": to.id, "text": text}, nil); err != nil {
			t.Fatalf("private message: %v", err)
		}
		until(t, patience, "a private message from "+from.name+" is read", func() bool {
			for _, m := range to.state().Inbox {
				if m.Text == text && m.From == from.id {
					return true
				}
			}
			return false
		})
	}
}

func TestByTCP(t *testing.T) {
	if !isolated(t) {
		return
	}
	story(t, map[string]any{"listen": listen(byTCP, []string{})}, fast, nil)
}

// The relay's only address is that of browsers, with a certificate of a private CA.
func TestByWSS(t *testing.T) {
	if !isolated(t) {
		return
	}
	ca, err := pebble.Start(t.Context(), pebble.Options{TLSPort: 443, Names: map[string]netip.Addr{domain: netip.MustParseAddr(relayIP)}})
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, ca.RootPEM, 0o644); err != nil {
		t.Fatal(err)
	}
	story(t, map[string]any{
		"domain": domain,
		"listen": listen([]string{}, byWSS),
		"acme":   map[string]any{"directory": ca.DirectoryURL, "ca_file": root},
	}, fast, nil, "NODE_EXTRA_CA_CERTS="+root)
	if n := ca.Orders(); n != 1 {
		t.Errorf("%d certificates were ordered, want 1: the restart had one", n)
	}
}

// Strangers hold every place that is for guests, each with an open circuit, so
// that none gives way.
func TestGuestsShareFull(t *testing.T) {
	if !isolated(t) {
		return
	}
	const places = 3
	config := map[string]any{
		"listen": listen(byTCP, []string{}),
		"limits": map[string]any{"reservations": 8, "guest_reservations": places, "guest_circuit_time": "30m"},
	}
	story(t, config, fast, func(r *relay) { fillGuestsShare(t, r, places) })
}

func fillGuestsShare(t *testing.T, r *relay, places int) {
	t.Helper()
	to, err := libp2ppeer.AddrInfoFromString(byTCP[0] + "/p2p/" + r.id)
	if err != nil {
		t.Fatal(err)
	}
	guest := func() host.Host {
		h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.EnableRelay())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		until(t, time.Minute, "a guest is connected to the relay", func() bool { return h.Connect(t.Context(), *to) == nil })
		return h
	}
	caller := guest()
	reserve := func() (host.Host, error) {
		h := guest()
		var err error
		for range 50 { // HOP is offered a moment after the listeners are up
			if _, err = client.Reserve(t.Context(), h, *to); err == nil || !strings.Contains(err.Error(), "protocols not supported") {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		return h, err
	}
	for range places {
		h, err := reserve()
		if err != nil {
			t.Fatal(err)
		}
		circuit := ma.StringCast(to.Addrs[0].String() + "/p2p/" + r.id + "/p2p-circuit")
		if err := caller.Connect(t.Context(), libp2ppeer.AddrInfo{ID: h.ID(), Addrs: []ma.Multiaddr{circuit}}); err != nil {
			t.Fatalf("circuit between guests: %v", err)
		}
	}
	if _, err := reserve(); err == nil {
		t.Fatal("the guests' share is not full")
	}
}

// The timing of upstream, unchanged: about a quarter of an hour.
func TestStockTiming(t *testing.T) {
	if os.Getenv("PSF_FULL") == "" {
		t.Skip("skipped: set PSF_FULL=1 to run it (15 minutes)")
	}
	if !isolated(t) {
		return
	}
	story(t, map[string]any{"listen": listen(byTCP, []string{})}, 0, nil)
}

// The control: with helia-coord's own relay mode in the relay's place, the peers
// get as far as a reservation, and no circuit carries even a handshake. If this
// test fails, the others prove less than they seem to.
func TestControl(t *testing.T) {
	if !isolated(t) {
		return
	}
	carol := newPeer(t, peerConfig{Name: "carol", TCPPort: 4001, WSPort: 4003, IP: relayIP, Relay: true, Seeds: []string{nobody}, Seconds: fast})
	addr := byTCP[0] + "/p2p/" + carol.id
	alice, bob := newPair(t, fast, []string{addr})
	until(t, 3*time.Minute, "both peers hold a reservation", func() bool { return alice.state().reserved(carol.id) && bob.state().reserved(carol.id) })
	err := bob.call("dial", map[string]any{"addr": addr + "/p2p-circuit/p2p/" + alice.id}, nil)
	if err == nil || !strings.Contains(err.Error(), "EncryptionFailedError") {
		t.Fatalf("a circuit through upstream's relay: %v, want a handshake that fails", err)
	}
	t.Logf("            circuit: %v", err)
	if s := bob.state(); s.circuit(alice.id, carol.id) {
		t.Fatalf("there is a circuit: %+v", s.Connections)
	}
}

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	libp2phost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
)

// reserved is how many peers hold a reservation when the relay restarts.
const reserved = 500

// A relay is updated: it ends and starts again, as systemd does it. Its peers do what
// js-libp2p's do with a relay that they keep alive: after a second they dial again, and
// then after twice the pause each time; connected, they reserve. What is measured is
// the time from the signal to the relay until so many hold a reservation again.
func TestRestartWithReservations(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped with -short: 500 peers")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	dir, program := t.TempDir(), filepath.Join(bin, "relayd")
	at := freePort(t)
	config := filepath.Join(dir, "relay.yaml")
	write(t, config, fmt.Sprintf(`
data_dir: %s
listen: {tcp: [/ip4/%s/tcp/%d], quic: [], webtransport: [], webrtc: []}
network: {allow_private: true}
psf: {enabled: false}
limits: {guest_reservations: 600, reservations_per_ip: 600, connections_per_ip: 600, connects_per_second: 1000}
metrics: {listen: ""}
`, filepath.Join(dir, "data"), at.Addr(), at.Port()))
	relayd := startProgram(ctx, t, program, "run", "--config", config)
	out, err := exec.CommandContext(ctx, program, "id", "--config", config).Output()
	for err != nil && ctx.Err() == nil { // the identity is made at the first start
		time.Sleep(100 * time.Millisecond)
		out, err = exec.CommandContext(ctx, program, "id", "--config", config).Output()
	}
	if err != nil {
		t.Fatalf("ask for the peer ID: %v", err)
	}
	id, err := peer.Decode(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	relay := peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{ma.StringCast(fmt.Sprintf("/ip4/%s/tcp/%d", at.Addr(), at.Port()))}}

	events := make(chan reservation)
	var peers sync.WaitGroup
	defer peers.Wait()
	defer cancel()
	for i := range reserved {
		h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.NoTransports, libp2p.Transport(tcp.NewTCPTransport), libp2p.DisableRelay(),
			libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}))
		if err != nil {
			t.Fatal(err)
		}
		peers.Go(func() {
			defer h.Close()
			holdReservation(ctx, h, relay, func(at time.Time) {
				select {
				case events <- reservation{i, at}:
				case <-ctx.Done():
				}
			})
		})
	}
	// await returns when each peer first held a reservation that it got after since.
	await := func(since time.Time) []time.Time {
		t.Helper()
		first := map[int]time.Time{}
		for len(first) < reserved {
			select {
			case e := <-events:
				if _, known := first[e.peer]; !known && e.at.After(since) {
					first[e.peer] = e.at
				}
			case <-ctx.Done():
				t.Fatalf("%d of %d peers hold a reservation", len(first), reserved)
			}
		}
		return slices.SortedFunc(maps.Values(first), time.Time.Compare)
	}
	await(time.Time{})

	began := time.Now()
	relayd.stop(t)
	stopped := time.Since(began)
	startProgram(ctx, t, program, "run", "--config", config)
	back := await(began)
	after := func(percent int) time.Duration {
		return back[len(back)*percent/100-1].Sub(began).Round(10 * time.Millisecond)
	}
	t.Logf("%d reserved peers: the relay stopped within %s; half hold a reservation again after %s, 95 %% after %s, all after %s",
		reserved, stopped.Round(10*time.Millisecond), after(50), after(95), after(100))
}

// reservation is what a peer got.
type reservation struct {
	peer int
	at   time.Time
}

// holdReservation keeps a reservation at the relay, and says each time that it got one.
func holdReservation(ctx context.Context, h libp2phost.Host, relay peer.AddrInfo, got func(time.Time)) {
	lost := make(chan struct{}, 1)
	h.Network().Notify(&network.NotifyBundle{DisconnectedF: func(n network.Network, c network.Conn) {
		if n.Connectedness(relay.ID) != network.Connected {
			select {
			case lost <- struct{}{}:
			default:
			}
		}
	}})
	for ctx.Err() == nil {
		for pause := time.Second; ; pause *= 2 {
			err := h.Connect(network.WithForceDirectDial(ctx, "reserve"), relay)
			if err == nil {
				_, err = client.Reserve(ctx, h, relay)
			}
			if err == nil {
				got(time.Now())
				break
			}
			if !wait(ctx, pause) {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-lost:
		}
		if !wait(ctx, time.Second) {
			return
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// process is a program that runs.
type process struct {
	cmd   *exec.Cmd
	ended chan error
}

func startProgram(ctx context.Context, t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.CommandContext(ctx, name, args...), ended: make(chan error, 1)}
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(os.Interrupt) }
	p.cmd.WaitDelay = 20 * time.Second
	p.cmd.Stderr = t.Output()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() { p.stop(t) })
	return p
}

// stop ends the program as systemd does; it can be done again.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	if err := <-p.ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("%s ended: %v", filepath.Base(p.cmd.Path), err)
	}
	p.ended <- nil
}

// freePort is a port of the tests' address that nobody has.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", netip.AddrPortFrom(host, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

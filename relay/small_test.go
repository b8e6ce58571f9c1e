package relay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// smallVPS is what the kernel leaves of 512 MiB.
const smallVPS = 456 << 20

// smallVar makes the test binary a relay on a small machine: the folder with its
// certificate.
const smallVar = "RELAY_TEST_SMALL_DIR"

func TestHelperSmallRelay(t *testing.T) {
	dir := os.Getenv(smallVar)
	if dir == "" {
		t.Skip("for TestSmallVPS only")
	}
	c := relaytest.LabConfig(t)
	c.DataDir = filepath.Join(dir, "data")
	c.Domain = domain
	c.TLS = config.TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	c.Listen.WSS, c.Listen.HTTP = relaytest.Multiaddrs(t, "/ip4/127.0.0.2/tcp/0/tls/ws"), ""
	// All are guests here, and those over WSS come from one address.
	c.Limits.GuestReservations, c.Limits.ReservationsPerIP = 1<<17, 1024
	c.Limits.GuestCircuitData = 64 << 20
	r, err := New(c, relaytest.Log(t))
	relaytest.Must(t, err)
	config.LimitMemory()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		<-r.Ready()
		fmt.Println("ready", r.ID(), r.host.Network().ListenAddresses(), r.config().Limits.Reservations)
	}()
	relaytest.Must(t, r.Run(ctx))
}

// A VPS of 512 MiB without swap takes 2,000 reserved peers over TCP, 1,000 over WSS,
// and carries data meanwhile.
func TestSmallVPS(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: -short")
	}
	for kind, peers := range map[string]int{"tcp": 2000, "wss": 1000} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			cert, key := selfSigned(t, domain)
			relaytest.Must(t, os.WriteFile(filepath.Join(dir, "cert.pem"), cert, 0o600))
			relaytest.Must(t, os.WriteFile(filepath.Join(dir, "key.pem"), key, 0o600))
			group := newMemoryGroup(t, smallVPS)
			relay := startSmall(t, dir, group)[kind]

			hosts := make([]host.Host, peers)
			var wg sync.WaitGroup
			room := make(chan struct{}, 8)
			for i := range hosts {
				if kind == "tcp" {
					hosts[i] = relaytest.NewPeerAt(t, fmt.Sprintf("127.0.%d.%d", 10+i/250, 1+i%250))
				} else {
					hosts[i] = newClientOver(t, cert)
				}
				room <- struct{}{}
				wg.Go(func() {
					defer func() { <-room }()
					if _, err := client.Reserve(relaytest.Context(t), hosts[i], relay); err != nil {
						t.Errorf("peer %d of %d: %v", i+1, peers, err)
					}
				})
			}
			wg.Wait()
			if t.Failed() {
				t.FailNow()
			}
			for i := range 8 { // each with all its buffers
				relaytest.AcceptRaw(hosts[i], func(s network.Stream) { _, _ = io.Copy(io.Discard, s); _ = s.Close() })
				for range 4 {
					s := relaytest.MustOpenRaw(t, hosts[100+i], relay.ID, hosts[i].ID())
					wg.Go(func() {
						_, err := s.Write(make([]byte, 8<<20))
						if err == nil {
							err = s.CloseWrite()
						}
						if err == nil {
							_, err = io.Copy(io.Discard, s) // until the other end has everything
						}
						if err != nil {
							t.Errorf("a circuit: %v", err)
						}
					})
				}
			}
			wg.Wait()
			for i, h := range hosts {
				if h.Network().Connectedness(relay.ID) != network.Connected {
					t.Errorf("peer %d of %d is no longer connected", i+1, peers)
				}
			}
			t.Logf("%d peers: at most %d MiB of %d", peers, group.peak(t)>>20, smallVPS>>20)
		})
	}
}

// newClientOver is a small host that dials over WSS.
func newClientOver(t testing.TB, root []byte) host.Host {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	h, err := libp2p.New(
		libp2p.NoListenAddrs, libp2p.EnableRelay(), libp2p.DisableMetrics(), libp2p.Ping(false),
		libp2p.DisableIdentifyAddressDiscovery(), libp2p.ResourceManager(&network.NullResourceManager{}), relaytest.PatientDials,
		libp2p.Transport(websocket.New, websocket.WithTLSClientConfig(&tls.Config{RootCAs: pool})),
	)
	relaytest.Must(t, err)
	t.Cleanup(func() { h.Close() })
	return h
}

// startSmall starts the relay in the group and returns its addresses by transport.
func startSmall(t *testing.T, dir string, group *memoryGroup) map[string]peer.AddrInfo {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `echo $$ >"$0" && exec "$@"`, group.procs(),
		os.Args[0], "-test.run=^TestHelperSmallRelay$", "-test.v")
	cmd.Env = append(os.Environ(), smallVar+"="+dir)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	relaytest.Must(t, err)
	relaytest.Must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(relaytest.Patience, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the relay: %v\n%s", err, &log)
		}
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		fields := strings.Fields(strings.NewReplacer("[", "", "]", "").Replace(lines.Text()))
		if len(fields) < 4 || fields[0] != "ready" {
			continue
		}
		go func() { _, _ = io.Copy(io.Discard, out) }()
		id, err := peer.Decode(fields[1])
		relaytest.Must(t, err)
		at := map[string]peer.AddrInfo{}
		for _, a := range relaytest.Multiaddrs(t, fields[2:len(fields)-1]...) {
			kind := "tcp"
			if config.IsWSS(a) {
				kind = "wss"
				port, err := a.ValueForProtocol(ma.P_TCP)
				relaytest.Must(t, err)
				a = relaytest.Multiaddrs(t, "/ip4/127.0.0.2/tcp/"+port+"/tls/sni/"+domain+"/ws")[0]
			}
			at[kind] = peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{a}}
		}
		return at
	}
	t.Fatalf("the relay does not start:\n%s", &log)
	return nil
}

// memoryGroup is a control group with little memory and no swap.
type memoryGroup struct {
	dir string
	v2  bool
}

func newMemoryGroup(t *testing.T, limit int64) *memoryGroup {
	t.Helper()
	need.Root(t)
	g := &memoryGroup{v2: true}
	set := map[string]string{"memory.max": fmt.Sprint(limit), "memory.swap.max": "0"}
	parent := "/sys/fs/cgroup"
	if _, err := os.Stat(parent + "/cgroup.controllers"); err != nil {
		g.v2, parent = false, parent+"/memory"
		set = map[string]string{"memory.limit_in_bytes": fmt.Sprint(limit), "memory.swappiness": "0"}
	}
	g.dir = fmt.Sprintf("%s/relay-test-%d-%d", parent, os.Getpid(), time.Now().UnixNano())
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Skipf("skipped: no control group with a memory limit can be made here: %v", err)
	}
	t.Cleanup(func() {
		relaytest.Eventually(t, "the control group is empty", func() bool { return os.Remove(g.dir) == nil })
	})
	for name, value := range set {
		err := os.WriteFile(filepath.Join(g.dir, name), []byte(value), 0)
		if errors.Is(err, os.ErrNotExist) && strings.Contains(name, "swap") {
			continue // a kernel without swap
		}
		if err != nil {
			t.Skipf("skipped: no memory limit can be set here: %v", err)
		}
	}
	return g
}

func (g *memoryGroup) procs() string { return filepath.Join(g.dir, "cgroup.procs") }

// peak is the most that was in use, 0 where the kernel does not say.
func (g *memoryGroup) peak(t *testing.T) (n int64) {
	t.Helper()
	name := "memory.max_usage_in_bytes"
	if g.v2 {
		name = "memory.peak" // since Linux 5.19
	}
	data, err := os.ReadFile(filepath.Join(g.dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	relaytest.Must(t, err)
	_, err = fmt.Sscan(string(data), &n)
	relaytest.Must(t, err)
	return n
}

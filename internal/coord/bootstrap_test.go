package coord

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// run has a Bootstrap at work until the test, or stop, ends it.
func run(t *testing.T, cfg BootstrapConfig) (b *Bootstrap, stop func()) {
	t.Helper()
	b, err := NewBootstrap(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.redial = time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return b, stop
}

func connected(t *testing.T, from host.Host, to peer.ID) {
	t.Helper()
	eventually(t, "connection to "+to.String(), func() bool { return from.Network().Connectedness(to) == network.Connected })
}

// listServer answers with the list, or with an error while it is empty.
func listServer(t *testing.T) (*httptest.Server, *atomic.Value) {
	t.Helper()
	var list atomic.Value
	list.Store("")
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := list.Load().(string)
		if body == "" {
			http.Error(w, "away", http.StatusBadGateway)
			return
		}
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(srv.Close)
	return srv, &list
}

func listOf(h host.Host) string {
	return fmt.Sprintf(`{"node":[{"multiaddr":"%s/p2p/%s"}],"browser":[],"recommendedPeers":[]}`, h.Addrs()[0], h.ID())
}

func TestBootstrapByList(t *testing.T) {
	srv, list := listServer(t)
	relay, listed := newHost(t), newHost(t)
	list.Store(listOf(listed))
	cfg := BootstrapConfig{Host: relay, ListURL: srv.URL, Client: srv.Client(), AllowPrivate: true, Cache: filepath.Join(t.TempDir(), "list.json")}
	b, stop := run(t, cfg)
	connected(t, relay, listed.ID())
	if n, all := b.Connected(); n != 1 || all != 1 {
		t.Errorf("%d of %d connected", n, all)
	}
	stop()

	// The list is away: the kept one serves another relay.
	list.Store("")
	other := newHost(t)
	cfg.Host = other
	run(t, cfg)
	connected(t, other, listed.ID())
}

func TestBootstrapKeepsOnlyGoodLists(t *testing.T) {
	srv, list := listServer(t)
	relay, listed := newHost(t), newHost(t)
	cache := filepath.Join(t.TempDir(), "list.json")
	b, err := NewBootstrap(BootstrapConfig{Host: relay, ListURL: srv.URL, Client: srv.Client(), Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	good := listOf(listed)
	list.Store(good)
	if _, err := b.fetch(testContext(t)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{}", `{"node":[]}`, "<html>"} {
		list.Store(bad)
		if peers, err := b.fetch(testContext(t)); err == nil {
			t.Errorf("%q: read %v", bad, peers)
		}
	}
	if data, err := os.ReadFile(cache); err != nil || string(data) != good {
		t.Errorf("kept %q, %v", data, err)
	}
}

func TestBootstrapRefusesPrivateAddressesOfTheList(t *testing.T) {
	relay := newHost(t)
	b, err := NewBootstrap(BootstrapConfig{Host: relay})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{
		"/ip4/203.0.114.1/tcp/4001":                    true,
		"/dns4/relay.example.org/tcp/443/wss":          true,
		"/ip4/127.0.0.1/tcp/22":                        false,
		"/ip4/10.1.2.3/tcp/4001":                       false,
		"/ip4/192.168.1.1/tcp/4001":                    false,
		"/ip6/::1/tcp/4001":                            false,
		"/ip6/fe80::1/tcp/4001":                        false,
		"/dns4/localhost/tcp/4001":                     false,
		"/ip4/203.0.114.1/tcp/4001/p2p/" + someCircuit: false,
	} {
		a, err := ma.NewMultiaddr(addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.dialable(a); got != want {
			t.Errorf("%s: dialable %v, want %v", addr, got, want)
		}
	}
}

const someCircuit = "12D3KooWEBzgK8a5TpMfLotuj7jJnEK41gbD9LZK6qCpxNrX43E9/p2p-circuit"

// A peer that went away and came back is connected again.
func TestBootstrapReconnects(t *testing.T) {
	relay, key := newHost(t), randomKey(t)
	start := func(addr ma.Multiaddr) host.Host {
		t.Helper()
		var h host.Host
		eventually(t, "the port is free", func() (ok bool) {
			var err error
			h, err = libp2p.New(libp2p.Identity(key), libp2p.ListenAddrs(addr), libp2p.DisableRelay())
			return err == nil
		})
		t.Cleanup(func() { h.Close() })
		return h
	}
	first := start(ma.StringCast("/ip4/127.0.0.2/tcp/0"))
	info := peer.AddrInfo{ID: first.ID(), Addrs: first.Addrs()}
	run(t, BootstrapConfig{Host: relay, Peers: []peer.AddrInfo{info, {ID: relay.ID(), Addrs: relay.Addrs()}}})
	connected(t, relay, info.ID)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "gone", func() bool { return relay.Network().Connectedness(info.ID) != network.Connected })
	start(info.Addrs[0])
	connected(t, relay, info.ID)
}

func TestBootstrapWantsHTTPS(t *testing.T) {
	for _, u := range []string{"http://example.org/list.json", "example.org", "https://", "file:///etc/passwd"} {
		if _, err := NewBootstrap(BootstrapConfig{ListURL: u}); err == nil {
			t.Errorf("%s: accepted", u)
		}
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	srv := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer srv.Close()
	b, err := NewBootstrap(BootstrapConfig{ListURL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	client := srv.Client()
	client.CheckRedirect = b.cfg.Client.CheckRedirect
	b.cfg.Client = client
	if _, err := b.fetch(testContext(t)); err == nil {
		t.Error("followed a redirect to plain http")
	}
}

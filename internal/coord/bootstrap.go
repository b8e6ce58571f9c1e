package coord

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/psf-relay/relay-appliance/internal/durable"
)

// How often peers are dialled and the list is fetched; a failure doubles the
// pause from the first to the last value.
const (
	redialFirst, redialLast   = 5 * time.Second, 10 * time.Minute
	refetchFirst, refetchLast = time.Minute, time.Hour
	listEvery                 = 24 * time.Hour
	dialTime                  = 20 * time.Second
	fetchTime                 = 30 * time.Second
)

// maxBootstrap is with how many peers connections are kept.
const maxBootstrap = 32

// BootstrapConfig says where the network is found.
type BootstrapConfig struct {
	Host  host.Host
	Peers []peer.AddrInfo // the operator's own, always kept
	// ListURL is where a list of further peers is fetched, by HTTPS; empty: nowhere.
	ListURL string
	// Cache is the file with the last good list; empty: none is kept.
	Cache string
	// AllowPrivate admits private and loopback addresses from the list.
	AllowPrivate bool
	Client       *http.Client // nil: one that follows redirects to https only
	Log          *slog.Logger // may be nil
}

// Bootstrap keeps connections to peers of the network. It needs none of them: a
// relay whose list cannot be fetched and whose peers are all away goes on, and
// tries again ever more rarely.
type Bootstrap struct {
	cfg    BootstrapConfig
	redial time.Duration // the first pause
	mu     sync.Mutex
	kept   map[peer.ID]context.CancelFunc
	wg     sync.WaitGroup
}

// NewBootstrap checks cfg.
func NewBootstrap(cfg BootstrapConfig) (*Bootstrap, error) {
	if cfg.ListURL != "" {
		if u, err := url.Parse(cfg.ListURL); err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("list of bootstrap peers: want an https URL, not %q", cfg.ListURL)
		}
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{CheckRedirect: httpsOnly}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Bootstrap{cfg: cfg, redial: redialFirst, kept: make(map[peer.ID]context.CancelFunc)}, nil
}

func httpsOnly(r *http.Request, via []*http.Request) error {
	if r.URL.Scheme != "https" {
		return errors.New("redirected away from https")
	}
	if len(via) >= 5 {
		return errors.New("redirected too often")
	}
	return nil
}

// Run keeps the connections until ctx ends.
func (b *Bootstrap) Run(ctx context.Context) {
	defer b.wg.Wait()
	b.keep(ctx, nil)
	if b.cfg.ListURL == "" {
		<-ctx.Done()
		return
	}
	if listed, err := b.cached(); err == nil {
		b.keep(ctx, listed)
	} else if !errors.Is(err, fs.ErrNotExist) {
		b.cfg.Log.Warn("the kept list of PSF peers is of no use, it will be fetched again", "error", err)
	}
	pause := refetchFirst
	for {
		listed, err := b.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		wait := jitter(listEvery)
		if err != nil {
			b.cfg.Log.Warn("could not fetch the list of PSF peers, going on with those known", "error", err, "again_in", pause.String())
			wait, pause = jitter(pause), min(2*pause, refetchLast)
		} else {
			pause = refetchFirst
			b.keep(ctx, listed)
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

func (b *Bootstrap) cached() ([]peer.AddrInfo, error) {
	if b.cfg.Cache == "" {
		return nil, fs.ErrNotExist
	}
	f, err := os.Open(b.cfg.Cache)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxList+1))
	if err != nil {
		return nil, err
	}
	return ParseList(data)
}

func (b *Bootstrap) fetch(ctx context.Context) ([]peer.AddrInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.cfg.ListURL, nil)
	if err != nil {
		return nil, err
	}
	resp, err := b.cfg.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: %s", b.cfg.ListURL, resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, MaxList+1))
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", b.cfg.ListURL, err)
	}
	listed, err := ParseList(data)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", b.cfg.ListURL, err)
	}
	if b.cfg.Cache != "" {
		if err := durable.Replace(b.cfg.Cache, data, 0o644); err != nil {
			b.cfg.Log.Warn("could not keep the list of PSF peers", "error", err)
		}
	}
	return listed, nil
}

// keep holds connections to the operator's peers and to those of the list, and
// gives up those of an older list.
func (b *Bootstrap) keep(ctx context.Context, listed []peer.AddrInfo) {
	want := make(map[peer.ID]peer.AddrInfo, maxBootstrap)
	add := func(p peer.AddrInfo) {
		if p.ID == b.cfg.Host.ID() || len(p.Addrs) == 0 {
			return
		}
		known, ok := want[p.ID]
		if !ok && len(want) >= maxBootstrap {
			return
		}
		want[p.ID] = peer.AddrInfo{ID: p.ID, Addrs: ma.Unique(append(known.Addrs, p.Addrs...))}
	}
	for _, p := range b.cfg.Peers {
		add(p)
	}
	for _, p := range listed {
		add(peer.AddrInfo{ID: p.ID, Addrs: ma.FilterAddrs(p.Addrs, b.dialable)})
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	for _, stop := range b.kept {
		stop() // those that stay begin anew, with the addresses of now
	}
	b.wg.Wait()
	clear(b.kept)
	for id, p := range want {
		ctx, stop := context.WithCancel(ctx)
		b.kept[id] = stop
		b.wg.Go(func() { b.stayConnected(ctx, p) })
	}
}

// dialable keeps a list from sending us into the machine's own network.
func (b *Bootstrap) dialable(a ma.Multiaddr) bool {
	if _, last := ma.SplitLast(a); last != nil && last.Protocol().Code == ma.P_CIRCUIT {
		return false
	}
	return b.cfg.AllowPrivate || manet.IsPublicAddr(a)
}

// stayConnected connects to a peer, and again whenever the connection is lost.
func (b *Bootstrap) stayConnected(ctx context.Context, p peer.AddrInfo) {
	gone := make(chan struct{}, 1)
	n := b.cfg.Host.Network()
	watch := &network.NotifyBundle{DisconnectedF: func(n network.Network, c network.Conn) {
		if c.RemotePeer() == p.ID && n.Connectedness(p.ID) != network.Connected {
			wake(gone)
		}
	}}
	n.Notify(watch)
	defer n.StopNotify(watch)

	manager := b.cfg.Host.ConnManager()
	manager.Protect(p.ID, "psf-bootstrap")
	defer manager.Unprotect(p.ID, "psf-bootstrap")

	pause := b.redial
	for ctx.Err() == nil {
		dial, cancel := context.WithTimeout(ctx, dialTime)
		err := b.cfg.Host.Connect(dial, p)
		cancel()
		if err != nil {
			b.cfg.Log.Debug("bootstrap peer not reached", "peer", p.ID.String(), "error", err)
			if !sleep(ctx, jitter(pause)) {
				return
			}
			pause = min(2*pause, redialLast)
			continue
		}
		since := clock()
		if n.Connectedness(p.ID) == network.Connected {
			select {
			case <-gone:
			case <-ctx.Done():
				return
			}
		}
		// A peer that hangs up on us at once is treated as one that is away.
		if clock().Sub(since) > redialLast {
			pause = b.redial
		}
		if !sleep(ctx, jitter(pause)) {
			return
		}
		pause = min(2*pause, redialLast)
	}
}

// Connected counts the bootstrap peers that are connected, and all of them.
func (b *Bootstrap) Connected() (connected, all int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range b.kept {
		if b.cfg.Host.Network().Connectedness(id) == network.Connected {
			connected++
		}
	}
	return connected, len(b.kept)
}

package circuit

import (
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/refusal"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// running is the service on a host that does nothing else.
type running struct {
	cfg     config.Config
	host    host.Host
	service *Service
	budget  *Budget
	banned  *Bans
	tally   *refusal.Tally
	stop    func() error
}

func start(t testing.TB, c config.Config) *running {
	t.Helper()
	return startLogging(t, c, relaytest.Log(t))
}

// startLogging starts a relay; the options of its host come beside those that the service
// needs.
func startLogging(t testing.TB, c config.Config, log *slog.Logger, opts ...libp2p.Option) *running {
	t.Helper()
	relaytest.Must(t, c.Validate())
	relaytest.Must(t, os.MkdirAll(c.DataDir, 0o700))
	c.Limits = config.MeasureCapacity(c.Limits).Fill(c.Limits)
	resources, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.InfiniteLimits),
		rcmgr.WithLimitPerSubnet(nil, nil), rcmgr.WithConnRateLimiters(&rate.Limiter{}))
	relaytest.Must(t, err)
	h, err := libp2p.New(append(opts, libp2p.ResourceManager(resources), libp2p.ListenAddrs(append(c.Listen.TCP, c.Listen.QUIC...)...), libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.ForceReachabilityPublic())...)
	relaytest.Must(t, err)
	r := &running{cfg: c, host: h, budget: OpenBudget(c.DataDir, c.Limits, time.Now(), log), tally: refusal.NewTally(log)}
	r.banned, err = OpenBans(c.DataDir)
	relaytest.Must(t, err)
	r.service, err = New(h, c, r.budget, r.banned, r.tally, relayv2.NewMetricsTracer(relayv2.WithRegisterer(prometheus.NewRegistry())), log)
	relaytest.Must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for look := time.NewTicker(50 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				look.Stop()
				return
			case <-look.C:
				if changed, err := r.banned.Reload(); changed && err == nil {
					r.service.EnforceBans()
				}
			}
		}
	})
	r.stop = sync.OnceValue(func() error {
		cancel()
		wg.Wait()
		r.service.Close()
		if err := h.Close(); err != nil {
			return err
		}
		return r.budget.Tend(time.Now())
	})
	t.Cleanup(func() { relaytest.Must(t, r.stop()) })
	return r
}

func (r *running) ID() peer.ID         { return r.host.ID() }
func (r *running) info() peer.AddrInfo { return peer.AddrInfo{ID: r.host.ID(), Addrs: r.host.Addrs()} }

// byTransport is where the relay listens.
func (r *running) byTransport() map[string]peer.AddrInfo {
	at := map[string]peer.AddrInfo{}
	for _, a := range r.host.Addrs() {
		kind := "tcp"
		if _, err := a.ValueForProtocol(ma.P_QUIC_V1); err == nil {
			kind = "quic"
		}
		at[kind] = peer.AddrInfo{ID: r.host.ID(), Addrs: []ma.Multiaddr{a}}
	}
	return at
}

func (r *running) config() config.Config { return r.cfg }

// Status is what the service has to tell for the relay's own.
func (r *running) Status() (s status.Status) {
	s.Reservations.Members, s.Reservations.Guests = r.service.Reservations()
	s.Circuits.Members, s.Circuits.Guests = r.service.Count()
	s.Traffic = r.budget.State()
	return s
}

func peerOf(t testing.TB) peer.ID {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	relaytest.Must(t, err)
	id, err := peer.IDFromPrivateKey(key)
	relaytest.Must(t, err)
	return id
}

func (t *table) has(id peer.ID) bool { return t.conn(id, time.Now()) != nil }

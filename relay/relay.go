// Package relay is the public libp2p relay of a PSF operator: Circuit Relay v2
// over TCP, QUIC, WSS, WebTransport and WebRTC, with a certificate of its own, a
// status page, and its announcement on the PSF coordination network, so that PSF
// software finds and uses it without being told.
//
// [New] checks what it is given and loads the identity; [Relay.Run] opens the
// listeners and serves until its context ends.
//
// It puts rooms together: circuit decides who may reserve and relay, and how much; config
// is what the operator wants and the machine carries; doctor finds out what the bounty's
// requirements come to here; monitors asks what others see of the relay; trend keeps how busy
// it was; refusal and status are their words. Here are the host with its listeners and bounds,
// the certificate, the PSF network, the pages, and what the operator is told (alerts.go).
package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/certs"
	"github.com/psf-relay/relay-appliance/internal/coord"
	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/internal/listen"
	"github.com/psf-relay/relay-appliance/internal/systemd"
	"github.com/psf-relay/relay-appliance/relay/circuit"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/doctor"
	"github.com/psf-relay/relay-appliance/relay/monitors"
	"github.com/psf-relay/relay-appliance/relay/refusal"
	"github.com/psf-relay/relay-appliance/relay/status"
	"github.com/psf-relay/relay-appliance/relay/trend"
)

const (
	// certificateWait is how long the relay holds back its first announcement for
	// the certificate: PSF peers look at a relay once, and keep what they saw.
	certificateWait = 60 * time.Second
	// closeTime is how long the network may take to close. With what comes before
	// it, a stop takes less than ten seconds.
	closeTime = 6 * time.Second
	// tendEvery is the pause between the relay's regular chores.
	tendEvery = 15 * time.Second
	// lookEvery is the pause between looks at files that the operator may change.
	lookEvery = 2 * time.Second
)

// Relay is one relay. It runs once.
type Relay struct {
	log    *slog.Logger
	key    crypto.PrivKey
	id     peer.ID
	certs  *certs.Keeper // nil: no domain, hence no certificate
	banned *circuit.Bans
	budget *circuit.Budget

	ready chan struct{}

	passed *listen.Room // requests that are passed on to http_upstream

	checkup  *doctor.Checkup
	monitors *monitors.Monitors
	alerts   *alerter
	trend    *trend.Keeper
	tally    *refusal.Tally

	mu       sync.Mutex
	cfg      config.Config // but for what Reload changes, as it was at the start
	host     host.Host
	service  *circuit.Service
	member   *coord.Member // nil: not in the PSF network
	started  time.Time
	capacity config.Capacity
	refusals []*listen.Refusals // of each listener
}

// New checks cfg and loads the identity, or makes it in an empty data folder.
// Nothing is opened yet.
func New(cfg config.Config, log *slog.Logger) (*Relay, error) {
	if err := errors.Join(cfg.Validate(), cfg.Abs()); err != nil {
		return nil, err
	}
	if err := stateFormat.Check(cfg.DataDir); err != nil {
		return nil, durable.Denied(cfg.DataDir, err)
	}
	cfg.Limits = config.MeasureCapacity(cfg.Limits).Fill(cfg.Limits)
	key, created, err := loadOrCreateIdentity(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	if err := stateFormat.Note(cfg.DataDir); err != nil {
		return nil, err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("read the identity: %w", err)
	}
	if created {
		log.Info("made a new identity", "peer_id", id.String(), "data_dir", cfg.DataDir)
	}
	r := &Relay{cfg: cfg, log: log, key: key, id: id, tally: refusal.NewTally(log), ready: make(chan struct{})}
	bounds := upstreamBounds
	bounds.LoopbackCounts = cfg.Test.LoopbackCounts
	r.passed = listen.NewRoom("upstream", bounds, log)
	r.counted(r.passed.Refusals)
	r.checkup = doctor.NewCheckup((*subject)(r), r.hostAddrs, log)
	r.monitors = monitors.New(id.String(), cfg.Test.CheckupEvery, log)
	r.monitors.Use(cfg.Monitors)
	r.alerts = newAlerter(cfg.DataDir, log)
	r.trend = trend.New(cfg.DataDir, log)
	if r.banned, err = circuit.OpenBans(cfg.DataDir); err != nil {
		return nil, err
	}
	r.budget = circuit.OpenBudget(cfg.DataDir, cfg.Limits, time.Now(), log)
	if cfg.Domain != "" {
		if r.certs, err = newCerts(cfg, log); err != nil {
			return nil, err
		}
	}
	for _, w := range config.Warnings(cfg, id) {
		log.Warn(w)
	}
	return r, nil
}

// CountStarts says before [Relay.Run] that the program was started so often within the hour
// before at: its operator is told if that is a loop.
func (r *Relay) CountStarts(n int, at time.Time) { r.alerts.starts, r.alerts.started = n, at }

// ID is the relay's peer ID.
func (r *Relay) ID() peer.ID { return r.id }

// Ready is closed once the listeners are up, reservations are served, and the
// certificate is loaded or has been waited for long enough.
func (r *Relay) Ready() <-chan struct{} { return r.ready }

// Addrs is what the relay announces, each with its /p2p/ID. There are none
// before the listeners are up.
func (r *Relay) Addrs() []ma.Multiaddr {
	r.mu.Lock()
	h := r.host
	r.mu.Unlock()
	if h == nil {
		return nil
	}
	known := h.Addrs()
	if len(known) == 0 {
		return nil // the library would make the bare peer ID of it
	}
	addrs, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: r.id, Addrs: known})
	if err != nil {
		return nil
	}
	return addrs
}

// hostAddrs is the same without /p2p/ID.
func (r *Relay) hostAddrs() []ma.Multiaddr {
	r.mu.Lock()
	h := r.host
	r.mu.Unlock()
	if h == nil {
		return nil
	}
	return h.Addrs()
}

// config is the configuration in force.
func (r *Relay) config() config.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cfg
}

// subject is what the checkup sees of the relay.
type subject Relay

func (s *subject) ID() peer.ID           { return s.id }
func (s *subject) Config() config.Config { return (*Relay)(s).config() }
func (s *subject) Status() status.Status { return (*Relay)(s).Status() }

func (s *subject) Answered() uint64 {
	s.mu.Lock()
	m := s.member
	s.mu.Unlock()
	if m == nil {
		return 0
	}
	return m.Stats().Answered
}

func (s *subject) HeldFrom(ip netip.Addr) int {
	s.mu.Lock()
	g := s.service
	s.mu.Unlock()
	if g == nil {
		return 0
	}
	return g.HeldFrom(ip)
}

func (s *subject) TryCertificate() {
	if s.certs != nil {
		s.certs.TryNow(time.Now())
	}
}

// Run serves until ctx ends; then it closes what it opened and returns nil. An
// error says why the relay could not start, or that it did not stop in time.
func (r *Relay) Run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cfg := r.config()
	unlock, err := lock(cfg.DataDir)
	if err != nil {
		return err
	}
	defer unlock()

	var wg sync.WaitGroup
	defer func() { // the last thing that was counted must be kept
		cancel()
		err = errors.Join(err,
			within(cmp.Or(cfg.Test.CloseTime, closeTime)/3, "end what runs beside", func() error { wg.Wait(); return nil }),
			r.budget.Tend(time.Now()))
		r.trend.Save()
	}()
	capacity := config.MeasureCapacity(cfg.Limits)
	warnOfCapacity(capacity, cfg.Limits, r.log)
	reg := r.newRegistry()
	h, err := r.newHost(capacity, reg)
	if err != nil {
		return err
	}
	defer func() {
		cancel()
		err = errors.Join(err, within(cmp.Or(cfg.Test.CloseTime, closeTime), "close the network", h.Close))
	}()
	service, err := circuit.New(h, cfg, r.budget, r.banned, r.tally, relayv2.NewMetricsTracer(relayv2.WithRegisterer(reg)), r.log)
	if err != nil {
		return err
	}
	defer service.Close()
	r.mu.Lock()
	r.host, r.service, r.started, r.capacity = h, service, time.Now(), capacity
	r.mu.Unlock()
	r.log.Info("listening", "announced", r.Addrs())
	for _, a := range r.Addrs() {
		if ip, _, ok := tcp4(a); ok && config.DroppedIP4(ip.String()) != "" && ip != cfg.Announce.IP4 {
			r.log.Warn("PSF peers silently ignore this address, which they take for a private one; another IPv4 address would help", "addr", a.String(), "because_of", config.DroppedIP4(ip.String()))
		}
	}
	if len(cfg.Listen.TCP) > 0 && !slices.ContainsFunc(r.Addrs(), func(a ma.Multiaddr) bool { _, _, ok := tcp4(a); return ok }) {
		r.log.Warn("no public IPv4 address is known, so that PSF nodes are told of none: set announce.ip4 to the one the provider gave, or network.allow_private in a lab")
	}
	if cfg.Metrics.Listen != "" {
		l, err := r.listenTCP("metrics", "metrics.listen", cfg.Metrics.Listen, metricsBounds)
		if err != nil {
			return err
		}
		wg.Go(func() { r.serveMetrics(ctx, l, reg) })
	}
	wg.Go(func() { r.tend(ctx, service) })
	wg.Go(func() { service.GuardMemory(ctx) })
	wg.Go(func() { h.ConnManager().(*trimmer).trim(ctx, h, service.Member, r.tally) })
	r.checkup.Begin(ctx, h, &wg)
	wg.Go(func() { r.monitors.Run(ctx) })
	wg.Go(func() { r.alerts.run(ctx, r.config, r.Status) })
	wg.Go(func() { r.trend.Run(ctx, func() trend.Now { return r.busy(h, service) }) })
	// Status takes every lock that serving needs.
	wg.Go(func() { systemd.Watchdog(ctx, r.log, func() bool { return r.Status().Healthy }) })
	leave, announce, err := r.joinPSF(ctx, cfg, h, service, &wg)
	if err != nil {
		return err
	}
	defer leave()
	if r.certs != nil {
		if cfg.Listen.HTTP != "" {
			l, err := r.listenTCP("http", "listen.http", cfg.Listen.HTTP, httpBounds)
			if err != nil {
				return fmt.Errorf("%w (or set listen.http to \"\")", err)
			}
			wg.Go(func() { r.serveHTTP(ctx, l) })
		}
		wg.Go(func() { r.certs.Keep(ctx) })
		select {
		case <-r.certs.Loaded():
		case <-time.After(cmp.Or(cfg.Test.CertificateWait, certificateWait)):
			r.log.Warn("no certificate yet, going on without: browsers cannot reach the relay until there is one")
		case <-ctx.Done():
			return nil
		}
	}
	announce()
	close(r.ready)
	r.log.Info("ready", "peer_id", r.id.String())
	systemd.Ready(r.log)
	<-ctx.Done()
	r.log.Info("stopping")
	systemd.Stopping(r.log)
	return nil
}

// busy is how busy the relay is now.
func (r *Relay) busy(h host.Host, g *circuit.Service) trend.Now {
	reservedMembers, reservedGuests := g.Reservations()
	members, guests := g.Count()
	return trend.Now{
		Reservations: reservedMembers + reservedGuests, Circuits: members + guests,
		Connections: len(h.Network().Conns()), Carried: r.budget.Carried(),
	}
}

// tend does the relay's chores until ctx ends.
func (r *Relay) tend(ctx context.Context, g *circuit.Service) {
	chores, look := time.NewTicker(tendEvery), time.NewTicker(lookEvery)
	defer chores.Stop()
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-chores.C:
			g.Tend(now)
			_ = r.budget.Tend(now) // it tells in the log and in the status
		case <-look.C:
			switch changed, err := r.banned.Reload(); {
			case err != nil:
				r.log.Error("could not read the ban list again", "error", err)
			case changed:
				r.log.Info("the ban list changed")
				g.EnforceBans()
			}
		}
	}
}

// lock keeps a second relay off the data folder. The lock goes with the process,
// however that ends.
func lock(dataDir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dataDir, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another relayd runs with the data folder %s: stop it first, or give each its own data_dir", dataDir)
		}
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	return func() { f.Close() }, nil
}

// within runs f and stops waiting for it when the time is over.
func within(d time.Duration, what string, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	case <-time.After(d):
		return fmt.Errorf("%s: not done after %s", what, d)
	}
}

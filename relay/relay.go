// Package relay is the public libp2p relay of a PSF operator: Circuit Relay v2
// over TCP, QUIC, WSS, WebTransport and WebRTC, with a certificate of its own, a
// status page, and its announcement on the PSF coordination network, so that PSF
// software finds and uses it without being told.
//
// [New] checks what it is given and loads the identity; [Relay.Run] opens the
// listeners and serves until its context ends.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
)

// certificateWait is how long the relay holds back its first announcement for
// the certificate: PSF peers look at a relay once, and keep what they saw.
const certificateWait = 60 * time.Second

// Relay is one relay. It runs once.
type Relay struct {
	cfg   Config
	log   *slog.Logger
	key   crypto.PrivKey
	id    peer.ID
	certs *certs // nil: no domain, hence no certificate

	ready chan struct{}

	mu      sync.Mutex
	host    host.Host
	service *relayv2.Relay
	started time.Time
}

// New checks cfg and loads the identity, or makes it in an empty data folder.
// Nothing is opened yet.
func New(cfg Config, log *slog.Logger) (*Relay, error) {
	if err := errors.Join(cfg.Validate(), cfg.abs()); err != nil {
		return nil, err
	}
	key, created, err := loadOrCreateIdentity(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("read the identity: %w", err)
	}
	if created {
		log.Info("made a new identity", "peer_id", id.String(), "data_dir", cfg.DataDir)
	}
	r := &Relay{cfg: cfg, log: log, key: key, id: id, ready: make(chan struct{})}
	if cfg.Domain != "" {
		if r.certs, err = newCerts(cfg, log); err != nil {
			return nil, err
		}
	}
	return r, nil
}

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
	addrs, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: r.id, Addrs: h.Addrs()})
	if err != nil {
		return nil
	}
	return addrs
}

// Run serves until ctx ends; then it closes what it opened and returns nil. An
// error says why the relay could not start.
func (r *Relay) Run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := os.MkdirAll(r.cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	h, err := r.newHost()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	service, err := newService(h, r.cfg)
	if err != nil {
		return err
	}
	defer service.Close()
	r.mu.Lock()
	r.host, r.service, r.started = h, service, time.Now()
	r.mu.Unlock()
	for _, a := range r.Addrs() {
		r.log.Info("listening", "announced", a.String())
	}

	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if r.certs != nil {
		wg.Go(func() { r.certs.keep(ctx) })
		select {
		case <-r.certs.loaded:
		case <-time.After(certificateWait):
			r.log.Warn("no certificate yet, going on without: browsers cannot reach the relay until there is one")
		case <-ctx.Done():
			return nil
		}
	}
	if r.cfg.PSF.Enabled {
		if err := r.joinPSF(ctx, h, &wg); err != nil {
			return err
		}
	}
	close(r.ready)
	r.log.Info("ready", "peer_id", r.id.String())
	<-ctx.Done()
	return nil
}

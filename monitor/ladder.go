package monitor

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
)

// ladder is how this monitor probes: with Mozilla's pinned roots on the real
// network, and with a lab's own CA and names in a lab.
type ladder struct {
	opts     probe.Options
	listener *probe.Listener
	live     context.Context // until close
	end      context.CancelFunc
	key      crypto.PrivKey // with which controls that are relays are asked for a place
	wait     time.Duration  // for an announcement that was not heard yet
}

// spacing is between two dials to one relay (rule R2): js-libp2p refuses more
// than five connections a second from one address, which would look like an outage.
const spacing = time.Second

func newLadder(cfg Config) (*ladder, error) {
	l := &ladder{opts: probe.Options{
		Resolve:      cfg.Lab.Resolve,
		AllowPrivate: cfg.Network == evidence.Lab,
		Pace:         probe.NewPace(spacing),
	}}
	var err error
	if l.opts.Second, err = cfg.SecondResolvers(); err != nil {
		return nil, err
	}
	if cfg.Lab.CA != "" {
		pem, err := os.ReadFile(cfg.Lab.CA)
		if err != nil {
			return nil, fmt.Errorf("read the lab's CA: %w", err)
		}
		if l.opts.ExtraCAs, err = probe.ParseCAs(pem); err != nil {
			return nil, fmt.Errorf("the lab's CA %s: %w", cfg.Lab.CA, err)
		}
	}
	// One for as long as the process runs, so that a control that is a relay gives it
	// one place and no more.
	if l.key, _, err = crypto.GenerateEd25519Key(rand.Reader); err != nil {
		return nil, err
	}
	l.live, l.end = context.WithCancel(context.Background())
	// One identity for as long as the process runs, and none that is stored: to
	// the relays the listener is one more member of the topic.
	if l.listener, err = probe.NewListener(nil, l.opts); err != nil {
		return nil, err
	}
	l.opts.Listener = l.listener
	return l, nil
}

// climb makes one attempt, without a reservation if there is no key for it; it returns
// the leaf certificate to which the attempt refers, too.
func (l *ladder) climb(ctx context.Context, t probe.Target, look *lookout, key crypto.PrivKey) (evidence.Attempt, [][]byte) {
	var leaves []*x509.Certificate
	o := l.opts
	o.ProbeKey, o.NoRelay = key, key == nil
	o.AnnounceWait = l.wait
	o.OnCertificate = func(leaf *x509.Certificate) { leaves = append(leaves, leaf) }
	if look == nil {
		// Without controls in the roster no failure counts (rule R5).
		a := probe.Run(ctx, t, o)
		return a, referred(a, leaves)
	}
	w := look.watch(l.try)
	o.OnRung = w.rung
	a := probe.Run(ctx, t, o)
	if ctx.Err() == nil {
		a.Controls = w.controls(ctx, probe.Needed(a)...)
	}
	return a, referred(a, leaves)
}

// referred is the leaf to which the attempt refers. A relay may have shown another one
// each time, and what was met in a relay's place is not kept.
func referred(a evidence.Attempt, leaves []*x509.Certificate) [][]byte {
	for _, leaf := range leaves {
		if c := a.Facts.Certificate; c != nil && c.SHA256 == fmt.Sprintf("%x", sha256.Sum256(leaf.Raw)) {
			return [][]byte{leaf.Raw}
		}
	}
	return nil
}

// try makes one round of controls. It is bounded by the ladder's life and not by that
// of the attempt which called for it: others may share it.
func (l *ladder) try(hosts []probe.ControlHost, components []evidence.Component) []evidence.Control {
	ctx, cancel := context.WithTimeout(l.live, controlsTimeout)
	defer cancel()
	o := l.opts
	o.ProbeKey = l.key
	return probe.Controls(ctx, hosts, components, o)
}

// watch keeps the listener connected to these relays.
func (l *ladder) watch(targets []probe.Target) { l.listener.Watch(targets) }

// announced tells when the relay's last announcement was heard; empty: never.
func (l *ladder) announced(id string) string {
	p, err := peer.Decode(id)
	if err != nil {
		return ""
	}
	if heard, ok := l.listener.Last(p); ok {
		return evidence.TimeOf(heard.At).String()
	}
	return ""
}

func (l *ladder) close() error {
	l.end()
	return l.listener.Close()
}

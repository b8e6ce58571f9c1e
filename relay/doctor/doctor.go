// Package doctor goes through what the bounty asks of a relay, on the relay's own
// machine: [Examine] once, for the operator who asks, and a [Checkup] all the time, for
// the status page.
//
// What is found and how it is judged are kept apart. findings.go looks at the machine;
// observed.go, reach.go and heard.go note what peers show of the relay from outside;
// requirements.go judges.
package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/download"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// Examination says how the doctor looks.
type Examination struct {
	// Resolver is the DNS server to ask (host:port); empty: the system's.
	Resolver string
	// Time bounds the whole.
	Time time.Duration
}

// ExaminationTime is enough for all that the doctor does.
const ExaminationTime = 45 * time.Second

// Examine goes through what the bounty wants of a relay, on its own machine: it
// asks the relay if that runs, and looks for itself at what it can see.
func Examine(ctx context.Context, cfg config.Config, id peer.ID, e Examination) (status.Diagnosis, error) {
	if err := errors.Join(cfg.Validate(), cfg.Abs()); err != nil {
		return status.Diagnosis{}, err
	}
	if e.Resolver != "" {
		if _, _, err := net.SplitHostPort(e.Resolver); err != nil {
			e.Resolver = net.JoinHostPort(e.Resolver, "53")
		}
	}
	if e.Time <= 0 {
		e.Time = ExaminationTime
	}
	ctx, cancel := context.WithTimeout(ctx, e.Time)
	defer cancel()
	says, silent := askStatus(ctx, cfg, id)
	f := look(ctx, cfg, e.Resolver, false)
	f.id = id
	if silent != nil {
		f.silent = oneLine(silent)
		f.ports = tryPorts(cfg)
	} else {
		// While the guests' reservations are all taken, one of them would have to give way.
		if says.Reservations.Guests < says.Reservations.GuestMax {
			f.trial = reserveOnTrial(ctx, id, localAddrs(cfg, says))
		}
	}
	if silent == nil && cfg.PSF.Enabled {
		f.heard = listenFor(ctx, cfg, id, localAddrs(cfg, says))
	}
	d := status.Diagnosis{PeerID: id.String(), Running: says != nil, Lab: cfg.Network.AllowPrivate, Requirements: requirements(cfg, says, f), Software: judge{cfg, says, f}.installed(), Status: says}
	for _, r := range d.Requirements {
		switch r.Outcome {
		case status.Met:
			d.Met++
		case status.NotMet:
			d.NotMet++
		default:
			d.Unknown++
		}
	}
	return d, nil
}

// localAddrs is where the relay's own machine reaches it by TCP. Ports that the
// system chose stand in what it announces.
func localAddrs(cfg config.Config, s *status.Status) []ma.Multiaddr {
	out := dialLocally(cfg.Listen.TCP)
	for _, text := range s.Addrs {
		if a, err := ma.NewMultiaddr(text); err == nil && kindOf(text) == "tcp" {
			a, _ = peer.SplitAddr(a)
			out = append(out, a)
		}
	}
	return out
}

// maxStatus bounds what is read of a status.
const maxStatus = 1 << 20

// way is one by which the relay that runs can be asked on its own machine.
type way struct {
	url    string // without a path
	client *http.Client
}

// waysToAsk are the metrics listener and the page that it serves to browsers.
func waysToAsk(cfg config.Config) (ways []way, err error) {
	if cfg.Metrics.Listen != "" {
		if host, port, err := net.SplitHostPort(cfg.Metrics.Listen); err == nil {
			if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
				host = "127.0.0.1"
			}
			ways = append(ways, way{"http://" + net.JoinHostPort(host, port), &http.Client{Transport: &http.Transport{}}})
		}
	}
	if own := cfg.OwnWSS(); cfg.Domain != "" && own != "" {
		ways = append(ways, way{"https://" + cfg.Domain, &http.Client{Transport: &http.Transport{
			// A bad certificate must not hide the state. Who answers is on this machine,
			// and says its peer ID; a stranger could be no worse than a missing answer.
			TLSClientConfig: &tls.Config{ServerName: cfg.Domain, InsecureSkipVerify: true},
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", own)
			},
		}}})
	}
	if len(ways) == 0 {
		return nil, errors.New("there is no way to ask it: set metrics.listen, or a domain")
	}
	return ways, nil
}

// askStatus asks the relay that runs for its state, by the one way or the other.
func askStatus(ctx context.Context, cfg config.Config, id peer.ID) (*status.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	ways, err := waysToAsk(cfg)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, w := range ways {
		s, err := fetchStatus(ctx, w.client, w.url+"/status.json")
		w.client.CloseIdleConnections()
		if err == nil && s.PeerID != id.String() {
			err = fmt.Errorf("another relay answers, %.80q: does another relayd run here", s.PeerID)
		}
		if err == nil {
			return s, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// Health is an error unless the relay that runs with this configuration serves.
func Health(ctx context.Context, cfg config.Config) error {
	ways, err := waysToAsk(cfg)
	if err != nil {
		return err
	}
	var errs []error
	for _, w := range ways {
		err := download.Healthy(ctx, w.client, w.url+"/healthz", buildinfo.Agent("relayd"))
		w.client.CloseIdleConnections()
		if err == nil || errors.Is(err, download.ErrUnhealthy) {
			return err // it has answered
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func fetchStatus(ctx context.Context, client *http.Client, url string) (*status.Status, error) {
	b, err := download.Get(ctx, client, url, buildinfo.Agent("relayd"), maxStatus)
	if err != nil {
		return nil, err
	}
	var s status.Status
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	return &s, nil
}

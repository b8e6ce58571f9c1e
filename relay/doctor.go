package relay

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
)

// Diagnosis is what the doctor says.
type Diagnosis struct {
	PeerID       string        `json:"peer_id,omitempty"`
	Running      bool          `json:"running"`
	Lab          bool          `json:"lab,omitempty"` // private addresses and a private CA pass
	Met          int           `json:"met"`
	NotMet       int           `json:"not_met"`
	Unknown      int           `json:"unknown"`
	Requirements []Requirement `json:"requirements"`
	Software     Software      `json:"software"`
	Status       *Status       `json:"status,omitempty"` // as the running relay has it
}

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
func Examine(ctx context.Context, cfg Config, e Examination) (Diagnosis, error) {
	if err := errors.Join(cfg.Validate(), cfg.abs()); err != nil {
		return Diagnosis{}, err
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
	key, err := LoadIdentity(cfg.DataDir)
	if err != nil {
		return Diagnosis{}, fmt.Errorf("examine: %w", err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return Diagnosis{}, fmt.Errorf("examine: %w", err)
	}
	status, silent := askStatus(ctx, cfg, id)
	f := look(ctx, cfg, e.Resolver, false)
	f.id = id
	if silent != nil {
		f.silent = oneLine(silent)
		f.ports = tryPorts(cfg)
	} else {
		// While the guests' places are full, one of them would have to give way.
		if status.Reservations.Guests < status.Reservations.GuestPlaces {
			f.trial = reserveOnTrial(ctx, id, localAddrs(cfg, status))
		}
	}
	if silent == nil && cfg.PSF.Enabled {
		f.heard = listenFor(ctx, cfg, id, localAddrs(cfg, status))
	}
	d := Diagnosis{PeerID: id.String(), Running: status != nil, Lab: cfg.Network.AllowPrivate, Requirements: requirements(cfg, status, f), Software: judge{cfg, status, f}.installed(), Status: status}
	for _, r := range d.Requirements {
		switch r.Outcome {
		case Met:
			d.Met++
		case NotMet:
			d.NotMet++
		default:
			d.Unknown++
		}
	}
	return d, nil
}

// localAddrs is where the relay's own machine reaches it by TCP. Ports that the
// system chose stand in what it announces.
func localAddrs(cfg Config, s *Status) []ma.Multiaddr {
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

// askStatus asks the relay that runs for its state, by the metrics listener or by
// the page that it serves to browsers.
func askStatus(ctx context.Context, cfg Config, id peer.ID) (*Status, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	type way struct {
		url    string
		client *http.Client
	}
	var ways []way
	if cfg.Metrics.Listen != "" {
		if host, port, err := net.SplitHostPort(cfg.Metrics.Listen); err == nil {
			if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
				host = "127.0.0.1"
			}
			ways = append(ways, way{"http://" + net.JoinHostPort(host, port) + "/status.json", &http.Client{Transport: &http.Transport{}}})
		}
	}
	if own := cfg.ownWSS(); cfg.Domain != "" && own != "" {
		ways = append(ways, way{"https://" + cfg.Domain + "/status.json", &http.Client{Transport: &http.Transport{
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
	var errs []error
	for _, w := range ways {
		s, err := fetchStatus(ctx, w.client, w.url)
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

func fetchStatus(ctx context.Context, client *http.Client, url string) (*Status, error) {
	b, err := download.Get(ctx, client, url, buildinfo.Agent("relayd"), maxStatus)
	if err != nil {
		return nil, err
	}
	var s Status
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	return &s, nil
}

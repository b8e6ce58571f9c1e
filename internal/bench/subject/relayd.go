package subject

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/bench/load"
)

// wide lifts the limits that a benchmark would meet, and keeps what is counted
// for them. The peers of a benchmark are guests: nobody announces them.
const wide = `limits:
  reservations: 16384
  guest_reservations: 16384
  reservations_per_ip: 16384
  circuits: 16384
  guest_circuits: 16384
  guest_circuit_data: 1000TB
  guest_circuit_time: 24h
  peer_day: 1000TB
  ip_day: 1000TB
  month: 1000TB
  connections: 16384
  connections_per_ip: 16384
  connects_per_second: 100000`

// relayd is the relay of this checkout, with its own certificate, on tcp, quic and
// wss. settings take the place of the wide limits.
func (s *starting) relayd(ctx context.Context, settings string) (*Subject, error) {
	if settings == "" {
		settings = wide
	}
	config, err := s.write("relayd.yaml",
		"name: benchmark",
		"data_dir: "+filepath.Join(s.dir, "data"),
		"domain: "+load.ServerName,
		fmt.Sprintf(`listen: {tcp: [/ip4/%s/tcp/%d], quic: [/ip4/%s/udp/%d/quic-v1], wss: [/ip4/%s/tcp/%d/tls/ws], webtransport: [], webrtc: [], http: ""}`,
			s.ip, portTCP, s.ip, portQUIC, s.ip, portWSS),
		fmt.Sprintf("tls: {cert: %s, key: %s}", s.Cert, s.Cert),
		"network: {allow_private: true}",
		`psf: {bootstrap: [], bootstrap_list: ""}`,
		fmt.Sprintf("metrics: {listen: %q}", s.metrics()),
		settings)
	if err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, s.Relayd, "init", "--config", config).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make its identity: %w\n%s", err, out)
	}
	out, err := exec.CommandContext(ctx, s.Relayd, "id", "--config", config).Output()
	if err != nil {
		return nil, fmt.Errorf("read its identity: %w", err)
	}
	id, err := peer.Decode(strings.TrimSpace(string(out)))
	if err != nil {
		return nil, fmt.Errorf("read its identity: %w", err)
	}
	p, err := s.start(ctx, false, s.Relayd, "run", "--config", config)
	if err != nil {
		return nil, err
	}
	sub := s.target(p, map[string]netip.AddrPort{"tcp": s.at(portTCP), "quic": s.at(portQUIC), "wss": s.at(portWSS)})
	sub.Target.ID, sub.Metrics = id, "http://"+s.metrics()+"/metrics"
	return sub, until(ctx, p, func() error {
		res, err := http.Get("http://" + s.metrics() + "/status.json")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		var status struct{ Ready bool }
		if err := json.NewDecoder(res.Body).Decode(&status); err != nil {
			return err
		}
		if !status.Ready {
			return errors.New("its status says that it is not ready")
		}
		return nil
	})
}

func (s *starting) metrics() string { return s.at(portMetrics).String() }

package demo

import (
	"fmt"
	"time"
)

// What the demo hands to the programs: the same files that an operator and a
// committee write.

func (s *state) relayConfig(directory string) string {
	return fmt.Sprintf(`name: demo relay
data_dir: %s
domain: %s
listen:
  tcp: [/ip4/%[3]s/tcp/%[4]d]
  quic: [/ip4/%[3]s/udp/%[5]d/quic-v1]
  wss: [/ip4/%[3]s/tcp/%[6]d/tls/ws]
  webtransport: []
  webrtc: []
  http: ""
acme:
  directory: %[7]s
  ca_file: %[8]s
network:
  allow_private: true
psf:
  bootstrap: []
  bootstrap_list: ""
metrics:
  listen: ""
`, s.path("relay"), domain, host, s.Ports.TCP, s.Ports.QUIC, s.Ports.WSS, directory, s.path("ca.pem"))
}

func (s *state) monitorConfig() string {
	return fmt.Sprintf(`name: demo
network: lab
data_dir: %s
roster: %s
rules: %s
listen: %s:%d
lab:
  ca: %s
  resolve:
    %s: %s
`, s.path("monitor"), s.path("roster.yaml"), s.path("rules.yaml"), "127.0.0.1", s.Ports.Pages, s.path("ca.pem"), domain, host)
}

// A committee would sign these two; a lab's are unsigned.
const labRules = "network: lab\n"

func (s *state) roster(peerID, logKey, planKey string) string {
	from := s.Enrolled.Format(time.RFC3339)
	return fmt.Sprintf(`network: lab
monitors:
  - name: demo
    operator: demo
    log_key: %q
    plan_key: %q
    from: %s
relays:
  - peer_id: %s
    operator: demo relay
    ipv4: %s
    tcp_port: %d
    domain: %s
    wss_port: %d
    enrolled: %s
`, logKey, planKey, from, peerID, host, s.Ports.TCP, domain, s.Ports.WSS, from)
}

package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/psf-relay/relay-appliance/internal/durable"
)

// The demo's relay has this name and address. Not 127.0.0.1: PSF software drops
// that one.
const domain = "relay.test"

var host = netip.MustParseAddr("127.0.0.2")

// state is what a later run goes on from. The programs keep their own state
// beside it: the relay its identity, the monitor its log.
type state struct {
	dir      string
	Ports    ports     `json:"ports"`
	Enrolled time.Time `json:"enrolled"`
}

// ports are chosen at the first run and kept, because they stand in the roster.
type ports struct {
	TCP   uint16 `json:"tcp"`
	QUIC  uint16 `json:"quic"`
	WSS   uint16 `json:"wss"`
	Pages uint16 `json:"pages"`
}

// load reads the state of an earlier run, or begins one.
func load(dir string) (*state, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &state{dir: dir}
	b, err := os.ReadFile(s.path("demo.json"))
	switch {
	case err == nil:
		if err := json.Unmarshal(b, s); err != nil {
			return nil, fmt.Errorf("read %s: %w: remove the folder %s to begin anew", s.path("demo.json"), err, dir)
		}
	case errors.Is(err, fs.ErrNotExist):
		s.Enrolled = time.Now().UTC().Truncate(time.Hour)
	default:
		return nil, err
	}
	if !s.Ports.free() {
		if s.Ports, err = choosePorts(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if b, err = json.MarshalIndent(s, "", "  "); err != nil {
		return nil, err
	}
	return s, durable.Replace(s.path("demo.json"), append(b, '\n'), 0o644)
}

func (s *state) path(name string) string { return filepath.Join(s.dir, name) }

func (s *state) write(name, text string) error {
	return durable.Replace(s.path(name), []byte(text), 0o644)
}

// free says whether nobody else has taken the ports since the last run.
func (p ports) free() bool {
	for _, port := range []uint16{p.TCP, p.WSS, p.Pages} {
		if port == 0 || !freeTCP(port) {
			return false
		}
	}
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: host.AsSlice(), Port: int(p.QUIC)})
	if err != nil || p.QUIC == 0 {
		return false
	}
	return c.Close() == nil
}

func freeTCP(port uint16) bool {
	l, err := net.Listen("tcp4", netip.AddrPortFrom(host, port).String())
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// choosePorts lets the kernel choose, all at the same time so that they differ.
func choosePorts() (p ports, err error) {
	for _, port := range []*uint16{&p.TCP, &p.WSS, &p.Pages, &p.QUIC} {
		l, err := net.Listen("tcp4", netip.AddrPortFrom(host, 0).String())
		if err != nil {
			return p, fmt.Errorf("find a free port on %s: %w", host, err)
		}
		defer l.Close()
		*port = l.Addr().(*net.TCPAddr).AddrPort().Port()
	}
	return p, nil
}

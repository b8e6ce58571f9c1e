package qemu

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
)

// Port is one of the guest.
type Port struct {
	Protocol string // tcp or udp
	Number   int
}

// The host's ports are chosen below those that Linux gives to outgoing connections
// (32768 and up): a machine that is started again finds them still free.
const firstPort, lastPort = 20000, 31999

// choosePorts finds a free port of the loopback for each.
func choosePorts(ports []Port) (map[Port]int, error) {
	chosen, taken := map[Port]int{}, map[int]bool{}
	for _, p := range ports {
		for range 1000 {
			n := firstPort + rand.IntN(lastPort-firstPort+1)
			if !taken[n] && free(p.Protocol, n) {
				chosen[p], taken[n] = n, true
				break
			}
		}
		if chosen[p] == 0 {
			return nil, errors.New("no free port was found on 127.0.0.1")
		}
	}
	return chosen, nil
}

func free(protocol string, port int) bool {
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if protocol == "udp" {
		c, err := net.ListenPacket("udp4", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	l, err := net.Listen("tcp4", addr)
	if err == nil {
		l.Close()
	}
	return err == nil
}

// Forwarded is the port of 127.0.0.1 that leads to a TCP port of the guest. It
// panics for one that is not in [Config.TCP].
func (m *Machine) Forwarded(tcp int) int { return m.forwarded(Port{"tcp", tcp}) }

// ForwardedUDP does so for [Config.UDP].
func (m *Machine) ForwardedUDP(udp int) int { return m.forwarded(Port{"udp", udp}) }

func (m *Machine) forwarded(p Port) int {
	n, ok := m.wiring.forwarded[p]
	if !ok {
		panic(fmt.Sprintf("qemu: %s port %d of the guest is not forwarded", p.Protocol, p.Number))
	}
	return n
}

// Serve lets the guest reach a TCP service of the host, given as IP:port, at a port
// of [ServiceHost], from the next start on.
func (m *Machine) Serve(port int, addr string) error {
	if port < 1 || port > 65535 {
		return fmt.Errorf("port %d for a service of the host", port)
	}
	if a, err := netip.ParseAddrPort(addr); err != nil || a.Port() == 0 {
		return fmt.Errorf("a service of the host: %q is no IP:port", addr)
	}
	if m.wiring.services == nil {
		m.wiring.services = map[int]string{}
	}
	m.wiring.services[port] = addr
	return nil
}

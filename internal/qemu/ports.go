package qemu

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
)

// The host's ports are chosen below those that Linux gives to outgoing connections
// (32768 and up): a machine that is started again finds them still free.
const firstPort, lastPort = 20000, 31999

// choosePorts finds a free port of the loopback for each of the guest's.
func choosePorts(guest []int) (map[int]int, error) {
	chosen, taken := map[int]int{}, map[int]bool{}
	for _, port := range guest {
		for range 1000 {
			n := firstPort + rand.IntN(lastPort-firstPort+1)
			if !taken[n] && free(n) {
				chosen[port], taken[n] = n, true
				break
			}
		}
		if chosen[port] == 0 {
			return nil, errors.New("no free port was found on 127.0.0.1")
		}
	}
	return chosen, nil
}

func free(port int) bool {
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err == nil {
		l.Close()
	}
	return err == nil
}

// Forwarded is the port of 127.0.0.1 that leads to a port of the guest. It panics
// for one that is not in [Config.TCP].
func (m *Machine) Forwarded(port int) int {
	n, ok := m.wiring.forwarded[port]
	if !ok {
		panic(fmt.Sprintf("qemu: port %d of the guest is not forwarded", port))
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

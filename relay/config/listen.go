package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"syscall"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// ListenAddrs is what the relay listens on with this configuration. Addresses
// that cannot be had are an error that says why, except IPv6 on a machine
// without it: then the IPv4 ones must do.
func (c Config) ListenAddrs(log *slog.Logger) ([]ma.Multiaddr, error) {
	var out []ma.Multiaddr
	var faults []error
	tried := map[string]error{}
	first := map[string]string{} // who wants it
	for _, k := range Transports {
		addrs := *k.addrs(&c.Listen)
		if k.ByDomain && c.Domain == "" {
			if len(addrs) > 0 {
				log.Warn(k.Name + " is off: without a domain there is no certificate, and no browser on an https page can reach the relay; set domain")
			}
			continue
		}
		for _, a := range addrs {
			network, hostPort, err := manet.DialArgs(a)
			if err != nil {
				return nil, fmt.Errorf("listen.%s: %s: %w", k.Name, a, err)
			}
			key := network + " " + hostPort
			err, again := tried[key]
			if !again {
				err = tryListen(network, hostPort)
				tried[key], first[key] = err, k.Name
			}
			switch {
			case again && err == nil && strings.HasPrefix(network, "tcp") && !strings.HasSuffix(hostPort, ":0"):
				faults = append(faults, fmt.Errorf("listen.%s: %s: listen.%s has that address and port already: choose another port", k.Name, a, first[key]))
			case err == nil:
				out = append(out, a)
			case a[0].Protocol().Code == ma.P_IP6 && noIPv6(err):
				if !again {
					log.Warn("this machine has no IPv6 to listen on", "addr", a.String())
				}
			case !again:
				faults = append(faults, fmt.Errorf("listen.%s: %w", k.Name, err))
			}
		}
	}
	if len(faults) == 0 && len(out) == 0 {
		return nil, errors.New("listen: no address is left to listen on")
	}
	return out, errors.Join(faults...)
}

// tryListen binds an address and lets go of it at once. libp2p only logs the
// listeners it could not open, so the reason is found before it is asked.
func tryListen(network, hostPort string) error {
	var err error
	switch network {
	case "udp", "udp4", "udp6":
		var c net.PacketConn
		if c, err = net.ListenPacket(network, hostPort); err == nil {
			return c.Close()
		}
	default:
		var l net.Listener
		if l, err = net.Listen(network, hostPort); err == nil {
			return l.Close()
		}
	}
	return ExplainListen(network, hostPort, err)
}

// ExplainListen says what to do about the faults operators meet.
func ExplainListen(network, hostPort string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s port %s is in use by another program (ss -lntup shows which): stop it or choose another port: %w", network, hostPort, err)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%s port %s needs a right this user lacks: give the program CAP_NET_BIND_SERVICE (in a systemd unit: AmbientCapabilities=CAP_NET_BIND_SERVICE; in a container: the sysctl net.ipv4.ip_unprivileged_port_start=80) or choose a port above 1023: %w", network, hostPort, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s address %s is not on any interface of this machine: listen on 0.0.0.0 and set announce.ip4 if the provider translates addresses: %w", network, hostPort, err)
	default:
		return fmt.Errorf("listen on %s %s: %w", network, hostPort, err)
	}
}

func noIPv6(err error) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

// DomainAddr is the address browsers use in place of an IP address, which no
// certificate covers.
func (c Config) DomainAddr(a ma.Multiaddr) ma.Multiaddr {
	port, err := a.ValueForProtocol(ma.P_TCP)
	if err != nil || c.Domain == "" {
		return nil
	}
	d, err := ma.NewMultiaddr("/dns4/" + c.Domain + "/tcp/" + port + "/tls/ws")
	if err != nil {
		return nil
	}
	return d
}

// Translated puts the public address in place of the interface's.
func (c Config) Translated(a ma.Multiaddr) ma.Multiaddr {
	if len(a) == 0 {
		return a
	}
	public := c.Announce.IP4
	if a[0].Protocol().Code == ma.P_IP6 {
		public = c.Announce.IP6
	}
	if !public.IsValid() || a[0].Protocol().Code != ma.P_IP4 && a[0].Protocol().Code != ma.P_IP6 {
		return a
	}
	comp, err := ma.NewComponent(a[0].Protocol().Name, public.String())
	if err != nil {
		return a
	}
	return append(ma.Multiaddr{*comp}, a[1:]...)
}

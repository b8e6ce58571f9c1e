package qemu

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Tap is a network of the host's own making, in place of QEMU's: a device that the machine
// is wired to. Whoever made it says what is on it; nothing is forwarded, and nothing is
// served by [Machine.Serve].
type Tap struct {
	Device string     // of the kind that `ip tuntap add mode tap` makes
	MAC    string     // the machine's own
	Addr   netip.Addr // where the host reaches the machine
}

func (t *Tap) netdev() string { return "tap,id=net0,script=no,downscript=no,ifname=" + t.Device }

// Addr is where a TCP port of the guest is reached from the host.
func (m *Machine) Addr(port int) string {
	if m.cfg.Tap != nil {
		return netip.AddrPortFrom(m.cfg.Tap.Addr, uint16(port)).String()
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(m.Forwarded(port)))
}

// AuthorizedKey is the key that [Machine.Run] logs in with, as authorized_keys has it: for
// who hands it to the guest in another way than by [Machine.Seed].
func (m *Machine) AuthorizedKey() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(m.key.PublicKey())))
}

package appliance

import (
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/relay/status"
)

func TestNetwork(t *testing.T) {
	off, idle := card(), card()
	off.Up, off.Link, idle.Link = false, false, false
	bridge := card("172.17.0.1")
	bridge.Name, bridge.MAC, bridge.Link = "docker0", "", false
	second := card("203.0.113.9", "2001:db8::1")
	second.Name = "eth1"
	for name, c := range map[string]struct {
		all         []Interface
		want        status.Outcome
		found, cure string
	}{
		"no card":         {[]Interface{loopback}, status.NotMet, "no network card was found", "virtio, e1000, e1000e or vmxnet3"},
		"nothing":         {nil, status.NotMet, "no network card was found", "virtio"},
		"switched off":    {[]Interface{loopback, off}, status.NotMet, "eth0 (52:54:00:12:34:56): switched off", "network-config"},
		"no link":         {[]Interface{loopback, idle}, status.NotMet, "eth0 (52:54:00:12:34:56): no link", "Connect"},
		"no address":      {[]Interface{loopback, card()}, status.NotMet, "eth0 (52:54:00:12:34:56): no address came by DHCP", "DHCP"},
		"of the link":     {[]Interface{loopback, card("fe80::1", "169.254.3.4")}, status.NotMet, "eth0 (52:54:00:12:34:56): no address came by DHCP, there are only link-local ones, fe80::1, 169.254.3.4", "DHCP"},
		"IPv6":            {[]Interface{loopback, card("fe80::1", "2001:db8::7")}, status.NotMet, "there is an IPv6 address, 2001:db8::7 (eth0), but no IPv4 address", "public IPv4"},
		"IPv4":            {[]Interface{loopback, card("192.0.2.7", "fe80::1")}, status.Met, "192.0.2.7 (eth0)", ""},
		"a private one":   {[]Interface{loopback, card("10.0.2.15")}, status.Met, "10.0.2.15 (eth0)", ""},
		"unplugged":       {[]Interface{loopback, bridge, idle}, status.NotMet, "docker0, eth0 (52:54:00:12:34:56): no link", "Connect"},
		"one card is off": {[]Interface{loopback, off, second}, status.Met, "203.0.113.9 (eth1), 2001:db8::1 (eth1)", ""},
	} {
		got := network(c.all, nil)
		if got.Outcome != c.want || got.Found != c.found || !strings.Contains(got.Cure, c.cure) || (got.Cure == "") != (c.cure == "") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := network(nil, os.ErrPermission); got.Outcome != status.Unknown || got.Found == "" {
		t.Errorf("an error: %+v", got)
	}
}

// isolated runs the test again in a network of its own, where it is true.
func isolated(t *testing.T) bool {
	t.Helper()
	const variable = "APPLIANCE_TEST_NAMESPACE"
	if os.Getenv(variable) != "" {
		return true
	}
	need.Root(t)
	need.Tools(t, "ip")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), variable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in a network of its own: %v\n%s", err, out)
	}
	return false
}

// The kernel's own interfaces are read as the faults have them.
func TestNetworkOfTheKernel(t *testing.T) {
	if !isolated(t) {
		return
	}
	ip := func(args string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, out)
		}
	}
	// A cable has two ends, of which the far one is somebody else's.
	look := func() status.Requirement {
		all, err := new(Machine).interfaces()
		return network(slices.DeleteFunc(all, func(i Interface) bool { return i.Name == "far" }), err)
	}
	check := func(when string, o status.Outcome, found string) {
		t.Helper()
		if got := look(); got.Outcome != o || !strings.Contains(got.Found, found) {
			t.Errorf("%s: %+v", when, got)
		}
	}
	check("with lo alone", status.NotMet, "no network card was found")
	ip("link set lo up")
	check("with lo up", status.NotMet, "no network card was found")
	ip("link add card address 52:54:00:12:34:56 type veth peer name far")
	check("with a card", status.NotMet, "card (52:54:00:12:34:56): switched off")
	ip("link set card up")
	check("switched on", status.NotMet, "card (52:54:00:12:34:56): no link")
	ip("link set far up")
	// The kernel tells of a link a little after the fact.
	for end := time.Now().Add(30 * time.Second); strings.Contains(look().Found, "no link") && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	check("with a link", status.NotMet, "card (52:54:00:12:34:56): no address came by DHCP")
	ip("address add 169.254.3.4/16 dev card")
	check("with an address of the link", status.NotMet, "no address came by DHCP, there are only link-local ones, ")
	ip("address add 2001:db8::7/64 dev card nodad")
	check("with IPv6", status.NotMet, "there is an IPv6 address, 2001:db8::7 (card), but no IPv4 address")
	ip("address add 192.0.2.7/24 dev card")
	check("with IPv4", status.Met, "192.0.2.7 (card)")
	all, err := new(Machine).interfaces()
	if err != nil || len(all) != 3 || !all[0].Loopback || len(all[0].Addrs) == 0 || all[0].Addrs[0] != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("%+v, %v", all, err)
	}
}

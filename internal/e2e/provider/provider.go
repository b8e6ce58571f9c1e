// Package provider plays a provider of machines to a QEMU guest: the network as that
// provider gives it, its metadata service with paths, headers and quirks, the disk that it
// attaches, and what its firmware says of the machine.
//
// It works inside a network namespace that the test has made for itself (see
// relaytest.Isolated), so that it may have the providers' own addresses: the kernel answers
// for them, does ARP, NDP and 1:1 NAT (nftables), and dnsmasq does DHCP, router
// advertisements and DNS. The rest of the internet is [Internet] in the same namespace.
//
//	c, err := provider.EC2.Start(t, "relay.test")
//	m, err := qemu.New(ctx, qemu.Config{..., Tap: c.Tap(), More: c.Args()})
//	err = c.Serve(provider.Guest{Key: m.AuthorizedKey(), UserData: userData})
//
// What is played was written after the providers' documentation and after what cloud-init's
// sources ask for; nothing of it was recorded at a provider.
package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/internal/qemu"
)

// Where the rest of the internet is: the CA, whoever looks at the relay.
var (
	Internet  = netip.MustParseAddr("9.9.9.10")
	Internet6 = netip.MustParseAddr("2620:fe::10")
)

// MAC is the address of the guest's network card, with the beginning that Linode's have.
const MAC = "f2:3c:95:00:00:07"

const device = "guest"

// Kind is a provider.
type Kind struct {
	Name   string
	SMBIOS []string // values of QEMU's -smbios
	Lan    Lan

	// Service is where the metadata service listens, on port 80.
	Service []netip.Addr
	// NoKeys: the key for SSH does not get into the machine by way of the provider.
	NoKeys bool
	// Says are warnings of cloud-init's own that belong to this provider.
	Says []string

	serve func(Guest, Lan) http.Handler
	disc  func(Guest, Lan) disc
}

// Silent is the provider without its metadata service.
func (k Kind) Silent() Kind {
	k.Name, k.serve = k.Name+", silent", nil
	return k
}

// Lan is the network that the provider gives.
type Lan struct {
	// IP4 is the address of the guest's interface, with what it takes for its network;
	// invalid: there is no IPv4.
	IP4     netip.Prefix
	Router4 netip.Addr
	// Static: there is no DHCP; the guest is told by the provider's disk.
	Static bool
	// Public is mapped to IP4, 1:1; invalid: IP4 is public itself.
	Public netip.Addr
	// Options are further ones of DHCP, as dnsmasq writes them.
	Options []string
	MTU     int // 0: 1500
	// Resolver is the DNS server that DHCP names; invalid: the router. Name is one of its
	// names, which leads to the metadata service.
	Resolver netip.Addr
	Name     string

	// IP6 is the address that the guest is to have, with its network; invalid: there is
	// no IPv6. The guest makes it of what the router advertises (SLAAC), or is told it by
	// the provider.
	IP6   netip.Prefix
	SLAAC bool
}

// Router6 is where all guests find their router.
var Router6 = netip.MustParseAddr("fe80::1")

// Addr is where the guest is reached from the internet.
func (l Lan) Addr() netip.Addr {
	switch {
	case l.Public.IsValid():
		return l.Public
	case l.IP4.IsValid():
		return l.IP4.Addr()
	}
	return l.IP6.Addr()
}

func (l Lan) resolver() netip.Addr {
	if l.Resolver.IsValid() {
		return l.Resolver
	}
	return l.Router4
}

// Guest is what the machine's owner has told the provider.
type Guest struct {
	Key      string // a line of authorized_keys
	UserData string
}

// disc is a file system that the provider attaches.
type disc struct {
	label string
	files map[string]string
	udf   bool
	cd    bool // by IDE or SATA; else as a virtio disk
}

// Cloud is a provider at work.
type Cloud struct {
	Kind
	t      testing.TB
	domain string
	dir    string
	dns    *exec.Cmd
	tap    *qemu.Tap
}

// Start makes the network, which lasts as long as the namespace. domain leads to the guest.
func (k Kind) Start(t testing.TB, domain string) *Cloud {
	t.Helper()
	need.Tools(t, "ip", "nft", "dnsmasq", "genisoimage")
	c := &Cloud{Kind: k, t: t, domain: domain, dir: t.TempDir(), tap: &qemu.Tap{Device: device, MAC: MAC, Addr: k.Lan.Addr()}}
	l := k.Lan
	c.ip("link", "set", "lo", "up")
	c.ip("tuntap", "add", "dev", device, "mode", "tap")
	if l.MTU != 0 {
		c.ip("link", "set", device, "mtu", fmt.Sprint(l.MTU))
	}
	c.ip("link", "set", device, "up")
	c.ip("address", "add", Internet.String()+"/32", "dev", "lo")
	c.ip("address", "add", Internet6.String()+"/128", "dev", "lo", "nodad")
	own := slices.Clone(k.Service)
	if l.Resolver.IsValid() && !slices.Contains(own, l.Resolver) {
		own = append(own, l.Resolver)
	}
	for _, a := range own {
		c.ip("address", "add", netip.PrefixFrom(a, a.BitLen()).String(), "dev", "lo", "nodad")
	}
	if l.IP4.IsValid() {
		// A router that is not in the guest's network is an address of ours all the same.
		bits := l.IP4.Bits()
		if bits == 32 || !l.IP4.Masked().Contains(l.Router4) {
			bits = 32
		}
		c.ip("address", "add", netip.PrefixFrom(l.Router4, bits).String(), "dev", device)
		c.ip("route", "replace", l.IP4.Addr().String(), "dev", device, "src", Internet.String())
	}
	if l.IP6.IsValid() {
		// Or it would say of itself that it is no router, and guests take its word back.
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+device+"/forwarding", []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
		c.ip("address", "add", Router6.String()+"/64", "dev", device, "nodad")
		if l.SLAAC {
			c.ip("address", "add", netip.PrefixFrom(l.IP6.Masked().Addr().Next(), 64).String(), "dev", device, "nodad")
		}
		c.ip("route", "replace", l.IP6.Masked().String(), "dev", device, "src", Internet6.String())
	}
	if l.Public.IsValid() {
		c.nat(l.Public)
	}
	c.serveNames(l.Addr())
	return c
}

// Tap is how QEMU is wired to it.
func (c *Cloud) Tap() *qemu.Tap { return c.tap }

// Move maps another public address to the guest, as a provider does when a machine was
// stopped.
func (c *Cloud) Move(to netip.Addr) {
	c.t.Helper()
	c.nat(to)
	c.Lan.Public, c.tap.Addr = to, to
	c.serveNames(to)
}

// nat maps a public address to the guest: for what comes, for what the guest opens to the
// internet, and not towards the provider's own services.
func (c *Cloud) nat(public netip.Addr) {
	c.t.Helper()
	c.ip("route", "replace", public.String(), "dev", device, "src", Internet.String())
	rules := fmt.Sprintf(`table ip cloud
delete table ip cloud
table ip cloud {
	chain prerouting { type nat hook prerouting priority -100; ip daddr %[1]s dnat to %[2]s; }
	chain output { type nat hook output priority -100; ip daddr %[1]s dnat to %[2]s; }
	chain input { type nat hook input priority 100; ip saddr %[2]s ip daddr %[3]s snat to %[1]s; }
}
`, public, c.Lan.IP4.Addr(), Internet)
	cmd := exec.CommandContext(c.t.Context(), "nft", "--file", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("1:1 NAT: %v\n%s", err, out)
	}
}

func (c *Cloud) ip(args ...string) {
	c.t.Helper()
	if out, err := exec.CommandContext(c.t.Context(), "ip", args...).CombinedOutput(); err != nil {
		c.t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// serveNames runs dnsmasq, for DNS with the domain at public, and for what else the network
// is to have.
func (c *Cloud) serveNames(public netip.Addr) {
	c.t.Helper()
	if c.dns != nil {
		_ = c.dns.Process.Kill()
		_ = c.dns.Wait()
	}
	config := filepath.Join(c.dir, "dnsmasq.conf")
	if err := os.WriteFile(config, []byte(c.dnsmasq(public)), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.dns = exec.Command("dnsmasq", "--keep-in-foreground", "--conf-file="+config)
	log, err := os.Create(filepath.Join(c.dir, "dnsmasq.log"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.dns.Stdout, c.dns.Stderr = log, log
	c.dns.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.dns.Start(); err != nil {
		c.t.Fatal(err)
	}
	running := c.dns
	c.t.Cleanup(func() {
		_ = running.Process.Kill() // an error: it was ended already
		_ = running.Wait()
		log.Close()
		if b, err := os.ReadFile(log.Name()); err == nil && c.t.Failed() {
			c.t.Logf("dnsmasq:\n%s", b[max(0, len(b)-4000):])
		}
	})
	// It answers when it is ready.
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", Internet.String()+":53")
	}}
	for {
		_, err := resolver.LookupNetIP(ctx, "ip", c.domain)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			b, _ := os.ReadFile(log.Name())
			c.t.Fatalf("dnsmasq does not answer: %v\n%s", err, b)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *Cloud) dnsmasq(public netip.Addr) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	l := c.Lan
	line("no-resolv\nno-hosts\nno-ping\nlog-dhcp\nlog-facility=-\nuser=root\ngroup=root\npid-file=")
	line("interface=lo\ninterface=%s\nno-dhcp-interface=lo", device)
	line("dhcp-leasefile=%s\ndhcp-authoritative", filepath.Join(c.dir, "leases"))
	names := public.String()
	if l.IP6.IsValid() && public.Is4() {
		names += "," + l.IP6.Addr().String()
	}
	line("host-record=%s,%s", c.domain, names)
	if l.IP4.IsValid() && !l.Static {
		mask := net.IP(net.CIDRMask(l.IP4.Bits(), 32))
		own := l.IP4.Addr()
		if !l.IP4.Masked().Contains(l.Router4) || l.IP4.Bits() == 32 {
			line("shared-network=%s,%s", device, own)
		}
		line("dhcp-range=%s,static,%s,1h", own, mask)
		line("dhcp-host=%s,%s", MAC, own)
		line("dhcp-option=option:netmask,%s", mask)
		line("dhcp-option=option:router,%s", l.Router4)
		line("dhcp-option=option:dns-server,%s", l.resolver())
		for _, o := range l.Options {
			line("dhcp-option=%s", o)
		}
	}
	if l.Name != "" {
		line("host-record=%s,%s", l.Name, c.Service[0])
	}
	if l.SLAAC {
		line("enable-ra\ndhcp-range=%s,ra-only,64", l.IP6.Masked().Addr())
	}
	return b.String()
}

// Serve tells the guest what its owner has told the provider: by the metadata service, and
// by the disk, which [Cloud.Args] then attaches.
func (c *Cloud) Serve(g Guest) error {
	if c.serve != nil {
		for _, a := range c.Service {
			l, err := net.Listen("tcp", netip.AddrPortFrom(a, 80).String())
			if err != nil {
				return fmt.Errorf("the metadata service: %w", err)
			}
			s := &http.Server{Handler: c.logged(func() http.Handler { return c.serve(g, c.Lan) }), ReadHeaderTimeout: time.Minute}
			s.SetKeepAlivesEnabled(false) // or a guest could not use a port of its own again
			go s.Serve(l)
			c.t.Cleanup(func() { s.Close() })
		}
	}
	if c.disc != nil {
		return c.burn(c.disc(g, c.Lan))
	}
	return nil
}

// logged makes the handler for each request, since the guest's address may move, and puts
// what was not answered well into the test's log.
func (c *Cloud) logged(handler func() http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		handler().ServeHTTP(s, r)
		if s.status != http.StatusOK {
			c.t.Logf("%s: %s %s from %s: status %d", c.Name, r.Method, r.URL, r.RemoteAddr, s.status)
		}
	})
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (s *statusWriter) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

const discFile = "provider.iso"

// burn makes the file system.
func (c *Cloud) burn(d disc) error {
	tree := filepath.Join(c.dir, "disc")
	if err := os.RemoveAll(tree); err != nil {
		return err
	}
	for name, text := range d.files {
		file := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			return err
		}
	}
	args := []string{"-quiet", "-joliet", "-rock", "-volid", d.label, "-output", filepath.Join(c.dir, discFile)}
	if d.udf {
		args = append(args, "-udf")
	}
	out, err := exec.Command("genisoimage", append(args, tree)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("genisoimage: %w\n%s", err, out)
	}
	return nil
}

// Args are QEMU's further arguments.
func (c *Cloud) Args() []string {
	var args []string
	for _, s := range c.SMBIOS {
		args = append(args, "-smbios", s)
	}
	if c.disc != nil {
		file := strings.ReplaceAll(filepath.Join(c.dir, discFile), ",", ",,")
		if c.disc(Guest{}, c.Lan).cd {
			args = append(args, "-drive", "if=none,id=provider,format=raw,readonly=on,file="+file, "-device", "ide-cd,drive=provider")
		} else {
			args = append(args, "-drive", "if=virtio,format=raw,readonly=on,file="+file)
		}
	}
	return args
}

// reply writes a text.
func reply(w http.ResponseWriter, text string) { _, _ = io.WriteString(w, text) }

package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/miekg/dns"
	"github.com/moby/sys/mountinfo"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/crypto/x509roots/fallback/bundle"
	"golang.org/x/sys/unix"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/certs"
	"github.com/psf-relay/relay-appliance/relay/config"
)

// findings is what a look at the relay's machine and its surroundings brings,
// whether the relay runs or not.
type findings struct {
	at         time.Time // by which ages are told
	looked     time.Time
	id         peer.ID
	interfaces []netip.Addr
	records    records
	presented  presented
	outside    *presented // the same where the domain leads; nil: nobody could be asked
	clock      clock
	built      time.Time // the program; zero: not known
	disk       disk
	version    string
	since      time.Time // when version was first run
	updates    updates
	silent     string // why the relay does not answer
	ports      error  // why it could not listen
	heard      *heard // nil: not listened
	trial      trial
}

// lookTime bounds each part of a look; the parts run side by side.
const lookTime = 8 * time.Second

// look gathers findings. resolver is the DNS server to ask (host:port); empty:
// the system's. keep says that the relay itself looks, which notes what it finds.
func look(ctx context.Context, cfg config.Config, resolver string, keep bool) findings {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	f := findings{at: time.Now(), version: buildinfo.Version(), built: buildinfo.Committed()}
	f.looked = f.at
	f.interfaces, _ = config.InterfaceIPs() // none is then what the requirement says
	f.disk = diskOf(cfg.DataDir)
	if since := versionSince(cfg.DataDir, f.version); plausible(since, f.at, f.built) {
		f.since = since
	}
	var wg sync.WaitGroup
	if cfg.Domain != "" {
		wg.Go(func() {
			f.records = lookUp(ctx, resolver, cfg.Domain)
			f.outside = presentOutside(ctx, cfg, f.records)
		})
		wg.Go(func() { f.presented = present(ctx, cfg, cfg.OwnWSS()) })
	}
	wg.Go(func() { f.clock = readClock(ctx, cfg) })
	wg.Go(func() { f.updates = readUpdates(ctx, cfg, keep) })
	wg.Wait()
	return f
}

// records are the domain's addresses as others see them.
type records struct {
	a, aaaa []netip.Addr
	err     error
}

// lookUp asks a DNS server itself: the system's resolver would answer from
// /etc/hosts, where many machines have their own name with a loopback address.
func lookUp(ctx context.Context, resolver, domain string) records {
	servers := []string{resolver}
	if resolver == "" {
		conf, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil {
			return records{err: fmt.Errorf("find a DNS server: %w", err)}
		}
		servers = nil
		for _, s := range conf.Servers {
			servers = append(servers, net.JoinHostPort(s, conf.Port))
		}
	}
	var r records
	for _, kind := range []struct {
		code uint16
		into *[]netip.Addr
	}{{dns.TypeA, &r.a}, {dns.TypeAAAA, &r.aaaa}} {
		ips, err := query(ctx, servers, domain, kind.code)
		if err != nil {
			return records{err: err}
		}
		*kind.into = ips
	}
	return r
}

func query(ctx context.Context, servers []string, domain string, kind uint16) ([]netip.Addr, error) {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(domain), kind)
	err := errors.New("no DNS server is configured")
	for _, server := range servers {
		var answer *dns.Msg
		for _, network := range []string{"udp", "tcp"} {
			answer, err = exchange(ctx, network, server, m)
			if err == nil && !answer.Truncated {
				break
			}
		}
		switch {
		case err != nil:
			continue
		case answer.Rcode == dns.RcodeNameError:
			return nil, nil
		case answer.Rcode != dns.RcodeSuccess:
			err = fmt.Errorf("DNS server %s answers %s", server, dns.RcodeToString[answer.Rcode])
			continue
		}
		var out []netip.Addr
		for _, rr := range answer.Answer {
			var ip net.IP
			switch rr := rr.(type) {
			case *dns.A:
				ip = rr.A
			case *dns.AAAA:
				ip = rr.AAAA
			}
			if a, ok := netip.AddrFromSlice(ip); ok {
				out = append(out, a.Unmap())
			}
		}
		return out, nil
	}
	return nil, err
}

// exchange ends with ctx, which the library's own does only at the deadline.
func exchange(ctx context.Context, network, server string, m *dns.Msg) (*dns.Msg, error) {
	type reply struct {
		msg *dns.Msg
		err error
	}
	done := make(chan reply, 1)
	go func() {
		c := &dns.Client{Net: network, Timeout: 2 * time.Second}
		msg, _, err := c.ExchangeContext(ctx, m.Copy(), server)
		done <- reply{msg, err}
	}()
	select {
	case r := <-done:
		return r.msg, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("ask %s: %w", server, ctx.Err())
	}
}

// presented is what the relay's WSS port shows to a browser.
type presented struct {
	addr      string
	leaf      []byte // DER
	err       error  // no TLS at all
	untrusted error  // a certificate that no browser takes
	issuer    string
	notAfter  time.Time
	life      time.Duration
}

// presentOutside makes the handshake where browsers are led: something else than
// relayd may answer there. nil: nothing does, which is no fault in itself, since not
// every router lets a machine reach its own public address.
func presentOutside(ctx context.Context, cfg config.Config, r records) *presented {
	if r.err != nil || len(r.a) == 0 || r.a[0].IsLoopback() && !cfg.Network.AllowPrivate {
		return nil
	}
	port := "443"
	if cfg.Network.AllowPrivate {
		port = strconv.Itoa(cfg.WssPort())
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime/2)
	defer cancel()
	p := present(ctx, cfg, net.JoinHostPort(r.a[0].String(), port))
	if p.err != nil {
		return nil
	}
	return &p
}

// present makes a TLS handshake with the relay's listener at addr.
func present(ctx context.Context, cfg config.Config, addr string) presented {
	p := presented{addr: addr}
	if p.addr == "" {
		p.err = errors.New("listen.wss is empty")
		return p
	}
	roots, err := trusted(cfg)
	if err != nil {
		p.err = err
		return p
	}
	d := &tls.Dialer{Config: &tls.Config{
		ServerName: cfg.Domain,
		NextProtos: []string{"http/1.1"}, // as a browser asks for a WebSocket
		// Checked below: a bad certificate is a finding, not an end.
		InsecureSkipVerify: true,
	}}
	conn, err := d.DialContext(ctx, "tcp", p.addr)
	if err != nil {
		p.err = err
		return p
	}
	defer conn.Close()
	chain := conn.(*tls.Conn).ConnectionState().PeerCertificates
	leaf, between := chain[0], x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, p.untrusted = leaf.Verify(x509.VerifyOptions{DNSName: cfg.Domain, Roots: roots, Intermediates: between})
	p.leaf = leaf.Raw
	p.issuer, p.notAfter, p.life = leaf.Issuer.CommonName, leaf.NotAfter, leaf.NotAfter.Sub(leaf.NotBefore)
	if p.issuer == "" {
		p.issuer = leaf.Issuer.String()
	}
	return p
}

// mozilla are the roots that browsers trust; monitors judge by the same.
var mozilla = sync.OnceValue(func() *x509.CertPool {
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			panic("x509roots bundle: " + err.Error()) // it is part of the program
		}
		if root.Constraint == nil {
			pool.AddCert(cert)
		} else {
			pool.AddCertWithConstraint(cert, root.Constraint)
		}
	}
	return pool
})

// trusted are the roots by which the relay's certificate is judged: in a lab also
// those of the private CA.
func trusted(c config.Config) (*x509.CertPool, error) {
	pool := mozilla()
	if !c.Network.AllowPrivate || c.ACME.CAFile == "" {
		return pool, nil
	}
	pem, err := os.ReadFile(c.ACME.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read acme.ca_file: %w", err)
	}
	pool = pool.Clone()
	pool.AppendCertsFromPEM(pem) // certs.New refuses one without certificates
	return pool, nil
}

// clock says how far the machine's clock can be trusted.
type clock struct {
	synced bool          // the kernel has it from a time service, not long ago
	within time.Duration // by the kernel's reckoning, if synced
	offset time.Duration // ahead of the CA's, if not synced
	err    error
}

// readClock asks the kernel, and if that knows of no time service, the CA: its
// answers bear a date.
func readClock(ctx context.Context, cfg config.Config) clock {
	var kernel unix.Timex
	state, err := unix.Adjtimex(&kernel)
	// The kernel believes for hours in a time service that has gone; but its own
	// estimate of the error grows all the while.
	if within := time.Duration(kernel.Maxerror) * time.Microsecond; err == nil && state != unix.TIME_ERROR && within < clockOff {
		return clock{synced: true, within: within}
	}
	client, _, err := certs.Client(cfg.ACME.CAFile)
	if err != nil {
		return clock{err: err}
	}
	defer client.CloseIdleConnections()
	return compareClock(ctx, client, cfg.ACME.Directory)
}

func compareClock(ctx context.Context, client *http.Client, url string) clock {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return clock{err: err}
	}
	before := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return clock{err: err}
	}
	resp.Body.Close()
	after := time.Now()
	if took := after.Sub(before); took > clockOff {
		return clock{err: fmt.Errorf("the CA took %s to answer, too long to compare by", took.Round(time.Second))}
	}
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return clock{err: fmt.Errorf("the CA's date: %w", err)}
	}
	// The date is cut off to the second, and was written some time in between.
	theirs := date.Add(500 * time.Millisecond)
	return clock{offset: before.Add(after.Sub(before) / 2).Sub(theirs)}
}

// disk is the room in the file system of the data folder.
type disk struct {
	free   int64
	files  uint64
	sealed bool // nothing can be written
	err    error
}

func diskOf(dir string) disk {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return disk{err: fmt.Errorf("look at %s: %w", dir, err)}
	}
	d := disk{free: int64(s.Bavail) * s.Bsize, files: s.Ffree, sealed: s.Flags&unix.ST_RDONLY != 0 && sealed(dir)}
	if s.Files == 0 { // a file system that does not count them
		d.files = 1
	}
	return d
}

// sealed says whether the file system itself can only be read. A mount of it may be so for
// one process alone, such as a unit in a sandbox, and relayd can write all the same.
func sealed(dir string) bool {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	var on mountinfo.Info
	_, err = mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		within := m.Mountpoint == "/" || dir == m.Mountpoint || strings.HasPrefix(dir, m.Mountpoint+"/")
		if within && len(m.Mountpoint) >= len(on.Mountpoint) { // the last one covers the others
			on = *m
		}
		return true, false
	})
	return err == nil && slices.Contains(strings.Split(on.VFSOptions, ","), "ro")
}

// openFiles is how many files this program has open; 0: not to be told.
func openFiles() int {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return 0
	}
	return len(names) - 1 // but for dir itself
}

// trial is what came of an attempt to reserve. That the relay offers reservations is
// no sign that one can be had.
type trial struct {
	at  time.Time // zero: not tried
	err error
}

// reserveOnTrial reserves as a stranger would, from this machine, and gives
// it back.
func reserveOnTrial(ctx context.Context, id peer.ID, relayAt []ma.Multiaddr) trial {
	if len(relayAt) == 0 {
		return trial{} // no TCP
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	h, err := visitor()
	if err != nil {
		return trial{}
	}
	defer h.Close()
	to := peer.AddrInfo{ID: id, Addrs: relayAt}
	if err = h.Connect(ctx, to); err == nil {
		_, err = client.Reserve(ctx, h, to)
	}
	return trial{time.Now(), err}
}

// tryPorts says why a relay that does not run could not listen.
func tryPorts(cfg config.Config) error {
	_, err := cfg.ListenAddrs(slog.New(slog.DiscardHandler))
	return err
}

package monitor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/pebble"
)

// home is an address of this process alone: on 127.0.0.1 any connection of another
// might take a port between its choice and its use.
var home = fmt.Sprintf("127.%d.%d.%d", 64+os.Getpid()>>16&63, os.Getpid()>>8&255, os.Getpid()&255)

var chosen = map[int]bool{}

// freePort is one of home that the kernel just chose; a CA has to know it beforehand.
func freePort(t *testing.T) int {
	t.Helper()
	for {
		l, err := net.Listen("tcp", home+":0")
		must(t, err)
		l.Close()
		if port := l.Addr().(*net.TCPAddr).Port; !chosen[port] {
			chosen[port] = true
			return port
		}
	}
}

// byName is a monitor that serves under a name of its own, with the certificate
// of a CA in this process.
func byName(t *testing.T, m *Monitor, o pebble.Options) (client *http.Client, url string, ca *pebble.Server) {
	t.Helper()
	const domain = "monitor.test"
	o.Names = map[string]netip.Addr{domain: netip.MustParseAddr(home)}
	ca, err := pebble.Start(t.Context(), o)
	must(t, err)
	t.Cleanup(func() { ca.Close() })
	roots := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(roots, ca.RootPEM, 0o600))
	addr := fmt.Sprintf("%s:%d", home, freePort(t))
	if o.TLSPort != 0 {
		addr = fmt.Sprintf("%s:%d", home, o.TLSPort)
	}
	m.cfg.Public = PublicConfig{Domain: domain, HTTPS: addr, ACME: ACMEConfig{Directory: ca.DirectoryURL, CAFile: roots}}
	if o.HTTPPort != 0 {
		m.cfg.Public.HTTP = fmt.Sprintf("%s:%d", home, o.HTTPPort)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.RootPEM)
	client = &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: domain},
			DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
				if strings.HasPrefix(to, domain) {
					to = addr
				}
				return new(net.Dialer).DialContext(ctx, network, to)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(client.CloseIdleConnections)
	return client, "https://" + domain, ca
}

func TestPublicByName(t *testing.T) {
	for name, o := range map[string]pebble.Options{
		"TLS-ALPN-01": {TLSPort: freePort(t)},
		"HTTP-01":     {HTTPPort: freePort(t), TLSPort: freePort(t)},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, 1)
			m := h.spots[0].m
			m.cfg.Listen = ""
			client, url, _ := byName(t, m, o)
			if o.HTTPPort != 0 {
				m.cfg.Public.HTTPS = fmt.Sprintf("%s:%d", home, o.TLSPort)
			}
			stop, err := m.serve(t.Context())
			must(t, err)
			defer stop()
			for path, want := range map[string]int{"/healthz": 200, "/monitor/healthz": 200, "/witness/x/checkpoint": 404} {
				resp, err := client.Get(url + path)
				must(t, err)
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != want {
					t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
				}
			}
			if m.cfg.Public.HTTP != "" {
				resp, err := client.Get("http://" + m.cfg.Public.HTTP + "/healthz?x=1")
				must(t, err)
				resp.Body.Close()
				if to := resp.Header.Get("Location"); resp.StatusCode != http.StatusFound || to != url+"/healthz?x=1" {
					t.Errorf("plain HTTP: %d to %q", resp.StatusCode, to)
				}
				resp, err = client.Post("http://"+m.cfg.Public.HTTP+"/", "text/plain", nil)
				must(t, err)
				resp.Body.Close()
				if resp.StatusCode != http.StatusBadRequest {
					t.Errorf("plain HTTP, posted to: %d", resp.StatusCode)
				}
			}
			// Another name gets no certificate.
			c, err := tls.Dial("tcp", m.cfg.Public.HTTPS, &tls.Config{ServerName: "another.test", InsecureSkipVerify: true})
			if err == nil {
				c.Close()
				t.Error("it has a certificate for another name")
			}
			stop()
			if c, err := net.Dial("tcp", m.cfg.Public.HTTPS); err == nil {
				c.Close()
				t.Error("it listens after it was stopped")
			}
		})
	}
}

func TestListenFaults(t *testing.T) {
	h := newHouse(t, 1)
	m := h.spots[0].m
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	m.cfg.Listen = taken.Addr().String()
	if _, err := m.serve(t.Context()); err == nil || !strings.Contains(err.Error(), m.cfg.Listen) {
		t.Errorf("on a port that is taken: %v", err)
	}
	m.cfg.Listen = "127.0.0.1:0"
	m.cfg.Public = PublicConfig{Domain: "monitor.test", HTTPS: taken.Addr().String(), ACME: ACMEConfig{Directory: "https://127.0.0.1:1/"}}
	if _, err := m.serve(t.Context()); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("public on a port that is taken: %v", err)
	}
	m.cfg.Public.ACME.CAFile = h.rules
	if _, err := m.serve(t.Context()); err == nil || !strings.Contains(err.Error(), "public.acme.ca_file") {
		t.Errorf("with rules for a CA: %v", err)
	}
}

func TestPublicConfig(t *testing.T) {
	base := "name: m\nnetwork: lab\ndata_dir: d\nroster: r\n"
	for _, tc := range []struct{ yaml, want string }{
		{"public: {domain: monitor.example.org}", ""},
		{"public: {domain: monitor.example.org, http: ''}", ""},
		{"drand: [https://api.drand.sh, 'http://127.0.0.1:8080/x']", ""},
		{"public: {domain: https://monitor.example.org}", "public.domain"},
		{"public: {domain: Monitor.example.org}", "public.domain"},
		{"public: {domain: monitor}", "public.domain"},
		{"public: {domain: a.example.org, https: '443'}", "public.https"},
		{"public: {domain: a.example.org, https: ':99999'}", "public.https"},
		{"public: {domain: a.example.org, http: 'x'}", "public.http"},
		{"public: {domain: a.example.org, acme: {directory: x}}", "public.acme.directory"},
		{"drand: [api.drand.sh]", "drand[0]"},
		{"drand: ['https://a', 'https://b?x']", "drand[1]"},
	} {
		_, err := ParseConfig("test", []byte(base+tc.yaml+"\n"))
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want+":")) {
			t.Errorf("%s: %v, want a fault of %q", tc.yaml, err, tc.want)
		}
	}
}

// While the CA issues nothing the monitor says so and goes on; it stops at once.
func TestWithoutCertificate(t *testing.T) {
	h := newHouse(t, 1)
	m := h.spots[0].m
	m.cfg.Listen = ""
	said := make(chan string, 10)
	m.log = slog.New(slog.NewTextHandler(writerFunc(func(b []byte) { said <- string(b) }), nil))
	m.cfg.Public = PublicConfig{Domain: "monitor.test", HTTPS: "127.0.0.1:0", ACME: ACMEConfig{Directory: "https://127.0.0.1:1/"}}
	stop, err := m.serve(t.Context())
	must(t, err)
	defer stop()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case line := <-said:
			if strings.Contains(line, "nobody reaches the monitor by its name") && strings.Contains(line, "the CA was not reached") && strings.Contains(line, "next_try=") {
				return
			}
		case <-deadline:
			t.Fatal("it says nothing")
		}
	}
}

// A certificate that the disk does not take is served all the same, ordered once, and
// said to be in memory only.
func TestCertificateThatCannotBeStored(t *testing.T) {
	h := newHouse(t, 1)
	m := h.spots[0].m
	m.cfg.Listen = ""
	said := make(chan string, 100)
	m.log = slog.New(slog.NewTextHandler(writerFunc(func(b []byte) { said <- string(b) }), nil))
	folder := filepath.Join(m.cfg.DataDir, "acme")
	must(t, os.WriteFile(folder, nil, 0o600)) // a file where the folder should be
	client, url, ca := byName(t, m, pebble.Options{TLSPort: freePort(t)})
	stop, err := m.serve(t.Context())
	must(t, err)
	defer func() { stop() }()
	serial := func() string {
		client.CloseIdleConnections()
		resp, err := client.Get(url + "/healthz")
		must(t, err)
		resp.Body.Close()
		return resp.TLS.PeerCertificates[0].SerialNumber.String()
	}
	first := serial()
	wait := func(text string) {
		for deadline := time.After(time.Minute); ; {
			select {
			case line := <-said:
				if strings.Contains(line, text) {
					return
				}
			case <-deadline:
				t.Fatalf("it does not say %q", text)
			}
		}
	}
	wait("the folder for certificates cannot be written")
	must(t, os.Remove(folder))
	wait("can be written again")
	stop()
	stop, err = m.serve(t.Context())
	must(t, err)
	if again := serial(); again != first || ca.Orders() != 1 {
		t.Errorf("after a restart the certificate is %s with %d orders in all, want %s with one", again, ca.Orders(), first)
	}
	wait("certificate loaded")
	if _, body := fetch(m.local(m.public()), "/metrics"); !strings.Contains(body, "\nrelaymon_certificate_not_after_seconds 1.") {
		t.Error("no metric of when the certificate expires")
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}

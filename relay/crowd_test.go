package relay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/net/http2"

	"github.com/psf-relay/relay-appliance/internal/listen/listentest"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// crowdVar makes the test binary the relay of TestCrowds: the folder with its
// certificate, its monitor's address and its ports.
const crowdVar = "RELAY_TEST_CROWD"

func TestHelperCrowdRelay(t *testing.T) {
	given := strings.Fields(os.Getenv(crowdVar))
	if len(given) == 0 {
		t.Skip("for TestCrowds only")
	}
	dir := given[0]
	c := relaytest.LabConfig(t)
	c.DataDir = filepath.Join(dir, "data")
	c.Domain = domain
	c.TLS = config.TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	c.HTTPUpstream = given[1]
	c.Listen.HTTP, c.Metrics.Listen = given[2], given[3]
	c.Listen.WSS = relaytest.Multiaddrs(t, "/ip4/127.0.0.2/tcp/"+given[4]+"/tls/ws")
	c.Listen.TCP = relaytest.Multiaddrs(t, "/ip4/127.0.0.2/tcp/"+given[5])
	c.Test.LoopbackCounts = true
	r, err := New(c, relaytest.Log(t))
	relaytest.Must(t, err)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		<-r.Ready()
		fmt.Println("ready", r.ID())
	}()
	relaytest.Must(t, r.Run(ctx))
}

// With 1,024 open files, whoever opens 1,100 connections to one listener locks out
// nobody else, there or elsewhere.
func TestCrowds(t *testing.T) {
	const files, crowd = 1024, 1100
	held := make(chan struct{})
	monitor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "begun")
		w.(http.Flusher).Flush()
		if r.URL.Path == "/monitor/held" {
			select {
			case <-held:
			case <-r.Context().Done():
			}
		}
	}))
	defer monitor.Close()
	defer close(held)

	dir := t.TempDir()
	cert, key := selfSigned(t, domain)
	relaytest.Must(t, os.WriteFile(filepath.Join(dir, "cert.pem"), cert, 0o600))
	relaytest.Must(t, os.WriteFile(filepath.Join(dir, "key.pem"), key, 0o600))
	var ports [4]int
	for i := range ports {
		ports[i] = freePort(t)
	}
	at := func(i int) string { return fmt.Sprintf("127.0.0.2:%d", ports[i]) }
	plain, metrics, wss, tcp := at(0), at(1), at(2), at(3)

	cmd := exec.Command("/bin/sh", "-c", `ulimit -n "$0" && exec "$@"`, strconv.Itoa(files), os.Args[0], "-test.run=^TestHelperCrowdRelay$", "-test.v")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s %s %d %d", crowdVar, dir, monitor.URL, plain, metrics, ports[2], ports[3]))
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	relaytest.Must(t, err)
	relaytest.Must(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(relaytest.Patience, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("the relay: %v\n%s", err, &log)
		}
	}()
	var id peer.ID
	lines := bufio.NewScanner(out)
	for id == "" && lines.Scan() {
		if s, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
			id, err = peer.Decode(s)
			relaytest.Must(t, err)
		}
	}
	if id == "" {
		t.Fatal("the relay does not start")
	}
	rest := make(chan struct{})
	go func() { defer close(rest); _, _ = io.Copy(io.Discard, out) }()
	defer func() { _ = cmd.Process.Signal(syscall.SIGTERM); <-rest }()

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	conf := &tls.Config{RootCAs: pool, ServerName: domain}
	// ask makes one request.
	ask := func(d *net.Dialer, url string, want int) (string, error) {
		client := http.Client{
			Timeout: relaytest.Patience,
			Transport: &http.Transport{
				DisableKeepAlives: true, TLSClientConfig: conf,
				DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
					if strings.HasPrefix(addr, domain) {
						addr = wss
					}
					return d.DialContext(ctx, network, addr)
				},
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		resp, err := client.Get(url)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if resp.StatusCode != want {
			return "", fmt.Errorf("%s: %s, want %d", url, resp.Status, want)
		}
		return string(body), err
	}
	asked := func(url string, want int) func(*net.Dialer) error {
		return func(d *net.Dialer) error {
			_, err := ask(d, url, want)
			return err
		}
	}
	reader := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 9, 100)}}
	numbers := func() string {
		body, err := ask(reader, "http://"+metrics+"/metrics", http.StatusOK)
		if err != nil {
			t.Fatalf("metrics: %v", err)
		}
		return body
	}
	count := func(metric string) func() int {
		re := regexp.MustCompile(`(?m)^` + metric + `.*\} (\d+)$`)
		return func() (n int) {
			for _, m := range re.FindAllStringSubmatch(numbers(), -1) {
				k, err := strconv.Atoi(m[1])
				relaytest.Must(t, err)
				n += k
			}
			return n
		}
	}
	refused := func(listener string) func() int {
		return count(`relayd_connections_refused_total\{listener="` + listener + `"`)
	}
	unfinished := count(`relayd_refused_total\{reason="unfinished"`)
	// over says something by TLS, and waits for the beginning of the answer.
	over := func(request string) func(net.Conn) error {
		return func(raw net.Conn) error {
			c := tls.Client(raw, conf)
			if _, err := io.WriteString(c, request); err != nil {
				return err
			}
			_, err := c.Read(make([]byte, 1))
			return err
		}
	}
	visitor := 0
	connected := func(*net.Dialer) error {
		visitor++
		h := relaytest.NewPeerAt(t, fmt.Sprintf("127.0.10.%d", visitor))
		defer h.Close()
		return h.Connect(relaytest.Context(t), peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{relaytest.Multiaddrs(t, fmt.Sprintf("/ip4/127.0.0.2/tcp/%d", ports[3]))[0]}})
	}
	for i, tc := range []struct {
		name  string
		crowd listentest.Crowd
	}{
		{"http", listentest.Crowd{Addr: plain, Conns: crowd, Bound: httpBounds.PerAddress, Refused: refused("http"),
			Served: asked("http://"+plain+"/x", http.StatusFound)}},
		{"metrics", listentest.Crowd{Addr: metrics, Conns: crowd, Bound: metricsBounds.PerAddress, Refused: refused("metrics"),
			Served: asked("http://"+metrics+"/healthz", http.StatusOK)}},
		{"443 before TLS", listentest.Crowd{Addr: wss, Conns: crowd, Bound: 32, Refused: unfinished,
			Served: asked("https://"+domain+"/healthz", http.StatusOK)}},
		{"443 after TLS", listentest.Crowd{Addr: wss, Conns: crowd, Bound: 32, Refused: unfinished,
			Greet:  over("GET /healthz HTTP/1.1\r\nHost: " + domain + "\r\n\r\n"),
			Served: asked("https://"+domain+"/healthz", http.StatusOK)}},
		{"tcp before the handshake", listentest.Crowd{Addr: tcp, Conns: crowd, Bound: 32, Refused: unfinished, Served: connected}},
		{"upstream", listentest.Crowd{Addr: wss, Conns: maxUpstreamConns, Bound: upstreamBounds.PerAddress, Stays: true, Refused: refused("upstream"),
			Greet:  over("GET /monitor/held HTTP/1.1\r\nHost: " + domain + "\r\n\r\n"),
			Served: asked("https://"+domain+"/monitor/x", http.StatusOK)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.crowd.From = fmt.Sprintf("127.0.9.%d", 1+i)
			tc.crowd.Test(t, fmt.Sprintf("127.0.9.%d", 50+i))
			for _, m := range regexp.MustCompile(`(?m)^process_(open_fds|resident_memory_bytes) .*$`).FindAllString(numbers(), -1) {
				t.Log(m)
			}
		})
	}
}

// At 443 one connection makes only so many requests at once by HTTP/2.
func TestStreamsAreBounded(t *testing.T) {
	c := relaytest.LimitConfig(t)
	dir := t.TempDir()
	cert, key := selfSigned(t, domain)
	c.Domain, c.TLS = domain, config.TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	relaytest.Must(t, os.WriteFile(c.TLS.Cert, cert, 0o600))
	relaytest.Must(t, os.WriteFile(c.TLS.Key, key, 0o600))
	at := fmt.Sprintf("127.0.0.2:%d", freePort(t))
	c.Listen.WSS, c.Listen.HTTP = relaytest.Multiaddrs(t, "/ip4/127.0.0.2/tcp/"+at[strings.LastIndex(at, ":")+1:]+"/tls/ws"), ""
	start(t, c)
	conn, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true, ServerName: domain, NextProtos: []string{"h2"}})
	relaytest.Must(t, err)
	defer conn.Close()
	relaytest.Must(t, conn.SetDeadline(time.Now().Add(relaytest.Patience)))
	_, err = io.WriteString(conn, http2.ClientPreface)
	relaytest.Must(t, err)
	frames := http2.NewFramer(conn, conn)
	relaytest.Must(t, frames.WriteSettings())
	for {
		f, err := frames.ReadFrame()
		relaytest.Must(t, err)
		settings, ok := f.(*http2.SettingsFrame)
		if !ok {
			continue
		}
		n, ok := settings.Value(http2.SettingMaxConcurrentStreams)
		if !ok || n > 32 {
			t.Errorf("%d requests at once", n)
		}
		return
	}
}

package monitor

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/listen/listentest"
	"github.com/psf-relay/relay-appliance/internal/pebble"
)

// Whoever opens many connections to one listener locks out nobody else.
func TestCrowds(t *testing.T) {
	h := newHouse(t, 1)
	m := h.spots[0].m
	o := pebble.Options{TLSPort: freePort(t), HTTPPort: freePort(t)}
	trusting, url, _ := byName(t, m, o)
	m.cfg.loopbackCounts = true
	m.cfg.Listen = fmt.Sprintf("%s:%d", home, freePort(t))
	stop, err := m.serve(t.Context())
	must(t, err)
	defer stop()
	conf := trusting.Transport.(*http.Transport).TLSClientConfig
	ask := func(d *net.Dialer, url string) (int, string, error) {
		client := http.Client{
			Timeout: time.Minute,
			Transport: &http.Transport{
				DisableKeepAlives: true, TLSClientConfig: conf,
				DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
					if strings.HasPrefix(addr, m.cfg.Public.Domain) {
						addr = m.cfg.Public.HTTPS
					}
					return d.DialContext(ctx, network, addr)
				},
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		resp, err := client.Get(url)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), err
	}
	asked := func(url string, want int) func(*net.Dialer) error {
		return func(d *net.Dialer) error {
			code, _, err := ask(d, url)
			if err == nil && code != want {
				err = fmt.Errorf("%s: %d, want %d", url, code, want)
			}
			return err
		}
	}
	refused := func(listener string) func() int {
		return func() (n int) {
			_, body, err := ask(&net.Dialer{}, "http://"+m.cfg.Listen+"/metrics")
			must(t, err)
			for line := range strings.Lines(body) {
				var k int
				if _, err := fmt.Sscanf(line, `relaymon_connections_refused_total{listener="`+listener+`",reason="address"} %d`, &k); err == nil {
					n += k
				}
			}
			return n
		}
	}
	over := func(raw net.Conn) error {
		c := tls.Client(raw, conf)
		if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: "+m.cfg.Public.Domain+"\r\n\r\n"); err != nil {
			return err
		}
		_, err := c.Read(make([]byte, 1))
		return err
	}
	for i, tc := range []struct {
		name  string
		crowd listentest.Crowd
	}{
		{"pages", listentest.Crowd{Addr: m.cfg.Listen, Refused: refused("pages"), Served: asked("http://"+m.cfg.Listen+"/healthz", 200)}},
		{"metrics", listentest.Crowd{Addr: m.cfg.Listen, Refused: refused("pages"), Served: asked("http://"+m.cfg.Listen+"/metrics", 200)}},
		{"witness", listentest.Crowd{Addr: m.cfg.Public.HTTPS, Refused: refused("https"), Served: asked(url+"/witness/x/checkpoint", 404)}},
		{"https before TLS", listentest.Crowd{Addr: m.cfg.Public.HTTPS, Refused: refused("https"), Served: asked(url+"/healthz", 200)}},
		{"https after TLS", listentest.Crowd{Addr: m.cfg.Public.HTTPS, Refused: refused("https"), Served: asked(url+"/healthz", 200), Greet: over}},
		{"http", listentest.Crowd{Addr: m.cfg.Public.HTTP, Refused: refused("http"), Served: asked("http://"+m.cfg.Public.HTTP+"/x", http.StatusFound)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.crowd.From = fmt.Sprintf("127.0.9.%d", 1+i)
			tc.crowd.Conns, tc.crowd.Bound = 400, conns.PerAddress // more than there may be in all
			tc.crowd.Test(t, fmt.Sprintf("127.0.9.%d", 50+i))
		})
	}
	listentest.Redirects(t, "http", m.cfg.Public.HTTP, m.cfg.Public.Domain)
}

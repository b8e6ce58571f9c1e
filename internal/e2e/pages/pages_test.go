// Package pages looks at all pages through a real browser, with JavaScript off where
// the page does not need it.
package pages

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/monitor"
	"github.com/psf-relay/relay-appliance/monitor/browser"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

const patience = 3 * time.Minute

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// served is a monitor that runs on a log with some history.
type served struct {
	url    string
	relays []string
	first  evidence.Hour
}

func serve(t *testing.T) served {
	t.Helper()
	const hours = evidence.Hour(30)
	s := served{first: evidence.HourOf(time.Now()) - hours}
	dir := t.TempDir()
	l, err := store.Create(filepath.Join(dir, "log"), store.Options{Name: "m1", Network: evidence.Lab, First: s.first})
	must(t, err)
	roster := fmt.Sprintf(`network: lab
monitors:
- {name: m1, operator: us, log_key: %q, from: %q}
controls:
- {name: c1, operator: far, tcp4: /ip4/127.0.0.9/tcp/9, wss: /dns4/c1.test/tcp/9/wss}
- {name: c2, operator: far, tcp4: /ip4/127.0.0.9/tcp/8, wss: /dns4/c2.test/tcp/8/wss}
- {name: c3, operator: far, tcp4: /ip4/127.0.0.9/tcp/7, wss: /dns4/c3.test/tcp/7/wss}
relays:
`, l.Key(), s.first)
	for i, operator := range []string{"Ada's relay", "Grace <b>Hopper</b>", "Linus"} {
		_, public, err := crypto.GenerateEd25519Key(rand.Reader)
		must(t, err)
		id, err := peer.IDFromPublicKey(public)
		must(t, err)
		s.relays = append(s.relays, id.String())
		enrolled := s.first
		if i == 2 {
			enrolled += 20
		}
		// Nobody listens there: what the monitor tries during the test fails at once.
		roster += fmt.Sprintf("- {peer_id: %s, operator: %q, ipv4: 127.0.%d.9, tcp_port: 9, domain: r%[3]d.test, wss_port: 9, enrolled: %[4]q}\n", id, operator, i, enrolled)
	}
	leaves := [][]byte{leaf(t, s.first, 0), leaf(t, s.first, 1)} // renewed halfway
	for h := s.first; h < s.first+hours; h++ {
		n := int(h - s.first)
		if n%17 != 11 { // else the monitor was off
			must(t, l.Begin(h, h.Start(), "relaymon/test"))
			// By a clock that nothing keeps no certificate has expired.
			must(t, l.Mark(h, evidence.Mark{Clock: &evidence.ClockSample{At: evidence.TimeOf(h.Start()), Synchronised: true, Boot: "test"}}))
			for i, id := range s.relays {
				for _, a := range attempts(id, i, n, h) {
					der := leaves[min(2*n/int(hours), 1)]
					a.Facts.Certificate, err = evidence.NewCertificate(der)
					must(t, err)
					must(t, l.Append(h, a, der))
				}
			}
		}
		_, err := l.Seal(h.End().Add(evidence.CloseAfter))
		must(t, err)
	}
	must(t, l.Close())
	must(t, os.WriteFile(filepath.Join(dir, "roster.yaml"), []byte(roster), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "rules.yaml"), []byte("network: lab\n"), 0o644))
	file := filepath.Join(dir, "relaymon.yaml")
	must(t, os.WriteFile(file, []byte("name: m1\nnetwork: lab\ndata_dir: .\nroster: roster.yaml\nrules: rules.yaml\nlisten: 127.0.0.1:0\nbrowser: none\n"), 0o644))
	cfg, err := monitor.LoadConfig(file)
	must(t, err)
	addr := make(addresses, 1)
	m, err := monitor.Open(cfg, slog.New(addr))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Error(err)
			close(addr)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		must(t, m.Close())
	})
	select {
	case a := <-addr:
		s.url = "http://" + a
	case <-time.After(patience):
		t.Fatal("the pages are not served")
	}
	return s
}

// leaf is the n-th certificate of a relay.
func leaf(t *testing.T, first evidence.Hour, n int64) []byte {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(n + 1), Subject: pkix.Name{CommonName: "Test CA"}, DNSNames: []string{"relay.test"},
		NotBefore: first.Start().AddDate(0, 0, -30+20*int(n)), NotAfter: first.Start().AddDate(0, 0, 60+20*int(n)),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	return der
}

// attempts are those on relay i in the n-th hour: most relays are up most of the time.
func attempts(id string, i, n int, h evidence.Hour) []evidence.Attempt {
	at := func(minutes int) evidence.Attempt {
		a := evidence.Attempt{
			Started: evidence.TimeOf(h.Start().Add(time.Duration(minutes) * time.Minute)), PeerID: id, Level: evidence.LevelEchoed,
			TCP4Addr: fmt.Sprintf("/ip4/127.0.%d.9/tcp/9/p2p/%s", i, id), WSSAddr: fmt.Sprintf("/dns4/r%d.test/tcp/9/wss/p2p/%s", i, id),
			Results: map[evidence.Component]evidence.Result{},
			Facts: evidence.Facts{
				AgentVersion: fmt.Sprintf("relayd/1.%d.0", n/200), PingUS: []int64{20_000 + int64(n*37%9000), 21_000},
			},
		}
		for k, c := range evidence.Components {
			d := int64(k+1)*40_000 + int64(n*n*31%20_000)
			a.Results[c] = evidence.Result{Outcome: evidence.OK, DurationUS: d}
			a.Rungs = append(a.Rungs, evidence.Rung{Name: string(c), Component: c, Outcome: evidence.OK, OffsetUS: int64(k) * 100_000, DurationUS: d})
		}
		return a
	}
	fail := func(minutes int) evidence.Attempt {
		a := at(minutes)
		a.Level = 0
		a.Results[evidence.WSS] = evidence.Result{Outcome: evidence.Fail, Class: evidence.CertExpired, DurationUS: 80_000}
		a.Results[evidence.Relay] = evidence.Result{Outcome: evidence.Skipped, Class: evidence.BelowFailed}
		a.Rungs[1].Outcome, a.Rungs[1].Class, a.Rungs[1].Detail = evidence.Fail, evidence.CertExpired, "x509: certificate of "+id+" has expired"
		a.Rungs[2].Outcome, a.Rungs[2].Class, a.Rungs[2].DurationUS = evidence.Skipped, evidence.BelowFailed, 0
		for _, c := range []string{"c1", "c2", "c3"} {
			a.Controls = append(a.Controls, evidence.Control{Name: c, Component: evidence.WSS, Outcome: evidence.OK, Started: evidence.TimeOf(a.Started.Add(10 * time.Second))})
		}
		return a
	}
	switch {
	case i == 1 && n%7 < 2: // down
		return []evidence.Attempt{fail(10), fail(16), fail(23)}
	case i == 1 && n%7 == 2: // one failure
		return []evidence.Attempt{fail(50)}
	case i == 1 && n%7 == 3: // busy
		a := at(5)
		a.Level = 0
		a.Results[evidence.Relay] = evidence.Result{Outcome: evidence.Busy, Class: evidence.ReserveRefused}
		a.Rungs[2].Outcome, a.Rungs[2].Class = evidence.Busy, evidence.ReserveRefused
		return []evidence.Attempt{a}
	case i == 2 && n < 20: // not enrolled
		return nil
	}
	return []evidence.Attempt{at(n * 7 % 60)}
}

// addresses hands on the address that the monitor logs.
type addresses chan string

func (addresses) Enabled(context.Context, slog.Level) bool { return true }
func (a addresses) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(attr slog.Attr) bool {
		if attr.Key == "addr" {
			select {
			case a <- attr.Value.String():
			default:
			}
		}
		return true
	})
	return nil
}
func (a addresses) WithAttrs([]slog.Attr) slog.Handler { return a }
func (a addresses) WithGroup(string) slog.Handler      { return a }

// A visitor goes from the overview to a month, to an hour and back, without a script
// being run.
func TestWalk(t *testing.T) {
	month := evidence.MonthOf(time.Now()) // a page of the next one names it, too
	s := serve(t)
	x := open(t, browser.Options{})
	for _, base := range []string{"/", "/monitor/"} { // the second is how a relayd on the same machine passes it on
		x.do(chromedp.Navigate(s.url + base))
		x.holds("Monitor m1", "Ada's relay", "Grace &lt;b&gt;Hopper&lt;/b&gt;", "hours up", "▼")
		x.link(`a[href$="relay/` + s.relays[1] + `"]`)
		x.holds(month.String(), "<svg", "busy, counts up")
		where, err := chromedp.Run(x.ctx, chromedp.Location())
		must(t, err)
		if want := s.url + base + "relay/" + s.relays[1]; where != want {
			t.Errorf("at %s, want %s", where, want)
		}
		// A down hour; in the first days of a month it may be in the month before.
		if !strings.Contains(x.html(), `class="cell down"`) {
			x.link(`a[rel="prev"]`)
		}
		x.holds("relayd/1.", "CN=Test CA")
		x.link(`a[href*="/hour/"]:has(rect.cell.down)`)
		x.holds("This monitor's vote is down", "cert-expired", "c3 wss", "renew it")
		x.link(`.crumbs a`)
		x.holds("What this monitor sees of 3 relays")
	}
	for _, f := range x.complaints() {
		t.Errorf("the browser says: %s", f)
	}
}

// A running monitor serves its numbers on loopback, and not where a relayd on the
// same machine passes visitors on.
func TestNumbers(t *testing.T) {
	s := serve(t)
	for path, want := range map[string]struct {
		status int
		holds  string
	}{
		"/metrics":                               {200, `relaymon_month_needed_hours{operator="Linus",relay="` + s.relays[2] + `"}`},
		"/probe?target=127.0.0.1:22":             {400, "enrolled"},
		"/monitor/metrics":                       {404, ""},
		"/monitor/probe?target=" + s.relays[0]:   {404, ""},
		"/monitor/api/relays/" + s.relays[0]:     {200, `"required":600`},
		"/monitor/badge/" + s.relays[0] + ".svg": {200, ">relay 20"},
		"/monitor/relay/" + s.relays[0] + "/x":   {404, ""},
		"/healthz":                               {200, "ok"},
	} {
		res, err := http.Get(s.url + path)
		must(t, err)
		body, err := io.ReadAll(res.Body)
		must(t, errors.Join(err, res.Body.Close()))
		if res.StatusCode != want.status || !strings.Contains(string(body), want.holds) {
			t.Errorf("%s: %d, want %d with %q: %.300s", path, res.StatusCode, want.status, want.holds, body)
		}
	}
}

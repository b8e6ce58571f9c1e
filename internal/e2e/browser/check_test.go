package browser

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/browser"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

var chain = []string{"dial", "identify", "reserve", "circuit", "echo"}

// A visitor of the relay's own page finds every step good, by every transport.
func TestEveryStepPasses(t *testing.T) {
	c, ca := lab(t)
	host := addrs[relayName]
	c.Listen.WebTransport = []ma.Multiaddr{multiaddr(t, "/ip4/%s/udp/0/quic-v1/webtransport", host)}
	c.Listen.WebRTC = []ma.Multiaddr{multiaddr(t, "/ip4/%s/udp/0/webrtc-direct", host)}
	b := startBrowser(t, ca.RootPEM)
	r, _ := relayd(t, c)

	query := url.Values{}
	for _, a := range r.Addrs() {
		query.Add("relay", a.String())
	}
	port, err := c.Listen.WSS[0].ValueForProtocol(ma.P_TCP)
	if err != nil {
		t.Fatal(err)
	}
	report, err := b.Visit(bounded(t), fmt.Sprintf("https://%s:%s/check?%s", relayName, port, query.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Relays) != 1 {
		t.Fatalf("%d relays in the report, want 1 for all addresses", len(report.Relays))
	}
	got := report.Relays[0]
	var passed []string
	for _, s := range got.Steps {
		if s.Outcome != evidence.OK || s.DurationMS <= 0 || s.Detail == "" {
			t.Errorf("step %s: %+v", s.Name, s)
		}
		passed = append(passed, s.Name)
	}
	if want := append(slices.Clone(chain), "webtransport", "webrtc-direct"); !slices.Equal(passed, want) {
		t.Errorf("steps %q, want %q", passed, want)
	}
	if !got.OK || got.Name != relayName || got.PeerID != r.ID().String() || !strings.HasPrefix(got.AgentVersion, "relayd/") ||
		got.Reservation == nil || got.Reservation.LimitBytes != int64(c.Limits.GuestCircuitData) || got.Reservation.LimitSeconds != int64(c.Limits.GuestCircuitTime.Seconds()) {
		t.Errorf("report: %+v", got)
	}
	rung := got.Rung(report.Version)
	if rung.Outcome != evidence.OK || rung.Name != bounty.BrowserRung || rung.DurationUS <= 0 || !strings.HasPrefix(rung.Detail, "Chrome/") {
		t.Errorf("rung: %+v", rung)
	}
}

// A relay without a domain has no certificate, and still serves browsers.
func TestWithoutDomain(t *testing.T) {
	c, _ := lab(t)
	c.Domain = ""
	host := addrs[relayName]
	c.Listen.WSS = nil
	c.Listen.WebTransport = []ma.Multiaddr{multiaddr(t, "/ip4/%s/udp/0/quic-v1/webtransport", host)}
	c.Listen.WebRTC = []ma.Multiaddr{multiaddr(t, "/ip4/%s/udp/0/webrtc-direct", host)}
	b := startBrowser(t)
	r, _ := relayd(t, c)
	for _, a := range r.Addrs() {
		report, err := b.Check(bounded(t), a.String())
		if err != nil {
			t.Fatal(err)
		}
		if got := report.Relays[0]; !got.OK {
			t.Errorf("%s: %+v", a, got.Failed())
		}
	}
}

// Every kind of broken relay ends at the step that is to blame, in the words of
// the evidence log, with something to do about it.
func TestRedSteps(t *testing.T) {
	c, ca := lab(t)
	c.Limits.Reservations, c.Limits.GuestReservations = 1, 0
	trusted, untrusted := newAuthority(t), newAuthority(t)
	nextYear, yesterday := time.Now().AddDate(0, 6, 0), time.Now().Add(-24*time.Hour)
	good := trusted.issue(t, otherName, nextYear)
	standard := relayv2.DefaultResources()
	tiny := relayv2.DefaultResources()
	tiny.Limit = &relayv2.RelayLimit{Duration: 2 * time.Minute, Data: 256}
	full, _ := relayd(t, c)
	fine := otherRelay(t, good, &standard)
	const stranger = "12D3KooWEBzgK8a5TpMfLotuj7jJnEK41gbD9LZK6qCpxNrX43E9"

	type want struct {
		addr    string
		step    string
		class   evidence.Class
		detail  string
		advice  string
		outcome evidence.Outcome
	}
	cases := map[string]want{
		"full":              {wss(t, full), "reserve", evidence.ReserveRefused, "RESERVATION_REFUSED", "full", evidence.Busy},
		"256 bytes":         {otherRelay(t, good, &tiny), "circuit", evidence.LimitTooSmall, "256 bytes", "131072", evidence.Fail},
		"no relay service":  {otherRelay(t, good, nil), "reserve", evidence.NoHop, "circuit relay", "relay service", evidence.Fail},
		"unknown CA":        {otherRelay(t, untrusted.issue(t, otherName, nextYear), &standard), "dial", evidence.CertUntrusted, "ERR_CERT_AUTHORITY_INVALID", "public CA", evidence.Fail},
		"wrong name":        {otherRelay(t, trusted.issue(t, "elsewhere.test", nextYear), &standard), "dial", evidence.CertWrongName, "ERR_CERT_COMMON_NAME_INVALID", "this very name", evidence.Fail},
		"expired":           {otherRelay(t, trusted.issue(t, otherName, yesterday), &standard), "dial", evidence.CertExpired, "ERR_CERT_DATE_INVALID", "renew", evidence.Fail},
		"plain WebSocket":   {otherRelay(t, nil, &standard), "dial", evidence.NotTLS, "without TLS", "certificate", evidence.Fail},
		"another peer":      {fine[:strings.LastIndexByte(fine, '/')+1] + stranger, "dial", evidence.WrongPeer, stranger, "peer ID", evidence.Fail},
		"nobody listens":    {fmt.Sprintf("/dns4/%s/tcp/%d/wss/p2p/%s", otherName, freePort(t, addrs[otherName]), stranger), "dial", evidence.Refused, "ERR_CONNECTION_REFUSED", "start the relay", evidence.Fail},
		"no such name":      {"/dns4/nowhere.invalid/tcp/443/wss/p2p/" + stranger, "dial", evidence.NameLookup, "ERR_NAME_NOT_RESOLVED", "name servers", evidence.Blind},
		"TCP only":          {"/ip4/127.0.0.3/tcp/4001/p2p/" + stranger, "dial", evidence.NotAsked, "browsers cannot", "/tls/ws", evidence.Fail},
		"no peer ID":        {"/dns4/relay.test/tcp/443/wss", "dial", evidence.OwnFault, "/p2p/", "Paste", evidence.Blind},
		"no multiaddr":      {"relay.test:443", "dial", evidence.OwnFault, "no multiaddr", "Paste", evidence.Blind},
		"legacy and usable": {strings.Replace(fine, "/p2p/", "/ipfs/", 1), "", "", "", "", evidence.OK},
	}
	b := startBrowser(t, ca.RootPEM, trusted.pem)
	for name, w := range cases {
		t.Run(name, func(t *testing.T) {
			report, err := b.Check(bounded(t), w.addr)
			if err != nil {
				t.Fatal(err)
			}
			got := report.Relays[0]
			class := w.class
			if class == evidence.NameLookup {
				class = evidence.Resolver // nobody else has confirmed it
			}
			if rung := got.Rung(report.Version); rung.Outcome != w.outcome || rung.Class != class {
				t.Errorf("rung: got %+v, want %s (%s)", rung, w.outcome, class)
			}
			s := got.Failed()
			if w.step == "" {
				if s != nil || !got.OK {
					t.Errorf("failed at %+v", s)
				}
				return
			}
			if s == nil || got.OK {
				t.Fatalf("nothing failed: %+v", got)
			}
			if s.Name != w.step || s.Class != w.class || !strings.Contains(s.Detail, w.detail) || !strings.Contains(s.Advice, w.advice) {
				t.Errorf("got %+v\nwant %+v", *s, w)
			}
			at := slices.Index(chain, w.step)
			for i, s := range got.Steps {
				if want := map[bool]evidence.Outcome{true: evidence.OK, false: evidence.Skipped}[i < at]; i != at && s.Outcome != want {
					t.Errorf("step %s: %s, want %s", s.Name, s.Outcome, want)
				}
			}
		})
	}
}

// Several relays are checked in one run, and one that fails does not disturb the
// others.
func TestSeveralAtOnce(t *testing.T) {
	c, ca := lab(t)
	trusted := newAuthority(t)
	r, _ := relayd(t, c)
	resources := relayv2.DefaultResources()
	other := otherRelay(t, trusted.issue(t, otherName, time.Now().AddDate(0, 6, 0)), &resources)
	plain := otherRelay(t, nil, &resources)
	b := startBrowser(t, ca.RootPEM, trusted.pem)
	report, err := b.Check(bounded(t), wss(t, r), plain, other, wss(t, r))
	if err != nil {
		t.Fatal(err)
	}
	var got []bool
	for _, r := range report.Relays {
		got = append(got, r.OK)
	}
	if !slices.Equal(got, []bool{true, false, true}) {
		t.Errorf("relays %v, want the second one to fail and the repeated one to count once", got)
	}
}

// The page fails with no word that the evidence log does not know.
func TestClassesAreKnown(t *testing.T) {
	b := startBrowser(t)
	tab, _, err := b.Open(bounded(t), b.Page())
	if err != nil {
		t.Fatal(err)
	}
	classes, err := browser.Evaluate[[]evidence.Class](tab, `page.classes()`)
	if err != nil {
		t.Fatal(err)
	}
	if len(classes) == 0 {
		t.Error("the page has no classes")
	}
	for _, class := range classes {
		if !slices.Contains(evidence.Classes(), class) {
			t.Errorf("the page's class %q is not one of the evidence log", class)
		}
	}
}

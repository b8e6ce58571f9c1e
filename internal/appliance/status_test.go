package appliance

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestStatus(t *testing.T) {
	f := newFake(t)
	monitor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "the clock is wrong", http.StatusServiceUnavailable)
	}))
	defer monitor.Close()
	listen := strings.TrimPrefix(monitor.URL, "http://")
	f.answer["relayd doctor"] = Result{Code: 1, Stdout: `{"peer_id": "12D3KooW", "running": true, "met": 1, "not_met": 1, "unknown": 0, "requirements": [
		{"name": "service", "title": "Reservations are served", "outcome": "met", "found": "since then"},
		{"name": "records", "title": "The domain leads to that address", "outcome": "not met", "found": "it \\1 leads\nto \u001b[31mno address", "cure": "Make an A record."}],
		"software": {"version": "v1.2.3", "since": "2026-11-20T00:00:00Z", "newest": "v1.2.4", "published": "2026-11-21T00:00:00Z", "fault": "signed until\nsoon"},
		"status": {"version": "v1.2.3", "warnings": ["alerts do not reach ntfy ntfy.sh"], "healthy": true, "addrs": ["/ip4/192.0.2.1/tcp/4001", "/dns4/relay.test/tcp/443/wss", "/ip4/192.0.2.1/udp/4001/webrtc-direct/certhash/uEiA"],
		"certificate": {"domain": "relay.test", "issuer": "Pebble", "not_after": "2027-01-02T03:04:05Z", "days_left": 40}}}`}
	if err := f.firstBoot(good + "payout: simpleledger:qpm2qsznhks23z7629mms6s4cwef74vcwvg3pncxyr\nrelaymon: {listen: \"" + listen + "\"}\n"); err != nil {
		t.Fatal(err)
	}
	s, err := f.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.ShowPages(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	motd, issue := f.text(motdPath), f.text(issuePath)
	for _, want := range []string{
		": both, relay.test\n", "relayd       active\n", "relaymon     active\n", "Peer ID      12D3KooW\n", "Relay        v1.2.3, healthy\n", "  As of        20",
		"Software     relayd v1.2.3, here since 2026-11-20, for ", " days; the newest is v1.2.4, out for ", "signed until soon\n",
		"Addresses    /ip4/192.0.2.1/tcp/4001\n", "             /dns4/relay.test/tcp/443/wss\n               and 1 for WebTransport and WebRTC: ", "Certificate  until 2027-01-02 03:04 UTC, by Pebble\n",
		"Warnings     alerts do not reach ntfy ntfy.sh\n", "Bounty       met      Reservations are served\n", "not met  The domain leads to that address\n", "-> Make an A record.\n",
		"Log key      alpha+1\n", "the clock is wrong\n", "Open ports   80/tcp 443/tcp 4001/tcp 4001/udp, and SSH\n", "Enrol        sudo -u relayd relayd enrol ", "Status page  https://relay.test/\n",
	} {
		if !strings.Contains(motd, want) || !strings.Contains(issue, want) {
			t.Errorf("the pages lack %q:\n%s", want, motd)
		}
	}
	// What comes from outside steers no terminal, and agetty takes no backslash for an escape.
	if strings.Contains(motd, "\x1b") || !strings.Contains(motd, `it \1 leads to ?[31mno address`) || !strings.Contains(issue, `it \\1 leads`) {
		t.Errorf("not cleaned:\n%q", motd)
	}
	if text := s.Text(); strings.Contains(text, "\x1b") {
		t.Errorf("not cleaned for who asks:\n%q", text)
	}
	f.answer["relayd doctor"] = Result{Code: 1, Stderr: "relayd: there is no identity yet\n"}
	if s, err = f.Status(t.Context()); err != nil || s.Relay.Fault == "" {
		t.Errorf("%+v, %v", s.Relay, err)
	}
}

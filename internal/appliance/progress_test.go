package appliance

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/relay/status"
)

// start is a machine that starts, and who follows it. relayd's status is played.
type start struct {
	*fake
	f       *follower
	relay   status.Status
	reloads int
	started []string // without waiting for it
	told    []string
}

// patient never loses patience, hasty at once.
var (
	patient = pace{until: 15 * time.Minute, card: time.Hour, address: time.Hour, again: time.Hour}
	hasty   = pace{until: 15 * time.Minute}
)

func newStart(t *testing.T) *start {
	s := &start{fake: newFake(t)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/status.json" {
			http.NotFound(w, r)
		} else if err := json.NewEncoder(w).Encode(s.relay); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	s.answer["relayd config"] = Result{Stdout: "metrics: {listen: \"" + strings.TrimPrefix(server.URL, "http://") + "\"}\n"}
	s.Machine.Exec = func(ctx context.Context, c Command) (Result, error) {
		switch line := strings.Join(c.Args, " "); {
		case c.Args[0] == "agetty":
			s.reloads++
		case strings.HasPrefix(line, "systemctl start --no-block"):
			s.started = append(s.started, c.Args[3])
		}
		return s.exec(ctx, c)
	}
	for _, name := range []string{"/dev/tty0", "/dev/ttyS0", "/run/nologin"} {
		s.file(name, "")
	}
	s.file("/sys/class/tty/console/active", "tty0 ttyS0 ttyGone\n")
	s.follows(patient)
	return s
}

// follows begins to, as each run of the program does.
func (s *start) follows(p pace) {
	s.f = &follower{Machine: s.Machine, pace: p, began: time.Now(), said: map[string]string{},
		say: func(format string, args ...any) { s.told = append(s.told, args[0].(string)) }}
}

// at looks once, as many seconds after the start, and returns the page.
func (s *start) at(seconds string, more bool) string {
	s.fake.t.Helper()
	s.file("/proc/uptime", seconds+" 1.00\n")
	s.told = nil
	got, err := s.f.once(s.fake.t.Context())
	if err != nil {
		s.fake.t.Fatal(err)
	}
	page := s.text(issuePath)
	if got != more {
		s.fake.t.Errorf("after %s s there is more to come: %v\n%s", seconds, got, page)
	}
	return page
}

func (s *start) wantPage(page string, wants ...string) {
	s.fake.t.Helper()
	for _, want := range wants {
		if !strings.Contains(page, want) {
			s.fake.t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}

// A machine without network says so, where somebody looks, until it has one.
func TestStartWithoutNetwork(t *testing.T) {
	s := newStart(t)
	s.cards = []Interface{loopback}
	s.wantPage(s.at("6.0", true), "Start        network     waits for a network card\n", "set-up      first boot is still to come: it waits for cloud-init and the network\n")
	s.f.pace = hasty
	page := s.at("16.0", true)
	if strings.Contains(page, "not set up yet") {
		t.Errorf("before cloud-init was there the page is\n%s", page)
	}
	s.wantPage(page, "NETWORK: no network card was found\n  -> In the settings of the hypervisor")
	const complaint = "16s: network: no network card was found -> In the settings of the hypervisor or the provider, give the machine a network card (virtio, e1000, e1000e or vmxnet3), and start it again."
	for _, console := range []string{"/dev/tty0", "/dev/ttyS0"} {
		if got := s.text(console); !strings.Contains(got, "relay-appliance: 6s: network: waits for a network card\n") || strings.Count(got, "relay-appliance: "+complaint+"\n") != 1 {
			t.Errorf("%s shows\n%s", console, got)
		}
	}
	// It is not said again, and not where somebody may be about to log in.
	shown, reloads := s.text("/dev/ttyS0"), s.reloads
	s.at("19.0", true)
	if len(s.told) != 0 || s.text("/dev/ttyS0") != shown || s.reloads != reloads {
		t.Errorf("again it says %q, and reloads %d times", s.told, s.reloads-reloads)
	}
	if err := os.Remove(s.path("/run/nologin")); err != nil {
		t.Fatal(err)
	}
	for _, login := range []string{`system-serial\x2dgetty.slice/serial-getty@ttyS0.service`, "system-getty.slice/getty@tty1.service"} {
		s.file("/sys/fs/cgroup/system.slice/"+login+"/cgroup.procs", "")
	}
	s.f.pace = patient
	s.cards = []Interface{loopback, card("fe80::1")}
	s.wantPage(s.at("22.0", true), "network     waits for an address\n")
	s.f.pace = hasty
	s.wantPage(s.at("55.0", true), "NETWORK: eth0 (52:54:00:12:34:56): no address came by DHCP, there are only link-local ones, fe80::1\n  -> Switch DHCP on")
	if s.text("/dev/ttyS0") != shown || s.text("/dev/tty0") != shown || s.reloads != reloads+2 {
		t.Errorf("a console with a login shows\n%s\nafter %d reloads", s.text("/dev/ttyS0"), s.reloads-reloads)
	}
	// First boot goes on without, and cloud-init is told.
	if err := s.firstBoot(relayOnly); err != nil {
		t.Fatal(err)
	}
	if got := s.scripts(); len(got) != 1 || !strings.HasPrefix(got[0], "relay-appliance: network: eth0 (52:54:00:12:34:56): no address came by DHCP") {
		t.Errorf("cloud-init gets %q", got)
	}
	if fault, err := s.Fault(); err != nil || !strings.HasPrefix(fault, "network: eth0") || !strings.Contains(fault, "\nSwitch DHCP on") {
		t.Errorf("the fault is %q, %v", fault, err)
	}
	s.cards = []Interface{loopback, card("2001:db8::7")}
	s.wantPage(s.at("90.0", true), "NETWORK: there is an IPv6 address, 2001:db8::7 (eth0), but no IPv4 address\n  -> Order a public IPv4")
	s.cards = []Interface{loopback, card("2001:db8::7", "192.0.2.7")}
	if page := s.at("93.0", true); strings.Contains(page, "NETWORK") || !strings.Contains(page, "network     192.0.2.7 (eth0), 2001:db8::7 (eth0) (after 1m33s)\n") {
		t.Errorf("with a network the page is\n%s", page)
	}
	if fault, err := s.Fault(); err != nil || fault != "" {
		t.Errorf("the fault is %q, %v", fault, err)
	}
	st, err := s.Status(t.Context())
	if err != nil || st.Progress.Steps[0].Outcome != status.Met || st.Progress.Steps[0].After != 93 {
		t.Errorf("%+v, %v", st.Progress, err)
	}
}

// From power-on to the first reservation, each step is shown as it comes.
func TestStart(t *testing.T) {
	s := newStart(t)
	s.wantPage(s.at("7.0", true), "network     18.196.7.7 (eth0) (after 7s)\n")
	if d := cmp.Diff([]string{"7s: network: 18.196.7.7 (eth0)", "7s: set-up: first boot is still to come: it waits for cloud-init and the network"}, s.told); d != "" {
		t.Error(d)
	}
	s.file(SettingsPath, relayOnly)
	if err := s.keep(&Report{At: time.Now(), Set: true, Running: true, Said: []string{"wrote /etc/relayd/relayd.yaml"}}); err != nil {
		t.Fatal(err)
	}
	s.relay.Certificate = &status.Certificate{Domain: "relay.test"}
	s.wantPage(s.at("12.0", true), ": relay, relay.test\n", "set-up      under way: wrote /etc/relayd/relayd.yaml\n", "relay       relayd runs, but serves no reservations yet\n",
		"certificate ordered; the CA checks that relay.test leads here, by ports 443 and 80\n", "reservation relayd tries one itself")
	s.file("/proc/uptime", "13.00 1.00\n")
	if err := s.firstBoot(""); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"relay-appliance-status.service"}, s.started); d != "" {
		t.Error(d)
	}
	s.relay.Healthy = true
	s.wantPage(s.at("15.0", true), "set-up      done (after 13s)\n", "relay       relayd serves reservations (after 15s)\n")
	s.relay.Requirements = []status.Requirement{
		{Name: "records", Outcome: status.NotMet, Found: "the A record is 192.0.2.9, the relay is at 203.0.113.7", Cure: "Set the A record of relay.test to 203.0.113.7."},
		{Name: "certificate", Outcome: status.NotMet, Cure: "See that ports 443 and 80 are open to all."},
		{Name: "service", Outcome: status.Unknown},
	}
	s.relay.Certificate.Error, s.relay.Certificate.NextTry = "the CA's check by http-01 failed: refused", time.Date(2026, 12, 1, 10, 11, 12, 0, time.UTC)
	s.wantPage(s.at("18.0", true), "certificate waiting for DNS: the A record is 192.0.2.9, the relay is at 203.0.113.7; next try at 10:11:12 UTC\n", "-> Set the A record of relay.test to 203.0.113.7.\n")
	if want := "18s: certificate: waiting for DNS: the A record is 192.0.2.9, the relay is at 203.0.113.7; next try at 10:11:12 UTC -> Set the A record of relay.test to 203.0.113.7."; !slices.Contains(s.told, want) {
		t.Errorf("it tells %q", s.told)
	}
	s.relay.Requirements[0].Outcome = status.Met
	s.wantPage(s.at("30.0", true), "certificate the CA's check by http-01 failed: refused; next try at 10:11:12 UTC\n", "-> See that ports 443 and 80 are open to all.\n")
	s.relay.Certificate.NotAfter = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	s.wantPage(s.at("31.0", true), "certificate expired on 2020-01-02; next try at 10:11:12 UTC\n", "-> See that ports 443 and 80 are open to all.\n")
	s.relay.Certificate = &status.Certificate{Domain: "relay.test", Issuer: "Pebble", NotAfter: time.Date(2127, 1, 2, 3, 4, 5, 0, time.UTC)}
	page := s.at("41.2", true)
	s.wantPage(page, "certificate valid until 2127-01-02, by Pebble (after 41s)\n", "Ready        41s after power-on (network 7s, set-up 13s, relay 15s, certificate 41s)\n")
	if !slices.Contains(s.told, "41s: ready") {
		t.Errorf("it tells %q", s.told)
	}
	// A reservation on trial ends it, and what was reached stays.
	s.relay.Requirements[2].Outcome = status.Met
	page = s.at("47.0", false)
	if s.wantPage(page, "Ready        41s after power-on (network 7s, set-up 13s, relay 15s, certificate 41s, reservation 47s)\n"); strings.Contains(page, "Start") {
		t.Errorf("at the end the page is\n%s", page)
	}
	s.file("/proc/uptime", "600.00 1.00\n")
	st, err := s.Status(t.Context())
	if err != nil || st.Progress.Ready != 41.2 || !strings.Contains(st.Text(), "Ready        41s after power-on") {
		t.Errorf("%+v, %v", st.Progress, err)
	}
	text, err := json.Marshal(st)
	if err != nil || !strings.Contains(string(text), `"ready_after_seconds":41.2`) || !strings.Contains(string(text), `{"name":"set-up","title":"Set up as its settings say","outcome":"met","found":"done","after_seconds":13}`) {
		t.Errorf("%s, %v", text, err)
	}
	// Later in its life the machine is not followed, even if something is not met.
	s.relay.Certificate = &status.Certificate{Domain: "relay.test", Error: "gone"}
	s.follows(hasty)
	page = s.text(issuePath)
	if got := s.at("5000.0", false); got != page {
		t.Errorf("the page became\n%s", got)
	}
	if d := cmp.Diff([]string{"1h23m20s: certificate: gone -> See that ports 443 and 80 are open to all."}, s.told); d != "" {
		t.Error(d)
	}
}

// Who has no settings, or wrong ones, is told what to do; the rest is his.
func TestStartThatWaitsForNobody(t *testing.T) {
	s := newStart(t)
	if err := s.firstBoot(""); err != nil {
		t.Fatal(err)
	}
	s.wantPage(s.at("20.0", false), "not set up yet", "set-up      there are no settings\n")
	if err := s.firstBoot("role: relais\n"); err == nil {
		t.Fatal("no error")
	}
	s.wantPage(s.at("23.0", false), "NOT SET UP: ", "want relay, monitor or both")
	if err := s.keep(&Report{Set: true, Running: true, After: 24}); err != nil {
		t.Fatal(err)
	}
	s.file(SettingsPath, relayOnly)
	s.wantPage(s.at("800.0", true), "set-up      under way")
	s.wantPage(s.at("900.0", false), "NOT SET UP: first boot was broken off: run it again\n")
	// A restore may take longer.
	if err := s.keep(&Report{Set: true, Running: true, After: 24, Limit: (bootTime + restoreTime).Seconds()}); err != nil {
		t.Fatal(err)
	}
	s.wantPage(s.at("2500.0", false), "set-up      under way")
	s.wantPage(s.at("2700.0", false), "NOT SET UP: first boot was broken off: run it again\n")
	if err := s.firstBoot("role: relais\n"); err == nil {
		t.Fatal("no error")
	}
	s.cards = nil
	s.follows(hasty)
	s.wantPage(s.at("26.0", true), "NETWORK: no network card", "NOT SET UP: ")
}

// What lacked the network is done when it comes.
func TestSetUpAgain(t *testing.T) {
	s := newStart(t)
	server := httptest.NewTLSServer(http.NotFoundHandler())
	server.Close()
	s.Client = server.Client()
	s.cards = []Interface{loopback, card()}
	if err := os.Remove(s.path("/etc/relaymon/roster.yaml")); err != nil {
		t.Fatal(err)
	}
	err := s.firstBoot("role: monitor\nmonitor: {name: alpha, roster: " + server.URL + "/roster.yaml}\n")
	if err == nil || !strings.Contains(err.Error(), "fetch monitor.roster: ") || !strings.HasSuffix(err.Error(), "it is tried again by itself") {
		t.Fatalf("%v", err)
	}
	s.follows(hasty)
	s.started = nil
	s.wantPage(s.at("20.0", true), "NETWORK: ", "NOT SET UP: fetch monitor.roster: ")
	if len(s.started) != 0 {
		t.Errorf("without a network it starts %q", s.started)
	}
	s.cards = []Interface{loopback, card("192.0.2.7")}
	s.f.pace.again = time.Hour
	s.at("23.0", true)
	if len(s.started) != 0 {
		t.Errorf("at once it starts %q", s.started)
	}
	s.f.tried, s.f.pace.again = time.Now().Add(-2*time.Hour), 0
	s.at("26.0", true)
	if d := cmp.Diff([]string{"relay-appliance-first-boot.service"}, s.started); d != "" {
		t.Error(d)
	}
	// A fault that no network mends is not tried again.
	if err := s.firstBoot("role: monitor\nmonitor: {name: alpha, roster: /none}\n"); err == nil {
		t.Fatal("no error")
	}
	s.started = nil
	if s.at("29.0", false); len(s.started) != 0 {
		t.Errorf("it starts %q", s.started)
	}
}

// The whole: it ends by itself, and with the machine.
func TestFollow(t *testing.T) {
	s := newStart(t)
	s.answer["relayd doctor"] = Result{Stdout: `{"peer_id": "12D3KooW"}`}
	s.relay = status.Status{Healthy: true, Requirements: []status.Requirement{{Name: "service", Outcome: status.Met}}}
	if err := s.firstBoot(relayOnly); err != nil {
		t.Fatal(err)
	}
	var said []string
	if err := s.Follow(t.Context(), func(format string, args ...any) { said = append(said, args[0].(string)) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(said, "10s: ready") {
		t.Errorf("it says %q", said)
	}
	s.wantPage(s.text(issuePath), "Ready        10s after power-on", "Peer ID      12D3KooW\n", "relayd       active\n", "As of")
	s.relay.Healthy = false
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Follow(ctx, func(string, ...any) {}); err != nil {
		t.Errorf("at the machine's end: %v", err)
	}
}

// A monitor that runs and signs nothing yet, as after a move, writes no evidence.
func TestMonitorThatSignsNothing(t *testing.T) {
	said, code := "waiting for [m3]\n", http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, said)
	}))
	defer server.Close()
	f := newFake(t)
	ask := func() status.Requirement {
		return facts{monitor: f.health(t.Context(), strings.TrimPrefix(server.URL, "http://"))}.monitors()
	}
	for range 2 {
		if q := ask(); q.Outcome != status.Unknown || q.Found != "waiting for [m3]" {
			t.Errorf("while it says %q: %+v", said, q)
		}
		code = http.StatusServiceUnavailable
	}
	said, code = "ok\n", http.StatusOK
	if q := ask(); q.Outcome != status.Met {
		t.Errorf("while it is well: %+v", q)
	}
}

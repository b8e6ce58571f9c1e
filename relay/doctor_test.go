package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/coord"
	"github.com/psf-relay/relay-appliance/internal/pebble"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// newPSFNode is a node of the PSF network at which others can meet.
func newPSFNode(t testing.TB) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.3/tcp/0"), libp2p.DisableRelay(), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	ps, err := coord.NewPubSub(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	l, err := coord.Listen(ps, func(coord.Heard) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return h
}

func bootstrapOf(t testing.TB, h host.Host) ma.Multiaddr {
	t.Helper()
	return relaytest.Multiaddrs(t, h.Addrs()[0].String()+"/p2p/"+h.ID().String())[0]
}

func byName(t testing.TB, d status.Diagnosis) map[string]status.Requirement {
	t.Helper()
	out := map[string]status.Requirement{}
	for _, r := range d.Requirements {
		if _, twice := out[r.Name]; twice {
			t.Errorf("%s stands twice", r.Name)
		}
		out[r.Name] = r
		if r.Title == "" || r.Found == "" || r.Outcome == status.NotMet && r.Cure == "" || r.Outcome == status.Met && r.Cure != "" {
			t.Errorf("%s is not told in full: %+v", r.Name, r)
		}
	}
	if d.Met+d.NotMet+d.Unknown != len(out) || len(out) != len(d.Requirements) {
		t.Errorf("counts %d %d %d of %d", d.Met, d.NotMet, d.Unknown, len(out))
	}
	return out
}

func metricsPort(t testing.TB, c config.Config) config.Config {
	t.Helper()
	c.Metrics.Listen = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), uint16(freePort(t))).String()
	return c
}

// A relay that has all it needs: a certificate, a record, a network to be heard
// in, and another relay that dials it back.
func TestDoctorFindsAllWell(t *testing.T) {
	t.Parallel()
	hub := newPSFNode(t)
	helper := relaytest.LabConfig(t)
	helper.PSF.Enabled = false
	helper.Listen.TCP = relaytest.Multiaddrs(t, "/ip4/127.0.0.4/tcp/0")
	other := start(t, helper)

	c, ca := withDomain(t, relaytest.LabConfig(t), pebble.Options{})
	c = metricsPort(t, c)
	c.Limits.Reservations, c.Limits.GuestReservations = 77, 7
	otherAddr := relaytest.Multiaddrs(t, other.Addrs()[0].String())[0]
	c.PSF.Bootstrap = []ma.Multiaddr{bootstrapOf(t, hub), otherAddr}
	r := start(t, c)

	// What only time and others can bring.
	relaytest.Eventually(t, "the other relay dials back", func() bool {
		r.checkup.mu.Lock()
		reach := r.checkup.reach
		r.checkup.mu.Unlock()
		if reach == nil {
			return false
		}
		reach.ask(relaytest.Context(t), r.host.Addrs())
		for _, a := range reach.state(time.Now()) {
			if kindOf(a.Addr) == "tcp" && a.Outcome == status.Met {
				return true
			}
		}
		return false
	})
	if _, err := relaytest.Reserve(t, relaytest.NewPeer(t, ca.RootPEM), dialable(t, r.Relay)["wss"]); err != nil {
		t.Fatal(err)
	}

	relaytest.Eventually(t, "a stranger came by WSS", func() bool {
		return slices.ContainsFunc(r.Status().Incoming, func(in status.Incoming) bool { return kindOf(in.Addr) == "wss" && in.Family == "ip4" })
	})

	d, err := Examine(relaytest.Context(t), c, Examination{Resolver: ca.Resolver})
	if err != nil {
		t.Fatal(err)
	}
	got := byName(t, d)
	for name, want := range map[string]struct {
		outcome status.Outcome
		found   string
	}{
		"service":      {status.Met, "1 of 77 places taken; one more was reserved on trial"},
		"ipv4":         {status.Met, "127.0.0.2: strangers have come in by it"},
		"records":      {status.Met, "A 127.0.0.2, no AAAA"},
		"tcp":          {status.Met, "a peer dialled back over IPv4"},
		"wss":          {status.Met, "a stranger came over IPv4"},
		"certificate":  {status.Met, "days), presented at 127.0.0.2"},
		"announcement": {status.Met, "heard back through " + hub.ID().String()},
		"names":        {status.Met, ""},
		"software":     {status.NotMet, "is no release"}, // a test binary
		"clock":        {status.Met, ""},
		"disk":         {status.Met, "free"},
		"files":        {status.Met, "connections"},
		"budget":       {status.Met, "of 1 TB carried"},
		"uptime":       {status.Unknown, "up since"},
		"region":       {status.Unknown, ""},
	} {
		if got[name].Outcome != want.outcome || !strings.Contains(got[name].Found, want.found) {
			t.Errorf("%s: %s: %s, want %s with %q", name, got[name].Outcome, got[name].Found, want.outcome, want.found)
		}
	}
	if len(got) != 15 || !d.Running || !d.Lab || d.PeerID != r.ID().String() {
		t.Errorf("diagnosis %+v", d)
	}

	// Without the metrics listener, the page for browsers tells the same.
	c.Metrics.Listen = ""
	if s, err := askStatus(relaytest.Context(t), c, r.ID()); err != nil || !s.Healthy || s.Capacity.Connections == 0 {
		t.Errorf("by WSS's port: %v", err)
	}
	stranger := peerOf(t)
	if _, err := askStatus(relaytest.Context(t), c, stranger); err == nil || !strings.Contains(err.Error(), "another relay answers") {
		t.Errorf("another peer ID: %v", err)
	}
}

// A relay that does not run, with what the doctor can find then.
func TestDoctorWithoutRelay(t *testing.T) {
	t.Parallel()
	c, ca := withDomain(t, relaytest.LabConfig(t), pebble.Options{Names: map[string]netip.Addr{domain: netip.MustParseAddr("127.0.0.9")}})
	c = metricsPort(t, c)
	if _, err := Examine(relaytest.Context(t), c, Examination{Resolver: ca.Resolver}); err == nil || !strings.Contains(err.Error(), "relayd init") {
		t.Errorf("without an identity: %v", err)
	}
	if _, err := CreateIdentity(c.DataDir); err != nil {
		t.Fatal(err)
	}
	d, err := Examine(relaytest.Context(t), c, Examination{Resolver: ca.Resolver})
	if err != nil {
		t.Fatal(err)
	}
	got := byName(t, d)
	if d.Running || got["service"].Outcome != status.NotMet || !strings.Contains(got["service"].Found, "connection refused") {
		t.Errorf("service: %+v", got["service"])
	}
	if r := got["records"]; r.Outcome != status.NotMet || !strings.Contains(r.Found, "127.0.0.9, the relay is at 127.0.0.2") || !strings.Contains(r.Cure, "to 127.0.0.2 alone") {
		t.Errorf("records: %+v", r)
	}
	for _, name := range []string{"tcp", "wss", "certificate", "announcement", "files", "budget"} {
		if got[name].Outcome != status.Unknown || got[name].Found != "relayd does not run" {
			t.Errorf("%s: %+v", name, got[name])
		}
	}

	// Somebody else holds the port.
	thief, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close()
	taken := c
	taken.Listen.TCP = relaytest.Multiaddrs(t, fmt.Sprintf("/ip4/127.0.0.2/tcp/%d", thief.Addr().(*net.TCPAddr).Port))
	if d, err = Examine(relaytest.Context(t), taken, Examination{Resolver: ca.Resolver}); err != nil {
		t.Fatal(err)
	}
	if r := byName(t, d)["service"]; r.Outcome != status.NotMet || !strings.Contains(r.Found, "in use by another program") {
		t.Errorf("service: %+v", r)
	}
}

// An announcement that does not get through: the relay stands in one network, and
// the doctor listens in another.
func TestDoctorDoesNotHear(t *testing.T) {
	t.Parallel()
	here, there := newPSFNode(t), newPSFNode(t)
	c := metricsPort(t, relaytest.LabConfig(t))
	c.PSF.Bootstrap = []ma.Multiaddr{bootstrapOf(t, here)}
	r := start(t, c)
	relaytest.Eventually(t, "announced", func() bool {
		s := r.Status().PSF
		return s != nil && s.Neighbours > 0 && !s.LastAnnounced.IsZero()
	})
	c.PSF.Bootstrap = []ma.Multiaddr{bootstrapOf(t, there)}
	d, err := Examine(relaytest.Context(t), c, Examination{Time: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if got := byName(t, d)["announcement"]; got.Outcome != status.NotMet || !strings.Contains(got.Found, "not heard through the network") {
		t.Errorf("announcement: %+v", got)
	}
}

// The relay's own page tells what the doctor tells.
func TestStatusHasRequirements(t *testing.T) {
	c := metricsPort(t, relaytest.LabConfig(t))
	c.PSF.Enabled = false
	r := start(t, c)
	if _, err := relaytest.Reserve(t, relaytest.NewPeer(t, nil), dialable(t, r.Relay)["tcp"]); err != nil {
		t.Fatal(err)
	}
	relaytest.Eventually(t, "looked around", func() bool {
		s := r.Status()
		return len(s.Requirements) > 0 && len(s.Incoming) > 0 && s.Capacity.FilesUsed > 0
	})
	resp, err := http.Get("http://" + c.Metrics.Listen + "/status.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var s status.Status
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	d, err := Examine(relaytest.Context(t), c, Examination{})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Requirements) != len(d.Requirements) {
		t.Fatalf("%d on the page, %d by the doctor", len(s.Requirements), len(d.Requirements))
	}
	for i, q := range s.Requirements {
		if q.Name != d.Requirements[i].Name || q.Outcome != d.Requirements[i].Outcome {
			t.Errorf("on the page %+v, by the doctor %+v", q, d.Requirements[i])
		}
	}
	if s.VersionSince.IsZero() || time.Since(s.VersionSince) > time.Hour {
		t.Errorf("version since %s", s.VersionSince)
	}
	// A version that is older than the process stays as old as it is.
	if again, err := noteVersion(c.DataDir, s.Version, time.Now().Add(time.Hour)); err != nil || !again.Equal(s.VersionSince) {
		t.Errorf("noted anew: %s, %v", again, err)
	}
	if next, err := noteVersion(c.DataDir, "v9.9.9", time.Now()); err != nil || next.Before(s.VersionSince) || !versionSince(c.DataDir, s.Version).IsZero() {
		t.Errorf("another version: %s, %v", next, err)
	}
}

func TestClockIsCompared(t *testing.T) {
	for _, off := range []time.Duration{0, 90 * time.Second, -2 * time.Hour} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(-off).UTC().Format(http.TimeFormat))
		}))
		c := compareClock(relaytest.Context(t), s.Client(), s.URL)
		s.Close()
		if d := c.offset - off; c.err != nil || d.Abs() > 3*time.Second {
			t.Errorf("off by %s: measured %s, %v", off, c.offset, c.err)
		}
	}
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	if c := compareClock(relaytest.Context(t), s.Client(), s.URL); c.err == nil {
		t.Error("nobody answers: no error")
	}
}

func TestLookUp(t *testing.T) {
	ca, err := pebble.Start(t.Context(), pebble.Options{Names: map[string]netip.Addr{domain: netip.MustParseAddr("127.0.0.5")}})
	if err != nil {
		t.Fatal(err)
	}
	defer ca.Close()
	if r := lookUp(relaytest.Context(t), ca.Resolver, domain); r.err != nil || len(r.a) != 1 || r.a[0] != netip.MustParseAddr("127.0.0.5") || len(r.aaaa) != 0 {
		t.Errorf("got %+v", r)
	}
	if r := lookUp(relaytest.Context(t), ca.Resolver, "nobody.test"); r.err != nil || len(r.a) != 0 {
		t.Errorf("a name that does not exist: %+v", r)
	}
	if r := lookUp(relaytest.Context(t), "127.0.0.2:1", domain); r.err == nil {
		t.Errorf("no server: %+v", r)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if r := lookUp(gone, ca.Resolver, domain); r.err == nil {
		t.Errorf("cancelled: %+v", r)
	}
}

func TestVersionNoteIsNoIdentity(t *testing.T) {
	dir, _ := relayState(t)
	if _, err := noteVersion(dir, "v1.0.0", time.Now()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "b")
	if _, err := Backup(dir, file); err != nil {
		t.Fatal(err)
	}
}

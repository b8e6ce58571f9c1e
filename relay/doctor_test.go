package relay

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/coord"
	"github.com/psf-relay/relay-appliance/internal/pebble"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/doctor"
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
	c.Test.CheckupEvery = 100 * time.Millisecond
	c.Limits.Reservations, c.Limits.GuestReservations = 77, 7
	otherAddr := relaytest.Multiaddrs(t, other.Addrs()[0].String())[0]
	c.PSF.Bootstrap = []ma.Multiaddr{bootstrapOf(t, hub), otherAddr}
	r := start(t, c)

	if _, err := relaytest.Reserve(t, relaytest.NewPeer(t, ca.RootPEM), dialable(t, r.Relay)["wss"]); err != nil {
		t.Fatal(err)
	}

	// What only time and others can bring.
	relaytest.Eventually(t, "the other relay dials back", func() bool {
		return slices.ContainsFunc(r.Status().Reach, func(a status.Reach) bool {
			return strings.Contains(a.Addr, "/tcp/") && !strings.Contains(a.Addr, "/ws") && a.Outcome == status.Met
		})
	})
	relaytest.Eventually(t, "a stranger came by WSS", func() bool {
		return slices.ContainsFunc(r.Status().Incoming, func(in status.Incoming) bool { return strings.HasSuffix(in.Addr, "/tls/ws") && in.Family == "ip4" })
	})

	// The relay tries only while nobody holds a reservation; one trial may have begun before.
	relaytest.Eventually(t, "the relay's own trials are over", func() bool {
		held := r.Status().Reservations
		return held.Members+held.Guests == 1
	})

	d, err := Examine(relaytest.Context(t), c, doctor.Examination{Resolver: ca.Resolver})
	if err != nil {
		t.Fatal(err)
	}
	got := byName(t, d)
	for name, want := range map[string]struct {
		outcome status.Outcome
		found   string
	}{
		"service":      {status.Met, "1 of 77 reservations taken; one more was reserved on trial"},
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
	d, err = Examine(relaytest.Context(t), c, doctor.Examination{Resolver: ca.Resolver})
	if err != nil || !d.Running || !d.Status.Healthy || d.Status.Capacity.Connections == 0 {
		t.Errorf("by WSS's port: %+v, %v", d, err)
	}
	d, err = doctor.Examine(relaytest.Context(t), c, relaytest.NewPeer(t, nil).ID(), doctor.Examination{Resolver: ca.Resolver})
	if err != nil || d.Running {
		t.Errorf("another peer ID: %+v, %v", d, err)
	}
}

// A relay that does not run, with what the doctor can find then.
func TestDoctorWithoutRelay(t *testing.T) {
	t.Parallel()
	c, ca := withDomain(t, relaytest.LabConfig(t), pebble.Options{Names: map[string]netip.Addr{domain: netip.MustParseAddr("127.0.0.9")}})
	c = metricsPort(t, c)
	if _, err := Examine(relaytest.Context(t), c, doctor.Examination{Resolver: ca.Resolver}); err == nil || !strings.Contains(err.Error(), "relayd init") {
		t.Errorf("without an identity: %v", err)
	}
	if _, err := CreateIdentity(c.DataDir); err != nil {
		t.Fatal(err)
	}
	d, err := Examine(relaytest.Context(t), c, doctor.Examination{Resolver: ca.Resolver})
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
	if d, err = Examine(relaytest.Context(t), taken, doctor.Examination{Resolver: ca.Resolver}); err != nil {
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
	d, err := Examine(relaytest.Context(t), c, doctor.Examination{Time: 20 * time.Second})
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
	d, err := Examine(relaytest.Context(t), c, doctor.Examination{})
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
}

// Ports that are closed on IPv4 and open on IPv6: what comes in by IPv6 is no
// evidence for what the bounty wants.
func TestVisitsOverIPv6ShowNothingOfIPv4(t *testing.T) {
	t.Parallel()
	c := relaytest.LabConfig(t)
	c.PSF.Enabled = false
	c.Listen.TCP = relaytest.Multiaddrs(t, "/ip4/127.0.0.2/tcp/0", "/ip6/::1/tcp/0")
	c, ca := withDomain(t, metricsPort(t, c), pebble.Options{})
	port, err := c.Listen.WSS[0].ValueForProtocol(ma.P_TCP)
	if err != nil {
		t.Fatal(err)
	}
	c.Listen.WSS = append(c.Listen.WSS, relaytest.Multiaddrs(t, "/ip6/::1/tcp/"+port+"/tls/ws")...)
	r := start(t, c)
	visit := func(ip string, visits int) map[string]status.Requirement {
		t.Helper()
		for _, a := range r.host.Network().ListenAddresses() {
			if !strings.HasPrefix(a.String(), ip) {
				continue
			}
			if config.IsWSS(a) {
				a = relaytest.Multiaddrs(t, ip+"/tcp/"+port+"/tls/sni/"+domain+"/ws")[0]
			}
			if err := relaytest.NewPeer(t, ca.RootPEM).Connect(relaytest.Context(t), peer.AddrInfo{ID: r.ID(), Addrs: []ma.Multiaddr{a}}); err != nil {
				t.Fatal(err)
			}
		}
		relaytest.Eventually(t, "the visits are noted", func() bool { return len(r.Status().Incoming) >= visits })
		d, err := Examine(relaytest.Context(t), c, doctor.Examination{Resolver: ca.Resolver})
		if err != nil {
			t.Fatal(err)
		}
		return byName(t, d)
	}
	got := visit("/ip6/::1", 2)
	for _, name := range []string{"ipv4", "tcp", "wss"} {
		if got[name].Outcome != status.Unknown {
			t.Errorf("after visits over IPv6: got %+v, want unknown", got[name])
		}
	}
	got = visit("/ip4/127.0.0.2", 4)
	for _, name := range []string{"ipv4", "tcp", "wss"} {
		if got[name].Outcome != status.Met {
			t.Errorf("after visits over IPv4: got %+v, want met", got[name])
		}
	}
}

// That reservations are offered does not show that one can be had: the relay tries while
// nobody holds one, the doctor always.
func TestPlaceOnTrial(t *testing.T) {
	t.Parallel()
	c := metricsPort(t, relaytest.LabConfig(t))
	c.PSF.Enabled = false
	c.Limits.ReservationsPerIP = 1
	c.Test.CheckupEvery = 100 * time.Millisecond
	r := start(t, c)
	service := func(all []status.Requirement) status.Requirement {
		i := slices.IndexFunc(all, func(q status.Requirement) bool { return q.Name == "service" })
		if i < 0 {
			return status.Requirement{}
		}
		return all[i]
	}
	relaytest.Eventually(t, "the trial shows", func() bool {
		q := service(r.Status().Requirements)
		return q.Outcome == status.Met && strings.Contains(q.Found, "reservations taken; one more was reserved on trial")
	})
	if incoming := r.Status().Incoming; len(incoming) > 0 {
		t.Errorf("the relay takes its own visit for a stranger's: %v", incoming)
	}
	// The one reservation for the address of this machine is taken. A trial of the relay's
	// own may just have it.
	peer := relaytest.NewPeer(t, nil)
	relaytest.Eventually(t, "the reservation is taken", func() bool {
		_, err := relaytest.Reserve(t, peer, dialable(t, r.Relay)["tcp"])
		return err == nil
	})
	d, err := Examine(relaytest.Context(t), c, doctor.Examination{})
	if err != nil {
		t.Fatal(err)
	}
	if q := service(d.Requirements); q.Outcome != status.NotMet || !strings.Contains(q.Found, "on trial") || !strings.Contains(q.Found, "RESERVATION_REFUSED") {
		t.Errorf("refused: got %+v, want not met", q)
	}
}

func TestVersionNoteIsNoIdentity(t *testing.T) {
	dir, _ := relayState(t)
	relaytest.Must(t, os.WriteFile(filepath.Join(dir, "version.json"), []byte(`{"version":"v1.0.0"}`), 0o600))
	file := filepath.Join(t.TempDir(), "b")
	if _, err := backUp(dir, file); err != nil {
		t.Fatal(err)
	}
}

package relay

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// An address of the CashAddr specification, and the same key as an SLP address.
const (
	cashPayout = "bitcoincash:qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a"
	slpPayout  = "simpleledger:qpm2qsznhks23z7629mms6s4cwef74vcwvg3pncxyr"
)

func TestEnrolAndMove(t *testing.T) {
	cfg := config.DefaultConfig()
	dir, id := relayState(t)
	cfg.DataDir, cfg.Domain, cfg.Name = dir, "relay.example.org", "alice"
	cfg.Announce.IP4 = netip.MustParseAddr("198.41.0.4")
	now := time.Date(2026, 11, 23, 1, 59, 30, 5e8, time.UTC)
	next := time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)

	s, err := Enrol(cfg, Claim{Payout: slpPayout, Region: "SG"}, now)
	if err != nil {
		t.Fatal(err)
	}
	want := statement.Statement{
		Kind: statement.Enrol, Network: "psf", PeerID: id, Operator: "alice", IPv4: "198.41.0.4", TCPPort: 4001,
		Domain: "relay.example.org", WSSPort: 443, Region: "SG", Payout: slpPayout, From: next, Made: now.Truncate(time.Second),
	}
	open := func(s Signed) statement.Statement {
		t.Helper()
		if strings.ContainsAny(s.Text, "\n ") {
			t.Errorf("not one line: %q", s.Text)
		}
		envelope, err := statement.FromText(s.Text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := statement.Open(envelope)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if diff := cmp.Diff(want, open(s)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, s.Says); diff != "" {
		t.Error(diff)
	}

	// To an address that the machine does not have yet.
	later := next.Add(48 * time.Hour)
	s, err = Move(cfg, Claim{IP4: netip.MustParseAddr("192.5.5.241"), From: later.In(time.FixedZone("", 3600)), Operator: "Alice & Co.", Payout: slpPayout}, now)
	if err != nil {
		t.Fatal(err)
	}
	want.Kind, want.Operator, want.IPv4, want.From, want.Payout, want.Region = statement.Move, "Alice & Co.", "192.5.5.241", later, "", ""
	if diff := cmp.Diff(want, open(s)); diff != "" {
		t.Error(diff)
	}

	lab := cfg
	lab.Network.AllowPrivate = true
	lab.Announce.IP4 = netip.Addr{}
	lab.Listen.TCP = relaytest.Multiaddrs(t, "/ip4/127.0.0.2/tcp/4101")
	if s, err := Enrol(lab, Claim{Payout: slpPayout, Region: "SG"}, now); err != nil || s.Says.Network != "lab" || s.Says.IPv4 != "127.0.0.2" || s.Says.TCPPort != 4101 {
		t.Errorf("lab: %v: %+v", err, s.Says)
	}
	// A forwarded port is what others dial.
	forwarded := cfg
	forwarded.Announce.Addrs = relaytest.Multiaddrs(t, "/ip4/198.41.0.4/tcp/14001")
	if s, err := Enrol(forwarded, Claim{Payout: slpPayout, Region: "SG"}, now); err != nil || s.Says.TCPPort != 14001 {
		t.Errorf("forwarded port: %v: %+v", err, s.Says)
	}
}

func TestAppeal(t *testing.T) {
	cfg := config.DefaultConfig() // without a domain: a relay that is gone may object, too
	dir, id := relayState(t)
	cfg.DataDir, cfg.Name = dir, "alice"
	now := time.Date(2026, 11, 23, 1, 59, 30, 5e8, time.UTC)
	s, err := Appeal(cfg, "", "2026-11", "It was up.", now)
	if err != nil {
		t.Fatal(err)
	}
	want := statement.Statement{Kind: statement.Appeal, Network: "psf", PeerID: id, Operator: "alice", Month: "2026-11", Text: "It was up.", Made: now.Truncate(time.Second)}
	envelope, err := statement.FromText(s.Text)
	if err != nil {
		t.Fatal(err)
	}
	got, err := statement.Open(envelope)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" || s.Says != want {
		t.Error(diff)
	}
	cfg.Network.AllowPrivate = true
	if s, err := Appeal(cfg, "Alice & Co.", "2026-10", "It was up.", now); err != nil || s.Says.Network != "lab" || s.Says.Operator != "Alice & Co." {
		t.Errorf("lab: %v: %+v", err, s.Says)
	}
	for want, tc := range map[string]struct{ month, text string }{
		"month: 2026-12 has not begun": {"2026-12", "It was up."},
		"month: want YYYY-MM":          {"November", "It was up."},
		"text: it is empty":            {"2026-11", ""},
	} {
		if _, err := Appeal(cfg, "", tc.month, tc.text, now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	cfg.DataDir = t.TempDir()
	if _, err := Appeal(cfg, "", "2026-11", "It was up.", now); err == nil || !strings.Contains(err.Error(), "relayd init") {
		t.Errorf("without an identity: got %v", err)
	}
}

func TestStatementsRefused(t *testing.T) {
	dir, _ := relayState(t)
	now := time.Date(2026, 11, 23, 1, 59, 30, 0, time.UTC)
	for name, tc := range map[string]struct {
		change func(*config.Config, *Claim)
		want   string
	}{
		"no domain":       {func(c *config.Config, _ *Claim) { c.Domain = "" }, "set domain"},
		"no identity":     {func(c *config.Config, _ *Claim) { c.DataDir = t.TempDir() }, "relayd init"},
		"mistyped payout": {func(_ *config.Config, c *Claim) { c.Payout = strings.Replace(c.Payout, "qpm2", "qpm3", 1) }, "mistyped"},
		"no payout":       {func(_ *config.Config, c *Claim) { c.Payout = "" }, "name the address"},
		"no region":       {func(_ *config.Config, c *Claim) { c.Region = "" }, "country"},
		"region in words": {func(_ *config.Config, c *Claim) { c.Region = "Singapore" }, "region: want two capital letters"},
		"private address": {func(_ *config.Config, c *Claim) { c.IP4 = netip.MustParseAddr("10.0.0.1") }, "no public IPv4"},
		"shared address":  {func(_ *config.Config, c *Claim) { c.IP4 = netip.MustParseAddr("100.64.0.1") }, "no public IPv4"},
		"IPv6":            {func(_ *config.Config, c *Claim) { c.IP4 = netip.MustParseAddr("2001:db8::1") }, "no public IPv4"},
		"in the past":     {func(_ *config.Config, c *Claim) { c.From = now.Truncate(time.Hour) }, "the next hour is 2026-11-23T02:00:00Z"},
		"half an hour":    {func(_ *config.Config, c *Claim) { c.From = now.Add(24 * time.Hour) }, "full UTC hour"},
		"no port":         {func(c *config.Config, _ *Claim) { c.Listen.TCP = relaytest.Multiaddrs(t, "/ip4/0.0.0.0/tcp/0") }, "TCP port"},
		"no wss":          {func(c *config.Config, _ *Claim) { c.Listen.WSS = nil }, "listen.wss"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config.DefaultConfig()
			cfg.DataDir, cfg.Domain = dir, "relay.example.org"
			cfg.Announce.IP4 = netip.MustParseAddr("198.41.0.4")
			claim := Claim{Payout: cashPayout, Region: "SG"}
			tc.change(&cfg, &claim)
			if _, err := Enrol(cfg, claim, now); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

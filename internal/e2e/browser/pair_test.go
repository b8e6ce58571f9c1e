package browser

import (
	"fmt"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/browser"
)

// Two visitors, in two browsers that share nothing, talk through the relay.
func TestTwoBrowsersMeet(t *testing.T) {
	c, ca := lab(t)
	b := startBrowser(t, ca.RootPEM)
	r, _ := relayd(t, c)
	ctx := bounded(t)

	alice, _, err := b.Open(ctx, b.Page())
	if err != nil {
		t.Fatal(err)
	}
	address, err := browser.Evaluate[string](alice, fmt.Sprintf("page.hold(%q)", wss(t, r)))
	if err != nil {
		t.Fatal(err)
	}
	bob, _, err := b.Open(ctx, b.Page())
	if err != nil {
		t.Fatal(err)
	}
	const size = 64 << 10
	over, err := browser.Evaluate[string](bob, fmt.Sprintf("page.reach(%q, %d, %d)", address, size, patience.Milliseconds()))
	if err != nil {
		t.Fatal(err)
	}
	if over != address || !strings.Contains(over, "/p2p-circuit/p2p/") {
		t.Errorf("the bytes went over %s, want %s", over, address)
	}
}

package browser

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/monitor/browser"
)

// A hundred peers with a browser's means hold places on a relayd, lose them when
// it restarts, and come back by themselves to be reached again.
func TestHundredPeersComeBack(t *testing.T) {
	const crowd = 100
	c, ca := lab(t)
	// They come from all over the world; here, from one address.
	c.Limits.ReservationsPerIP, c.Limits.ConnectionsPerIP, c.Limits.ConnectsPerSecond = crowd, 2*crowd, crowd
	r, stop := relayd(t, c)
	address := wss(t, r)
	peers := startPeers(t, address, crowd, c.ACME.CAFile)
	ids := peers.wait(t, crowd)
	// A peer that is starved for a while gives up its connection, and comes back.
	places := func() {
		t.Helper()
		var got int
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if got = r.Status().Reservations.Guests; got == crowd {
				return
			}
		}
		t.Errorf("the relay counts %d places taken, the peers %d", got, crowd)
	}
	places()

	stop()
	peers.wait(t, 0)

	r, _ = relayd(t, c)
	if got := wss(t, r); got != address {
		t.Fatalf("the relay came back as %s, not %s", got, address)
	}
	peers.wait(t, crowd)
	places()

	// A place that cannot be reached is none: a browser looks up some of the peers.
	b := startBrowser(t, ca.RootPEM)
	tab, _, err := b.Open(bounded(t), b.Page())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{ids[0], ids[crowd/2], ids[crowd-1]} {
		// On a busy machine a peer of a hundred may answer too late, and come back once more.
		var rtt float64
		for end := time.Now().Add(patience); ; time.Sleep(time.Second) {
			rtt, err = browser.Evaluate[float64](tab, fmt.Sprintf("page.ping('%s/p2p-circuit/p2p/%s', %d)", address, id, patience.Milliseconds()))
			if err == nil || time.Now().After(end) {
				break
			}
			t.Logf("not yet: %v", err)
		}
		if err != nil {
			t.Errorf("peer %s is not reached through the relay: %v", id, err)
		} else if rtt < 0 {
			t.Errorf("round trip %v ms", rtt)
		}
	}
}

// nodePeers is a Node.js process with many peers in it.
type nodePeers struct{ said chan peersSaid }

type peersSaid struct {
	Reserved *int     `json:"reserved"`
	IDs      []string `json:"ids"`
}

func startPeers(t *testing.T, relay string, number int, ca string) *nodePeers {
	t.Helper()
	// Beside the modules, because they are looked for from where a script lies.
	dir := t.TempDir()
	if err := os.Symlink(need.NodeModules(t, "../../checkpage"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("testdata/peers.mjs")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "peers.mjs"), script, 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"peers.mjs"}
	if out, err := exec.Command("node", "-p", "typeof WebSocket").Output(); err == nil && strings.HasPrefix(string(out), "undefined") {
		args = append([]string{"--experimental-websocket"}, args...) // as Node.js before release 22 wants it
	}
	args = append(args, relay, fmt.Sprint(number), relayName, addrs[relayName].String())
	node := exec.CommandContext(t.Context(), "node", args...)
	node.Dir = dir
	node.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+ca)
	node.Stderr = t.Output()
	stdin, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	p := &nodePeers{said: make(chan peersSaid, 1000)}
	go func() {
		defer close(p.said)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var s peersSaid
			if json.Unmarshal(lines.Bytes(), &s) == nil {
				p.said <- s
			}
		}
	}()
	t.Cleanup(func() {
		stdin.Close()
		for range p.said { // until it has ended
		}
		_ = node.Wait()
	})
	return p
}

// wait until so many peers hold a place; it returns the peers' IDs once all do.
func (p *nodePeers) wait(t *testing.T, reserved int) (ids []string) {
	t.Helper()
	late := time.After(3 * patience) // for a hundred
	last, reached := -1, false
	for {
		select {
		case s, ok := <-p.said:
			if !ok {
				t.Fatal("the peers ended by themselves")
			}
			if s.Reserved != nil {
				last = *s.Reserved
				reached = last == reserved
			}
			if reached && (reserved == 0 || s.IDs != nil) {
				return s.IDs
			}
		case <-late:
			t.Fatalf("%d peers hold a place, want %d", last, reserved)
		}
	}
}

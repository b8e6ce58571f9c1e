package store

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

var kills = flag.Int("kills", 100, "how often TestKilled kills the process that writes")

// A process that writes a real log on the real disk, without a pause, is killed
// (SIGKILL) at random moments and started again.
func TestKilled(t *testing.T) {
	if dir := os.Getenv("KILLED_LOG"); dir != "" {
		writeUntilKilled(t, dir)
		return
	}
	n := *kills
	if testing.Short() {
		n = min(n, 5)
	}
	dir := filepath.Join(t.TempDir(), "log")
	l, err := Create(dir, Options{Name: "m", Network: evidence.Lab, First: evidencetest.FirstHour})
	evidencetest.Must(t, err)
	evidencetest.Must(t, l.Close())
	acked := make(map[string]bool)
	signed := make(map[string]bool)
	lives := 0
	// By chance, or on a slow disk, n lives may show too little. Then there are more.
	for ; lives < n || lives < 20*n && (len(acked) < n || len(signed) < 2); lives++ {
		child := exec.Command(os.Args[0], "-test.run=^TestKilled$", "-test.count=1")
		child.Env = append(os.Environ(), "KILLED_LOG="+dir)
		out, err := child.StdoutPipe()
		evidencetest.Must(t, err)
		var faults bytes.Buffer
		child.Stderr = &faults
		evidencetest.Must(t, child.Start())
		// A random number of lines after the log is open, and then some.
		left := 1 + rand.IntN(16)
		said := bufio.NewScanner(out)
		for said.Scan() {
			what, rest, _ := strings.Cut(said.Text(), " ")
			switch what {
			case "open":
			case "attempt":
				acked[rest] = true
			case "checkpoint":
				signed[rest] = true
			default:
				t.Fatalf("the process said %q", said.Text())
			}
			if left--; left == 0 {
				time.AfterFunc(time.Duration(rand.IntN(2000))*time.Microsecond, func() { child.Process.Kill() })
			}
		}
		child.Wait()
		if faults.Len() > 0 {
			t.Fatalf("the process said %s", faults.String())
		}
	}
	if len(acked) < n || len(signed) < 2 {
		t.Fatalf("%d attempts and %d checkpoints in %d lives: too little to see anything", len(acked), len(signed), lives)
	}

	l, err = Open(dir)
	evidencetest.Must(t, err)
	defer l.Close()
	found := make(map[string]bool)
	for h := l.First(); h <= l.next(); h++ {
		records, err := l.Records(h)
		evidencetest.Must(t, err)
		for _, r := range records {
			for _, a := range r.Attempts {
				id := attemptID(h, a)
				if found[id] {
					t.Errorf("attempt %s is there twice", id)
				}
				found[id] = true
			}
		}
	}
	for id := range acked {
		if !found[id] {
			t.Errorf("attempt %s was acknowledged and is gone", id)
		}
	}
	for line := range signed {
		var size int64
		var root string
		if _, err := fmt.Sscan(line, &size, &root); err != nil {
			t.Fatal(err)
		}
		if got, err := l.tree.Root(size); err != nil || got.String() != root {
			t.Errorf("the checkpoint of size %d that was seen is of another history: %s, not %s (%v)", size, root, got, err)
		}
	}
	r := sound(t, dir)
	t.Logf("killed %d times: %d attempts acknowledged, %d found, %d blocks, %d of them gaps", lives, len(acked), len(found), r.Blocks, r.Gaps)
}

// writeUntilKilled goes on where the log ends: five attempts an hour, then the seal.
func writeUntilKilled(t *testing.T, dir string) {
	l, err := Open(dir)
	evidencetest.Must(t, err)
	relay := evidencetest.NewRelay(t, crypto.Ed25519, 0)
	fmt.Println("open")
	for {
		h := l.next()
		evidencetest.Must(t, l.Begin(h, h.Start(), "relaymon/test"))
		records, err := l.Records(h)
		evidencetest.Must(t, err)
		n := 0
		for _, r := range records {
			n += len(r.Attempts)
		}
		for ; n < 5; n++ {
			a := evidence.Attempt{Started: evidence.TimeOf(h.Start().Add(time.Duration(n) * time.Minute)), PeerID: relay.ID.String(),
				Results: map[evidence.Component]evidence.Result{evidence.TCP4: {Outcome: evidence.OK}, evidence.WSS: {Outcome: evidence.OK}, evidence.Relay: {Outcome: evidence.OK}}}
			evidencetest.Must(t, l.Append(h, a))
			fmt.Println("attempt", attemptID(h, a))
		}
		_, err = l.Seal(evidencetest.Closing(h))
		evidencetest.Must(t, err)
		cp, err := l.Checkpoint()
		evidencetest.Must(t, err)
		lines := strings.Split(string(cp), "\n")
		fmt.Println("checkpoint", lines[1], lines[2])
	}
}

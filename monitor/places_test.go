package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
)

// reservation is one that a monitor asks for: when, and in whose name.
type reservation struct {
	At   int64  `json:"at"` // milliseconds
	Peer string `json:"peer"`
}

// held is what testdata/reservations.mjs prints.
type held struct{ Most, Refused, Left int }

// Five monitors for 48 hours at the real reservation store of js-libp2p, in the
// version that the PSF's software has: it keeps each of its 15 places for two hours
// and frees none when a peer leaves. With a new identity every hour four of them reserve
// in each, and leave three places for users, also at a relay that fails, which is tried
// three times an hour.
func TestFiveMonitorsLeaveRoomAtAJSRelay(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: -short")
	}
	need.Tools(t, "node")
	modules := need.NodeModules(t, "../internal/e2e/psf/js")
	const n, hours = 5, 48
	first := evidence.HourOf(time.Now()) + 1 // to come: nobody is too late to reserve
	js := func(expires time.Duration) *evidence.Attempt {
		return &evidence.Attempt{Started: evidence.TimeOf(first.Start()), Facts: evidence.Facts{
			AgentVersion: "js-libp2p/2.7.2", Reservation: &evidence.Reservation{Expires: evidence.TimeOf(first.Start().Add(expires))},
		}}
	}
	// plan is every reservation of the five. The seed decides the minutes; of a relay
	// that fails every attempt is followed by the retries. last is what a monitor
	// saw of the relay before.
	plan := func(seed int, fails bool, last *evidence.Attempt) []reservation {
		random := rand.New(rand.NewPCG(uint64(seed), 1))
		var out []reservation
		for i := range n {
			m, ids := newTestMonitor(t, &fakeNet{}, 1, 1)
			m.cfg.Name = fmt.Sprint("m", i)
			for k := range n {
				m.basis().roster.Monitors = append(m.basis().roster.Monitors, bounty.Monitor{Name: fmt.Sprint("m", k), Term: bounty.Term{From: first}})
			}
			for h := first; h < first+hours; h++ {
				m.seen[ids[0]] = last
				id, err := m.identify(m.basis().roster, m.basis().roster.Relay(ids[0]), h)
				if err != nil {
					t.Fatal(err)
				}
				if id.Key == nil {
					continue // it is others' turn
				}
				p, err := peer.IDFromPrivateKey(id.Key)
				if err != nil {
					t.Fatal(err)
				}
				j := schedule.Job{Relay: ids[0], Hour: h}
				begin := h.Start().Add(max(time.Duration(random.IntN(3600))*time.Second, m.planner.Held(j)))
				at := []time.Time{begin}
				for k := 0; fails && k < len(schedule.Retries); k++ {
					again := begin.Add(schedule.Retries[k])
					if m.seat(m.basis().roster, m.basis().roster.Relay(ids[0]), h).Reserves(h, !again.Before(h.End())) {
						at = append(at, again)
					}
				}
				last := evidence.TimeOf(at[len(at)-1].Add(2 * time.Hour))
				m.planner.Hold(j, evidence.Attempt{Facts: evidence.Facts{Reservation: &evidence.Reservation{Expires: last}}})
				for _, when := range at {
					out = append(out, reservation{when.Sub(first.Start()).Milliseconds(), p.String()})
				}
			}
		}
		slices.SortFunc(out, func(a, b reservation) int { return int(a.At - b.At) })
		return out
	}
	const seeds = 4
	var plans [][]reservation
	for seed := range seeds {
		plans = append(plans,
			plan(seed, false, js(2*time.Hour)),
			plan(seed, true, js(2*time.Hour)),
			plan(seed, false, nil), // a relay that is not known yet
		)
	}
	in, err := json.Marshal(plans)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	node := exec.CommandContext(ctx, "node", "--no-warnings", "testdata/reservations.mjs", modules)
	node.Stdin, node.Stderr = bytes.NewReader(in), os.Stderr
	out, err := node.Output()
	if err != nil {
		t.Fatalf("node: %v", err)
	}
	var results []held
	if err := json.Unmarshal(out, &results); err != nil || len(results) != len(plans) {
		t.Fatalf("node printed %s: %v", out, err)
	}
	t.Logf("places: %+v", results)
	for i, r := range results {
		if r.Most < n || r.Most > jsPlaces-3 || r.Refused != 0 {
			t.Errorf("plan %d: %d places at most and %d refused, want %d to %d and none", i, r.Most, r.Refused, n, jsPlaces-3)
		}
	}
	for i, r := range results {
		if r.Left != 0 {
			t.Errorf("plan %d: %d places are still held three hours after the end", i, r.Left)
		}
	}
}

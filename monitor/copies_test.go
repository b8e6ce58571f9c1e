package monitor

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// Of two copies of one log the better one is taken, in whichever order they come; what is
// left aside is told. Two that contradict each other convict the log.
func TestCopiesOfALog(t *testing.T) {
	w := scene.New(t, evidence.Lab, 3)
	victim, twinDir := w.Monitors[1], filepath.Join(t.TempDir(), "twin")
	must(t, os.CopyFS(twinDir, os.DirFS(victim.Dir)))
	earlyDir := filepath.Join(t.TempDir(), "early")
	must(t, os.CopyFS(earlyDir, os.DirFS(victim.Dir)))
	w.Watch(nil)
	roster, _, err := bounty.OpenRoster("roster", w.Signed(w.RosterYAML()), w.CommitteeKey)
	must(t, err)
	month := w.First.Month()
	whole, other := w.Logs()[1], w.Logs()[2]
	witnesses := roster.WitnessKeys(month)
	shorter, err := victim.Log.Month(month, w.RelayID, (w.First + 4).Start().Add(20*time.Minute), witnesses...)
	must(t, err)
	fewer := whole // without the last cosignatures, of which no block tells
	last := &fewer.Checkpoints
	if fewer.Tip != nil {
		last = &[][]byte{fewer.Tip}
	}
	alone := slices.Clone(*last)
	log, err := evidence.LogVerifier(whole.Key)
	must(t, err)
	alone[len(alone)-1], err = evidence.Respell(alone[len(alone)-1], log)
	must(t, err)
	if fewer.Tip != nil {
		fewer.Tip = alone[0]
	} else {
		fewer.Checkpoints = alone
	}
	bad := whole
	bad.Headers = slices.Clone(bad.Headers)
	bad.Headers[1] = bad.Headers[0]

	twin, err := store.Open(twinDir)
	must(t, err)
	defer twin.Close()
	// Two copies that end before a month begin it with what they have: that is no contradiction.
	early, err := store.Open(earlyDir)
	must(t, err)
	defer early.Close()
	_, err = early.Seal((w.First + 3).Start().Add(20 * time.Minute))
	must(t, err)
	ended, err := early.Month(month+1, w.RelayID, w.AsOf, witnesses...)
	must(t, err)
	longer, err := victim.Log.Month(month+1, w.RelayID, w.AsOf, witnesses...)
	must(t, err)
	if fork, err := contradiction(ended, longer); fork != nil || err != nil || ended.StartSize >= longer.StartSize {
		t.Errorf("%d and %d blocks before the month: %q, %v", ended.StartSize, longer.StartSize, fork, err)
	}
	_, err = twin.Seal(w.AsOf)
	must(t, err)
	second, err := twin.Month(month, w.RelayID, w.AsOf, witnesses...)
	must(t, err)

	for name, tc := range map[string]struct {
		a, b evidence.MonitorMonth
		want evidence.MonitorMonth
		tell string
	}{
		"the same":             {whole, whole, whole, "that from b is left aside, since it reaches no further and has no more cosignatures"},
		"further":              {shorter, whole, whole, "that from a is left aside, since the other one reaches further or has more cosignatures"},
		"not so far":           {whole, shorter, whole, "that from b is left aside, since it reaches no further"},
		"more cosignatures":    {fewer, whole, whole, "that from a is left aside, since the other one reaches further or has more cosignatures"},
		"fewer cosignatures":   {whole, fewer, whole, "that from b is left aside, since it reaches no further"},
		"not good":             {bad, shorter, shorter, "that from a is left aside, since it is not good"},
		"the other is no good": {shorter, bad, shorter, "that from b is left aside, since it is not good"},
		"two histories":        {whole, second, whole, "the two convict the log of two histories"},
	} {
		var told []string
		q := BundleRequest{Relay: w.RelayID, Month: month, Tell: func(s string) { told = append(told, s) }}
		logs, forks, err := onceEach([]copied{{tc.a, "a"}, {other, "a"}, {tc.b, "b"}}, roster, q)
		if err != nil || len(logs) != 2 || logs[1].Key != other.Key {
			t.Fatalf("%s: %d logs, %v", name, len(logs), err)
		}
		if !reflect.DeepEqual(logs[0], tc.want) || len(told) != 1 || !strings.Contains(told[0], tc.tell) || !strings.HasPrefix(told[0], `the log of "`+whole.Origin+`" is in `) {
			t.Errorf("%s: got a log of %d hours, %q", name, len(logs[0].Headers), told)
		}
		if (len(forks) == 1) != (name == "two histories") {
			t.Errorf("%s: %d forks", name, len(forks))
		}
		for _, f := range forks {
			if _, err := evidence.OpenFork(f, whole.Key); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}

	// Without a checkpoint of one size nothing proves it, and no bundle hides it.
	short := second
	short.Checkpoints, short.Tip, short.TipProof = second.Checkpoints[len(second.Checkpoints)-1:], nil, nil
	if _, _, err := onceEach([]copied{{shorter, "a"}, {short, "b"}}, roster, BundleRequest{Month: month}); err == nil || !strings.Contains(err.Error(), "in a and that in b are two histories") {
		t.Errorf("got %v", err)
	}
}

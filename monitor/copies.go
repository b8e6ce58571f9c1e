package monitor

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// copied is a log's month as a source shows it.
type copied struct {
	evidence.MonitorMonth
	source string
}

// onceEach takes each log once, in the order in which they came: of two good copies of one
// log the one that reaches further; if none does, the one with more cosignatures, or else
// the first. Two that contradict each other convict the log.
func onceEach(all []copied, roster *bounty.Roster, q BundleRequest) (logs []evidence.MonitorMonth, forks [][]byte, err error) {
	var kept []copied
	for _, c := range all {
		i := slices.IndexFunc(kept, func(k copied) bool { return k.Key == c.Key })
		if i < 0 {
			kept = append(kept, c)
			continue
		}
		aside, why, fork, err := better(&kept[i], c, roster, q.Month)
		if err != nil {
			return nil, nil, err
		}
		if fork != nil {
			forks = append(forks, fork)
		}
		if q.Tell != nil {
			q.Tell(fmt.Sprintf("the log of %q is in %s and in %s: that from %s is left aside, %s", c.Origin, aside.source, kept[i].source, aside.source, why))
		}
	}
	for _, k := range kept {
		logs = append(logs, k.MonitorMonth)
	}
	return logs, forks, nil
}

// better puts the better one of two copies of a log in place of the first. It returns the
// other one and why it is not taken, and what convicts the log, if the two do.
func better(kept *copied, c copied, roster *bounty.Roster, month evidence.Month) (aside copied, why string, fork []byte, err error) {
	reach, cosigned, fault := extent(kept.MonitorMonth, roster, month)
	other, more, bad := extent(c.MonitorMonth, roster, month)
	switch {
	case bad != nil:
		return c, fmt.Sprintf("since it is not good: %v", bad), nil, nil
	case fault != nil:
		aside, *kept = *kept, c
		return aside, fmt.Sprintf("since it is not good: %v", fault), nil, nil
	}
	if fork, err = contradiction(kept.MonitorMonth, c.MonitorMonth); err != nil {
		return aside, "", nil, fmt.Errorf("the log of %s in %s and that in %s are two histories, and nothing in them proves it: name one of both sources, and keep the other: %w", c.Origin, kept.source, c.source, err)
	}
	aside, why = c, "since it reaches no further and has no more cosignatures"
	if n := cmp.Or(cmp.Compare(other, reach), cmp.Compare(more, cosigned)); n > 0 {
		aside, *kept = *kept, c
		why = "since the other one reaches further or has more cosignatures"
	}
	if fork != nil {
		why += "; the two convict the log of two histories, and the bundle says so"
	}
	return aside, why, fork, nil
}

// extent is how far a copy of a log shows the log to reach, and how often its hours are
// cosigned; an error if it would not verify.
func extent(m evidence.MonitorMonth, roster *bounty.Roster, month evidence.Month) (end evidence.Hour, cosigned int, err error) {
	by := roster.LogMonitor(m.Key, month)
	if by == nil {
		return 0, 0, fmt.Errorf("no monitor of the roster has a log by that key in %s", month)
	}
	v, err := evidence.VerifyHours(m, evidence.Keys{Log: by.LogKey, Plan: by.PlanKey, Witnesses: roster.WitnessKeys(month)}, func(h evidence.VerifiedHour) error {
		cosigned += len(h.Cosigned)
		return nil
	})
	return v.Tip.End, cosigned + len(v.Tip.Cosigned), err
}

// contradiction is a fork that two copies of a log show; nil: they agree. Copies that
// differ and show none are an error.
func contradiction(a, b evidence.MonitorMonth) (fork []byte, err error) {
	signed := map[int64][]byte{}
	for _, raw := range checkpointsOf(a) {
		t, _, err := evidence.ReadCheckpoint(raw, a.Key)
		if err != nil {
			return nil, err
		}
		signed[t.N] = raw
	}
	for _, raw := range checkpointsOf(b) {
		t, _, err := evidence.ReadCheckpoint(raw, b.Key)
		if err != nil {
			return nil, err
		}
		if mine := signed[t.N]; mine != nil {
			if fork, err = evidence.NewFork(mine, raw, a.Key); err == nil {
				return fork, nil
			}
		}
	}
	n := min(len(a.Headers), len(b.Headers))
	if n == 0 { // one was copied before the month began: what it begins with is where it ended
		return nil, nil
	}
	if a.StartSize != b.StartSize || !slices.Equal(a.Frontier, b.Frontier) || !slices.EqualFunc(a.Headers[:n], b.Headers[:n], bytes.Equal) {
		return nil, fmt.Errorf("their hours differ in %s", a.Month)
	}
	return nil, nil
}

func checkpointsOf(m evidence.MonitorMonth) [][]byte {
	return slices.DeleteFunc(slices.Concat([][]byte{m.Start}, m.Checkpoints, [][]byte{m.Tip}), func(raw []byte) bool { return raw == nil })
}

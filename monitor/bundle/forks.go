package bundle

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// A monitor that signed two different roots of one size wrote two histories, and
// nothing in either counts. Whoever holds both checkpoints adds them to the bundle:
// they convict by themselves, of whatever month they are.

// maxFork is far above two checkpoints with a signature each.
const maxFork = 4 << 10

// Convicting picks, of pairs of checkpoints that each prove that some monitor signed
// two histories (evidence.NewFork), one for each of the logs that they concern: what
// [Input] takes as Forks.
func Convicting(forks [][]byte, logs []evidence.MonitorMonth) [][]byte {
	var out [][]byte
	sorted := slices.SortedFunc(slices.Values(forks), bytes.Compare) // the choice is the same whoever makes it
	for _, m := range logs {
		for _, fork := range sorted {
			if len(fork) > maxFork {
				continue // no bundle holds it, and none is to be prevented by it
			}
			if _, err := evidence.OpenFork(fork, m.Key); err == nil {
				out = append(out, fork)
				break
			}
		}
	}
	return out
}

// voids says of each log with a fork why nothing in it counts, by the log's key.
// Each fork convicts one of the logs, which no other convicts; forks are in the order
// of their bytes.
func voids(files folder, keys []string) (map[string]string, error) {
	out := map[string]string{}
	var last []byte
	for n := range files.under(forksDir) {
		f := files.file(forkFile(n))
		raw, err := f.read()
		if err != nil {
			return nil, err
		}
		if bytes.Compare(raw, last) <= 0 {
			return nil, fmt.Errorf("%s is the same as the one before, or stands behind a later one: forks are in the order of their bytes", f.name)
		}
		last = raw
		var fork evidence.Fork
		i := slices.IndexFunc(keys, func(key string) bool {
			fork, err = evidence.OpenFork(raw, key)
			return err == nil
		})
		if i < 0 {
			return nil, fmt.Errorf("%s contradicts no log of the bundle: want two checkpoints of one size with different roots, both signed by the key of one of its logs", f.name)
		}
		if out[keys[i]] != "" {
			return nil, fmt.Errorf("%s convicts a monitor that another fork convicts already", f.name)
		}
		out[keys[i]] = whyVoid(fork, f.name)
	}
	return out, nil
}

func whyVoid(f evidence.Fork, file string) string {
	return fmt.Sprintf("it signed two roots for size %d, %s and %s: see %s", f.Size, f.Roots[0], f.Roots[1], file)
}

// GivenFork is a fork that a verifier brings along.
type GivenFork struct {
	File string // what it is called in words
	Data []byte // as it stands in a bundle
}

// BroughtFork is a fork that a verifier brought along, and whom it convicts.
type BroughtFork struct {
	File    string           `json:"file"`
	Monitor string           `json:"monitor"`
	Size    int64            `json:"size"`
	Roots   [2]evidence.Hash `json:"roots"`
}

// convicts finds the monitor that signed both checkpoints.
func (f *GivenFork) convicts(roster *bounty.Roster) (*bounty.Monitor, evidence.Fork, error) {
	for i := range roster.Monitors {
		if fork, err := evidence.OpenFork(f.Data, roster.Monitors[i].LogKey); err == nil {
			return &roster.Monitors[i], fork, nil
		}
	}
	return nil, evidence.Fork{}, fmt.Errorf("the fork %s convicts no monitor of your newest roster: want two checkpoints of one size with different roots, both signed by the log key of one of its monitors, as a bundle has them in forks/", f.File)
}

// byForks judges the same evidence with the forks that the verifier brought along: that
// verdict counts. The bundle's own is compared with what is in the bundle.
func (r *Result) byForks(roster *bounty.Roster, forks []GivenFork) error {
	logs, convicted := slices.Clone(r.Case.Logs), false
	for _, f := range forks {
		m, fork, err := f.convicts(roster)
		if err != nil {
			return &InputError{err}
		}
		r.Forks = append(r.Forks, BroughtFork{f.File, m.Name, fork.Size, fork.Roots})
		i := slices.IndexFunc(logs, func(l bounty.Log) bool { return l.Key == m.LogKey })
		so := "so nothing of it counts"
		switch {
		case i < 0:
			so = "and no log by that key is in the bundle"
		case logs[i].Void != "":
			so += ", as another fork shows already"
		default:
			logs[i].Void, convicted = whyVoid(fork, f.File+", which the reader brought"), true
		}
		r.Warnings = append(r.Warnings, fmt.Sprintf("the fork %s was brought by you, it is not from the bundle: monitor %s signed two histories, %s", f.File, m.Name, so))
	}
	if !convicted {
		return nil
	}
	was := r.Counts().Headline
	r.Case.Logs = logs
	v, err := r.Judge(r.Case.Rules)
	if err != nil {
		return err
	}
	if r.Newest = v; v.Headline != was {
		r.Warnings = append(r.Warnings, fmt.Sprintf("without the forks that you brought it is %s, with them %s: that counts", was, v.Headline))
	}
	return nil
}

// Voids says of each of these logs that one of the forks convicts why nothing in it counts,
// by its key, in the words of a bundle that has all of them.
func Voids(forks [][]byte, keys []string) (map[string]string, error) {
	var logs []evidence.MonitorMonth
	for _, key := range keys {
		logs = append(logs, evidence.MonitorMonth{Key: key})
	}
	files := map[string][]byte{}
	for i, f := range slices.SortedFunc(slices.Values(Convicting(forks, logs)), bytes.Compare) {
		files[forkFile(i)] = f
	}
	return voids(folderOf(files), keys)
}

package bundle

import (
	"bytes"
	"fmt"
	"slices"

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
		out[keys[i]] = fmt.Sprintf("it signed two roots for size %d, %s and %s: see %s", fork.Size, fork.Roots[0], fork.Roots[1], f.name)
	}
	return out, nil
}

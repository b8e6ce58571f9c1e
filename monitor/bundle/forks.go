package bundle

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// A monitor that signed two different roots of one size wrote two histories,
// and nothing in either counts. Whoever holds such a checkpoint adds it to the
// bundle; it convicts by itself, since the monitor signed it.

// treeHead is what a checkpoint says (C2SP tlog-checkpoint).
type treeHead struct {
	origin string
	tree   tlog.Tree
}

// openCheckpoint reads a checkpoint that is signed by key.
func openCheckpoint(file []byte, key string) (treeHead, error) {
	v, err := note.NewVerifier(key)
	if err != nil {
		return treeHead{}, err
	}
	n, err := note.Open(file, note.VerifierList(v))
	if err != nil {
		return treeHead{}, err
	}
	lines := strings.SplitN(n.Text, "\n", 4)
	if len(lines) < 4 {
		return treeHead{}, errors.New("a checkpoint has an origin, a size and a root")
	}
	var h treeHead
	h.origin = lines[0]
	if _, err := fmt.Sscanf(lines[1], "%d", &h.tree.N); err != nil || fmt.Sprint(h.tree.N) != lines[1] {
		return treeHead{}, fmt.Errorf("the size of a checkpoint: want a number, not %q", lines[1])
	}
	if h.tree.Hash, err = tlog.ParseHash(lines[2]); err != nil {
		return treeHead{}, fmt.Errorf("the root of a checkpoint: %w", err)
	}
	return h, nil
}

// roots are those of the month's checkpoints, by size.
func roots(m evidence.MonitorMonth, key string) (map[int64]tlog.Hash, error) {
	out := make(map[int64]tlog.Hash, len(m.Checkpoints))
	for _, c := range m.Checkpoints {
		h, err := openCheckpoint(c, key)
		if err != nil {
			return nil, err
		}
		out[h.tree.N] = h.tree.Hash
	}
	return out, nil
}

// contradiction says whether the checkpoint in file has another root than the
// log's own of that size. It is none (nil) if it is another monitor's, or nobody's.
func contradiction(file []byte, m evidence.MonitorMonth, key string, own map[int64]tlog.Hash) *treeHead {
	f, err := openCheckpoint(file, key)
	if err != nil || f.origin != m.Origin {
		return nil
	}
	if root, ok := own[f.tree.N]; !ok || root == f.tree.Hash {
		return nil
	}
	return &f
}

// Convicting picks, of checkpoints that prove that some monitor signed two
// histories, those that concern one of the logs: what [Input] takes as Forks.
func Convicting(checkpoints [][]byte, logs []evidence.MonitorMonth) ([][]byte, error) {
	convicts := make([]bool, len(checkpoints))
	for _, m := range logs {
		own, err := roots(m, m.Key)
		if err != nil {
			return nil, fmt.Errorf("log of %s: %w", m.Origin, err)
		}
		for i, file := range checkpoints {
			convicts[i] = convicts[i] || contradiction(file, m, m.Key, own) != nil
		}
	}
	var out [][]byte
	for i, file := range checkpoints {
		if convicts[i] {
			out = append(out, file)
		}
	}
	return out, nil
}

// forksOf lists the names of the files that convict the log's monitor, and says of what.
func forksOf(files map[string][]byte, log *bounty.Log, m evidence.MonitorMonth) (names []string, void string, err error) {
	own, err := roots(m, log.Key)
	if err != nil {
		return nil, "", fmt.Errorf("log of monitor %s: %w", log.Monitor, err)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasPrefix(name, forksDir) {
			continue
		}
		if fork := contradiction(files[name], m, log.Key, own); fork != nil {
			names = append(names, name)
			void = fmt.Sprintf("it signed two roots for size %d: %s here, %s in %s", fork.tree.N, own[fork.tree.N], fork.tree.Hash, name)
		}
	}
	return names, void, nil
}

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

// forksOf lists the names of the files that convict the log's monitor, and says of what.
func forksOf(files map[string][]byte, log *bounty.Log, m evidence.MonitorMonth) (names []string, void string, err error) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasPrefix(name, forksDir) {
			continue
		}
		fork, err := openCheckpoint(files[name], log.Key)
		if err != nil || fork.origin != m.Origin {
			continue // another monitor's, or nobody's: whoever calls sees to it
		}
		for _, c := range m.Checkpoints {
			own, err := openCheckpoint(c, log.Key)
			if err != nil {
				return nil, "", fmt.Errorf("log of monitor %s: %w", log.Monitor, err)
			}
			if own.tree.N == fork.tree.N && own.tree.Hash != fork.tree.Hash {
				names = append(names, name)
				void = fmt.Sprintf("it signed two roots for size %d: %s here, %s in %s", own.tree.N, own.tree.Hash, fork.tree.Hash, name)
			}
		}
	}
	return names, void, nil
}

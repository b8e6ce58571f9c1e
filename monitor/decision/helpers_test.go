package decision

import (
	"crypto/rand"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

var (
	november = evidence.MonthOf(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
	asOf     = evidence.TimeOf(time.Date(2026, 12, 4, 0, 0, 0, 0, time.UTC))
	at       = evidence.TimeOf(time.Date(2026, 12, 10, 9, 30, 0, 0, time.UTC))
)

func hash(digit string) string { return strings.Repeat(digit, 64) }

// relay is one that can appeal.
type relay struct {
	key crypto.PrivKey
	id  string
}

func newRelay(t testing.TB) relay {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	evidencetest.Must(t, err)
	id, err := peer.IDFromPrivateKey(key)
	evidencetest.Must(t, err)
	return relay{key, id.String()}
}

// appeal is an entry with one.
func (r relay) appeal(t testing.TB, text string) Entry {
	t.Helper()
	return r.signed(t, statement.Statement{Kind: statement.Appeal, Network: "psf", PeerID: r.id, Operator: "alice", Month: "2026-11", Text: text, Made: at.Truncate(time.Second)})
}

func (r relay) signed(t testing.TB, s statement.Statement) Entry {
	t.Helper()
	envelope, err := statement.Sign(s, r.key)
	evidencetest.Must(t, err)
	return Entry{Version: Version, Network: evidence.Network(s.Network), At: at, Appeal: &Appeal{envelope}}
}

// paid is an entry that pays the relay.
func (r relay) paid(answers ...string) Entry {
	return Entry{Version: Version, Network: evidence.PSF, At: at, Decision: &Decision{
		Relay: r.id, Month: november, Bundle: hash("a"), Rules: hash("b"), Roster: hash("c"), Verdict: Eligible, AsOf: asOf,
		Pay: &Payment{TxID: hash("d"), Payout: "bitcoincash:qq", Signed: true}, Answers: sorted(answers),
	}}
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

// instead is e in place of another decision.
func instead(e Entry, of string) Entry {
	d := *e.Decision
	d.Replaces, d.Why = of, "the bundle lacked a log"
	e.Decision = &d
	return e
}

// committee has a key, and a folder for its log.
func committee(t testing.TB) Where {
	t.Helper()
	key, err := evidence.NewSigningKey(rand.Reader, "committee.example.org", evidence.LogKeyType)
	evidencetest.Must(t, err)
	dir := t.TempDir()
	return Where{Dir: filepath.Join(dir, "log"), Network: evidence.PSF, Key: key, Memory: filepath.Join(dir, "committee.key.decisions-psf")}
}

// enter puts entries into the log, which is made if it is not there, and returns their hashes.
func enter(t testing.TB, w Where, entries ...Entry) (hashes []string) {
	t.Helper()
	_, err := os.Stat(filepath.Join(w.Dir, checkpointFile))
	w.First = err != nil
	l, err := Open(w)
	evidencetest.Must(t, err)
	defer l.Close()
	for i, e := range entries {
		index, h, err := l.Enter(e)
		if err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		hashes = append(hashes, h)
		if index != l.Checkpoint.Size-1 {
			t.Errorf("entry %d is at %d of %d", i, index, l.Checkpoint.Size)
		}
	}
	return hashes
}

func mustRead(t testing.TB, w Where) *Log {
	t.Helper()
	l, err := Read(w.Dir, w.Key.VerifierKey())
	evidencetest.Must(t, err)
	return l
}

// files are those of a folder, without the lock.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == ".lock" {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		out[filepath.ToSlash(name)] = string(b)
		return err
	})
	evidencetest.Must(t, err)
	return out
}

// lay makes a folder of these files.
func lay(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	evidencetest.Must(t, os.RemoveAll(dir))
	for name, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		evidencetest.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		evidencetest.Must(t, os.WriteFile(path, []byte(data), 0o644))
	}
	if len(files) > 0 {
		evidencetest.Must(t, os.WriteFile(filepath.Join(dir, ".lock"), nil, 0o644))
	}
}

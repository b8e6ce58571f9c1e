package decision

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

var update = flag.Bool("update", false, "write docs/vectors/decisions.json")

const vectorsFile = "../../docs/vectors/decisions.json"

// vector is a log of which a reader takes all entries, or refuses some.
type vector struct {
	Name    string           `json:"name"`
	Why     string           `json:"why"`
	OK      bool             `json:"ok"`
	Network evidence.Network `json:"network"`
	Lines   []string         `json:"lines"`
}

// fixedRelay is always the same for a number.
func fixedRelay(t testing.TB, n byte) relay {
	t.Helper()
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)))
	evidencetest.Must(t, err)
	id, err := peer.IDFromPrivateKey(key)
	evidencetest.Must(t, err)
	return relay{key, id.String()}
}

func vectors(t testing.TB) (list []vector) {
	a, b := fixedRelay(t, 1), fixedRelay(t, 2)
	first, second := a.appeal(t, "Hour 14 was up: <see> \"the log\" & ask.\n\tMerci, 谢谢. One\u2028two."), a.appeal(t, "And hour 15.")
	one := a.paid(first.Appeal.SHA256())
	one.Decision.Pay, one.Decision.Refuse, one.Decision.Verdict = nil, "Hour 14 was down.\nSo was 15.", NotEligible
	two := instead(a.paid(second.Appeal.SHA256()), hashOf(t, one))
	line := func(e Entry) string {
		out, err := evidence.Encode(e)
		evidencetest.Must(t, err)
		return string(out)
	}
	with := func(change func(d *Decision)) string {
		e := a.paid()
		change(e.Decision)
		return line(e)
	}
	add := func(name, why string, ok bool, lines ...string) {
		list = append(list, vector{name, why, ok, evidence.PSF, lines})
	}
	swap := func(s, old, replacement string) string {
		if !strings.Contains(s, old) {
			t.Fatalf("%.200s holds no %s", s, old)
		}
		return strings.Replace(s, old, replacement, 1)
	}
	paid, appeal := line(a.paid()), line(first)
	add("paid", "a month that was paid", true, paid)
	add("life", "an appeal, a refusal that answers it, another appeal, and a payment in place of the refusal", true, appeal, line(one), line(second), line(two))
	add("two relays", "each relay's month stands for itself", true, paid, line(b.paid()))
	add("unknown member", "an entry does not grow", false, swap(paid, `"network"`, `"mood":"good","network"`))
	add("version 2", "it needs a reader of version 2", false, swap(paid, `"version":1`, `"version":2`))
	add("white space", "one spelling: no white space", false, swap(paid, `"version":1`, `"version": 1`))
	add("null", "an optional member is absent, not null", false, swap(paid, `"network"`, `"appeal":null,"network"`))
	add("false", "an optional member that is false is absent", false, swap(paid, `"relay"`, `"provisional":false,"relay"`))
	add("another network", "the log is of network psf", false, swap(swap(paid, `"psf"`, `"lab"`), `"ELIGIBLE"`, `"LAB"`))
	add("lab", "a lab's month is none of a psf log", false, with(func(d *Decision) { d.Verdict = LabVerdict }))
	add("not begun", "the month has not begun when it is decided", false, with(func(d *Decision) { d.Month += 2 }))
	add("as of later", "the logs do not reach beyond the decision", false, swap(paid, `"as_of":"2026-12-04`, `"as_of":"2026-12-24`))
	add("pay and refuse", "one of both", false, with(func(d *Decision) { d.Refuse = "No." }))
	add("neither", "one of both", false, with(func(d *Decision) { d.Pay = nil }))
	add("capitals", "a transaction is in lower case", false, with(func(d *Decision) { d.Pay.TxID = hash("D") }))
	add("not eligible", "NOT_ELIGIBLE is never paid", false, with(func(d *Decision) { d.Verdict, d.Why = NotEligible, "All the same." }))
	add("provisional", "a verdict that may change is not paid", false, with(func(d *Decision) { d.Provisional, d.Why = true, "All the same." }))
	add("review", "a payment on a REVIEW says why", false, with(func(d *Decision) { d.Verdict = Review }))
	add("review with a reason", "a payment on a REVIEW says why", true, with(func(d *Decision) { d.Verdict, d.Why = Review, "We looked at it." }))
	add("without", "a payment without a log says why", false, with(func(d *Decision) { d.Without = []string{"m2"} }))
	add("unsigned payout", "a payment to an address that the relay did not sign says why", false, with(func(d *Decision) { d.Pay.Signed = false }))
	add("white space at the end", "a text has none at its ends", false, with(func(d *Decision) { d.Why = "x\u3000" }))
	add("escape sequence", "a text does not steer the terminal", false, with(func(d *Decision) { d.Why = "a\x1bb" }))
	add("turned round", "a text does not change its direction", false, with(func(d *Decision) { d.Why = "a\u2066b" }))
	add("long reason", "2000 bytes at most", false, with(func(d *Decision) { d.Why = strings.Repeat("é", MaxText/2) + "x" }))
	add("longest reason", "2000 bytes at most", true, with(func(d *Decision) { d.Why = strings.Repeat("é", MaxText/2) }))
	add("twice", "a month is decided once", false, paid, paid)
	add("replaces nothing", "there is nothing to replace", false, line(instead(a.paid(), hash("1"))))
	add("replaces another", "a decision replaces the one that stands", false, paid, line(instead(a.paid(), hash("1"))))
	add("replaces the replaced", "a decision is replaced once", false, paid, line(instead(a.paid(), hashOf(t, a.paid()))), line(instead(a.paid(), hashOf(t, a.paid()))))
	add("no reason", "a decision that replaces another one says why", false, paid, with(func(d *Decision) { d.Replaces = hashOf(t, a.paid()) }))
	add("open appeal", "a decision answers what stands open", false, appeal, paid)
	add("no such appeal", "a decision answers what is in the log", false, line(a.paid(hash("1"))))
	add("answered before", "an appeal is answered once", false, appeal, line(one), line(instead(a.paid(first.Appeal.SHA256()), hashOf(t, one))))
	add("appeal twice", "an appeal is entered once", false, appeal, appeal)
	mangled := first
	mangled.Appeal = &Appeal{bytes.Replace(first.Appeal.Statement, []byte("2026-11"), []byte("2026-10"), 1)}
	add("another month", "the relay signed the month", false, line(mangled))
	mangled.Appeal = &Appeal{bytes.Replace(first.Appeal.Statement, []byte(a.id), []byte(b.id), 1)}
	add("another relay", "the relay of which it speaks has signed it", false, line(mangled))
	mangled.Appeal = &Appeal{append(bytes.Clone(first.Appeal.Statement), 0x32, 0)}
	add("a field more", "an envelope has one spelling", false, line(mangled))
	var nine []string
	for i := range MaxAppeals + 1 {
		nine = append(nine, line(a.appeal(t, "Number "+string(rune('1'+i)))))
	}
	add("eight appeals", "eight of a relay and month", true, nine[:MaxAppeals]...)
	add("nine appeals", "eight of a relay and month", false, nine...)
	return list
}

// The vectors are what the code makes, and a log of each is taken or refused as it says.
func TestVectors(t *testing.T) {
	list := vectors(t)
	w := committee(t)
	for _, v := range list {
		lines := [][]byte{}
		for _, line := range v.Lines {
			lines = append(lines, []byte(line))
		}
		if _, err := Read(forgedOf(t, w, lines...), w.Key.VerifierKey()); (err == nil) != v.OK {
			t.Errorf("%s: got %v, want %v: %s", v.Name, err, v.OK, v.Why)
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	evidencetest.Must(t, e.Encode(list))
	if *update {
		evidencetest.Must(t, os.WriteFile(vectorsFile, b.Bytes(), 0o644))
		return
	}
	stored, err := os.ReadFile(vectorsFile)
	evidencetest.Must(t, err)
	if !bytes.Equal(stored, b.Bytes()) {
		t.Errorf("%s is not what the code makes: run this test with -update", vectorsFile)
	}
}

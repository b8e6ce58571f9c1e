package secondverifier

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gowebpki/jcs"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/beacon"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// A forger is a monitor that holds its keys, and writes what it likes: the lines of its
// log are changed, and all that follows from them is made and signed anew.
type forger struct {
	t       testing.TB
	scene   *scene.Scene
	another string // verifier key of a witness that is no monitor
	log     note.Signer
	keys    evidence.Keys
	cosign  []func(checkpoint []byte, sealed time.Time) []byte
	months  []evidence.MonitorMonth // one that ends, and the next one
	headers []any                   // of both, as JSON
	records [][]any                 // by month
	proofs  [][]any
}

// newForger takes over the second monitor of a scene of five hours that has seen most of
// what there is to write: three in one month, two in the next.
func newForger(t testing.TB, relay crypto.PrivKey) *forger {
	t.Helper()
	w := scene.New(t, evidence.PSF, 0)
	if relay != nil {
		id, err := peer.IDFromPrivateKey(relay)
		w.Must(err)
		w.Relay, w.RelayID = relay, id.String()
	}
	w.First += 3
	w.Hours = 5
	w.AsOf = w.First.Start().Add(12 * time.Hour)
	w.Join(0)
	w.Join(1)
	w.Set = func(_ *scene.Watcher, h evidence.Hour) time.Duration {
		return []time.Duration{0, 1500 * time.Millisecond, -time.Hour, 0, 0}[h-w.First]
	}
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		a, b := w.Attempt(m, h, 10*time.Minute), w.Down(m, h, 17*time.Minute)
		a.Facts.Protocols, a.Facts.CircuitAddr, a.Facts.Announced = []string{"/a", "/b"}, "/p2p-circuit", "2026-10-31T21:00:00.000Z"
		a.Facts.Reservation.Addrs, a.Facts.Reservation.LimitBytes, a.Facts.Reservation.LimitSeconds = []string{"/ip4/1.2.3.4"}, 256, 120
		b.Rungs[0].Detail, b.Rungs[0].Tries = "nobody listens", 3
		b.Facts.LookupRetries, b.Stepped = 2, h == w.First+2
		b.Facts.Lookups = []evidence.Lookup{{Resolver: evidence.OwnResolver, IPv4: []string{"1.2.3.4"}}, {Resolver: "9.9.9.9#dns.example", Class: evidence.NoARecord}}
		b.Controls[0].Sent, b.Controls[0].Resent = 20, 1
		return []evidence.Attempt{a, b}
	})
	m := w.Monitors[1]
	secret, err := os.ReadFile(filepath.Join(m.Dir, "log.key"))
	w.Must(err)
	f := &forger{t: t, scene: w}
	f.log, err = note.NewSigner(strings.TrimSpace(string(secret)))
	w.Must(err)
	f.keys = evidence.Keys{Log: m.Log.Key(), Plan: m.Log.PlanKey(), Beacon: beacon.Quicknet()}
	for i, by := range w.Monitors {
		f.keys.Witnesses = append(f.keys.Witnesses, by.CosignKey)
		if by != m {
			f.cosign = append(f.cosign, func(checkpoint []byte, sealed time.Time) []byte {
				return scene.Cosign(by.Cosigner, by.CosignKey, checkpoint, sealed.Add(time.Duration(i+3)*time.Minute))
			})
		}
	}
	other, vkey := scene.NewWitness(t, "another.example.net")
	f.another, f.keys.Witnesses = vkey, append(f.keys.Witnesses, vkey)
	f.cosign = append(f.cosign, func(checkpoint []byte, sealed time.Time) []byte {
		return scene.Cosign(other, vkey, checkpoint, sealed.Add(-10*time.Second))
	})
	slices.Sort(f.keys.Witnesses)
	for _, name := range []evidence.Month{w.First.Month(), w.First.Month() + 1} {
		month := w.LogsOf(name)[1]
		var records, proofs []any
		for _, part := range []struct {
			lines [][]byte
			into  *[]any
		}{{month.Headers, &f.headers}, {month.Records, &records}, {month.Proofs, &proofs}} {
			for _, line := range part.lines {
				*part.into = append(*part.into, f.parse(line))
			}
		}
		f.months, f.records, f.proofs = append(f.months, month), append(f.records, records), append(f.proofs, proofs)
	}
	return f
}

func (f *forger) parse(line []byte) any {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		f.t.Fatal(err)
	}
	return v
}

// line is the canonical spelling of a value.
func (f *forger) line(v any) []byte {
	b, err := json.Marshal(v)
	if err == nil {
		b, err = jcs.Transform(b)
	}
	if err != nil {
		f.t.Fatalf("%v: %v", v, err)
	}
	return b
}

// lie is what the forger changes. What is built from it is built from the changed thing.
type lie struct {
	next                         bool // in the second month, which has a start; the first has a tip
	record, header, proof, index func(i int, v any) any
	checkpoint                   func(size int64, note []byte) []byte
	certificate                  []byte // instead of the relay's
}

func (l lie) of(change func(int, any) any, i int, v any) any {
	if change == nil {
		return v
	}
	return change(i, v)
}

// tell makes a month anew with what the forger changes, and returns its files.
func (f *forger) tell(l lie) map[string][]byte {
	told := 0
	if l.next {
		told = 1
	}
	from, to := int64(0), int64(len(f.months[0].Headers))
	if l.next {
		from, to = to, int64(len(f.headers))
	}
	m := f.months[told]
	m.Headers, m.Records, m.Checkpoints, m.Proofs, m.Start, m.Tip, m.TipProof = nil, nil, nil, nil, nil, nil, nil
	tree, previous := hashes{}, tlog.Hash{}
	for n := range int64(len(f.headers)) {
		head := copied(f.headers[n]).(map[string]any)
		i := int(n - from) // within the month
		inside := n >= from && n < to
		if inside && i < len(f.records[told]) {
			record := f.line(l.of(l.record, i, copied(f.records[told][i])))
			m.Records = append(m.Records, record)
			key, value := sha256.Sum256([]byte(m.Relay)), sha256.Sum256(record)
			head["root"] = tlog.RecordHash(append(key[:], value[:]...)).String()
			m.Proofs = append(m.Proofs, f.line(l.of(l.proof, i, copied(f.proofs[told][i]))))
		}
		head["previous"] = previous.String()
		sealed, _ := time.Parse(time.RFC3339, fmt.Sprint(head["sealed_at"]))
		signed := head["signed"] == true
		if inside {
			head = l.of(l.header, i, head).(map[string]any)
		}
		header := f.line(head)
		previous = tlog.RecordHash(header)
		more, err := tlog.StoredHashes(n, header, tree)
		if err != nil {
			f.t.Fatal(err)
		}
		for _, h := range more {
			tree[int64(len(tree))] = h
		}
		if inside {
			m.Headers = append(m.Headers, header)
		}
		if !signed {
			continue
		}
		switch checkpoint := f.checkpoint(n+1, sealed, tree, l); {
		case inside:
			m.Checkpoints = append(m.Checkpoints, checkpoint)
		case n+1 == from:
			m.Start = checkpoint
		case n >= to:
			m.Tip = checkpoint
		}
	}
	m.StartSize, m.Frontier = from, f.frontier(from, tree)
	if m.Tip != nil {
		proof, err := tlog.ProveTree(int64(len(f.headers)), to, tree)
		if err != nil {
			f.t.Fatal(err)
		}
		m.TipProof = proof
	}
	if l.certificate != nil {
		m.Certificates = [][]byte{l.certificate}
	}
	files, err := m.Files()
	if err != nil {
		f.t.Fatal(err)
	}
	index := bytes.TrimSuffix(files["month.json"], []byte("\n"))
	files["month.json"] = append(f.line(l.of(l.index, 0, f.parse(index))), '\n')
	return files
}

// checkpoint is that of a size, with all cosignatures.
func (f *forger) checkpoint(size int64, sealed time.Time, tree hashes, l lie) []byte {
	root, err := tlog.TreeHash(size, tree)
	if err != nil {
		f.t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", f.months[0].Origin, size, root)}, f.log)
	if err != nil {
		f.t.Fatal(err)
	}
	var lines []string
	for _, cosign := range f.cosign {
		lines = append(lines, string(cosign(signed, sealed)))
	}
	slices.Sort(lines)
	signed = append(signed, strings.Join(lines, "")...)
	if l.checkpoint != nil {
		signed = l.checkpoint(size, signed)
	}
	return signed
}

// frontier are the perfect subtrees of the first size leaves.
func (f *forger) frontier(size int64, tree hashes) (out []tlog.Hash) {
	var at int64
	for level := 40; level >= 0; level-- {
		if size&(1<<level) != 0 {
			out = append(out, tree[tlog.StoredHashIndex(level, at>>level)])
			at += 1 << level
		}
	}
	return out
}

type hashes map[int64]tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = h[x]
	}
	return out, nil
}

func copied(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			out[k] = copied(x)
		}
		return out
	case []any:
		out := []any{}
		for _, x := range v {
			out = append(out, copied(x))
		}
		return out
	}
	return v
}

// compare wants both to refuse the files, or to see the same in them.
func (f *forger) compare(p *program, what string, files map[string][]byte) (accepted bool) {
	f.t.Helper()
	var hours []evidence.VerifiedHour
	var v evidence.VerifiedMonth
	m, err := evidence.MonthFromFiles(files)
	if err == nil {
		v, err = evidence.VerifyHours(m, f.keys, func(h evidence.VerifiedHour) error {
			hours = append(hours, h)
			return nil
		})
	}
	r := request{Month: &month{Files: files}}
	r.Month.Keys.Log, r.Month.Keys.Witnesses, r.Month.Keys.Plan = f.keys.Log, f.keys.Witnesses, f.keys.Plan
	a := p.ask(r)
	switch {
	case err == nil && !a.Verified:
		f.t.Errorf("%s: relayaudit accepts it, the second verifier says: %s", what, a.Error)
	case err != nil && a.Verified:
		f.t.Errorf("%s: the second verifier accepts it, relayaudit says: %v", what, err)
	case err == nil:
		for _, d := range differences("logs", plain(f.t, []shownLog{shown(v, f.keys.Log, "", hours)}), a.Logs) {
			f.t.Errorf("%s: %s", what, d)
		}
	}
	return err == nil
}

// A spot is a value in JSON, and how to put another there.
type spot struct {
	path string
	v    any
	set  func(any)
	drop func() // nil in a list
	add  func(name string, v any)
}

// spots are all values in v.
func spots(path string, v any) []spot {
	var out []spot
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out = append(out, spot{path + "." + k, v[k], func(x any) { v[k] = x }, func() { delete(v, k) }, func(name string, x any) { v[name] = x }})
			out = append(out, spots(path+"."+k, v[k])...)
		}
	case []any:
		for i := range v {
			out = append(out, spot{fmt.Sprintf("%s[%d]", path, i), v[i], func(x any) { v[i] = x }, nil, nil})
			out = append(out, spots(fmt.Sprintf("%s[%d]", path, i), v[i])...)
		}
	}
	return out
}

var odd = []any{
	nil, true, false, "", "ok", "x", "\u00e9\u4e2d\U0001f600", "\u2028\u007f\ufeff", "own", "2026-10-31T21:20:00.000Z", "2026-10-31T21:00:00Z", "AAAA", "AAB=",
	strings.Repeat("a", 65), strings.Repeat("a", 257), strings.Repeat("\u00e9", 513),
	json.Number("0"), json.Number("1"), json.Number("-1"), json.Number("1.5"), json.Number("1000"), json.Number("3600000000"), json.Number("3600000001"),
	json.Number("9007199254740992"), json.Number("-9007199254740992"), json.Number("1e21"), json.Number("2147483648"), json.Number("-2147483648"),
	[]any{}, map[string]any{}, []any{"x"}, map[string]any{"x": json.Number("1")},
}

var index = regexp.MustCompile(`\[\d+\]`)

// change does one seeded change to a value, and says which.
func change(r *rand.Rand, v any) string {
	// Each kind of member as often as another, however many there are of it.
	kinds := map[string][]spot{}
	for _, s := range spots("", v) {
		kind := index.ReplaceAllString(s.path, "")
		kinds[kind] = append(kinds[kind], s)
	}
	names := slices.Sorted(maps.Keys(kinds))
	all := kinds[names[r.IntN(len(names))]]
	p := all[r.IntN(len(all))]
	switch n := r.IntN(8); {
	case n == 0 && p.drop != nil:
		p.drop()
		return p.path + " dropped"
	case n == 1 && p.add != nil:
		name := []string{"zz", "Hour", "constructor", "__proto__", "toString"}[r.IntN(5)]
		x := odd[r.IntN(len(odd))]
		p.add(name, copied(x))
		return fmt.Sprintf("%s: beside it %s = %v", p.path, name, x)
	case n == 2 && p.drop != nil:
		name := p.path[strings.LastIndex(p.path, ".")+1:]
		p.drop()
		p.add(strings.ToUpper(name[:1])+name[1:], p.v)
		return p.path + " begins with a capital"
	case n <= 4:
		if list, ok := p.v.([]any); ok {
			for range []int{1, 2, 17, 130}[r.IntN(4)] {
				if len(list) > 0 {
					list = append(list, copied(list[0]))
				}
			}
			p.set(list)
			return p.path + " is longer"
		}
		if s, ok := p.v.(string); ok {
			to := near(r, s)
			p.set(to)
			return fmt.Sprintf("%s: %.40q for %.40q", p.path, to, s)
		}
		if n, ok := p.v.(json.Number); ok {
			x, _ := n.Int64()
			x += int64([]int{-1, 1, 1000, -1000, 3_600_000}[r.IntN(5)])
			p.set(json.Number(fmt.Sprint(x)))
			return fmt.Sprintf("%s: %d for %s", p.path, x, n)
		}
	}
	x := odd[r.IntN(len(odd))]
	p.set(copied(x))
	return fmt.Sprintf("%s: %.40v for %.40v", p.path, x, p.v)
}

// near is a text that is nearly the same: another time, another letter, other bytes.
func near(r *rand.Rand, s string) string {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		t = t.Add([]time.Duration{time.Millisecond, -time.Millisecond, time.Second, -time.Second, time.Minute, 5 * time.Minute, time.Hour, -time.Hour, 24 * time.Hour, 60 * 365 * 24 * -time.Hour}[r.IntN(10)])
		return evidence.TimeOf(t).String()
	}
	if b, err := base64.StdEncoding.DecodeString(s); err == nil && len(b) > 0 && r.IntN(2) == 0 {
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		return base64.StdEncoding.EncodeToString(b)
	}
	if s == "" {
		return " "
	}
	at := r.IntN(len(s))
	return s[:at] + string("aZ0 /+=.\"\\é\x1f"[r.IntN(11)]) + s[at+1:]
}

// respell changes the lines under a checkpoint.
func respell(r *rand.Rand, signed []byte) ([]byte, string) {
	text, sigs, _ := strings.Cut(string(signed), "\n\n")
	lines := strings.SplitAfter(strings.TrimSuffix(sigs, "\n"), "\n")
	lines[len(lines)-1] += "\n"
	at := 1 + r.IntN(len(lines)-1)
	stranger := "\u2014 " + []string{"a.example.net", "zz.example.net", "m.example.net"}[r.IntN(3)] + " " + base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%040d", r.IntN(1000))) + "\n"
	what := ""
	switch r.IntN(9) {
	case 0:
		what, lines = "a cosignature dropped", slices.Delete(lines, at, at+1)
	case 1:
		what, lines = "a cosignature twice", slices.Insert(lines, at, lines[at])
	case 2:
		what = "cosignatures in another order"
		slices.Reverse(lines[1:])
	case 3:
		what, lines = "a stranger's line, somewhere", slices.Insert(lines, at, stranger)
	case 4:
		what, lines = "a stranger's line, in order", append(lines, stranger)
		slices.Sort(lines[1:])
	case 5:
		what, lines[at] = "a cosignature changed", near(r, lines[at])
	case 6:
		what, lines = "the log's line in the middle", slices.Insert(lines[1:], at-1, lines[0])
	case 7:
		what, text = "another text", near(r, text)
	default:
		what, lines = "two strangers of one name", append(lines, stranger, stranger)
		slices.Sort(lines[1:])
	}
	return []byte(text + "\n\n" + strings.Join(lines, "")), what
}

var months = flag.Int("months", 100, "forged months that are verified by both")

// What a monitor with its keys may write is the same to both.
func TestForgedMonths(t *testing.T) {
	p, f := startProgram(t), newForger(t, nil)
	for _, next := range []bool{false, true} {
		if !f.compare(p, "unchanged", f.tell(lie{next: next})) {
			t.Fatalf("the month without a lie is refused (the second: %v)", next)
		}
	}
	n, accepted := *months, 0
	for i := range n {
		r := rand.New(rand.NewPCG(16, uint64(i)))
		what := ""
		l := lie{next: r.IntN(2) == 1}
		at := r.IntN(2)
		twist := func(name string) func(int, any) any {
			return func(i int, v any) any {
				if i == at {
					for range 1 + r.IntN(2) {
						what += fmt.Sprintf(" %s %d%s", name, i, change(r, v))
					}
				}
				return v
			}
		}
		switch k := r.IntN(12); {
		case k < 6:
			l.record = twist("record")
		case k < 8:
			l.header = twist("header")
		case k < 9:
			l.proof = twist("proof")
		case k < 10:
			at = 0
			l.index = twist("index")
		default:
			which := 1 + r.Int64N(int64(len(f.headers)))
			l.checkpoint = func(size int64, signed []byte) []byte {
				if size == which {
					signed, what = respell(r, signed)
					what = fmt.Sprintf(" checkpoint of size %d: %s", size, what)
				}
				return signed
			}
		}
		files := f.tell(l)
		if f.compare(p, fmt.Sprintf("seed %d:%s", i, what), files) {
			accepted++
		}
	}
	// A change that is refused says less than one that is a fact to both.
	if accepted < n/20 {
		t.Errorf("only %d of %d changes were accepted", accepted, n)
	}
	t.Logf("%d of %d changes were accepted", accepted, n)
}

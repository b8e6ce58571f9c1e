package evidence_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/internal/bls"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

const vectorsDir = "../../docs/vectors"

// vector is one case of a file in docs/vectors. Which of the inputs there are depends on
// the file, see docs/vectors/README.md.
type vector struct {
	Name string `json:"name"`
	Why  string `json:"why"` // it is good or bad
	OK   bool   `json:"ok"`

	Line      string            `json:"line,omitempty"`
	Hour      string            `json:"hour,omitempty"`
	Note      string            `json:"note,omitempty"`
	Log       string            `json:"log,omitempty"`
	Plan      string            `json:"plan_key,omitempty"`
	Origin    string            `json:"origin,omitempty"`
	Relay     string            `json:"relay,omitempty"`
	Signature []byte            `json:"signature,omitempty"`
	Due       *int              `json:"due_second,omitempty"`
	Witnesses []string          `json:"witnesses,omitempty"`
	Cosigned  []cosignedBy      `json:"cosigned,omitempty"`
	Voucher   string            `json:"voucher,omitempty"` // bound or bad
	Files     map[string]string `json:"files,omitempty"`
	Digest    string            `json:"digest,omitempty"` // of a good month
}

// cosignedBy is what a cosignature says.
type cosignedBy struct {
	Witness string `json:"witness"`
	Seconds int64  `json:"seconds"`
}

// swap is a text with one part exchanged; it must be there.
func swap(t testing.TB, text, old, replacement string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("%.200q does not contain %q", text, old)
	}
	return strings.Replace(text, old, replacement, 1)
}

func recordVectors(t testing.TB, good, hour string) []vector {
	v := func(name, why string, ok bool, line string) vector {
		return vector{Name: name, Why: why, OK: ok, Line: line, Hour: hour}
	}
	with := func(old, replacement string) string { return swap(t, good, old, replacement) }
	return []vector{
		v("good", "a record as a monitor writes it", true, good),
		v("grown", "members that nobody knows yet, one of them nested, mean nothing", true,
			with(`"level":1,`, `"kindness":{"of":["strangers",1.5]},"level":1,`)),
		v("grown at the end", "unknown members may stand behind the known ones", true, with(`"version":1}`, `"version":1,"weather":"rain"}`)),
		v("other case", "Hour is not hour: the name is unknown, and means nothing", true, with(`{"attempts"`, `{"Hour":"2001-01-01T00:00:00Z","attempts"`)),
		v("no version", "version is required", false, with(`,"version":1`, ``)),
		v("version 2", "it needs a verifier of at least version 2", false, with(`"version":1`, `"version":2`)),
		v("white space", "one spelling: no white space", false, with(`"level":1`, `"level": 1`)),
		v("order", "one spelling: members are sorted", false, with(`"level":1,"peer_id"`, `"zeal":1,"level":1,"peer_id"`)),
		v("twice", "no member stands twice", false, with(`"level":1,`, `"level":1,"level":1,`)),
		v("number", "one spelling: 1 is not 1.0", false, with(`"level":1`, `"level":1.0`)),
		v("unknown number", "one spelling also in unknown members", false, with(`"level":1,`, `"kindness":1.50,"level":1,`)),
		v("escape", "one spelling: what needs no escape has none", false, with(`"tcp4"`, `"\u0074cp4"`)),
		v("zero", "an optional member that is zero is absent", false, with(`"results"`, `"stepped":false,"results"`)),
		v("null", "an optional member is absent, not null", false, with(`"hop_reserve":100`, `"hop_connect":null,"hop_reserve":100`)),
		v("no attempts", "a record has at least one attempt", false, `{"attempts":[],"hour":"`+hour+`","peer_id":"12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba","version":1}`),
		v("another outcome", "a new outcome would change the meaning: it takes a new version", false, with(`"outcome":"skipped"`, `"outcome":"shy"`)),
		v("too early", "the first attempt starts within the hour", false, with(`"started":"2026-11-01T00:01:30.000Z"`, `"started":"2026-10-31T23:59:59.999Z"`)),
		v("too long", "nothing in an attempt takes more than an hour", false, with(`"duration_us":2500`, `"duration_us":3600000001`)),
		v("another hour", "the record is of the hour of its block", false, with(`"hour":"2026-11-01T00:00:00Z"`, `"hour":"2026-11-01T01:00:00Z"`)),
		v("a short plan", "a plan has 48 bytes", false, with(`"plan":"`, `"plan":"AAAA`)),
		v("not sorted", "that lists of text are sorted is not checked", true, with(`"hop_reserve":100,`, `"hop_reserve":100,"protocols":["b","a","a"],`)),
		v("a class beside ok", "that there is none is not checked", true, with(`"rungs":[{`, `"rungs":[{"class":"refused",`)),
		v("depth", "no more than 16 lists and objects stand in each other", false, with(`"level":1,`, `"kindness":`+strings.Repeat("[", 16)+strings.Repeat("]", 16)+`,"level":1,`)),
	}
}

func headerVectors(t testing.TB, first, second string) []vector {
	v := func(name, why string, ok bool, line string) vector {
		return vector{Name: name, Why: why, OK: ok, Line: line}
	}
	return []vector{
		v("good", "a header as a monitor writes it", true, first),
		v("cosigned", "a header that tells of a cosignature", true, second),
		v("grown", "a member that nobody knows yet means nothing", true, swap(t, first, `"state":"ok"`, `"state":"ok","tide":{"high":true}`)),
		v("no version", "version is required", false, swap(t, first, `,"version":1`, ``)),
		v("version 2", "it needs a verifier of at least version 2", false, swap(t, first, `"version":1`, `"version":2`)),
		v("another state", "a new state would change the meaning: it takes a new version", false, swap(t, first, `"state":"ok"`, `"state":"dull"`)),
		v("a gap with records", "a gap has no records", false, swap(t, first, `"state":"ok"`, `"state":"gap"`)),
		v("records without a root", "the root of no record is that of no place", false, swap(t, first, `"records":1`, `"records":0`)),
		v("sealed too early", "an hour closes 16 minutes after its end", false, swap(t, first, `"sealed_at":"2026-11-01T01:16:00.000Z"`, `"sealed_at":"2026-11-01T01:15:59.999Z"`)),
		v("a witness twice", "one cosignature a witness, sorted", false,
			swap(t, second, `"cosigned":[{`, `"cosigned":[{"time":"2026-11-01T01:17:00.000Z","witness":"witness.example.net+6467e1ed"},{`)),
		v("a witness without a hash", "a witness is <name>+<8 hex digits>", false, swap(t, second, `witness.example.net+6467e1ed`, `witness.example.net`)),
	}
}

func checkpointVectors(t testing.TB, raw, stranger, log string, witnesses []string) []vector {
	v := func(name, why string, ok bool, note string, by ...cosignedBy) vector {
		return vector{Name: name, Why: why, OK: ok, Note: note, Log: log, Witnesses: witnesses, Cosigned: by}
	}
	at := cosignedBy{witnesses[0], time.Date(2026, 11, 1, 1, 17, 0, 0, time.UTC).Unix()}
	lines := strings.SplitAfter(raw, "\n")
	own, cosigned := lines[4], lines[5]
	text := strings.Join(lines[:4], "")
	return []vector{
		v("good", "signed by the log and one witness", true, raw, at),
		v("bare", "nobody has cosigned it", true, text+own),
		v("stranger", "a line by a key that is not known is ignored", true, text+own+stranger+cosigned, at),
		v("stranger with a mark", "U+FEFF is no white space, and may stand in a key's name", true, text+own+cosigned+"— \ufeffz AAAAAAAA\n", at),
		v("stranger with a space", "no white space stands in a key's name", false, text+own+cosigned+"— z\u3000z AAAAAAAA\n"),
		v("order", "the log's line first, then the others by key name", false, text+own+cosigned+stranger),
		v("witness first", "the log's line first", false, text+cosigned+own),
		v("twice", "one line a key", false, text+own+cosigned+cosigned),
		v("not signed by the log", "the log's signature is required", false, text+cosigned),
		v("another size", "the signature is over the text", false, swap(t, raw, "\n1\n", "\n2\n")),
		v("leading zero", "one spelling of the size", false, swap(t, raw, "\n1\n", "\n01\n")),
		v("extension line", "a monitor's checkpoint has none", false, swap(t, raw, "\n\n", "\nmore\n\n")),
		v("no end", "a note ends with a newline", false, strings.TrimSuffix(raw, "\n")),
		v("another log", "the origin is the name of the log's key", false, swap(t, raw, "monitor.example.org/relaymon/lab\n1", "monitor.example.com/relaymon/lab\n1")),
	}
}

func forkVectors(fork, log string) []vector {
	parts := strings.SplitAfterN(fork, "\n\n", 4)
	one, other := parts[0]+strings.TrimSuffix(parts[1], "\n"), parts[2]+parts[3]
	v := func(name, why string, ok bool, note string) vector {
		return vector{Name: name, Why: why, OK: ok, Note: note, Log: log}
	}
	return []vector{
		v("good", "two roots of one size, signed by the log's key", true, fork),
		v("order", "the smaller root stands first", false, other+"\n"+one),
		v("the same twice", "two equal checkpoints agree", false, one+"\n"+one),
		v("one alone", "it takes two", false, one),
	}
}

func planVectors(t testing.TB, plan []byte, m evidence.MonitorMonth, key, hour string) []vector {
	offset := int(evidence.Offset(plan) / time.Second)
	v := func(name, why string, ok bool, change func(*vector)) vector {
		out := vector{Name: name, Why: why, OK: ok, Plan: key, Origin: m.Origin, Hour: hour, Relay: m.Relay, Signature: plan}
		if ok {
			out.Due = &offset
		}
		change(&out)
		return out
	}
	flipped := bytes.Clone(plan)
	flipped[0] ^= 0x20 // the other of the two points with this x
	other, err := bls.KeyGen(bytes.Repeat([]byte{7}, 32))
	evidencetest.Must(t, err)
	infinity := append([]byte{0xc0}, make([]byte, 47)...)
	return []vector{
		v("good", "the plan key's signature, and the second that follows from it", true, func(*vector) {}),
		v("another hour", "it is signed for one hour", false, func(v *vector) { v.Hour = "2026-11-01T01:00:00Z" }),
		v("another relay", "it is signed for one relay", false, func(v *vector) { v.Relay = "12D3KooWDfp1pkFbosxQWT9yk7iRLm73ZLaiwkYiptsesdDRYzzt" }),
		v("another log", "it is signed for one log", false, func(v *vector) { v.Origin = "monitor.example.org/relaymon/psf" }),
		v("another key", "it is by the plan key", false, func(v *vector) { v.Plan = other.Public().String() }),
		v("negated", "a signature is unique: its negative is none", false, func(v *vector) { v.Signature = flipped }),
		v("infinity", "the point at infinity is no signature", false, func(v *vector) { v.Signature = infinity }),
		v("short", "a plan has 48 bytes", false, func(v *vector) { v.Signature = plan[:47] }),
	}
}

func voucherVectors(t testing.TB, record, hour string, k evidence.Keys) []vector {
	line := record[len(`{"attempts":[`):strings.Index(record, `],"hour":`)]
	v := func(name, why, state, line string) vector {
		return vector{Name: name, Why: why, OK: true, Line: line, Hour: hour, Log: k.Log, Witnesses: k.Witnesses, Voucher: state}
	}
	return []vector{
		v("good", "the relay signed it for this monitor and this hour", "bound", line),
		v("another salt", "the reserving peer follows from the salt", "bad", swap(t, line, `"salt":"BAQE`, `"salt":"BAQF`)),
		v("another peer", "the voucher names the reserving peer", "bad", swap(t, line, `"peer":"12D3KooWDfp1pkFbosxQWT9yk7iRLm73ZLaiwkYiptsesdDRYzzt"`, `"peer":"12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba"`)),
		v("changed", "the relay's signature is over the payload", "bad", swap(t, line, `"voucher":"CiQI`, `"voucher":"CiQJ`)),
		v("none", "there is no voucher", "none", swap(t, line, line[strings.Index(line, `,"voucher":`):strings.Index(line, `}},"level"`)], ``)),
		func() vector {
			late := v("another hour", "the hour is part of the reserving peer", "bad", line)
			late.Hour = "2026-11-01T01:00:00Z"
			return late
		}(),
		func() vector {
			other := v("another monitor", "the monitor's key is part of the reserving peer", "bad", line)
			other.Log = "monitor.example.org/relaymon/lab+6b4d5e3a+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29d"
			k, err := evidence.ParsePublicKey(other.Log)
			if err != nil { // its hash must be right
				other.Log = strings.Trim(err.Error()[strings.Index(err.Error(), "want ")+len("want "):], `"`)
			} else {
				other.Log = k.String()
			}
			return other
		}(),
	}
}

// leafVectors are of a month with a certificate: of its file only the hash is looked at.
func leafVectors(t testing.TB) []vector {
	leaf := []byte("This is no certificate.\n")
	_, m, k, _ := workedExample(t, leaf)
	file, other := folderCertificates+evidence.SHA256Hex(leaf)+".der", "This is another.\n"
	v := func(name, why string, ok bool, change func(files map[string]string)) vector {
		return monthVector(t, m, k, name, why, ok, func(files map[string]string, _ *vector) { change(files) })
	}
	return []vector{
		v("a certificate", "what a record says of a certificate is the monitor's word: nobody reads the file", true, func(map[string]string) {}),
		v("a certificate changed", "its name is its SHA-256", false, func(files map[string]string) { files[file] += "\n" }),
		v("a certificate left out", "a record refers to it", false, func(files map[string]string) { delete(files, file) }),
		v("a certificate too many", "no record refers to it", false, func(files map[string]string) {
			files[folderCertificates+evidence.SHA256Hex([]byte(other))+".der"] = other
		}),
	}
}

const folderCertificates = "certificates/"

// monthVector is a case of a month with its files changed.
func monthVector(t testing.TB, m evidence.MonitorMonth, k evidence.Keys, name, why string, ok bool, change func(files map[string]string, v *vector)) vector {
	good, err := m.Files()
	evidencetest.Must(t, err)
	out := vector{Name: name, Why: why, OK: ok, Log: k.Log, Plan: k.Plan, Witnesses: k.Witnesses, Files: map[string]string{}}
	for name, data := range good {
		out.Files[name] = string(data)
	}
	change(out.Files, &out)
	if ok {
		var lines strings.Builder
		for _, name := range slices.Sorted(maps.Keys(out.Files)) {
			if !strings.HasPrefix(name, folderCertificates) {
				fmt.Fprintf(&lines, "%s %s\n", evidence.SHA256Hex([]byte(out.Files[name])), name)
			}
		}
		out.Digest = evidence.SHA256Hex([]byte(lines.String()))
	}
	return out
}

func monthVectors(t testing.TB, m evidence.MonitorMonth, k evidence.Keys) []vector {
	good, err := m.Files()
	evidencetest.Must(t, err)
	v := func(name, why string, ok bool, change func(files map[string]string, v *vector)) vector {
		return monthVector(t, m, k, name, why, ok, change)
	}
	edit := func(file, old, replacement string) func(map[string]string, *vector) {
		return func(files map[string]string, _ *vector) { files[file] = swap(t, files[file], old, replacement) }
	}
	lines := func(file string) []string { return strings.SplitAfter(string(good[file]), "\n") }
	cosignature := lines(evidence.FileCheckpoints)[5]
	return []vector{
		v("good", "what the worked example shows", true, func(map[string]string, *vector) {}),
		v("as of later", "as_of is the word of who exported: nothing follows from it but what was left out", true, edit(evidence.FileMonth, `"as_of":"2026-11-01T03:16`, `"as_of":"2026-11-01T03:17`)),
		v("no witness is known", "what unknown witnesses say means nothing", true, func(_ map[string]string, v *vector) { v.Witnesses = nil }),
		v("month 2", "it needs a verifier of at least version 2", false, edit(evidence.FileMonth, "relaymon-month/v1", "relaymon-month/v2")),
		v("grown", "members that nobody knows yet mean nothing, and the digest is over them", true, edit(evidence.FileMonth, `{"as_of"`, `{"Zone":[{"x":null}],"as_of"`)),
		v("frontier null", "an empty list of month.json is written []", false, edit(evidence.FileMonth, `"frontier":[]`, `"frontier":null`)),
		v("tip_proof null", "an empty list of month.json is written []", false, edit(evidence.FileMonth, `"tip_proof":[]`, `"tip_proof":null`)),
		v("frontier null, grown", "an empty list of month.json is written []", false, func(files map[string]string, _ *vector) {
			files[evidence.FileMonth] = swap(t, swap(t, files[evidence.FileMonth], `{"as_of"`, `{"Zone":1,"as_of"`), `"frontier":[]`, `"frontier":null`)
		}),
		v("cosignature left out", "a later header tells of it", false, edit(evidence.FileCheckpoints, cosignature, "")),
		v("a block left out", "the blocks follow each other, each has its checkpoint", false, edit(evidence.FileHeaders, lines(evidence.FileHeaders)[0], "")),
		v("a record left out", "the block has records: what it holds of the relay is shown", false, func(files map[string]string, _ *vector) {
			files[evidence.FileRecords], files[evidence.FileProofs] = "", ""
		}),
		v("a record changed", "the record is under the root of its block", false, edit(evidence.FileRecords, `"level":1`, `"level":2`)),
		v("a header changed", "the root of the blocks is the checkpoint's", false, edit(evidence.FileHeaders, "relaymon/0.1.0", "relaymon/0.1.1")),
		v("present denied", "the same place cannot be shown empty", false, func(files map[string]string, _ *vector) {
			files[evidence.FileProofs] = swap(t, files[evidence.FileProofs], `"present":true`, `"present":false`)
			files[evidence.FileRecords] = ""
		}),
		v("another relay", "proofs are of one relay", false, edit(evidence.FileMonth, m.Relay, "12D3KooWDfp1pkFbosxQWT9yk7iRLm73ZLaiwkYiptsesdDRYzzt")),
		v("another month", "the blocks are of the month", false, edit(evidence.FileMonth, `"month":"2026-11"`, `"month":"2026-12"`)),
		v("as of before", "a block was sealed after the time of the export", false, edit(evidence.FileMonth, `"as_of":"2026-11-01T03:16`, `"as_of":"2026-11-01T01:20`)),
		v("another file", "a file of any other name is refused", false, func(files map[string]string, _ *vector) { files["note"] = "x" }),
		v("no file", "every file is there", false, func(files map[string]string, _ *vector) { delete(files, evidence.FileProofs) }),
		v("another key", "the verifier brings the log's key", false, func(_ map[string]string, v *vector) {
			v.Log = "monitor.example.net/relaymon/lab" + strings.TrimPrefix(v.Log, "monitor.example.org/relaymon/lab")
		}),
	}
}

// takes says whether a case is taken, and what it shows.
func takes(t testing.TB, kind string, v vector) (ok bool, err error) {
	hour := evidence.Hour(0)
	if v.Hour != "" {
		hour, err = evidence.ParseHour(v.Hour)
		evidencetest.Must(t, err)
	}
	switch kind {
	case "records":
		_, err = evidence.DecodeRecord([]byte(v.Line), hour)
	case "headers":
		_, err = evidence.DecodeHeader([]byte(v.Line))
	case "checkpoints":
		err = v.openCheckpoint(t)
	case "forks":
		_, err = evidence.OpenFork([]byte(v.Note), v.Log)
	case "plans":
		key, bad := bls.ParsePublicKey(v.Plan)
		evidencetest.Must(t, bad)
		err = key.Verify(evidence.PlanText(v.Origin, hour, v.Relay), v.Signature)
	case "vouchers":
		var a evidence.Attempt
		evidencetest.Must(t, evidence.Decode([]byte(v.Line), &a))
		vouchers, bad := evidence.NewVouchers(evidence.Keys{Log: v.Log, Witnesses: v.Witnesses})
		evidencetest.Must(t, bad)
		if got := vouchers.Verify(a, hour); string(got.State) != v.Voucher {
			t.Errorf("%s, %s: got %s (%s), want %s", kind, v.Name, got.State, got.Reason, v.Voucher)
		}
	case "months":
		files := make(map[string][]byte)
		for name, data := range v.Files {
			files[name] = []byte(data)
		}
		var shown evidence.VerifiedMonth
		shown, err = verifyFiles(files, evidence.Keys{Log: v.Log, Plan: v.Plan, Witnesses: v.Witnesses})
		if err == nil && shown.Digest != v.Digest {
			t.Errorf("%s, %s: got the digest %s, want %s", kind, v.Name, shown.Digest, v.Digest)
		}
	default:
		t.Fatalf("vectors of kind %s", kind)
	}
	return err == nil, err
}

// openCheckpoint compares the cosignatures, too.
func (v vector) openCheckpoint(t testing.TB) error {
	log, err := evidence.LogVerifier(v.Log)
	evidencetest.Must(t, err)
	witnesses, err := evidence.WitnessVerifiers(v.Witnesses)
	evidencetest.Must(t, err)
	c, err := evidence.OpenCheckpoint([]byte(v.Note), log, witnesses...)
	if err != nil {
		return err
	}
	var got []cosignedBy
	for _, s := range c.Cosignatures {
		at, err := evidence.CosignedAt(s)
		evidencetest.Must(t, err)
		got = append(got, cosignedBy{v.Witnesses[0], at.Unix()})
	}
	if d := cmp.Diff(v.Cosigned, got); d != "" {
		t.Errorf("checkpoint %s: %s", v.Name, d)
	}
	return nil
}

// The vectors in docs/vectors are what the code makes, and the code takes or refuses each
// of them as they say.
func TestVectors(t *testing.T) {
	l, m, k, _ := workedExample(t)
	record, hour := string(m.Records[0]), "2026-11-01T00:00:00Z"
	r, err := evidence.DecodeRecord(m.Records[0], evidence.HourOf(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)))
	evidencetest.Must(t, err)
	stranger := evidencetest.Witness{SigningKey: evidence.SigningKeyOf("a.example.net", evidence.WitnessKeyType, bytes.Repeat([]byte{8}, 32))}
	at := evidencetest.Closing(evidence.HourOf(r.Attempts[0].Started.Time)).Add(2 * time.Minute)
	fork := evidencetest.SignedText(t, l.dir, evidence.Checkpoint{Origin: m.Origin, Size: 1, Root: evidence.EmptyRoot}.Text())
	pair, err := evidence.NewFork(m.Checkpoints[0], fork, k.Log)
	evidencetest.Must(t, err)
	kinds := map[string][]vector{
		"records":     recordVectors(t, record, hour),
		"headers":     headerVectors(t, string(m.Headers[0]), string(m.Headers[1])),
		"checkpoints": checkpointVectors(t, string(m.Checkpoints[0]), string(stranger.Cosign(t, m.Checkpoints[0], at)), k.Log, k.Witnesses),
		"forks":       forkVectors(string(pair), k.Log),
		"plans":       planVectors(t, r.Plan, m, k.Plan, hour),
		"vouchers":    voucherVectors(t, record, hour, k),
		"months":      append(monthVectors(t, m, k), leafVectors(t)...),
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		t.Run(kind, func(t *testing.T) {
			good, bad := 0, 0
			for _, v := range kinds[kind] {
				ok, err := takes(t, kind, v)
				if ok != v.OK {
					t.Errorf("%s: got %v (%v), want %v: %s", v.Name, ok, err, v.OK, v.Why)
				}
				if v.OK {
					good++
				} else {
					bad++
				}
			}
			if good == 0 || bad == 0 && kind != "vouchers" {
				t.Errorf("%d good and %d bad: want some of each", good, bad)
			}
			var b bytes.Buffer
			e := json.NewEncoder(&b)
			e.SetEscapeHTML(false)
			e.SetIndent("", "  ")
			evidencetest.Must(t, e.Encode(kinds[kind]))
			file := filepath.Join(vectorsDir, kind+".json")
			if *update {
				evidencetest.Must(t, os.MkdirAll(vectorsDir, 0o755))
				evidencetest.Must(t, os.WriteFile(file, b.Bytes(), 0o644))
				return
			}
			stored, err := os.ReadFile(file)
			evidencetest.Must(t, err)
			if !bytes.Equal(stored, b.Bytes()) {
				t.Errorf("%s is not what the code makes: run this test with -update", file)
			}
		})
	}
}

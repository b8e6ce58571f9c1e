package evidence

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// grownHour is that of the values here.
var grownHour = HourOf(time.Date(2026, 10, 31, 20, 0, 0, 0, time.UTC))

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantFault(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want %q", err, text)
	}
}

// fullRecord has every member that a record can have.
func fullRecord() Record {
	at := TimeOf(grownHour.Start().Add(time.Minute))
	return Record{PeerID: "12D3KooW", Hour: grownHour, Version: FormatVersion, Plan: []byte{4}, Attempts: []Attempt{{
		Started: at, PeerID: "12D3KooW", TCP4Addr: "/ip4/192.0.2.1", WSSAddr: "/dns4/relay.example.org", Level: LevelEchoed, Stepped: true,
		Rungs:   []Rung{{Name: "tcp4", Component: TCP4, Outcome: Fail, Class: Refused, Detail: "no \"é\"", OffsetUS: 1, DurationUS: 2, Tries: 3}, {Name: "announce", Outcome: Skipped}},
		Results: map[Component]Result{TCP4: {Outcome: OK}, WSS: {Outcome: Fail, Class: Refused, DurationUS: 7}, Relay: {Outcome: Skipped}},
		Facts: Facts{
			AgentVersion: "relayd/1", Protocols: []string{"/a", "/b"}, ResolvedIPv4: []string{"192.0.2.1"}, LookupRetries: 1, HTTPStatus: 101, PingUS: []int64{5, 6},
			Lookups:     []Lookup{{Resolver: OwnResolver, IPv4: []string{"192.0.2.1"}}, {Resolver: "192.0.2.9#x", Class: Resolver}},
			Certificate: &Certificate{SHA256: "ab", Issuer: "CN=x", DNSNames: []string{"x"}, NotBefore: at, NotAfter: at},
			HopReserve:  100, HopConnect: 100, CircuitAddr: "/p2p-circuit", Announced: "now",
			Reservation: &Reservation{Peer: "12D3KooX", Salt: []byte{1}, Beacon: []byte{2}, Cosigned: "a\n1\n", Voucher: []byte{3}, Expires: at, Addrs: []string{"/a"}, LimitBytes: 1, LimitSeconds: 2},
		},
		Controls: []Control{{Name: "c1", Component: WSS, Outcome: OK, Started: at, DurationUS: 1, Sent: 2, Resent: 1}},
	}}}
}

func fullHeader() Header {
	return Header{Hour: grownHour, State: StateOK, SealedAt: TimeOf(grownHour.End()), Signed: true, Software: "x", Missed: 3, Records: 1, Version: FormatVersion,
		Cosigned: []Held{{TimeOf(grownHour.Start()), "w+00000001"}},
		Clock:    Clock{Samples: 2, Synchronised: true, DriftMS: 3000, Steps: []ClockStep{{TimeOf(grownHour.Start()), 2000}}}}
}

// grownTypes are what grows, with a full value of each.
func grownTypes() []any {
	return []any{fullRecord(), fullHeader(),
		blockProof{Hour: grownHour, Other: &place{Key: Hash{1}, Value: Hash{2}}, Path: []Hash{{3}}, Present: true},
		monthIndex{Format: monthFormat, Origin: "o", Key: "k", Month: grownHour.Month(), Relay: "r", AsOf: TimeOf(grownHour.Start()), StartSize: 1, Frontier: []Hash{{1}}, TipProof: []Hash{}}}
}

// parsed is JSON as the library reads it.
func parsed(t testing.TB, b []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// invent is a value that nobody has thought of yet.
func invent(r *rand.Rand, depth int) any {
	switch n := r.Intn(8); {
	case n == 0 && depth > 0:
		out := map[string]any{}
		for range r.Intn(4) {
			out[inventName(r)] = invent(r, depth-1)
		}
		return out
	case n == 1 && depth > 0:
		out := []any{}
		for range r.Intn(4) {
			out = append(out, invent(r, depth-1))
		}
		return out
	case n < 3:
		return nil
	case n < 4:
		return r.Intn(2) == 0
	case n < 6:
		return float64(r.Int63n(1<<54)-1<<53) / float64(int(1)<<r.Intn(20))
	default:
		return inventName(r)
	}
}

// inventName is no name of a member: those are of small letters, digits and "_".
func inventName(r *rand.Rand) string {
	names := []string{"Hour", "HOUR", "PEER_ID", "Version", "Facts", "Outcome", "{\"", "]}", "\\", "\u0001", "ü", "\U0001f333", "z z", "Key", "Records"}
	return names[r.Intn(len(names))] + strings.Repeat("X", r.Intn(3))
}

// sprout puts members into the objects of a value, but not into the keys of results.
func sprout(r *rand.Rand, v any, name string) {
	switch v := v.(type) {
	case map[string]any:
		for k, item := range v {
			sprout(r, item, k)
		}
		if name != "results" {
			for range r.Intn(3) {
				v[inventName(r)] = invent(r, 3)
			}
		}
	case []any:
		for _, item := range v {
			sprout(r, item, "")
		}
	}
}

// Whatever is added, and wherever: what is known says the same.
func TestWhatIsAddedMeansNothing(t *testing.T) {
	for _, v := range grownTypes() {
		line, err := Encode(v)
		noError(t, err)
		for seed := range int64(300) {
			r := rand.New(rand.NewSource(seed))
			value := parsed(t, line)
			sprout(r, value, "")
			grown, err := Encode(value)
			noError(t, err)
			got := reflect.New(reflect.TypeOf(v))
			if err := DecodeGrown(grown, got.Interface()); err != nil {
				t.Fatalf("seed %d: %v: %s", seed, err, grown)
			}
			if again, err := Encode(got.Interface()); err != nil || !bytes.Equal(again, line) {
				t.Fatalf("seed %d: %s\nsays %s (%v)\nwant %s", seed, grown, again, err, line)
			}
			if len(grown) > len(line) && Decode(grown, reflect.New(reflect.TypeOf(v)).Interface()) == nil {
				t.Fatalf("seed %d: Decode is not strict: %s", seed, grown)
			}
		}
	}
}

// The members that must be there, by their paths.
var required = map[string][]string{
	"evidence.Record": {"attempts", "hour", "peer_id", "version",
		"attempts.0.facts", "attempts.0.level", "attempts.0.peer_id", "attempts.0.results", "attempts.0.rungs", "attempts.0.started",
		"attempts.0.rungs.0.name", "attempts.0.rungs.0.outcome", "attempts.0.rungs.0.offset_us", "attempts.0.rungs.0.duration_us",
		"attempts.0.results.tcp4.outcome", "attempts.0.results.wss.duration_us",
		"attempts.0.facts.lookups.0.resolver", "attempts.0.facts.certificate.sha256", "attempts.0.facts.certificate.issuer", "attempts.0.facts.certificate.not_before", "attempts.0.facts.certificate.not_after",
		"attempts.0.facts.reservation.peer", "attempts.0.facts.reservation.expires",
		"attempts.0.controls.0.name", "attempts.0.controls.0.component", "attempts.0.controls.0.outcome", "attempts.0.controls.0.started", "attempts.0.controls.0.duration_us"},
	"evidence.Header": {"clock", "hour", "previous", "records", "root", "sealed_at", "signed", "state", "version",
		"clock.drift_ms", "clock.samples", "clock.synchronised", "clock.steps.0.at", "clock.steps.0.by_ms", "cosigned.0.time", "cosigned.0.witness"},
	"evidence.blockProof": {"hour", "path", "present", "other.key", "other.value"},
	"evidence.monthIndex": {"as_of", "format", "frontier", "key", "month", "origin", "relay", "start_size", "tip_proof"},
}

// remove takes the member at a path out of a value.
func remove(t *testing.T, v any, path string) any {
	t.Helper()
	steps := strings.Split(path, ".")
	for _, step := range steps[:len(steps)-1] {
		if list, ok := v.([]any); ok {
			i, err := strconv.Atoi(step)
			noError(t, err)
			v = list[i]
		} else {
			v = v.(map[string]any)[step]
		}
	}
	last := steps[len(steps)-1]
	value, ok := v.(map[string]any)[last]
	if !ok {
		t.Fatalf("there is no %s", path)
	}
	delete(v.(map[string]any), last)
	v.(map[string]any)[strings.ToUpper(last)] = value // which is another name
	return value
}

func TestRequiredMembersStayRequired(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for _, v := range grownTypes() {
		line, err := Encode(v)
		noError(t, err)
		paths := required[fmt.Sprintf("%T", v)]
		for _, path := range paths {
			for _, more := range []bool{false, true} {
				value := parsed(t, line)
				remove(t, value, path)
				if more {
					sprout(r, value, "")
				}
				without, err := Encode(value)
				noError(t, err)
				if err := DecodeGrown(without, reflect.New(reflect.TypeOf(v)).Interface()); err == nil {
					t.Errorf("%T without %s, which is there in capitals: accepted: %s", v, path, without)
				}
			}
		}
	}
}

func TestVersions(t *testing.T) {
	record, err := Encode(fullRecord())
	noError(t, err)
	header, err := Encode(fullHeader())
	noError(t, err)
	const version = `"version":1`
	for _, tc := range []struct{ version, want string }{
		{`"version":2`, " is of version 2: it needs relayaudit of at least version 2; this one reads version 1"},
		{`"version":7`, " is of version 7: it needs relayaudit of at least version 7; this one reads version 1"},
		{`"version":0`, ` has no version: want "version":1 in it`},
		{`"version":-1`, ` has no version: want "version":1 in it`},
		{`"wersion":1`, ` has no version: want "version":1 in it`},
		{`"Version":1`, ` has no version: want "version":1 in it`},
		{`"version":"1"`, ` has no version: want "version":1 in it`},
		{`"version":1.5`, ` has no version: want "version":1 in it`},
	} {
		_, err := DecodeRecord(bytes.Replace(record, []byte(version), []byte(tc.version), 1), grownHour)
		wantFault(t, err, "the record"+tc.want)
		_, err = DecodeHeader(bytes.Replace(header, []byte(version), []byte(tc.version), 1))
		wantFault(t, err, "the header"+tc.want)
	}
	// Of what is newer nothing else is said, whatever it looks like.
	for _, newer := range []string{`{"version":2}`, `{ "hour": 3, "version": 2 }`, `{"version":2,"records":` + strings.Repeat("[", 50) + strings.Repeat("]", 50) + `}`} {
		_, err := DecodeRecord([]byte(newer), grownHour)
		if want := "the record is of version 2: it needs relayaudit of at least version 2; this one reads version 1"; err == nil || err.Error() != want {
			t.Errorf("%.60s: got %v, want %s", newer, err, want)
		}
		_, err = DecodeHeader([]byte(newer))
		wantFault(t, err, "the header is of version 2: it needs")
	}
	for line, want := range map[string]string{
		`{"format":"relaymon-month/v2"}`:        "month.json is of version 2: it needs relayaudit of at least version 2; this one reads version 1",
		`{"format":"relaymon-month/v12","a":`:   "month.json: ",
		`{"a":[],"format":"relaymon-month/v3"}`: "month.json is of version 3: it needs relayaudit of at least version 3; this one reads version 1",
		`{"format":"relaymon-year/v2"}`:         "month.json: ",
	} {
		_, err := readIndex([]byte(line))
		wantFault(t, err, want)
	}
}

// What DecodeGrown reads is what is left of the bytes without some of their members.
func FuzzDecodeGrown(f *testing.F) {
	r := rand.New(rand.NewSource(7))
	for _, v := range grownTypes() {
		line, err := Encode(v)
		noError(f, err)
		value := parsed(f, line)
		sprout(r, value, "")
		grown, err := Encode(value)
		noError(f, err)
		f.Add(line)
		f.Add(grown)
	}
	for _, s := range []string{`{}`, `null`, `[]`, ``, `{"a":1}`, `{"HOUR":"2026-11-01T00:00:00Z","hour":"2026-11-01T00:00:00Z","path":[],"present":false}`, `{"path":[[],{}],"x":`, `{"path":[,]}`, `{"":{"":[{"":"\ud800"}]}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range grownTypes() {
			of := reflect.TypeOf(v)
			appendKnown(nil, b, of) // whatever it is, it has an end
			got := reflect.New(of)
			if DecodeGrown(b, got.Interface()) != nil {
				continue
			}
			left, err := Encode(got.Interface())
			if err != nil {
				t.Fatalf("took %q for what cannot be written: %v", b, err)
			}
			again := reflect.New(of)
			if err := Decode(left, again.Interface()); err != nil || !reflect.DeepEqual(got.Interface(), again.Interface()) {
				t.Fatalf("took %q for what is read another way: %v", b, err)
			}
			if !within(parsed(t, left), parsed(t, b)) {
				t.Fatalf("took %q for %s", b, left)
			}
		}
	})
}

// within says whether a value is another one without some members of its objects.
func within(part, whole any) bool {
	switch part := part.(type) {
	case map[string]any:
		whole, ok := whole.(map[string]any)
		for name, v := range part {
			w, there := whole[name]
			if ok = ok && there; !ok || !within(v, w) {
				return false
			}
		}
		return ok
	case []any:
		whole, ok := whole.([]any)
		if !ok || len(part) != len(whole) {
			return false
		}
		for i := range part {
			if !within(part[i], whole[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(part, whole)
}

// What nobody knows yet of month.json is passed on, and is part of what the month's hash
// is over.
func TestMonthKeepsWhatItDoesNotKnow(t *testing.T) {
	plain, err := Encode(monthIndex{Format: monthFormat, Origin: "o", Key: "k", Month: grownHour.Month(), Relay: "r", AsOf: TimeOf(grownHour.Start()), Frontier: []Hash{}, TipProof: []Hash{}})
	noError(t, err)
	grown := bytes.Replace(plain, []byte(`{"as_of"`), []byte(`{"Zone":[{"x":1}],"as_of"`), 1)
	digests := map[string]bool{}
	for _, line := range [][]byte{plain, grown} {
		m, err := MonthFromFiles(map[string][]byte{fileMonth: append(line, '\n'), fileHeaders: nil, fileCheckpoints: nil, fileProofs: nil, fileRecords: nil})
		noError(t, err)
		files, err := m.Files()
		noError(t, err)
		if got := bytes.TrimSuffix(files[fileMonth], []byte("\n")); !bytes.Equal(got, line) {
			t.Errorf("got %s, want %s", got, line)
		}
		digest, err := m.digest()
		noError(t, err)
		digests[digest] = true
	}
	if len(digests) != 2 {
		t.Error("the hash of the month is the same without what nobody knows")
	}
}

package secondverifier

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	formats "github.com/transparency-dev/formats/note"

	"github.com/psf-relay/relay-appliance/internal/bls"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// What a monitor has bound itself to: the cosignatures that it held, and its plan.

// held is the list of the cosignatures, moved in time, that the header of a block tells of;
// before is when the block before was sealed.
func (f *forger) held(before time.Time, move time.Duration) []any {
	out := []any{}
	for _, key := range f.keys.Witnesses {
		name, rest, _ := strings.Cut(key, "+")
		hash, _, _ := strings.Cut(rest, "+")
		lag := map[string]time.Duration{"another.example.net": -10 * time.Second, "m1.example.org-witness": 3 * time.Minute}[name]
		if lag != 0 {
			out = append(out, map[string]any{"witness": name + "+" + hash, "time": evidence.TimeOf(before.Add(lag + move)).String()})
		}
	}
	return out
}

// holding writes headers with the list that more makes of what was held.
func (f *forger) holding(move time.Duration, more func(i int, held []any) []any) func(i int, v any) any {
	var before time.Time
	signed := false
	return func(i int, v any) any {
		m := v.(map[string]any)
		var held []any
		if signed {
			held = f.held(before, move)
		}
		if more != nil {
			held = more(i, held)
		}
		delete(m, "cosigned")
		if len(held) > 0 {
			m["cosigned"] = held
		}
		before, _ = time.Parse(time.RFC3339, fmt.Sprint(m["sealed_at"]))
		signed = m["signed"] == true
		return m
	}
}

// What a header says was cosigned must be there.
func TestHeldCosignatures(t *testing.T) {
	p, f := startProgram(t), newForger(t, nil)
	stranger := map[string]any{"witness": "zz.example.net+12345678", "time": "2026-10-31T21:00:00.000Z"}
	first := func(held any) func(int, []any) []any {
		return func(i int, rest []any) []any {
			if i == 0 {
				return []any{held}
			}
			return rest
		}
	}
	for _, c := range []struct {
		name string
		lie  lie
		want bool
	}{
		{"as it should be", lie{header: f.holding(0, nil)}, true},
		{"nothing is told", lie{header: f.holding(0, func(int, []any) []any { return nil })}, true},
		{"signed a second earlier than the header says", lie{header: f.holding(time.Second, nil)}, false},
		{"signed a second later than the header says", lie{header: f.holding(-time.Second, nil)}, false},
		{"a witness that nobody knows", lie{header: f.holding(0, func(i int, held []any) []any {
			if i == 0 {
				return nil
			}
			return append(held, stranger)
		})}, true},
		{"in another order", lie{header: f.holding(0, func(_ int, held []any) []any { slices.Reverse(held); return held })}, false},
		{"twice", lie{header: f.holding(0, func(i int, held []any) []any {
			if i > 0 {
				held = append(held, held[len(held)-1])
			}
			return held
		})}, false},
		{"before there was a checkpoint", lie{header: f.holding(0, first(stranger))}, false},
		{"before the month, by a stranger", lie{next: true, header: f.holding(0, first(stranger))}, true},
		{"an odd witness", lie{next: true, header: f.holding(0, first(map[string]any{"witness": "zz+1234567", "time": stranger["time"]}))}, false},
		{"a cosignature left out", lie{header: f.holding(0, nil), checkpoint: func(size int64, signed []byte) []byte {
			if size != 1 {
				return signed
			}
			lines := strings.SplitAfter(string(signed), "\n")
			return []byte(strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, "another") }), ""))
		}}, false},
	} {
		if got := f.compare(p, c.name, f.tell(c.lie)); got != c.want {
			t.Errorf("%s: accepted %v, want %v", c.name, got, c.want)
		}
	}
}

// When a first attempt was due follows from the plan; of many signatures only the bad ones
// are faults.
func TestPlans(t *testing.T) {
	p, f := startProgram(t), newForger(t, nil)
	key, err := bls.KeyGen(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	f.keys.Plan = key.Public().String()
	spelled := func(b []byte) any { return base64.StdEncoding.EncodeToString(b) }
	plan := func(m map[string]any) []byte {
		return key.Sign(fmt.Appendf(nil, "relaymon-plan/v1\n%s\n%s\n%s\n", f.months[0].Origin, m["hour"], m["peer_id"]))
	}
	infinity := make([]byte, bls.SignatureSize)
	infinity[0] = 0xc0
	for _, c := range []struct {
		name string
		bad  func(good []byte) any // the plan of the second hour; nil: none
		want bool
	}{
		{"good ones", func(good []byte) any { return spelled(good) }, true},
		{"none", func([]byte) any { return nil }, true},
		{"of another text", func([]byte) any { return spelled(key.Sign([]byte("another text"))) }, true},
		{"the other point", func(good []byte) any { good[0] ^= 0x20; return spelled(good) }, true},
		{"a bit changed", func(good []byte) any { good[20] ^= 1; return spelled(good) }, true},
		{"not compressed", func(good []byte) any { good[0] ^= 0x80; return spelled(good) }, true},
		{"infinity", func([]byte) any { return spelled(infinity) }, true},
		{"a byte less", func(good []byte) any { return spelled(good[1:]) }, false},
		{"a byte more", func(good []byte) any { return spelled(append(good, 0)) }, false},
		{"empty", func([]byte) any { return "" }, false},
		{"a number", func([]byte) any { return 7 }, false},
	} {
		files := f.tell(lie{record: func(i int, v any) any {
			m := v.(map[string]any)
			m["plan"] = spelled(plan(m))
			if i == 1 {
				if m["plan"] = c.bad(plan(m)); m["plan"] == nil {
					delete(m, "plan")
				}
			}
			return m
		}})
		if got := f.compare(p, c.name, files); got != c.want {
			t.Errorf("%s: accepted %v, want %v", c.name, got, c.want)
		}
	}
	// With another key all are faults; without one nothing is said.
	f.keys.Plan = planKeys()[0]
	f.compare(p, "another key", f.tell(lie{}))
	f.keys.Plan = ""
	f.compare(p, "no key", f.tell(lie{}))
}

// A witness whose signatures the second verifier cannot check: it says so, of which key,
// and does not say that the evidence is bad.
func TestWitnessWithAnotherAlgorithm(t *testing.T) {
	p, f := startProgram(t), newForger(t, nil)
	_, key, err := formats.GenerateMLDSAKey("witness.example.org/pq")
	if err != nil {
		t.Fatal(err)
	}
	name, rest, _ := strings.Cut(key, "+")
	name += "+" + rest[:8]
	f.keys.Witnesses = append(f.keys.Witnesses, key)
	files := f.tell(lie{})
	m, err := evidence.MonthFromFiles(files)
	if err == nil {
		_, err = evidence.VerifyMonth(m, f.keys)
	}
	if err != nil {
		t.Errorf("relayaudit: %v", err)
	}
	r := request{Month: &month{Files: files}}
	r.Month.Keys.Log, r.Month.Keys.Witnesses, r.Month.Keys.Plan = f.keys.Log, f.keys.Witnesses, f.keys.Plan
	if a := p.ask(r); a.Verified || !a.Own || !strings.Contains(a.Error, name) || !strings.Contains(a.Error, "ML-DSA-44") {
		t.Errorf("verified %v, own fault %v, %q, want a word on the ML-DSA-44 key of %s", a.Verified, a.Own, a.Error, name)
	}
}

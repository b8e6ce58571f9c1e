package secondverifier

import (
	"encoding/base64"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// planKey makes plans: signatures in G1 of BLS12-381.
type planKey struct{ secret *big.Int }

func (k planKey) public() string {
	_, _, _, generator := bls12381.Generators()
	b := new(bls12381.G2Affine).ScalarMultiplication(&generator, k.secret).Bytes()
	return base64.StdEncoding.EncodeToString(b[:])
}

func (k planKey) sign(t testing.TB, text string) string {
	t.Helper()
	p, err := bls12381.HashToG1([]byte(text), []byte("BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"))
	if err != nil {
		t.Fatal(err)
	}
	b := p.ScalarMultiplication(&p, k.secret).Bytes()
	return base64.StdEncoding.EncodeToString(b[:])
}

// version1 writes a forger's month in version 1: with plans, with the cosignatures that a
// monitor held.
type version1 struct {
	*forger
	key planKey
}

func (f version1) record(_ int, v any) any {
	m := v.(map[string]any)
	m["version"] = 1
	m["plan"] = f.key.sign(f.t, fmt.Sprintf("relaymon-plan/v1\n%s\n%s\n%s\n", f.months[0].Origin, m["hour"], m["peer_id"]))
	return m
}

// held is the list of the cosignatures, moved in time, that the header of a block tells of;
// before is when the block before was sealed.
func (f version1) held(before time.Time, move time.Duration) []any {
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

// header has the list that more makes of what was held.
func (f version1) header(move time.Duration, more func(i int, held []any) []any) func(i int, v any) any {
	var before time.Time
	return func(i int, v any) any {
		m := v.(map[string]any)
		delete(m, "schedule")
		m["version"] = 1
		var held []any
		if i > 0 {
			held = f.held(before, move)
		}
		if more != nil {
			held = more(i, held)
		}
		if len(held) > 0 {
			m["cosigned"] = held
		}
		before, _ = time.Parse(time.RFC3339, fmt.Sprint(m["sealed_at"]))
		return m
	}
}

// Months of version 1: what a header says was cosigned must be there, and when a first
// attempt was due follows from the plan.
func TestVersion1(t *testing.T) {
	p := startProgram(t)
	f := version1{newForger(t, nil), planKey{big.NewInt(1234567)}}
	ask := func(l lie) answer {
		t.Helper()
		files := f.tell(l)
		r := request{Month: &month{Files: files}}
		r.Month.Keys.Log, r.Month.Keys.Witnesses, r.Month.Keys.Plan = f.keys.Log, f.keys.Witnesses, f.key.public()
		return p.ask(r)
	}
	hours := func(a answer) (out []map[string]any) {
		for _, h := range a.Logs.([]any)[0].(map[string]any)["hours"].([]any) {
			out = append(out, h.(map[string]any))
		}
		return out
	}
	for _, c := range []struct {
		name string
		lie  lie
		want string // part of the refusal; empty: accepted
	}{
		{"as it should be", lie{record: f.record, header: f.header(0, nil)}, ""},
		{"signed a second earlier than the header says", lie{record: f.record, header: f.header(time.Second, nil)}, "of another time"},
		{"signed a second later than the header says", lie{record: f.record, header: f.header(-time.Second, nil)}, "missing, or of another time"},
		{"a witness that nobody knows", lie{record: f.record, header: f.header(0, func(i int, held []any) []any {
			if i == 0 {
				return nil
			}
			return append(held, map[string]any{"witness": "zz.example.net+12345678", "time": "2026-10-31T21:00:00.000Z"})
		})}, ""},
		{"in another order", lie{record: f.record, header: f.header(0, func(_ int, held []any) []any { slices.Reverse(held); return held })}, "not sorted"},
		{"before there was a checkpoint", lie{record: f.record, header: f.header(0, func(i int, held []any) []any {
			if i == 0 {
				return []any{map[string]any{"witness": "zz.example.net+12345678", "time": "2026-10-31T21:00:00.000Z"}}
			}
			return held
		})}, "not signed"},
		{"a cosignature left out", lie{record: f.record, header: f.header(0, nil), checkpoint: func(size int64, signed []byte) []byte {
			if size != 1 {
				return signed
			}
			lines := strings.SplitAfter(string(signed), "\n")
			return []byte(strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, "another") }), ""))
		}}, "missing, or of another time"},
		{"a record of version 2", lie{header: f.header(0, nil), record: func(i int, v any) any {
			m := f.record(i, v).(map[string]any)
			m["version"] = 2
			return m
		}}, "of version 2"},
		{"a plan of another size", lie{header: f.header(0, nil), record: func(i int, v any) any {
			m := f.record(i, v).(map[string]any)
			m["plan"] = "AAAA"
			return m
		}}, "plan"},
	} {
		if a := ask(c.lie); a.Verified != (c.want == "") || !strings.Contains(a.Error, c.want) {
			t.Errorf("%s: verified %v, %q, want %q", c.name, a.Verified, a.Error, c.want)
		}
	}

	whole := hours(ask(lie{record: f.record, header: f.header(0, nil)}))
	for i, h := range whole[:3] {
		start := f.months[0].Month.End() - 3 + evidence.Hour(i)
		due, _ := h["due"].(float64)
		if at := time.UnixMilli(int64(due)); evidence.HourOf(at) != start || h["plan_fault"] != false {
			t.Errorf("hour %s: due %s, plan fault %v, want a second of the hour and none", start, at, h["plan_fault"])
		}
	}
	// Of many signatures only the bad ones are faults.
	bad := map[int]string{1: f.key.sign(t, "another text"), 2: ""}
	some := hours(ask(lie{header: f.header(0, nil), record: func(i int, v any) any {
		m := f.record(i, v).(map[string]any)
		if plan, ok := bad[i]; ok {
			m["plan"] = plan
		}
		if m["plan"] == "" {
			delete(m, "plan")
		}
		return m
	}}))
	for i, h := range some[:3] {
		_, want := bad[i]
		if h["plan_fault"] != want || (h["due"] == nil) != want {
			t.Errorf("hour %d: plan fault %v, due %v, want fault %v", i, h["plan_fault"], h["due"], want)
		}
	}
}

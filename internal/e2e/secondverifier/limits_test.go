package secondverifier

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var step = regexp.MustCompile(`[^.\[\]]+`)

// put sets a member deep in a value, such as "attempts[0].level".
func put(t testing.TB, v any, path string, to any) {
	t.Helper()
	steps := step.FindAllString(path, -1)
	for i, s := range steps {
		last := i == len(steps)-1
		switch x := v.(type) {
		case map[string]any:
			if last {
				x[s] = to
			}
			v = x[s]
		case []any:
			n, err := strconv.Atoi(s)
			if err != nil || n >= len(x) {
				t.Fatalf("%s: no %s", path, s)
			}
			if last {
				x[n] = to
			}
			v = x[n]
		default:
			t.Fatalf("%s: nothing at %s", path, s)
		}
	}
}

// What is as large as it may be, both accept, and refuse what is one larger.
func TestLimits(t *testing.T) {
	p, f := startProgram(t), newForger(t, nil)
	number := func(n int64) any { return json.Number(strconv.FormatInt(n, 10)) }
	letters := func(n int64) any { return strings.Repeat("a", int(n)) }
	list := func(of func(i int) any) func(int64) any {
		return func(n int64) any {
			out := []any{}
			for i := range int(n) {
				out = append(out, of(i))
			}
			return out
		}
	}
	words := list(func(int) any { return "a" })
	bytes := func(n int64) any { return []byte(strings.Repeat("a", int(n))) }
	of := func(path string) func(int64) any {
		return list(func(int) any {
			v := copied(f.records[0][0])
			for _, s := range step.FindAllString(path, -1) {
				switch x := v.(type) {
				case map[string]any:
					v = x[s]
				case []any:
					n, _ := strconv.Atoi(s)
					v = x[n]
				}
			}
			return copied(v)
		})
	}
	const a, b = "attempts[0].", "attempts[1]."
	for _, c := range []struct {
		path  string
		make  func(int64) any
		limit int64
	}{
		{a + "level", number, 4}, {a + "tcp4_addr", letters, 1024}, {a + "wss_addr", letters, 1024},
		{a + "rungs", of(a + "rungs[0]"), 32}, {b + "controls", of(b + "controls[0]"), 128}, {"attempts", of("attempts[0]"), 16},
		{a + "rungs[0].name", letters, 64}, {b + "rungs[0].class", letters, 64}, {b + "rungs[0].detail", letters, 300},
		{b + "rungs[0].tries", number, 1000}, {a + "rungs[1].offset_us", number, 3_600_000_000}, {a + "rungs[1].duration_us", number, 3_600_000_000},
		{b + "results.tcp4.class", letters, 64}, {a + "results.tcp4.duration_us", number, 3_600_000_000},
		{a + "facts.agent_version", letters, 256}, {a + "facts.protocols", words, 128}, {a + "facts.protocols[0]", letters, 256},
		{a + "facts.resolved_ipv4", words, 16}, {a + "facts.resolved_ipv4[0]", letters, 64}, {b + "facts.lookup_retries", number, 1000},
		{b + "facts.lookups", func(n int64) any {
			return append([]any{f.lookup(0)}, list(func(int) any { return f.lookup(1) })(n-1).([]any)...)
		}, 9},
		{b + "facts.lookups[1].resolver", letters, 256}, {b + "facts.lookups[0].ipv4", list(func(i int) any { return fmt.Sprintf("1.2.3.%d", i) }), 16},
		{a + "facts.http_status", number, 999}, {a + "facts.ping_us", list(func(int) any { return number(1) }), 16}, {a + "facts.ping_us[0]", number, 3_600_000_000},
		{a + "facts.hop_reserve", number, 1<<31 - 1}, {a + "facts.hop_connect", number, 1<<31 - 1}, {a + "facts.circuit_addr", letters, 1024}, {a + "facts.announced", letters, 64},
		{a + "facts.reservation.peer", letters, 256}, {a + "facts.reservation.salt", bytes, 64}, {a + "facts.reservation.beacon", bytes, 256},
		{a + "facts.reservation.voucher", bytes, 16 << 10}, {a + "facts.reservation.addrs", words, 32}, {a + "facts.reservation.addrs[0]", letters, 1024},
		{b + "controls[0].name", letters, 100}, {b + "controls[0].sent", number, 1 << 30},
		{b + "controls[0].resent", number, 20}, {b + "controls[0].duration_us", number, 3_600_000_000},
	} {
		t.Run(c.path, func(t *testing.T) {
			for n, want := range map[int64]bool{c.limit: true, c.limit + 1: false} {
				files := f.tell(lie{record: func(i int, v any) any {
					if i == 0 {
						put(t, v, c.path, c.make(n))
					}
					return v
				}})
				if got := f.compare(p, fmt.Sprintf("%s of %d", c.path, n), files); got != want {
					t.Errorf("%d: accepted %v, want %v", n, got, want)
				}
			}
		})
	}
	for _, c := range []struct {
		path  string
		make  func(int64) any
		limit int64
	}{
		{"software", letters, 256}, {"missed", number, 3_200_000},
		{"clock.steps", list(func(int) any { return map[string]any{"at": "2026-10-31T21:30:00.000Z", "by_ms": number(1500)} }), 16}, {"clock.steps[0].by_ms", number, 1500},
	} {
		t.Run("header."+c.path, func(t *testing.T) {
			for n, want := range map[int64]bool{c.limit: true, c.limit + 1: false} {
				files := f.tell(lie{header: func(i int, v any) any {
					if i == 1 { // in which the clock was set by 1.5 s
						put(t, v, c.path, c.make(n))
					}
					return v
				}})
				if got := f.compare(p, fmt.Sprintf("%s of %d", c.path, n), files); got != want {
					t.Errorf("%d: accepted %v, want %v", n, got, want)
				}
			}
		})
	}
}

// lookup is a word of a resolver, as it stands in the first record.
func (f *forger) lookup(i int) any {
	attempt := f.records[0][0].(map[string]any)["attempts"].([]any)[1].(map[string]any)
	return copied(attempt["facts"].(map[string]any)["lookups"].([]any)[i])
}

package bench

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// value names a value of a variant.
type value struct{ experiment, variant, name string }

// goal is one row of the table: a value, or how it compares with another of the
// same round.
type goal struct {
	name      string
	of, to    value // to may be empty
	must, aim float64
	atLeast   bool // else at most
	unit      string
}

// The goals. Those of wss and quic are lower than of tcp: a websocket is TLS
// around noise, and QUIC costs a system call a packet. Noise has one cipher, ChaCha20;
// where a processor does AES in vector units, the proxies' costs half as much, and
// rows with the same cipher tell the relay's part from the cipher's.
func goals() []goal {
	const most, least = false, true
	val := func(experiment, variant, name string) value { return value{experiment, variant, name} }
	bulk := func(variant, name string) value { return val("bulk", variant, name) }
	haproxy, goproxy := bulk("haproxy", "cpu_s_gib"), bulk("goproxy", "mb_s")
	cpu := func(over string) value { return bulk("relayd "+over, "cpu_s_gib") }
	return []goal{
		{"CPU per GiB, tcp/noise, against haproxy with its cipher", cpu("tcp/noise"), bulk("haproxy-chacha", "cpu_s_gib"), 1.10, 1.0, most, "x"},
		{"the same, against haproxy with AES", cpu("tcp/noise"), haproxy, 1.3, 1.0, most, "x"},
		{"CPU per GiB, tcp/tls, against haproxy", cpu("tcp/tls"), haproxy, 1.03, 0.95, most, "x"},
		{"CPU per GiB, wss, against haproxy", cpu("wss/noise"), haproxy, 2.4, 2.0, most, "x"},
		{"CPU per GiB, quic, against haproxy", cpu("quic"), haproxy, 3.0, 2.5, most, "x"},
		{"one stream's MB/s, tcp/noise, against a TLS proxy in Go", bulk("relayd tcp/noise", "mb_s"), goproxy, 0.6, 0.8, least, "x"},
		{"the same, where the proxy has noise's cipher, too", bulk("relayd tcp/noise", "mb_s"), bulk("goproxy-chacha", "mb_s"), 0.6, 0.8, least, "x"},
		{"one stream's MB/s, tcp/tls, against a TLS proxy in Go", bulk("relayd tcp/tls", "mb_s"), goproxy, 0.6, 0.8, least, "x"},
		{"MB/s against the js-libp2p relay", bulk("relayd tcp/noise", "mb_s"), bulk("js tcp/noise", "mb_s"), 4, 5, least, "x"},
		{"CPU per GiB against the js-libp2p relay", cpu("tcp/noise"), bulk("js tcp/noise", "cpu_s_gib"), 1.0 / 5, 1.0 / 7, most, "x"},
		{"RSS per reserved peer, tcp (1,000 peers)", val("peers", "relayd tcp/noise", "rss_kib_peer_1000"), value{}, 43, 38, most, "KiB"},
		{"RSS per reserved peer, wss (1,000 peers)", val("peers", "relayd wss/noise", "rss_kib_peer_1000"), value{}, 65, 58, most, "KiB"},
		{"RSS per reserved peer, quic (1,000 peers)", val("peers", "relayd quic", "rss_kib_peer_1000"), value{}, 95, 75, most, "KiB"},
		{"RSS with 5,000 reserved peers, tcp", val("peers", "relayd tcp/noise", "rss_mib_5000"), value{}, 260, 210, most, "MiB"},
		{"RSS with 5,000 reserved peers, wss", val("peers", "relayd wss/noise", "rss_mib_5000"), value{}, 380, 310, most, "MiB"},
		{"CPU per connect and identify, tcp/noise, against the library's relay", val("churn", "relayd tcp/noise", "cpu_ms"), val("churn", "library tcp/noise", "cpu_ms"), 1.2, 1.1, most, "x"},
		{"CPU per connect and identify, tcp/noise", val("churn", "relayd tcp/noise", "cpu_ms"), value{}, 2.5, 1.8, most, "ms"},
		{"CPU per connect and identify, wss", val("churn", "relayd wss/noise", "cpu_ms"), value{}, 2.5, 1.8, most, "ms"},
		{"CPU per connect and identify, quic", val("churn", "relayd quic", "cpu_ms"), value{}, 2.5, 1.8, most, "ms"},
		{"RESERVE with 4,000 standing against 160", val("peers", "relayd tcp/noise", "reserve_ms_4000"), val("peers", "relayd tcp/noise", "reserve_ms_160"), 1.15, 1.05, most, "x"},
		{"a circuit's rate beside 50 of one other peer, against alone", val("share", "relayd tcp/noise", "share"), value{}, 0.40, 0.45, least, "x"},
		{"the same, where all of them lead to one peer", val("share", "relayd tcp/noise same destination", "share"), value{}, 0.40, 0.45, least, "x"},
		{"a circuit's share of 10 Mbit/s, where 50 of one other peer lead to the same peer", val("slow", "relayd tcp/noise 10 Mbit/s", "share"), value{}, 0.45, 0.48, least, "x"},
		{"its share of 100 Mbit/s", val("slow", "relayd tcp/noise 100 Mbit/s", "share"), value{}, 0.45, 0.48, least, "x"},
		{"an answer's p95 there at 10 Mbit/s, against twice that without them, or 100 ms more", val("slow", "relayd tcp/noise 10 Mbit/s", "late"), value{}, 1.0, 0.75, most, "x"},
		{"ordinary connects during a half-open attack from 8 addresses, tcp", val("halfopen", "relayd tcp/noise", "served_percent"), value{}, 99, 100, least, "%"},
		{"ordinary connects during a half-open attack from 8 addresses, wss", val("halfopen", "relayd wss/noise", "served_percent"), value{}, 99, 100, least, "%"},
		{"of 1,000 clients behind one address, served", val("crowd", "relayd tcp/noise", "served"), value{}, 1000, 1000, least, "peers"},
		{"reserved peers sent away by connection trimming", val("trim", "relayd tcp/noise", "reserved_gone"), value{}, 0, 0, most, "peers"},
	}
}

// outcome is a goal with what was measured.
type outcome struct {
	goal
	measured []float64 // one of each round
}

// judge compares round by round.
func judge(samples []Sample) []outcome {
	var out []outcome
	for _, g := range goals() {
		o := outcome{goal: g}
		for _, s := range samples {
			v, ok := s.get(g.of)
			if !ok {
				continue
			}
			if g.to == (value{}) {
				o.measured = append(o.measured, v)
				continue
			}
			for _, t := range samples {
				if against, ok := t.get(g.to); ok && t.Run.Equal(s.Run) && t.Round == s.Round {
					o.measured = append(o.measured, v/against)
				}
			}
		}
		out = append(out, o)
	}
	return out
}

func (s Sample) get(v value) (float64, bool) {
	if s.Experiment != v.experiment || s.Variant != v.variant || s.Error != "" {
		return 0, false
	}
	n, ok := s.Values[v.name]
	return n, ok
}

// verdict says in a word how the median compares.
func (o outcome) verdict() string {
	if len(o.measured) == 0 {
		return "not measured"
	}
	m := median(o.measured)
	reached := func(bound float64) bool {
		if o.atLeast {
			return m >= bound
		}
		return m <= bound
	}
	switch {
	case reached(o.aim):
		return "aim"
	case reached(o.must):
		return "met"
	default:
		return "MISSED"
	}
}

// result is what was measured, with its unit.
func (o outcome) result() string {
	if len(o.measured) == 0 {
		return "-"
	}
	return spread(o.measured) + " " + o.unit
}

func (o outcome) bound(v float64) string {
	sign := "<="
	if o.atLeast {
		sign = ">="
	}
	return sign + " " + number(v)
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

// number has three digits, and no more than it needs.
func number(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	digits := 2 - int(math.Floor(math.Log10(max(v, 0.01))))
	s := fmt.Sprintf("%.*f", max(0, digits), v)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// spread is the median with the smallest and the largest.
func spread(v []float64) string {
	if len(v) == 0 {
		return "-"
	}
	if len(v) == 1 {
		return number(v[0])
	}
	return fmt.Sprintf("%s (%s to %s)", number(median(v)), number(slices.Min(v)), number(slices.Max(v)))
}

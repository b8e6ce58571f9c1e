package site

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/committee"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// tableVersion is that of table.json.
const tableVersion = 1

type tableJSON struct {
	Version   int            `json:"version"`
	Month     evidence.Month `json:"month"`
	Decisions bool           `json:"decisions"`
	Relays    []relayJSON    `json:"relays"`
}

type relayJSON struct {
	committee.Row
	Standing    standing      `json:"standing"`
	Decision    *decisionJSON `json:"decision,omitempty"`
	OpenAppeals int           `json:"open_appeals"`
}

type decisionJSON struct {
	Outcome string        `json:"outcome"`
	At      evidence.Time `json:"at"`
	Hash    string        `json:"hash"`
	TxID    string        `json:"txid,omitempty"`
	Payout  string        `json:"payout,omitempty"`
	Refuse  string        `json:"refuse,omitempty"`
}

func (r *row) json() relayJSON {
	out := relayJSON{Row: r.Row, Standing: r.Standing}
	if r.Decided == nil {
		return out
	}
	out.OpenAppeals = len(r.Decided.Open())
	if d := r.Decided.Standing(); d != nil && d.Pay != nil {
		out.Decision = &decisionJSON{Outcome: "paid", At: d.At, Hash: d.Hash, TxID: d.Pay.TxID, Payout: d.Pay.Payout}
	} else if d != nil {
		out.Decision = &decisionJSON{Outcome: "refused", At: d.At, Hash: d.Hash, Refuse: plain(d.Refuse, 2*mostText)}
	}
	return out
}

func (m *month) json() ([]byte, error) {
	t := tableJSON{Version: tableVersion, Month: m.Month, Decisions: m.Logged, Relays: []relayJSON{}}
	for _, r := range m.Rows {
		t.Relays = append(t.Relays, r.json())
	}
	return json.Marshal(t)
}

// columns are those of table.csv; new ones come last.
var columns = []string{
	"month", "relay", "operator", "domain", "region", "result", "final", "standing",
	"hours_up", "hours_down", "hours_unknown", "hours_busy", "hours_to_come", "hours_not_enrolled", "hours_required", "hours_left", "runs_out",
	"coverage_percent", "signed_hours", "assured_hours", "as_of", "payout", "decision", "txid", "decision_hash", "open_appeals",
}

func (m *month) csv() ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.UseCRLF = true // RFC 4180
	_ = w.Write(columns)
	for _, r := range m.Rows {
		j := r.json()
		outcome, txid, hash, appeals := "", "", "", ""
		if m.Logged {
			outcome, appeals = "open", strconv.Itoa(j.OpenAppeals)
		}
		if d := j.Decision; d != nil {
			outcome, txid, hash = d.Outcome, d.TxID, d.Hash
		}
		var cells []string
		texts := func(list ...string) {
			for _, s := range list {
				cells = append(cells, harmless(s))
			}
		}
		numbers := func(list ...int) {
			for _, n := range list {
				cells = append(cells, strconv.Itoa(n))
			}
		}
		h := r.Hours
		texts(m.Month.String(), r.Relay, r.Operator, r.Domain, r.Region, string(r.Result), strconv.FormatBool(r.Final), string(r.Standing))
		numbers(h.Up, h.Down, h.Unknown, h.Busy, h.Remaining, h.NotEnrolled, r.Required, r.Left)
		texts(stamp(r.RunsOut))
		numbers(r.Coverage, r.Signed, r.Assured)
		texts(stamp(r.AsOf), r.Payout, outcome, txid, hash, appeals)
		_ = w.Write(cells)
	}
	w.Flush()
	return b.Bytes(), w.Error()
}

// harmless is a text that no spreadsheet takes for a formula.
func harmless(s string) string {
	if strings.HasPrefix(strings.TrimLeft(s, " "), "=") || s != "" && strings.ContainsRune("=+-@\t\r\n＝＋－＠", []rune(s)[0]) {
		return "'" + s
	}
	return s
}

// stamp is a time, or nothing.
func stamp(t evidence.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

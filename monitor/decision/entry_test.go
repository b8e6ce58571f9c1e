package decision

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

func TestEncodeDecode(t *testing.T) {
	r := newRelay(t)
	full := instead(r.paid(hash("1"), hash("2")), hash("e"))
	full.Decision.Without = []string{"m2.example.org", "m3.example.org"}
	refused := r.paid()
	refused.Decision.Pay, refused.Decision.Refuse, refused.Decision.Verdict, refused.Decision.Provisional = nil, "Down for a week;\n\tsee <the log>.", NotEligible, true
	for name, want := range map[string]Entry{"paid": r.paid(), "full": full, "refused": refused, "appeal": r.appeal(t, "It was up.")} {
		line, err := Encode(want)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := Decode(line)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		// An appeal's bytes are all under the relay's signature, but not those around it.
		for i := range line {
			bad := bytes.Clone(line)
			bad[i] ^= 0x80
			if _, err := Decode(bad); err == nil {
				t.Errorf("%s: byte %d changed: accepted", name, i)
			}
			if _, err := Decode(line[:i]); err == nil {
				t.Errorf("%s: cut after byte %d: accepted", name, i)
			}
		}
	}
}

func TestEntryRefused(t *testing.T) {
	r, stranger := newRelay(t), newRelay(t)
	move := statement.Statement{Kind: statement.Move, Network: "psf", PeerID: r.id, Operator: "alice", IPv4: "198.41.0.4", TCPPort: 4001, Domain: "relay.example.org", WSSPort: 443, From: asOf.Time, Made: asOf.Time}
	for name, tc := range map[string]struct {
		change func(e *Entry, d *Decision)
		want   string
	}{
		"a version to come":     {func(e *Entry, _ *Decision) { e.Version = 2 }, "version: want 1, not 2"},
		"no network":            {func(e *Entry, _ *Decision) { e.Network = "" }, "network: want psf or lab"},
		"no time":               {func(e *Entry, _ *Decision) { e.At = evidence.Time{} }, "at: want a time"},
		"nothing":               {func(e *Entry, _ *Decision) { e.Decision = nil }, "want one of decision and appeal"},
		"both":                  {func(e *Entry, _ *Decision) { e.Appeal = r.appeal(t, "x").Appeal }, "want one of decision and appeal"},
		"no relay":              {func(_ *Entry, d *Decision) { d.Relay = "" }, "relay: want a peer ID"},
		"a long relay":          {func(_ *Entry, d *Decision) { d.Relay = strings.Repeat("1", 129) }, "relay: want a peer ID"},
		"a month to come":       {func(_ *Entry, d *Decision) { d.Month += 2 }, "month: 2027-01 has not begun at 2026-12-10"},
		"no month":              {func(_ *Entry, d *Decision) { d.Month = 0 }, "month: "},
		"evidence to come":      {func(e *Entry, _ *Decision) { e.At = evidence.TimeOf(asOf.Add(-1e9)) }, "as_of: the logs reach to 2026-12-04T00:00:00.000Z, and this was entered at"},
		"no bundle":             {func(_ *Entry, d *Decision) { d.Bundle = "" }, "bundle: want a SHA-256"},
		"rules in capitals":     {func(_ *Entry, d *Decision) { d.Rules = hash("A") }, "rules: want a SHA-256"},
		"a short roster":        {func(_ *Entry, d *Decision) { d.Roster = hash("a")[1:] }, "roster: want a SHA-256"},
		"another verdict":       {func(_ *Entry, d *Decision) { d.Verdict = "MAYBE" }, "verdict: want ELIGIBLE"},
		"a lab's month":         {func(_ *Entry, d *Decision) { d.Verdict = LabVerdict }, "a month of a lab is decided in a lab's log only"},
		"a month in a lab":      {func(e *Entry, _ *Decision) { e.Network = evidence.Lab }, "ELIGIBLE in a lab's log"},
		"without, unsorted":     {func(_ *Entry, d *Decision) { d.Without, d.Why = []string{"b", "a"}, "x" }, "without: want"},
		"without, nobody":       {func(_ *Entry, d *Decision) { d.Without, d.Why = []string{""}, "x" }, "without: it is empty"},
		"answers, twice":        {func(_ *Entry, d *Decision) { d.Answers = []string{hash("1"), hash("1")} }, "answers: want 8 at most, sorted, each once"},
		"answers, too many":     {func(_ *Entry, d *Decision) { d.Answers = strings.Split("1 2 3 4 5 6 7 8 9", " ") }, "answers: want 8 at most"},
		"answers, no hash":      {func(_ *Entry, d *Decision) { d.Answers = []string{"1"} }, "answers: want a SHA-256"},
		"replaces, no hash":     {func(_ *Entry, d *Decision) { d.Replaces, d.Why = "that", "x" }, "replaces: want a decision's hash"},
		"replaces, no why":      {func(_ *Entry, d *Decision) { d.Replaces = hash("1") }, "why: a decision that replaces another one says why"},
		"a long why":            {func(_ *Entry, d *Decision) { d.Why = strings.Repeat("x", MaxText+1) }, "why: it has 2001 bytes, want 2000 at most"},
		"a why that steers":     {func(_ *Entry, d *Decision) { d.Why = "a\x1b[2Jb" }, "why: line 1 has the control character U+001B"},
		"neither":               {func(_ *Entry, d *Decision) { d.Pay = nil }, "want one of pay and refuse"},
		"pay and refuse":        {func(_ *Entry, d *Decision) { d.Refuse = "no" }, "want one of pay and refuse"},
		"an empty refusal":      {func(_ *Entry, d *Decision) { d.Pay, d.Refuse = nil, " " }, "refuse: there is white space"},
		"no transaction":        {func(_ *Entry, d *Decision) { d.Pay.TxID = "" }, "txid: want the ID of a transaction"},
		"a TXID in capitals":    {func(_ *Entry, d *Decision) { d.Pay.TxID = hash("D") }, "64 hex digits in lower case"},
		"no address":            {func(_ *Entry, d *Decision) { d.Pay.Payout = "" }, "payout: the relay's enrolment names no address"},
		"an address with space": {func(_ *Entry, d *Decision) { d.Pay.Payout = "to me" }, "payout: want an address"},
		"not eligible":          {func(_ *Entry, d *Decision) { d.Verdict, d.Why = NotEligible, "x" }, "pay: the month is NOT_ELIGIBLE, which is never paid"},
		"provisional":           {func(_ *Entry, d *Decision) { d.Provisional, d.Why = true, "x" }, "pay: the verdict is PROVISIONAL"},
		"review, no why":        {func(_ *Entry, d *Decision) { d.Verdict = Review }, "why: the verdict is REVIEW; a payment all the same"},
		"a missing log, no why": {func(_ *Entry, d *Decision) { d.Without = []string{"m2"} }, "why: it is without the logs of m2"},
		"not signed, no why":    {func(_ *Entry, d *Decision) { d.Pay.Signed = false }, "why: the relay's own key did not sign the payout address"},
		"two faults":            {func(_ *Entry, d *Decision) { d.Bundle, d.Month = "", 0 }, "bundle: want a SHA-256"},
		"no appeal":             {func(e *Entry, _ *Decision) { e.Decision, e.Appeal = nil, &Appeal{} }, "appeal: read the relay's statement"},
		"a move":                {func(e *Entry, _ *Decision) { *e = r.signed(t, move) }, "this is a statement of kind move, want one of kind appeal"},
		"a lab's appeal":        {func(e *Entry, _ *Decision) { *e = r.appeal(t, "x"); e.Network = evidence.Lab }, "the relay signed it for network psf, this log is of network lab"},
		"an appeal too early": {func(e *Entry, _ *Decision) {
			*e = r.appeal(t, "x")
			e.At = evidence.TimeOf(november.First().Start().Add(-1))
		}, "appeal: month 2026-11 has not begun"},
		"a mangled appeal": {func(e *Entry, _ *Decision) {
			*e = r.appeal(t, "x")
			e.Appeal.Statement = bytes.Replace(e.Appeal.Statement, []byte("alice"), []byte("malle"), 1)
		}, "invalid signature"},
		"an appeal of another month": {func(e *Entry, _ *Decision) {
			*e = r.appeal(t, "x")
			e.Appeal.Statement = bytes.Replace(e.Appeal.Statement, []byte("2026-11"), []byte("2026-10"), 1)
		}, "invalid signature"},
		"a stranger's": {func(e *Entry, _ *Decision) {
			*e = r.appeal(t, "x")
			e.Appeal.Statement = bytes.Replace(e.Appeal.Statement, []byte(r.id), []byte(stranger.id), 1)
		}, "invalid signature"},
	} {
		e := r.paid()
		tc.change(&e, e.Decision)
		if _, err := Encode(e); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got error %v, want one that holds %q", name, err, tc.want)
		}
		line, err := evidence.Encode(e)
		if err != nil {
			continue // canonical JSON cannot hold it
		}
		if _, err := Decode(line); err == nil {
			t.Errorf("%s: %s was read", name, line)
		}
	}
	// What may be paid all the same, with a reason.
	for name, change := range map[string]func(d *Decision){
		"review": func(d *Decision) { d.Verdict = Review }, "without": func(d *Decision) { d.Without = []string{"m2"} },
		"not signed": func(d *Decision) { d.Pay.Signed = false },
	} {
		e := r.paid()
		change(e.Decision)
		e.Decision.Why = "we looked at it"
		if _, err := Encode(e); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecodeRefused(t *testing.T) {
	line, err := Encode(newRelay(t).paid())
	evidencetest.Must(t, err)
	for name, tc := range map[string]struct{ old, new, want string }{
		"another member":  {`"network"`, `"mood":"good","network"`, "unknown field"},
		"another order":   {`"network":"psf","version":1}`, `"version":1,"network":"psf"}`, "canonical"},
		"white space":     {`"version":1`, `"version": 1`, "canonical"},
		"a newer version": {`"version":1`, `"version":2`, "it needs relayaudit of at least version 2"},
		"another case":    {`"network"`, `"Network"`, "canonical"},
		"null":            {`"month"`, `"answers":null,"month"`, "canonical"},
		"too long":        {`"psf"`, `"` + strings.Repeat("p", MaxEntry) + `"`, "want 32768 at most"},
	} {
		bad := strings.Replace(string(line), tc.old, tc.new, 1)
		if bad == string(line) {
			t.Fatalf("%s: %s has no %s", name, line, tc.old)
		}
		if _, err := Decode([]byte(bad)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got error %v, want one that holds %q", name, err, tc.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	r := newRelay(f)
	refused := r.paid(hash("1"))
	refused.Decision.Pay, refused.Decision.Refuse = nil, "no"
	for _, e := range []Entry{r.paid(), instead(r.paid(), hash("1")), refused, r.appeal(f, "It was up.")} {
		line, err := Encode(e)
		evidencetest.Must(f, err)
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Decode(b)
		if err != nil {
			return
		}
		if again, err := Encode(e); err != nil || !bytes.Equal(again, b) {
			t.Errorf("accepted %q, which is written %q (%v)", b, again, err)
		}
	})
}

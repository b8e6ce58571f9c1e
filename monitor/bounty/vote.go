package bounty

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Value is what a monitor, or the fleet, says of a relay's hour.
type Value uint8

// The values. The zero value claims nothing.
const (
	Unknown Value = iota
	Up
	Down
	Busy
)

var valueNames = [...]string{"unknown", "up", "down", "busy"}

func (v Value) String() string { return valueNames[v] }

// Meaning says what a vote is that is neither up nor down, and what it costs, for somebody
// who has not read the rules; empty: up and down need no words. Without the rules it does
// not say how many busy hours count as up.
func (v Value) Meaning(r *Rules) string {
	switch v {
	case Unknown:
		return "The monitor cannot say whether the relay was up or down, or its word does not count. The hour is counted as neither."
	case Busy:
		first := "the first"
		if r != nil {
			first = fmt.Sprintf("the first %d", r.BusyCap)
		}
		return "The relay answered, and said that it had no room. That is not down: " + first + " such hours of a month count as up (R8)."
	default:
		return ""
	}
}

// MarshalText writes the word.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads the word.
func (v *Value) UnmarshalText(b []byte) error {
	i := slices.Index(valueNames[:], string(b))
	if i < 0 {
		return fmt.Errorf("vote %q: want up, down, busy or unknown", b)
	}
	*v = Value(i)
	return nil
}

// Why is the reason of a vote that is unknown.
type Why uint8

// The reasons. A vote of up, down or busy has none.
const (
	None       Why = iota
	Missing        // the monitor's log shows nothing of this hour
	Missed         // it was watching, but made no attempt
	BlindLine      // what failed was not shown to be the relay's fault (rule R5)
	NoControls     // something failed, and the roster names no controls (rule R5)
	OneFailure     // failures, but not in two attempts far enough apart (rule R6)
	NotAsked       // an attempt left out what the rules require
	OtherAddr      // the attempts went to another address than the registered one
	BadVoucher     // the relay's signature does not show what it should
	Late           // cosigned too late, or by too few (rule R9)
	Clock          // the monitor's clock was not to be trusted (rule R9)
	Early          // the first attempt was made before it was due (rule R2)
	Void           // the monitor signed two histories
	Overloaded     // the monitor had no place for the attempts that were due
	Unsigned       // it was up, but the relay signed nothing for this hour
	Presigned      // what it signed is valid for so long that it may be from before
	NotFresh       // what it signed holds nothing that nobody could know before
	Unplanned      // nothing proves when the first attempt was due (rule R2)
	NotDue         // others were chosen for the hour (rule R21)
)

var whyWords = [...]string{"", "missing", "missed", "blind", "no controls", "one failure", "not asked", "other address", "bad voucher", "late", "clock", "early", "void", "overloaded", "unsigned", "presigned", "not fresh", "unplanned", "not due"}

func (w Why) String() string { return whyWords[w] }

var whyMeanings = [...]string{
	Missing:    "the log shows nothing of this hour",
	Missed:     "the monitor was watching, but made no attempt",
	BlindLine:  "something failed, but it is not shown that the monitor's own line worked then (R5)",
	NoControls: "something failed, and the roster names no controls, so that the relay cannot be blamed (R5)",
	OneFailure: "something failed, but not in two attempts far enough apart (R6)",
	NotAsked:   "no attempt asked for all that the rules require",
	OtherAddr:  "the attempts went to another address than the registered one",
	BadVoucher: "the relay's signature does not show what it should",
	Late:       "too few witnesses cosigned the hour in time",
	Clock:      "the monitor's clock was set within the hour, or was not to be trusted, or its machine slept during an attempt",
	Early:      "the first attempt was made before it was due by the monitor's plan (R2)",
	Void:       "the monitor signed two histories",
	Overloaded: "the monitor was overloaded: it had no place for all attempts that were due",
	Unsigned:   "the relay signed nothing for its reservation",
	Presigned:  "what the relay signed is valid for so long that it may have been signed beforehand",
	NotFresh:   "the relay signed nothing that was new in this hour, and so could have done it beforehand: the monitor had neither the hour's drand round nor a cosignature by a witness of another operator",
	Unplanned:  "the record does not prove by the monitor's plan key when the first attempt was due, so that the monitor may have chosen the moment (R2)",
	NotDue:     "the hour's drand round chose other monitors for this relay (R21)",
}

// Meaning says it in a sentence, for somebody who has not read the rules.
func (w Why) Meaning() string { return whyMeanings[w] }

// MarshalText writes the word.
func (w Why) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText reads the word.
func (w *Why) UnmarshalText(b []byte) error {
	i := slices.Index(whyWords[:], string(b))
	if i < 0 {
		return fmt.Errorf("no reason for a vote: %q", b)
	}
	*w = Why(i)
	return nil
}

// Vote is one monitor's word about one relay and one hour (rule R6).
type Vote struct {
	Value Value
	Why   Why
}

// LoopbackControl is the name of the control of component relay: a reservation
// and an echo through a relay within the monitor's own process (rule R5).
const LoopbackControl = "loopback"

// Ballot is a vote with what led to it.
type Ballot struct {
	Vote
	// Causes are the counted failures and refusals in words, such as
	// "wss tls_expired", each once.
	Causes []string
	// WSS says that some attempt of the hour reached the relay as a browser does.
	WSS bool
	// UpAttempt is the attempt that makes the hour up; -1: none does.
	UpAttempt int
}

// VoteOf judges one record by rules R2 to R6. An attempt during which the monitor's
// clock was set counts for nothing (rule R9). The record is by the given monitor; vouchers
// are what its attempts' vouchers show, one an attempt. With nil for both nobody asks
// for the relay's signature: for what has no log, such as a one-off probe.
func VoteOf(rules *Rules, roster *Roster, monitor *Monitor, relay *Relay, rec *evidence.Record, vouchers []evidence.VoucherCheck) Ballot {
	b := Ballot{UpAttempt: -1}
	tcp4, wss := relay.At(rec.Hour).Multiaddrs(relay.PeerID)
	deadline := rec.Hour.End().Add(rules.AttemptClose)
	var (
		busy                      bool
		failures                  int
		first, last               time.Time // starts of attempts with a counted failure
		blind, none, unasked      bool
		elsewhere, tried, stepped bool
		unproven                  Why // of the last attempt that was up and does not count
	)
	for i := range rec.Attempts {
		a := &rec.Attempts[i]
		if i == 0 && evidence.HourOf(a.Started.Time) != rec.Hour || a.Started.Before(rec.Hour.Start()) || !a.Started.Before(deadline) {
			continue // rule R1: it belongs to another hour, or to none
		}
		tried = true
		if a.Stepped {
			stepped = true
			continue // rule R9: no time in it can be relied on
		}
		if a.PeerID != relay.PeerID || a.TCP4Addr != "" && !sameAddr(a.TCP4Addr, tcp4) || a.WSSAddr != "" && !sameAddr(a.WSSAddr, wss) {
			elsewhere = true
			continue
		}
		if a.TCP4Addr == "" || a.WSSAddr == "" {
			unasked = true
		}
		if a.Results[evidence.WSS].Outcome == evidence.OK {
			b.WSS = true
		}
		if isUp(rules, a) {
			if vouchers != nil {
				unproven = rules.Unproven(roster, monitor, a, voucher(vouchers, i))
			}
			if unproven != None {
				continue
			}
			b.Value, b.UpAttempt = Up, i
			return b
		}
		counted := false
		for _, c := range evidence.Components {
			res := a.Results[c]
			switch {
			case res.Outcome == evidence.Busy && c == evidence.Relay:
				busy = true
				b.cause(c, res.Class, "busy")
			case res.Outcome == evidence.Blind:
				blind = true
			case res.Outcome == evidence.Fail && !(c == evidence.Relay && a.Level >= evidence.Level(rules.RelayLevel)):
				switch rules.controlled(roster, relay, rec.Hour, a, c) {
				case controlsOK:
					counted = true
					b.cause(c, res.Class, "fail")
				case controlsBad:
					blind = true
				case controlsNone:
					none = true
				}
			}
		}
		if counted {
			if failures == 0 {
				first = a.Started.Time
			}
			failures++
			last = a.Started.Time
		}
	}
	switch {
	case unproven != None:
		// It was there, so it was not down; and nobody but the monitor says that it was up.
		b.Why = unproven
	case failures >= rules.DownAttempts && last.Sub(first) >= rules.DownSpacing:
		b.Value = Down
	case busy && failures < rules.DownAttempts:
		b.Value = Busy
	default:
		b.Why = firstOf(
			reason{stepped, Clock}, reason{failures > 0, OneFailure}, reason{blind, BlindLine}, reason{none, NoControls},
			reason{elsewhere, OtherAddr}, reason{unasked, NotAsked}, reason{!tried, Missed}, reason{true, NotAsked})
	}
	return b
}

// voucher is that of attempt i; one that nobody judged counts as none.
func voucher(vouchers []evidence.VoucherCheck, i int) (v evidence.VoucherCheck) {
	if i < len(vouchers) {
		v = vouchers[i]
	}
	return v
}

// Unproven says why an attempt that found the relay up makes no vote of up, by what its
// voucher shows: the relay did not sign for it, or nothing shows when. [None]: it does.
func (r *Rules) Unproven(roster *Roster, monitor *Monitor, a *evidence.Attempt, v evidence.VoucherCheck) Why {
	h := evidence.HourOf(a.Started.Time) // that of a retry may be the one after its vote's
	switch {
	case v.State == evidence.VoucherBad:
		return BadVoucher
	case v.State != evidence.VoucherBound:
		return Unsigned
	case v.Expires.After(timeIn(a, duration(a)).Add(r.VoucherValid)):
		return Presigned
	case roster.Network != evidence.Lab && !v.Beacon && !roster.foreign(v.Witness, monitor, h-1, h):
		return NotFresh
	}
	return None
}

type reason struct {
	holds bool
	why   Why
}

func firstOf(reasons ...reason) Why {
	for _, r := range reasons {
		if r.holds {
			return r.why
		}
	}
	return None
}

func (b *Ballot) cause(c evidence.Component, class evidence.Class, otherwise string) {
	word := string(class)
	if word == "" {
		word = otherwise
	}
	if s := string(c) + " " + word; !slices.Contains(b.Causes, s) {
		b.Causes = append(b.Causes, s)
	}
}

// isUp says whether one attempt found the relay up: all three components, the
// third at least at the level that the rules ask for.
func isUp(rules *Rules, a *evidence.Attempt) bool {
	relay := a.Results[evidence.Relay].Outcome
	return a.TCP4Addr != "" && a.WSSAddr != "" &&
		a.Results[evidence.TCP4].Outcome == evidence.OK &&
		a.Results[evidence.WSS].Outcome == evidence.OK &&
		a.Level >= evidence.Level(rules.RelayLevel) &&
		// A level without an outcome that goes with it proves nothing.
		(relay == evidence.OK || relay == evidence.Fail && a.Level < evidence.LevelEchoed)
}

type controlState int

const (
	controlsNone controlState = iota
	controlsBad
	controlsOK
)

// controlled says whether the monitor's own line was seen to work when the
// component failed (rule R5): after the failure, and beside it, too, where that took
// long enough to be looked at. What a host says after the failure does not show how
// the line was during it.
func (r *Rules) controlled(roster *Roster, relay *Relay, h evidence.Hour, a *evidence.Attempt, c evidence.Component) controlState {
	began, failed := lastRung(a, c)
	return r.lineWorked(roster, relay, h, c, began, failed, a.Controls)
}

func (r *Rules) lineWorked(roster *Roster, relay *Relay, h evidence.Hour, c evidence.Component, began, failed time.Time, all []evidence.Control) controlState {
	parts := [][]evidence.Control{startedWithin(all, failed, failed.Add(r.ControlWithin+time.Nanosecond))}
	if failed.Sub(began) >= r.ControlBeside {
		parts = append(parts, startedWithin(all, began, failed))
	}
	kinds := []evidence.Component{c}
	if c == evidence.Relay {
		kinds = []evidence.Component{evidence.TCP4, evidence.WSS} // a circuit needs both ways
	}
	for _, part := range parts {
		for _, kind := range kinds {
			names := roster.controlsFor(relay, kind, h)
			if len(names) == 0 {
				return controlsNone
			}
			var hosts []packets
			for _, name := range names {
				if passed(part, name, kind) && !(c == evidence.Relay && failedIn(part, name, evidence.Relay)) {
					hosts = append(hosts, packetsOf(part, name, kind))
				}
			}
			if needed := r.ControlShare.Of(len(names)); len(hosts) < needed || r.lossy(hosts, needed) {
				return controlsBad
			}
		}
	}
	// A failure in a circuit may be one of the monitor's own peers.
	if c == evidence.Relay && !passed(parts[0], LoopbackControl, evidence.Relay) {
		return controlsBad
	}
	return controlsOK
}

// packets are those that were sent to one control that passed, and sent again.
type packets struct{ sent, resent int64 }

func packetsOf(list []evidence.Control, name string, kind evidence.Component) (p packets) {
	for _, c := range list {
		if c.Name == name && c.Component == kind {
			p.sent += c.Sent
			p.resent += c.Resent
		}
	}
	return p
}

// exceed says whether more than percent/part of the packets were sent again.
func (p packets) exceed(percent, part int) bool {
	return p.resent*100*int64(part) > p.sent*int64(percent)
}

// lossy says whether the line lost so many of the packets to controls that passed that
// what it lost may be why something failed. Those that did not pass say nothing: a
// host that is down answers none. Nor do those that lost most, if the others are enough
// and lost almost none: then it is those hosts' own lines.
func (r *Rules) lossy(hosts []packets, needed int) bool {
	slices.SortFunc(hosts, func(a, b packets) int { return cmp.Compare(a.resent*max(1, b.sent), b.resent*max(1, a.sent)) })
	var all, best packets
	for i, h := range hosts {
		all = packets{all.sent + h.sent, all.resent + h.resent}
		if i < needed {
			best = all
		}
	}
	return all.exceed(r.LineLoss, 1) && best.exceed(r.LineLoss, 3)
}

func startedWithin(list []evidence.Control, from, before time.Time) []evidence.Control {
	var out []evidence.Control
	for _, c := range list {
		if !c.Started.Before(from) && c.Started.Before(before) {
			out = append(out, c)
		}
	}
	return out
}

// passed says whether a control answered whenever it was tried, once at least.
func passed(list []evidence.Control, name string, kind evidence.Component) bool {
	ok := false
	for _, c := range list {
		if c.Name == name && c.Component == kind {
			ok = true
			if c.Outcome != evidence.OK {
				return false
			}
		}
	}
	return ok
}

// failedIn says whether a control failed. One that was busy, or not tried, did not.
func failedIn(list []evidence.Control, name string, kind evidence.Component) bool {
	return slices.ContainsFunc(list, func(c evidence.Control) bool {
		return c.Name == name && c.Component == kind && c.Outcome != evidence.OK && c.Outcome != evidence.Busy
	})
}

// lastRung is when the component's last rung that was climbed began and ended.
func lastRung(a *evidence.Attempt, c evidence.Component) (began, ended time.Time) {
	var from, to int64
	for _, r := range a.Rungs {
		if r.Component == c && r.Outcome != evidence.Skipped && r.OffsetUS+r.DurationUS >= to {
			from, to = r.OffsetUS, r.OffsetUS+r.DurationUS
		}
	}
	return timeIn(a, from), timeIn(a, to)
}

// duration of an attempt: from its start to the end of its last rung.
func duration(a *evidence.Attempt) int64 {
	var end int64
	for _, r := range a.Rungs {
		if r.Component != "" && r.Outcome != evidence.Skipped {
			end = max(end, r.OffsetUS+r.DurationUS)
		}
	}
	return end
}

// timeIn is so many microseconds after the start of an attempt.
func timeIn(a *evidence.Attempt, us int64) time.Time {
	return evidence.TimeOf(a.Started.Add(time.Duration(us) * time.Microsecond)).Time
}

// sameAddr compares multiaddrs, of which some forms have two spellings.
func sameAddr(a, b string) bool {
	return a == b || canonicalAddr(a) == canonicalAddr(b)
}

func canonicalAddr(s string) string {
	m, err := ma.NewMultiaddr(s)
	if err != nil {
		return s
	}
	// The library writes /ipfs/ as /p2p/; /tls/ws and /wss are one address.
	return strings.Replace(m.String(), "/tls/ws/", "/wss/", 1)
}

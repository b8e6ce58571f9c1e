package store

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// entry is a line of the write-ahead log of an hour. Exactly one field is set.
type entry struct {
	Begin   *begin            `json:"begin,omitempty"`
	Attempt *evidence.Attempt `json:"attempt,omitempty"`
	Mark    *evidence.Mark    `json:"mark,omitempty"`
}

// begin says that the monitor watches from At on.
type begin struct {
	At       evidence.Time `json:"at"`
	Software string        `json:"software"`
}

func (e entry) check(h evidence.Hour) error {
	set := 0
	for _, is := range []bool{e.Begin != nil, e.Attempt != nil, e.Mark != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		return errors.New("entry wants exactly one of begin, attempt, mark")
	}
	switch {
	case e.Attempt != nil:
		return evidence.CheckAttempt(*e.Attempt, h)
	case e.Mark != nil:
		return e.Mark.Check()
	}
	return evidence.CheckText("software", e.Begin.Software, evidence.MaxTextBytes)
}

// decodeEntry reads an entry. What it holds may have grown: the log of a newer relaymon
// is taken up again by an older one, and what that wrote is sealed byte for byte.
func decodeEntry(line []byte, h evidence.Hour) (entry, error) {
	var e entry
	if attempt, ok := bytes.CutPrefix(line, []byte(attemptEntry)); ok {
		raw, ok := bytes.CutSuffix(attempt, []byte("}"))
		if !ok {
			return entry{}, errors.New("entry is not ended")
		}
		// As it will stand in the record: within the same bounds, and alone.
		var r struct {
			Attempts []evidence.Attempt `json:"attempts"`
		}
		line := slices.Concat([]byte(`{"attempts":[`), raw, []byte(`]}`))
		if err := evidence.DecodeLine(line, maxEntry+len(line)-len(raw), &r); err != nil {
			return entry{}, err
		}
		if len(r.Attempts) != 1 {
			return entry{}, errors.New("entry of more than one attempt")
		}
		e.Attempt = &r.Attempts[0]
		return e, e.check(h)
	}
	if err := evidence.DecodeLine(line, maxEntry, &e); err != nil {
		return entry{}, err
	}
	if e.Attempt != nil {
		return entry{}, errors.New("entry of an attempt has other members")
	}
	return e, e.check(h)
}

// wal is what the write-ahead lines of one hour amount to.
type wal struct {
	hour     evidence.Hour
	begins   []begin
	attempts map[string][]logged // by peer ID, in the order of writing
	clock    []evidence.ClockSample
	missed   int64
	good     int64 // length of the lines that count
}

// logged is an attempt with its canonical bytes: what was acknowledged is, byte for
// byte, what will be sealed.
type logged struct {
	evidence.Attempt
	raw []byte
}

const attemptEntry = `{"attempt":`

// maxEntry is how many bytes a line may have.
const maxEntry = evidence.MaxAttemptBytes + len(attemptEntry) + len("}")

func newWAL(h evidence.Hour) *wal { return &wal{hour: h, attempts: make(map[string][]logged)} }

// readWAL reads lines. Lines are written one at a time, each on disk before the
// next, so that only the last can be torn: it was never acknowledged and does not
// count. A bad line before it is damage.
func readWAL(b []byte, h evidence.Hour) (*wal, error) {
	w := newWAL(h)
	for n := 1; len(b) > 0; n++ {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		e, err := decodeEntry(line, h)
		if err == nil && whole {
			err = w.admits(e, line)
		}
		switch {
		case !whole || err != nil && len(rest) == 0:
			return w, nil
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		w.add(e, line)
		w.good += int64(len(line)) + 1
		b = rest
	}
	return w, nil
}

// admits says whether an entry, of which line is the encoding, may follow: it keeps
// every record that will be sealed within its bounds, and its first attempt within the
// hour.
func (w *wal) admits(e entry, line []byte) error {
	switch {
	case e.Attempt != nil:
		list := w.attempts[e.Attempt.PeerID]
		if len(list) >= evidence.MaxAttempts {
			return fmt.Errorf("%d attempts on %s in hour %s already", len(list), e.Attempt.PeerID, w.hour)
		}
		if len(list) == 0 && len(w.attempts) >= evidence.MaxRecords {
			return fmt.Errorf("%d relays in hour %s already", len(w.attempts), w.hour)
		}
		size := len(line) + 2*evidence.MaxTextBytes // the record's other members
		for _, a := range list {
			size += len(a.raw) + 1
		}
		if size > evidence.MaxRecordBytes {
			return fmt.Errorf("the record of %s in hour %s would have more than %d bytes", e.Attempt.PeerID, w.hour, evidence.MaxRecordBytes)
		}
		inHour := func(a logged) bool { return a.Started.Before(w.hour.End()) }
		if !inHour(logged{Attempt: *e.Attempt}) && !slices.ContainsFunc(list, inHour) {
			return fmt.Errorf("first attempt of %s is after the hour: %w %s", e.Attempt.Started, evidence.ErrOutside, w.hour)
		}
	case e.Mark != nil && w.missed+e.Mark.Missed > evidence.MaxMissed:
		return fmt.Errorf("too many marks in hour %s", w.hour)
	}
	return nil
}

// add takes in an entry, of which line is the encoding.
func (w *wal) add(e entry, line []byte) {
	switch {
	case e.Begin != nil:
		w.begins = append(w.begins, *e.Begin)
	case e.Attempt != nil:
		raw := bytes.Clone(line[len(attemptEntry) : len(line)-1])
		w.attempts[e.Attempt.PeerID] = append(w.attempts[e.Attempt.PeerID], logged{*e.Attempt, raw})
	case e.Mark.Clock != nil:
		w.clock = append(w.clock, *e.Mark.Clock)
	default:
		w.missed += e.Mark.Missed
	}
}

// records are sorted by peer ID, their attempts by their start. They get their plans
// when they are sealed.
func (w *wal) records() []evidence.Record {
	records := make([]evidence.Record, 0, len(w.attempts))
	for _, id := range slices.Sorted(maps.Keys(w.attempts)) {
		r := evidence.Record{PeerID: id, Hour: w.hour, Version: evidence.FormatVersion}
		for _, a := range w.of(id) {
			r.Attempts = append(r.Attempts, a.Attempt)
		}
		records = append(records, r)
	}
	return records
}

// of are the attempts on one relay by their start.
func (w *wal) of(id string) []logged {
	attempts := slices.Clone(w.attempts[id])
	slices.SortStableFunc(attempts, func(a, b logged) int { return a.Started.Compare(b.Started.Time) })
	return attempts
}

// lines are the canonical encodings of the records; plan makes that of a relay.
func (w *wal) lines(plan func(relay string, h evidence.Hour) []byte) (lines [][]byte) {
	for _, id := range slices.Sorted(maps.Keys(w.attempts)) {
		line := []byte(`{"attempts":[`)
		for i, a := range w.of(id) {
			if i > 0 {
				line = append(line, ',')
			}
			line = append(line, a.raw...)
		}
		lines = append(lines, fmt.Appendf(line, `],"hour":"%s","peer_id":"%s","plan":"%s","version":%d}`, w.hour, id, base64.StdEncoding.EncodeToString(plan(id, w.hour)), evidence.FormatVersion))
	}
	return lines
}

package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/psf-relay/relay-appliance/internal/durable"
)

// TooOften is how many starts of a program within an hour are too many.
const TooOften = 5

const (
	startsWithin = time.Hour
	maxStarts    = 100
	// tellAgain is how long it is not said again that a program cannot start.
	tellAgain = 6 * time.Hour
)

// StartsFile is where a program notes its starts, in its data folder. It is no part of the
// program's state: it is written before there is any, and no backup has it.
const StartsFile = "starts.json"

// starts is what is kept about the starts of a program.
type starts struct {
	Starts []time.Time `json:"starts"`
	Told   time.Time   `json:"told,omitzero"` // when it was said that it cannot start
}

func readStarts(file string) (s starts, err error) {
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read when the program was started: %w: remove %s if this stays so", err, file)
	}
	return s, nil
}

func (s starts) write(file string) error {
	b, err := json.Marshal(s)
	if err == nil {
		err = durable.Replace(file, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("note when the program was started: %w", err)
	}
	return nil
}

// Starts notes in a file that the program starts, and counts its starts within the last
// hour, this one included.
func Starts(file string, now time.Time) (count int, err error) {
	s, err := readStarts(file)
	if err != nil {
		return 0, err
	}
	// One that is yet to come is of a clock that was wrong.
	s.Starts = slices.DeleteFunc(s.Starts, func(t time.Time) bool { return t.After(now) || now.Sub(t) >= startsWithin })
	s.Starts = append(s.Starts, now.UTC())
	s.Starts = s.Starts[max(0, len(s.Starts)-maxStarts):]
	return len(s.Starts), s.write(file)
}

// RestartsOften is the alert that a program, which was started at that time, had been
// started so many times in the hour before it. There is none if they were few, or when the
// program has run for an hour since.
func RestartsOften(program string, labels map[string]string, count int, started, now time.Time) []Alert {
	if count < TooOften || now.Sub(started) >= startsWithin {
		return nil
	}
	return []Alert{{
		Name: "RestartsOften", Labels: critical(labels),
		Summary: fmt.Sprintf("%s was started %d times within an hour: its log (journalctl -u %s) says why it ended", program, count, program),
	}}
}

func critical(labels map[string]string) map[string]string {
	all := map[string]string{"severity": "critical"}
	maps.Copy(all, labels)
	return all
}

// CannotStart tells the receivers why the program cannot start, if it has been tried as
// often as [TooOften] within the hour. [Starts] must have noted this try in the file. It is
// told once in six hours, however often the program is started, and to people not in the
// quiet hours.
func (c Config) CannotStart(ctx context.Context, file, program string, log *slog.Logger, labels map[string]string, why error) {
	now := time.Now()
	s, err := readStarts(file)
	if err != nil || len(s.Starts) < TooOften || !s.Told.After(now) && now.Sub(s.Told) < tellAgain {
		return
	}
	t, err := c.times()
	if err != nil {
		return
	}
	to := c.receivers(program, t.zone)
	if t.quietAt(now) {
		to = slices.DeleteFunc(to, func(r Receiver) bool { _, people := r.(reader); return people })
	}
	if len(to) == 0 {
		return
	}
	outcomes := sendAll(ctx, to, []Alert{{
		Name: "CannotStart", Labels: critical(labels), Since: now.UTC(),
		Summary: cut(fmt.Sprintf("%s cannot start; it was tried %d times within an hour: %v", program, len(s.Starts), why), maxLine),
	}})
	if report(log, outcomes) != nil && !slices.ContainsFunc(outcomes, func(o Outcome) bool { return o.Err == nil }) {
		return // nobody knows: the next start tells
	}
	s.Told = now.UTC()
	if err := s.write(file); err != nil {
		log.Error("that the program cannot start may be told again at its next start", "err", err)
	}
}

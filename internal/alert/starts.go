package alert

import (
	"bytes"
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

// errDamaged says that the file makes no sense, so that nothing is lost by a new one.
var errDamaged = errors.New("the file is damaged")

func readStarts(file string) (s starts, err error) {
	b, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
	case err != nil:
		return s, fmt.Errorf("read when the program was started: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return starts{}, fmt.Errorf("read when the program was started: %w: %w: %s begins anew", errDamaged, err, file)
	}
	return s, nil
}

// write keeps the file. Where the disk is full, which is why programs end, it writes over
// the old content, which takes no room; the oldest starts go, if need be.
func (s starts) write(file string) error {
	b, err := json.Marshal(s)
	if err == nil {
		err = durable.Replace(file, b, 0o600)
	}
	if err != nil && s.overwrite(file) != nil {
		return fmt.Errorf("note when the program was started: %w", err)
	}
	return nil
}

func (s starts) overwrite(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	for err == nil {
		var b []byte
		if b, err = json.Marshal(s); err != nil {
			break
		}
		if left := int(info.Size()) - len(b); left >= 0 {
			_, err = f.WriteAt(append(b, bytes.Repeat([]byte(" "), left)...), 0)
			return errors.Join(err, f.Sync(), f.Close())
		}
		if len(s.Starts) == 0 {
			err = errors.New("no room")
			break
		}
		s.Starts = s.Starts[1:]
	}
	return errors.Join(err, f.Close())
}

// Starts notes in a file that the program starts, and counts its starts within the last
// hour, this one included. A damaged file begins anew, and the error says so.
func Starts(file string, now time.Time) (count int, err error) {
	s, damaged := readStarts(file)
	if damaged != nil && !errors.Is(damaged, errDamaged) {
		return 0, damaged
	}
	// One that is yet to come is of a clock that was wrong.
	s.Starts = slices.DeleteFunc(s.Starts, func(t time.Time) bool { return t.After(now) || now.Sub(t) >= startsWithin })
	s.Starts = append(s.Starts, now.UTC())
	s.Starts = s.Starts[max(0, len(s.Starts)-maxStarts):]
	return len(s.Starts), errors.Join(damaged, s.write(file))
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
//
// Where starts cannot be noted, as on a disk that is read-only, nothing says how often it
// was tried and when it was told. Then it is told by a try in the first minute of an hour,
// which waits for the end of that minute: so it is told once in an hour at most.
func (c Config) CannotStart(ctx context.Context, file, program string, log *slog.Logger, labels map[string]string, why error) {
	now := time.Now()
	s, err := readStarts(file)
	tried := fmt.Sprintf("it was tried %d times within an hour", len(s.Starts))
	if err == nil {
		err = s.write(file)
	}
	switch {
	case err != nil:
		if now.Minute() != 0 {
			return
		}
		tried = "how often it was tried is not known"
	case len(s.Starts) < TooOften || !s.Told.After(now) && now.Sub(s.Told) < tellAgain:
		return
	}
	told := c.tellWhy(ctx, now, program, log, Alert{
		Name: "CannotStart", Labels: critical(labels), Since: now.UTC(),
		Summary: cut(fmt.Sprintf("%s cannot start; %s: %v", program, tried, why), maxLine),
	})
	if !told {
		return // nobody knows: the next start tells
	}
	s.Told = now.UTC()
	if err == nil {
		err = s.write(file)
	}
	if err != nil {
		log.Error("it was told that the program cannot start, and this cannot be noted: it is told again in the next hour", "err", err)
		rest(ctx, time.Until(now.Truncate(time.Minute).Add(time.Minute)), false, nil)
	}
}

// tellWhy tells those who may be told at this time, and says whether somebody was.
func (c Config) tellWhy(ctx context.Context, now time.Time, program string, log *slog.Logger, a Alert) bool {
	t, err := c.times()
	if err != nil {
		return false
	}
	to := c.receivers(program, t.zone)
	if t.quietAt(now) {
		to = slices.DeleteFunc(to, func(r Receiver) bool { _, people := r.(reader); return people })
	}
	outcomes := sendAll(ctx, to, []Alert{a})
	_ = report(log, outcomes) // the log has it
	return slices.ContainsFunc(outcomes, func(o Outcome) bool { return o.Err == nil })
}

package monitor

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// secrets keeps the schedule's secret of each day (rule R2) in a folder, one
// file a day. The log holds a secret's hash from the day itself on and the
// secret once the day is over, so that anyone can recompute when each first
// attempt was due; then the file goes.
type secrets struct {
	dir  string
	mark func(evidence.Hour, evidence.Mark) error // writes to the log
	day  string
	now  []byte
}

const secretSize = 32

func dayOf(h evidence.Hour) string { return h.Start().Format(time.DateOnly) }

// of is the secret of the day in which h lies. Only today's is ever made; for a
// day that has none, nil: nothing of it can be due any more.
func (s *secrets) of(h evidence.Hour) []byte {
	if dayOf(h) == s.day {
		return s.now
	}
	b, err := os.ReadFile(filepath.Join(s.dir, dayOf(h)))
	if err != nil {
		return nil
	}
	return b
}

// turn makes the secret of the day of h, if there is none yet, commits to it in
// the log, and publishes those of days past. The last hour that was watched is
// begun: 0 if none was.
func (s *secrets) turn(h, begun evidence.Hour) error {
	day := dayOf(h)
	if day == s.day {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("keep the schedule's secrets: %w", err)
	}
	path := filepath.Join(s.dir, day)
	secret := make([]byte, secretSize)
	if _, err := rand.Read(secret); err != nil {
		return fmt.Errorf("make the schedule's secret: %w", err)
	}
	switch err := durable.Create(path, secret, 0o600); {
	case errors.Is(err, fs.ErrExist):
		if secret, err = os.ReadFile(path); err != nil {
			return fmt.Errorf("read the schedule's secret: %w", err)
		}
		if len(secret) != secretSize {
			return fmt.Errorf("the schedule's secret %s holds %d bytes, not %d: restore it from a backup, or remove it and this day's plan starts anew", path, len(secret), secretSize)
		}
	case err != nil:
		return err
	}
	// At every start: a crash may have come between the file and the log.
	sum := sha256.Sum256(secret)
	if err := s.mark(h, evidence.Mark{Schedule: &evidence.Secret{Day: day, SHA256: hex.EncodeToString(sum[:])}}); err != nil {
		return err
	}
	s.day, s.now = day, secret
	return s.publish(h, begun)
}

// publish writes the secrets of days before that of h into the log: into the hour
// before, if that was watched and is still open, so that a month's last secret
// stands in the month's own blocks. Its day is over when it is sealed. The file
// goes only when the log has it: a crash in between publishes it twice, which
// tells nobody anything new.
func (s *secrets) publish(h, begun evidence.Hour) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("read the schedule's secrets: %w", err)
	}
	for _, e := range entries {
		day := e.Name()
		if _, err := time.Parse(time.DateOnly, day); err != nil || day >= dayOf(h) {
			continue
		}
		path := filepath.Join(s.dir, day)
		secret, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read the schedule's secret: %w", err)
		}
		m := evidence.Mark{Schedule: &evidence.Secret{Day: day, Secret: secret}}
		err = store.ErrSealed
		if begun == h-1 {
			err = s.mark(begun, m)
		}
		if errors.Is(err, store.ErrSealed) {
			err = s.mark(h, m)
		}
		if err != nil {
			return err
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove a published secret: %w", err)
		}
	}
	return nil
}

package monitor

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

func TestSecretsAreCommittedThenPublished(t *testing.T) {
	var marks []evidence.Secret
	mark := func(_ evidence.Hour, m evidence.Mark) error {
		marks = append(marks, *m.Schedule)
		return nil
	}
	dir := filepath.Join(t.TempDir(), "schedule")
	h := hourly("2026-11-03T05:00:00Z")
	s := &secrets{dir: dir, mark: mark}
	for range 2 {
		if err := s.turn(h, 0); err != nil {
			t.Fatal(err)
		}
	}
	first := bytes.Clone(s.of(h + 3))
	if len(first) != secretSize {
		t.Fatalf("secret of %d bytes", len(first))
	}

	// A restart on the same day goes on with the same plan.
	s = &secrets{dir: dir, mark: mark}
	if err := s.turn(h+1, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.of(h), first) {
		t.Fatal("another secret after a restart")
	}

	// The next day publishes it.
	if err := s.turn(h+24, 0); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(s.of(h+24), first) {
		t.Fatal("the same secret on two days")
	}
	if len(marks) != 4 {
		t.Fatalf("%d marks, want three commitments and a publication: %+v", len(marks), marks)
	}
	sum := sha256.Sum256(first)
	if marks[0].SHA256 != hex.EncodeToString(sum[:]) || marks[0].Secret != nil {
		t.Errorf("the commitment is %+v", marks[0])
	}
	if !bytes.Equal(marks[3].Secret, first) || marks[3].Day != "2026-11-03" {
		t.Errorf("the publication is %+v", marks[3])
	}
	if got := s.of(h); got != nil {
		t.Errorf("a published secret is still there: %x", got)
	}
}

// The secret of a day goes into the day's own last block, if that can still be.
func TestWhereSecretsArePublished(t *testing.T) {
	midnight := hourly("2026-12-01T00:00:00Z")
	for _, tc := range []struct {
		name   string
		begun  evidence.Hour
		sealed evidence.Hour
		want   evidence.Hour
	}{
		{"the last hour is open", midnight - 1, 0, midnight - 1},
		{"it was sealed", midnight - 1, midnight - 1, midnight},
		{"it was not watched", midnight - 2, 0, midnight},
		{"nothing was", 0, 0, midnight},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var at evidence.Hour
			s := &secrets{dir: t.TempDir(), mark: func(h evidence.Hour, m evidence.Mark) error {
				if h == tc.sealed {
					return fmt.Errorf("hour %s: %w", h, store.ErrSealed)
				}
				if m.Schedule.Secret != nil {
					at = h
				}
				return nil
			}}
			if err := s.turn(midnight-5, 0); err != nil {
				t.Fatal(err)
			}
			if err := s.turn(midnight, tc.begun); err != nil {
				t.Fatal(err)
			}
			if at != tc.want {
				t.Errorf("published in %s, want %s", at, tc.want)
			}
		})
	}
}

func TestSecretStaysUntilTheLogHasIt(t *testing.T) {
	full := errors.New("disk full")
	var fail error
	dir := t.TempDir()
	s := &secrets{dir: dir, mark: func(evidence.Hour, evidence.Mark) error { return fail }}
	h := hourly("2026-11-03T05:00:00Z")
	if err := s.turn(h, 0); err != nil {
		t.Fatal(err)
	}
	fail = full
	if err := s.turn(h+24, 0); !errors.Is(err, full) {
		t.Fatalf("error %v, want that of the log", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "2026-11-03")); err != nil {
		t.Error("the secret is gone although the log does not have it")
	}
}

func TestDamagedSecretIsSaid(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "2026-11-03"), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &secrets{dir: dir, mark: func(evidence.Hour, evidence.Mark) error { return nil }}
	if err := s.turn(hourly("2026-11-03T05:00:00Z"), 0); err == nil {
		t.Fatal("no error")
	}
}

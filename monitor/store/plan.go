package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bls"
	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// createPlanKey makes the plan key once, as createKey does the others.
func createPlanKey(d durable.Disk, path string) (*bls.SecretKey, error) {
	k, err := bls.GenerateKey()
	if err != nil {
		return nil, err
	}
	err = d.Create(path, []byte(k.Text()+"\n"), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return readPlanKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("create key: %w", err)
	}
	return k, nil
}

func readPlanKey(path string) (*bls.SecretKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w; restore the file from the backup: a log's plan key is never made anew", err)
	}
	k, err := bls.ParseSecretKey(strings.TrimSuffix(string(b), "\n"))
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w; restore the file from the backup", path, err)
	}
	return k, nil
}

// PlanKey is the public key of the plan, as it stands in a roster.
func (l *Log) PlanKey() string { return l.meta.PlanKey }

// Plan is the proof of when the first attempt on a relay is due in an hour: always the
// same one. It stands in the record of the hour.
func (l *Log) Plan(relay string, h evidence.Hour) []byte {
	return l.plan.Sign(evidence.PlanText(l.meta.Origin, h, relay))
}

// Offset is how far into an hour the first attempt on a relay is due.
func (l *Log) Offset(relay string, h evidence.Hour) time.Duration {
	return evidence.Offset(l.Plan(relay, h))
}

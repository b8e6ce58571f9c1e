package monitor

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/beacon"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// WriteBundle writes the bundle of one relay's month, as of now, into a file. It
// reads the log beside a monitor that may be running.
func WriteBundle(cfg Config, relay string, month evidence.Month, now time.Time, file string) (err error) {
	m := &Monitor{cfg: cfg, log: slog.New(slog.DiscardHandler)}
	if err := errors.Join(m.readRules(), m.readRoster()); err != nil {
		return err
	}
	if m.roster.Relay(relay) == nil {
		return fmt.Errorf("relay %s is not in the roster %s", relay, cfg.Roster)
	}
	l, err := openForReading(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	log, err := l.Month(month, relay, now, m.roster.WitnessKeys(month)...)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := bundle.Write(&b, bundle.Input{
		Rules:  m.files.rules,
		Roster: m.files.roster,
		Relay:  relay,
		Month:  month,
		AsOf:   now,
		Logs:   []evidence.MonitorMonth{log},
		Beacon: beacon.Quicknet(),
		Sign:   l.SignStatement,
	}); err != nil {
		return err
	}
	return durable.Replace(file, b.Bytes(), 0o644)
}

package monitor

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// PublicKeys are what the committee enters in its roster.
type PublicKeys struct {
	LogKey     string `json:"log_key"`
	PlanKey    string `json:"plan_key"`
	WitnessKey string `json:"witness_key"`
}

// Keys reads the public keys of the monitor's log, also while it is running.
func Keys(cfg Config) (PublicKeys, error) {
	l, err := openForReading(cfg)
	if err != nil {
		return PublicKeys{}, err
	}
	return PublicKeys{l.Key(), l.PlanKey(), l.WitnessKey()}, l.Close()
}

// CheckLog verifies the whole store, also while it is running, with the
// cosignatures of all witnesses that the roster names.
func CheckLog(cfg Config) (store.CheckReport, error) {
	roster, _, err := readRoster(cfg)
	if err != nil {
		return store.CheckReport{}, err
	}
	var witnesses []string
	for _, o := range roster.Monitors {
		if o.WitnessKey != "" {
			witnesses = append(witnesses, o.WitnessKey)
		}
	}
	for _, w := range roster.Witnesses {
		witnesses = append(witnesses, w.Key)
	}
	return store.Check(logDir(cfg), witnesses...)
}

// AdoptLog brings in the blocks that a newer copy of the log has beyond this one,
// and says how many. No monitor may be running with the log.
func AdoptLog(cfg Config, newer string) (blocks int64, err error) {
	l, err := openLog(cfg)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	return l.Adopt(newer)
}

// ReleaseLog is the operator's word that a log that came out of a backup is the
// newest copy there is. Where there are witnesses they are asked all the same.
func ReleaseLog(cfg Config) (err error) {
	l, err := openLog(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	return l.Release()
}

// openLog opens the log for writing.
func openLog(cfg Config) (*store.Log, error) {
	l, err := opened(cfg, store.Open)
	if err != nil {
		return nil, err
	}
	if err := stateFormat.Note(cfg.DataDir); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// openForReading opens the log beside a monitor that may be writing it.
func openForReading(cfg Config) (*store.Log, error) { return opened(cfg, store.OpenRead) }

func opened(cfg Config, open func(dir string) (*store.Log, error)) (*store.Log, error) {
	if err := stateFormat.Check(cfg.DataDir); err != nil {
		return nil, err
	}
	l, err := open(logDir(cfg))
	if errors.Is(err, fs.ErrNotExist) && !store.Exists(logDir(cfg)) {
		return nil, fmt.Errorf("no evidence log in %s: make one with \"relaymon init\", or restore it from a backup: %w", cfg.DataDir, err)
	}
	if err != nil {
		return nil, err
	}
	if err := fits(cfg, "the log in "+cfg.DataDir, l.Origin()); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// fits refuses a log that is another monitor's, or of another network.
func fits(cfg Config, what, origin string) error {
	if name, network, err := evidence.ParseOrigin(origin); err != nil || name != cfg.Name || network != cfg.Network {
		return fmt.Errorf("%s is that of %s, the configuration says %q in network %s: a log's name and network never change", what, origin, cfg.Name, cfg.Network)
	}
	return nil
}

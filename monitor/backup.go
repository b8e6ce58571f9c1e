package monitor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// BackupLog writes the evidence log, with its secret keys, into a new file that
// only its owner may read. A monitor may be running with it.
func BackupLog(cfg Config, file string) (err error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	err = store.Backup(logDir(cfg), f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(file)) // half a backup is none
	}
	return durable.SyncDir(filepath.Dir(file))
}

// RestoreLog makes the evidence log of a backup, where there must be none. It is
// held until the witnesses have been asked whether they know of a newer copy.
func RestoreLog(cfg Config, file string) (err error) {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("read the backup: %w", err)
	}
	defer f.Close()
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	if err := store.Restore(f, logDir(cfg)); err != nil {
		return err
	}
	l, err := openForReading(cfg) // says so if it is another monitor's
	if err != nil {
		return err
	}
	return l.Close()
}

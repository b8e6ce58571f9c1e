package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/psf-relay/relay-appliance/monitor/store"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

// BackupLog writes the evidence log, with its secret keys. A monitor may be running with
// it.
func BackupLog(cfg Config, to io.Writer) error { return store.Backup(logDir(cfg), to) }

// ExportLog writes what anybody may read of the log into a folder, and goes on from what is
// there. A monitor may be running with the log.
func ExportLog(ctx context.Context, cfg Config, dir string, progress func(done, size int64)) (out tiles.Exported, err error) {
	l, err := openForReading(cfg)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	return tiles.Export(ctx, l, dir, progress)
}

// RestoreLog makes the evidence log of a backup, where there must be none. It is
// held until the witnesses have been asked whether they know of a newer copy.
func RestoreLog(cfg Config, from io.Reader) error {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	if err := stateFormat.Check(cfg.DataDir); err != nil {
		return err
	}
	return store.Restore(from, logDir(cfg), func(origin string) error { return fits(cfg, "the backup", origin) })
}

package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
)

// Seed is what cloud-init's data source NoCloud reads from a disk labelled cidata.
type Seed struct {
	// UserData is the operator's file; empty: a provider's metadata without any.
	UserData []byte
	// InstanceID tells cloud-init whether this is a first boot. Default: "i-1".
	InstanceID string
	// Hostname is the machine's name. Default: "appliance".
	Hostname string
}

// write makes the seed disk. The key is handed over as a provider does, apart from
// the user-data: with it one can log in whatever the user-data says.
func (s Seed) write(ctx context.Context, c Config, authorizedKey string) error {
	if s.InstanceID == "" {
		s.InstanceID = "i-1"
	}
	if s.Hostname == "" {
		s.Hostname = "appliance"
	}
	// JSON is YAML, too.
	metaData, err := json.Marshal(map[string]any{
		"instance-id":    s.InstanceID,
		"local-hostname": s.Hostname,
		"public-keys":    []string{authorizedKey},
	})
	if err != nil {
		return err
	}
	user, meta := c.path("user-data"), c.path("meta-data")
	if err := os.WriteFile(user, s.UserData, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(meta, metaData, 0o600); err != nil {
		return err
	}
	return run(ctx, "cloud-localds", c.path(seedFile), user, meta)
}

// overlay makes the disk that the guest writes to.
func (c Config) overlay(ctx context.Context) error {
	args := []string{"create", "-q", "-f", "qcow2", "-F", c.Format, "-b", c.Disk, c.path(overlayFile)}
	if c.Size > 0 {
		args = append(args, fmt.Sprint(c.Size))
	}
	return run(ctx, "qemu-img", args...)
}

func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, bytes.TrimSpace(out))
	}
	return nil
}

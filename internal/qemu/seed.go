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

// Seed gives the machine, which is off, a disk for cloud-init in place of any other;
// a machine without is like one whose provider hands nothing over. The key to log in
// with is on it as providers do it, apart from the user-data: one can log in whatever
// that says.
func (m *Machine) Seed(ctx context.Context, s Seed) error {
	if err := s.write(ctx, m.cfg, m.AuthorizedKey()); err != nil {
		return fmt.Errorf("make the disk for cloud-init: %w", err)
	}
	m.wiring.seeded = true
	return nil
}

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

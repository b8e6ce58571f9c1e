package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// CloudInit is what `cloud-init status` says.
type CloudInit struct {
	Status      string              `json:"status"`          // done, error, running, disabled ...
	Extended    string              `json:"extended_status"` // such as "degraded done"
	Errors      []string            `json:"errors"`
	Recoverable map[string][]string `json:"recoverable_errors"` // by the level of the log
}

// OK says whether cloud-init did all that it was told.
func (c CloudInit) OK() bool {
	return c.Status == "done" && len(c.Errors) == 0 && len(c.Recoverable) == 0
}

func (c CloudInit) String() string {
	var b strings.Builder
	b.WriteString(c.Extended)
	if c.Extended == "" {
		b.WriteString(c.Status)
	}
	for _, e := range c.Errors {
		b.WriteString("\n  error: " + e)
	}
	for level, all := range c.Recoverable {
		for _, e := range all {
			b.WriteString("\n  " + strings.ToLower(level) + ": " + e)
		}
	}
	return b.String()
}

// CloudInit waits until cloud-init is done, however that went.
func (m *Machine) CloudInit(ctx context.Context) (CloudInit, error) {
	if err := m.WaitSSH(ctx); err != nil {
		return CloudInit{}, err
	}
	// Its exit code says 1 for errors and 2 for warnings. The status that ends a wait may
	// lack the error that ended it, so it is read once more after the wait.
	out, err := m.Run(ctx, "cloud-init status --wait >/dev/null || true; cloud-init status --format=json || true")
	if err != nil {
		return CloudInit{}, fmt.Errorf("wait for cloud-init: %w", err)
	}
	var c CloudInit
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		return CloudInit{}, fmt.Errorf("read cloud-init's status: %w\n%s", err, out)
	}
	return c, nil
}

// WaitReady waits until the guest has come up and is as it should be: cloud-init
// done without error or warning, nothing left to start, no unit failed, and the
// given services running.
func (m *Machine) WaitReady(ctx context.Context, services ...string) error {
	c, err := m.CloudInit(ctx)
	if err != nil {
		return err
	}
	var errs []error
	if !c.OK() {
		errs = append(errs, fmt.Errorf("cloud-init: %s", c))
	}
	return errors.Join(append(errs, m.CheckUnits(ctx, services...))...)
}

// CheckUnits waits until systemd has nothing left to start and says which units
// failed, and which of the services do not run.
func (m *Machine) CheckUnits(ctx context.Context, services ...string) error {
	var errs []error
	if state, err := m.Run(ctx, "systemctl is-system-running --wait || true"); err != nil {
		return fmt.Errorf("wait for systemd: %w", err)
	} else if state = strings.TrimSpace(state); state != "running" {
		failed, err := m.Run(ctx, `systemctl --failed --plain --no-legend | while read -r unit rest; do
			systemctl status --no-pager --full --lines=20 "$unit" || true
		done`)
		errs = append(errs, fmt.Errorf("systemd is %s, not running; units that failed:\n%s", state, failed), err)
	}
	for _, service := range services {
		// A service that says when it is ready is active from then on.
		out, err := m.Run(ctx, "systemctl is-active "+quote(service))
		var exit *ExitError
		switch {
		case errors.As(err, &exit):
			log, err := m.Run(ctx, "journalctl --no-pager --lines=30 --unit "+quote(service))
			errs = append(errs, fmt.Errorf("%s is %s:\n%s", service, strings.TrimSpace(out), log), err)
		case err != nil:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

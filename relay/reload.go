package relay

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/psf-relay/relay-appliance/internal/systemd"
	"github.com/psf-relay/relay-appliance/relay/config"
)

// Reload puts a new configuration into force as far as that goes without a
// restart: the name, the abuse contact, the limits on what is given, the monitors that
// are asked, and who is told of alerts. The ban list and the operator's certificate need
// no reload, they are looked at all the time. It returns the keys that changed and need a
// restart.
func (r *Relay) Reload(cfg config.Config) (restart []string, err error) {
	systemd.Reloading(r.log)
	defer systemd.Ready(r.log)
	if err := errors.Join(cfg.Validate(), cfg.Abs()); err != nil {
		return nil, fmt.Errorf("reload: %w", err)
	}
	cfg.Limits = config.MeasureCapacity(cfg.Limits).Fill(cfg.Limits)
	r.mu.Lock()
	next, g := r.cfg, r.service
	next.Name, next.AbuseContact, next.Log = cfg.Name, cfg.AbuseContact, cfg.Log
	told := !reflect.DeepEqual(next.Alerts, cfg.Alerts)
	next.Monitors, next.Alerts = cfg.Monitors, cfg.Alerts
	keep := next.Limits
	next.Limits = cfg.Limits
	next.Limits.CircuitsPerPeer, next.Limits.Buffer = keep.CircuitsPerPeer, keep.Buffer
	next.Limits.Connections, next.Limits.ConnectionsPerIP = keep.Connections, keep.ConnectionsPerIP
	next.Limits.ConnectsPerSecond = keep.ConnectsPerSecond
	r.cfg = next
	r.mu.Unlock()
	r.budget.Change(next.Limits)
	r.monitors.Use(next.Monitors)
	if _, fault := r.alerts.state(); told || fault != "" { // what was at fault may be mended
		r.alerts.change()
	}
	if g != nil {
		g.Change(next.Limits)
	}
	return differences(reflect.ValueOf(next), reflect.ValueOf(cfg), ""), nil
}

// differences lists the keys of the configuration in which a and b differ.
func differences(a, b reflect.Value, path string) (out []string) {
	for i := range a.NumField() {
		f := a.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if !f.IsExported() || name == "" {
			continue
		}
		if path != "" {
			name = path + "." + name
		}
		x, y := a.Field(i), b.Field(i)
		if x.Kind() == reflect.Struct && x.NumField() > 0 && x.Type().Field(0).Tag.Get("yaml") != "" {
			out = append(out, differences(x, y, name)...)
		} else if !reflect.DeepEqual(x.Interface(), y.Interface()) {
			out = append(out, name)
		}
	}
	return out
}

package appliance

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/internal/config"
)

// Alerts are the receivers of alerts that stand in the configurations of this machine's
// programs, each once. Remarks are on what is no fault.
func (m *Machine) Alerts() (all alert.Config, remarks []error, err error) {
	s, err := m.Settings()
	if err != nil && !errors.Is(err, errNoSettings) {
		return all, nil, err
	}
	for _, p := range programs {
		if s.Role != "" && !p.needed(s.Role) {
			continue
		}
		b, err := m.readFile(p.config)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return all, nil, fmt.Errorf("read %s: %w", p.config, err)
		}
		of := struct {
			Alerts alert.Config `yaml:"alerts"`
		}{alert.Config{TimeZone: s.Alerts.TimeZone}}
		if err := config.DecodeWith(p.config, b, &of, config.Options{Unknown: &config.Unknown{}}); err != nil {
			return all, nil, err
		}
		if err := of.Alerts.Validate(); err != nil {
			return all, nil, config.Located(p.config, b, err)
		}
		if err := of.Alerts.CheckFile(m.path(p.config)); err != nil {
			remarks = append(remarks, err)
		}
		all = all.Join(of.Alerts)
	}
	if err := s.Alerts.CheckFile(m.path(SettingsPath)); err != nil {
		remarks = append(remarks, err)
	}
	const notYet = "the settings name receivers that no program knows yet: run \"relay-appliance first-boot\""
	switch wanted := all.Join(s.Alerts); {
	case !all.Any() && (s.Alerts.Any() || len(s.Monitor.Alerts) > 0):
		return all, nil, errors.New(notYet)
	case len(wanted.Receivers)+len(wanted.Webhooks)+len(wanted.Alertmanagers) > len(all.Receivers)+len(all.Webhooks)+len(all.Alertmanagers):
		remarks = append(remarks, errors.New(notYet))
	}
	all.Subject = s.updates().Own
	return all, remarks, nil
}

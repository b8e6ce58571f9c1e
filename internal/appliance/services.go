package appliance

import (
	"context"
	"fmt"
	"strings"
)

// start makes a service run, now and after the next boot. It says itself when it is
// ready; systemctl waits for that.
func (m *Machine) start(ctx context.Context, p *program, changed bool, say func(string, ...any)) error {
	unit := p.name + ".service"
	if err := m.enable(ctx, unit); err != nil {
		return err
	}
	verb := "start"
	if changed {
		verb = "restart"
	}
	if err := m.do(ctx, "systemctl", verb, unit); err != nil {
		return fmt.Errorf("%s does not start: %w%s", p.name, err, m.lastWords(ctx, unit))
	}
	say("%s runs", p.name)
	return nil
}

// stop ends a service that the role does not need.
func (m *Machine) stop(ctx context.Context, p *program, s Settings, say func(string, ...any)) error {
	unit := p.name + ".service"
	if !m.asks(ctx, "is-enabled", unit) && !m.asks(ctx, "is-active", unit) {
		return nil
	}
	if err := m.do(ctx, "systemctl", "disable", "--now", unit); err != nil {
		return err
	}
	say("%s is stopped: the role is %s", p.name, s.Role)
	return nil
}

// asks systemd a question about a unit that has yes and no for an answer.
func (m *Machine) asks(ctx context.Context, question, unit string) bool {
	r, err := m.run(ctx, Command{Args: []string{"systemctl", question, "--quiet", unit}})
	return err == nil && r.Code == 0
}

// enable spares systemd, and a small machine that boots, what is done already.
func (m *Machine) enable(ctx context.Context, unit string) error {
	if m.asks(ctx, "is-enabled", unit) {
		return nil
	}
	return m.do(ctx, "systemctl", "enable", unit)
}

// lastWords are the ends of a service's log.
func (m *Machine) lastWords(ctx context.Context, unit string) string {
	r, err := m.run(ctx, Command{Args: []string{"journalctl", "--unit=" + unit, "--lines=5", "--output=cat", "--no-pager", "--quiet"}})
	if said := strings.TrimSpace(r.Stdout); err == nil && said != "" {
		return "\nits log ends with:\n" + said
	}
	return ""
}

// ownDomain gives a monitor with a name of its own the right to ports 80 and 443.
func (m *Machine) ownDomain(s Settings) (changed bool, err error) {
	const target = "/usr/share/relaymon/own-domain.conf"
	return m.link("/etc/systemd/system/relaymon.service.d/own-domain.conf", target, s.Role == Monitor && s.Domain != "")
}

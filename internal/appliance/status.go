package appliance

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// Status is how the appliance is, for people and for programs.
type Status struct {
	Version  string    `json:"version"`
	Role     Role      `json:"role,omitempty"`
	Domain   string    `json:"domain,omitempty"`
	Set      bool      `json:"set"` // there are settings
	Fault    string    `json:"fault,omitempty"`
	Boot     *Report   `json:"first_boot,omitempty"`
	Progress *Progress `json:"progress,omitempty"`
	Ports    []Port    `json:"ports,omitempty"`
	Services []Service `json:"services,omitempty"`
	Relay    *Relaying `json:"relay,omitempty"`
	Monitor  *Watching `json:"monitor,omitempty"`
	Updates  []string  `json:"updates,omitempty"`
	Backup   *Backups  `json:"backup,omitempty"` // nil: none are made
	Enrol    string    `json:"enrol,omitempty"`  // how the relay enters the bounty

	early bool // cloud-init may still bring the settings
}

// Service is a unit of systemd's.
type Service struct {
	Name  string `json:"name"`
	State string `json:"state"`
}

// Relaying is what relayd says of itself (`relayd doctor --json`).
type Relaying struct {
	Fault             string `json:"fault,omitempty"`
	*status.Diagnosis        // nil: it said nothing
}

// Watching is what relaymon says of itself.
type Watching struct {
	Name       string `json:"name"`
	LogKey     string `json:"log_key,omitempty"`
	PlanKey    string `json:"plan_key,omitempty"`
	WitnessKey string `json:"witness_key,omitempty"`
	Fault      string `json:"fault,omitempty"`
}

// statusTime bounds what a look may take; relayd's doctor listens for a while.
const statusTime = 90 * time.Second

// glance is what can be seen at once, and cheaply.
func (m *Machine) glance(ctx context.Context, at *relayAt) (Status, error) {
	st := Status{Version: buildinfo.Version(), Set: true}
	r, err := m.report()
	if err != nil {
		return st, err
	}
	up, err := m.uptime()
	if err != nil {
		return st, err
	}
	if st.Boot = r; r != nil {
		if r.Running && up-r.After > cmp.Or(r.Limit, bootTime.Seconds())+brokenOff.Seconds() {
			r.Running, r.Fault = false, "first boot was broken off: run it again"
		}
		st.Fault = r.Fault
	}
	s, err := m.Settings()
	switch {
	case errors.Is(err, errNoSettings):
		st.Set = false
		st.early = m.has(noLoginPath) && (r == nil || r.Running)
	case err != nil:
		st.Fault = err.Error()
	default:
		st.Role, st.Domain, st.Ports = s.Role, s.Domain, s.Ports()
	}
	f := m.look(ctx, Settings{Role: st.Role, Relaymon: s.Relaymon}, r, at)
	st.Progress, err = m.noteProgress(f, up)
	return st, err
}

// Status looks at all there is.
func (m *Machine) Status(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	st, err := m.glance(ctx, new(relayAt))
	if err != nil {
		return st, err
	}
	if u, err := m.updates().Load(); err != nil {
		st.Updates = []string{err.Error()}
	} else {
		st.Updates = u.Lines()
	}
	s, err := m.Settings()
	if err != nil {
		return st, nil // which the glance has said
	}
	st.Backup = m.backups(s)
	for _, p := range programs {
		if p.needed(s.Role) {
			st.Services = append(st.Services, Service{p.name, m.state(ctx, p.name+".service")})
		}
	}
	if s.Role.Relays() {
		st.Relay = m.askRelay(ctx)
		if s.Payout != "" {
			st.Enrol = "sudo -u relayd relayd enrol --config /etc/relayd/relayd.yaml --payout " + s.Payout + " --region CC"
		}
	}
	if s.Role.Monitors() {
		st.Monitor = m.askMonitor(ctx, s)
	}
	return st, nil
}

func (m *Machine) state(ctx context.Context, unit string) string {
	r, err := m.run(ctx, Command{Args: []string{"systemctl", "is-active", unit}})
	if state := strings.TrimSpace(r.Stdout); err == nil && state != "" {
		return state
	}
	return "unknown"
}

func (m *Machine) askRelay(ctx context.Context) *Relaying {
	var out Relaying
	r, err := m.run(ctx, Command{User: "relayd", Args: []string{"relayd", "doctor", "--json", "--config", "/etc/relayd/relayd.yaml"}})
	if err == nil {
		// It exits with 1 where something is not met, and has said all the same.
		if json.Unmarshal([]byte(r.Stdout), &out) != nil {
			err = Result{Code: 1, Stderr: r.Stderr}.failed("relayd doctor")
		}
	}
	if err != nil {
		return &Relaying{Fault: err.Error()}
	}
	return &out
}

func (m *Machine) askMonitor(ctx context.Context, s Settings) *Watching {
	out := &Watching{Name: s.Monitor.Name}
	r, err := m.run(ctx, Command{User: "relaymon", Args: []string{"relaymon", "keys", "--json", "--config", "/etc/relaymon/relaymon.yaml"}})
	if err == nil {
		err = r.failed("relaymon keys")
	}
	if err == nil {
		err = json.Unmarshal([]byte(r.Stdout), out)
	}
	if err == nil {
		err = m.health(ctx, s.monitorListen())
	}
	if err != nil {
		out.Fault = err.Error()
	}
	return out
}

// health asks the monitor whether it judges.
func (m *Machine) health(ctx context.Context, listen string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listen+"/healthz", nil)
	if err != nil {
		return err
	}
	client := m.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("relaymon does not answer: %w", err)
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err == nil && resp.StatusCode == http.StatusOK && string(said) == "ok\n" {
		return nil
	}
	return errors.Join(errors.New(oneLine(string(said))), err)
}

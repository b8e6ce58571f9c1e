package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	machine "github.com/psf-relay/relay-appliance/internal/appliance"
	"github.com/psf-relay/relay-appliance/internal/qemu"
)

// timeFirst asks a machine that starts for a reservation until it gives one, by TCP and
// then as a browser would.
func (a *appliance) timeFirst(ctx context.Context, t *testing.T, on time.Time) error {
	t.Helper()
	if err := a.WaitSSH(ctx); err != nil {
		return err
	}
	id, err := eventually(ctx, t, func() (string, error) {
		return a.Run(ctx, "runuser -u relayd -- relayd id --config /etc/relayd/relayd.yaml")
	})
	if err != nil {
		return fmt.Errorf("wait for the relay's identity: %w", err)
	}
	a.peerID = strings.TrimSpace(id)
	var took []string
	for _, addr := range []string{a.tcpAddr(t), a.wssAddr(t)} {
		if _, err := eventually(ctx, t, func() (report, error) { return a.probeAt(ctx, t, addr) }); err != nil {
			return fmt.Errorf("wait for the first reservation: %w", err)
		}
		took = append(took, time.Since(on).Round(time.Second).String())
	}
	a.first = fmt.Sprintf("first reservation %s after power-on, %s by WSS", took[0], took[1])
	return nil
}

// checkProgress wants the machine to have measured its own start, and to have kept it.
func (a *appliance) checkProgress(ctx context.Context, t *testing.T) {
	out, err := a.Run(ctx, "relay-appliance status --json")
	var exit *qemu.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var st machine.Status
	if err := json.Unmarshal([]byte(out), &st); err != nil || st.Progress == nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var steps []string
	last := 0.0
	for _, s := range st.Progress.Steps {
		steps = append(steps, fmt.Sprintf("%s %.0f s", s.Name, s.After))
		if s.After == 0 {
			t.Errorf("%s was not reached: %+v", s.Name, s)
		}
		// Set-up is done when it has started the programs, which may be ready before.
		if s.Name == "set-up" || s.Name == "monitor" {
			continue
		}
		if s.After < last {
			t.Errorf("%s came before what it needs: %+v", s.Name, st.Progress.Steps)
		}
		last = s.After
	}
	if st.Progress.Ready == 0 {
		t.Errorf("it is not ready: %+v", st.Progress.Steps)
	}
	a.note(t, "by the guest's clock ready after %.0f s (%s)", st.Progress.Ready, strings.Join(steps, ", "))
	log, err := a.Run(ctx, "journalctl --no-pager --quiet --output=cat --unit=relay-appliance-status")
	if err != nil || !regexp.MustCompile(`(?m)^\S+s: ready$`).MatchString(log) || !regexp.MustCompile(`(?m)^\S+s: certificate: valid until `).MatchString(log) {
		t.Errorf("the log does not tell of the start: %v\n%s", err, log)
	}
}

// saysSo waits until the console of a machine without network names the fault, and shows
// it with the login. Whoever is asked to log in before that reads what it waits for.
func (a *appliance) saysSo(ctx context.Context, t *testing.T, waits, fault string, page ...string) {
	t.Helper()
	on := time.Now()
	if err := a.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := a.WaitConsole(ctx, 0, waits); err != nil {
		t.Fatal(err)
	}
	waiting := time.Since(on).Round(time.Second)
	if err := a.WaitConsole(ctx, 0, fault); err != nil {
		t.Fatal(err)
	}
	a.note(t, "says so %s after power-on (that it %s after %s)", time.Since(on).Round(time.Second), waits, waiting)
	before, _, _ := strings.Cut(a.Console.Text(), fault)
	if page, _, asked := strings.Cut(before, "login:"); asked && !strings.Contains(page, "network     waits for ") {
		t.Errorf("it asks for a login, and does not say what it waits for:\n%s", page)
	}
	for _, want := range append(page, "NETWORK: ", "login:") {
		if err := a.WaitConsole(ctx, 0, want); err != nil {
			t.Error(err)
		}
	}
}

// Nobody can log in to a machine without a network: the console says what to change.
func TestNoNetwork(t *testing.T) {
	full(t)
	ctx, cancel := context.WithTimeout(t.Context(), bootTime)
	defer cancel()
	a := makeMachine(ctx, t, settings{image: build(t), network: qemu.NoCard})
	a.saysSo(ctx, t, "waits for a network card", "no network card was found", notSetUp)
}

// In a network that gives no address the machine is set up all the same, and says what it
// lacks.
func TestNoAddress(t *testing.T) {
	full(t)
	ctx, cancel := context.WithTimeout(t.Context(), bootTime)
	defer cancel()
	a := makeMachine(ctx, t, settings{image: build(t), network: qemu.Silent, userData: func(ca string) string { return lab("relay", ca) }})
	a.saysSo(ctx, t, "waits for an address", "no address came by DHCP", "relay       relayd serves reservations")
}

package image

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/qemu"
)

// wrong is user-data that cannot be, and what must be said of it.
type wrong struct {
	name     string
	userData string
	// status is what `cloud-init status` says first, console what the console says
	// besides.
	status  string
	console []string
}

// settingsOnly is user-data with these settings of the appliance.
func settingsOnly(yaml string) string {
	return cloudConfig(map[string]string{"/etc/relay-appliance/appliance.yaml": yaml})
}

// The first is TestSecureBoot's.
var wrongs = []wrong{
	{"several faults", settingsOnly("role: relais\ndomain: not a domain\n"),
		`role: want relay, monitor or both, not "relais"`, []string{"appliance.yaml:2: domain: ", `not "not a domain"`, "email: missing"}},
	{"example", settingsOnly("role: relay\ndomain: relay.example.org\nemail: a@relay.test\n"), "relay.example.org", nil},
	{"no email", settingsOnly("role: relay\ndomain: relay.test\n"), "email: missing", nil},
	{"unknown key", settingsOnly("role: relay\ndomian: relay.test\nemail: a@relay.test\n"), "domian", nil},
	{"a tab in the settings", settingsOnly("role: relay\nacme:\n\tdirectory: https://relay.test\n"), "appliance.yaml:3", []string{"tab"}},
	{"a tab in the user-data", "#cloud-config\nwrite_files:\n\t- path: /etc/relay-appliance/appliance.yaml\n", "user-data:3", nil},
	{"no cloud-config", "role: relay\ndomain: relay.test\nemail: a@relay.test\n", "its first line must be #cloud-config", nil},
}

func TestWrongUserData(t *testing.T) {
	full(t)
	image := build(t)
	for _, w := range wrongs[1:] {
		t.Run(w.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*bootTime)
			defer cancel()
			w.look(ctx, t, makeMachine(ctx, t, settings{image: image, userData: func(string) string { return w.userData }}))
		})
	}
}

// look starts the machine with it. It must say what is wrong, open nothing, and let its
// operator in to mend it.
func (w wrong) look(ctx context.Context, t *testing.T, a *appliance) {
	t.Helper()
	began := time.Now()
	var status qemu.CloudInit
	err := a.oncemore(t, func() (err error) {
		if err = a.Start(ctx); err == nil {
			status, err = a.CloudInit(ctx)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	a.isReady(t, time.Since(began))
	if status.OK() {
		t.Error("cloud-init has nothing to say")
	}
	if !strings.Contains(status.String(), w.status) {
		t.Errorf("cloud-init status does not say %q:\n%s", w.status, status)
	}
	for _, want := range append(w.console, w.status) {
		if err := a.WaitConsole(ctx, 0, want); err != nil {
			t.Errorf("on the console: %v", err)
		}
	}
	a.checkLocked(ctx, t)
}

// checkLocked wants a machine that does nothing and lets in nobody but by SSH.
func (a *appliance) checkLocked(ctx context.Context, t *testing.T) {
	a.checkFirewall(ctx, t, "none")
	a.checkSSH(ctx, t)
	a.checkInactive(ctx, t, both...)
}

// checkInactive wants services not to run, nor to have tried to.
func (a *appliance) checkInactive(ctx context.Context, t *testing.T, services ...string) {
	t.Helper()
	for _, s := range services {
		out, err := a.Run(ctx, "systemctl is-active "+s+" || true")
		if err != nil || strings.TrimSpace(out) != "inactive" {
			t.Errorf("%s is %s, %v", s, strings.TrimSpace(out), err)
		}
	}
}

// notSetUp is what the console says of a machine without settings.
const notSetUp = "This appliance is not set up yet"

// A machine that was told nothing is safe, and says what to do.
func TestNoUserData(t *testing.T) {
	full(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*bootTime)
	defer cancel()
	a := boot(ctx, t, settings{image: build(t), userData: func(string) string { return "" }})
	a.checkLocked(ctx, t)
	if err := a.WaitConsole(ctx, 0, notSetUp); err != nil {
		t.Error(err)
	}
	// Then the operator writes the settings after all.
	a.configure(ctx, t)
	a.checkFirewall(ctx, t, "both")
	a.check(ctx, t)
}

// configure does by hand what user-data does.
func (a *appliance) configure(ctx context.Context, t *testing.T) {
	t.Helper()
	for file, content := range labFiles("both", string(a.ca.RootPEM)) {
		if err := a.writeFile(ctx, t, file, content); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := a.Run(ctx, "relay-appliance first-boot"); err != nil {
		t.Fatalf("%s%v", out, err)
	}
	if err := a.CheckUnits(ctx, both...); err != nil {
		t.Fatal(err)
	}
	a.peerID = a.learnPeerID(ctx, t)
}

// On a machine to which nobody hands anything, not even a disk, no key can open SSH:
// the console is all there is.
func TestNoProvider(t *testing.T) {
	full(t)
	ctx, cancel := context.WithTimeout(t.Context(), bootTime)
	defer cancel()
	a := makeMachine(ctx, t, settings{image: build(t), firmware: qemu.BIOS})
	if err := a.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{notSetUp, "login:"} {
		if err := a.WaitConsole(ctx, 0, text); err != nil {
			t.Error(err)
		}
	}
}

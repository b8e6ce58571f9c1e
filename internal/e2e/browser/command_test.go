package browser

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/browser"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// `relaymon browser-check` prints what the evidence log has room for, and says by
// its exit code whether browsers can use the relay.
func TestBrowserCheckCommand(t *testing.T) {
	c, ca := lab(t)
	startBrowser(t, ca.RootPEM).Close() // there is one
	r, _ := relayd(t, c)
	relaymon := filepath.Join(t.TempDir(), "relaymon")
	if out, err := exec.Command("go", "build", "-o", relaymon, "github.com/psf-relay/relay-appliance/monitor/cmd/relaymon").CombinedOutput(); err != nil {
		t.Fatalf("build relaymon: %v\n%s", err, out)
	}
	run := func(args ...string) (stdout, stderr string, code int) {
		t.Helper()
		var o, e bytes.Buffer
		cmd := exec.CommandContext(bounded(t), relaymon, append([]string{"browser-check"}, args...)...)
		cmd.Stdout, cmd.Stderr = &o, &e
		err := cmd.Run()
		if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return o.String(), e.String(), cmd.ProcessState.ExitCode()
	}
	resolve := fmt.Sprintf("--resolve=%s:%s", relayName, addrs[relayName])

	stdout, stderr, code := run("--json", "--ca", c.ACME.CAFile, resolve, wss(t, r))
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	var got struct {
		Version string
		Rungs   map[string]evidence.Rung
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if rung := got.Rungs[r.ID().String()]; rung.Outcome != evidence.OK || rung.Detail != got.Version || !strings.HasPrefix(got.Version, "Chrome/") {
		t.Errorf("got %+v", got)
	}

	// The monitor's weekly look is the same.
	look := func(o browser.Options) evidence.Rung { return browser.Look(bounded(t), o, wss(t, r)) }
	o := browser.Options{Resolve: addrs, RootsPEM: ca.RootPEM}
	if rung := look(o); rung.Outcome != evidence.OK || rung.Detail != got.Version {
		t.Errorf("look: %+v", rung)
	}
	o.Program = "/nonexistent/browser"
	if rung := look(o); rung.Outcome != evidence.Blind || rung.Class != evidence.OwnFault || rung.Name != browser.RungName {
		t.Errorf("look without a browser: %+v", rung)
	}

	// Nobody told this browser of the lab's CA.
	stdout, _, code = run(resolve, wss(t, r))
	if code != 1 || !strings.Contains(stdout, "failed (cert-untrusted)") || !strings.Contains(stdout, "to do about dial: get one from a public CA") {
		t.Errorf("exit code %d\n%s", code, stdout)
	}

	_, stderr, code = run("--ca", os.DevNull, "--resolve", "nonsense", "/ip4/192.0.2.1/tcp/1")
	for _, fault := range []string{"/dev/null", "nonsense", "/ip4/192.0.2.1/tcp/1"} {
		if code != 2 || !strings.Contains(stderr, fault) {
			t.Errorf("exit code %d, %s is not among the faults:\n%s", code, fault, stderr)
		}
	}
	if _, stderr, code = run("--program", "/nonexistent/browser", wss(t, r)); code != 1 || !strings.Contains(stderr, "apt-get install chromium") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// The scripts find a log of the last month, of one relay: $ID. Its first hour, $UP,
// was up, the next, $FAIL, has one failure, and the one after that is a gap.
func TestExplain(t *testing.T) {
	month := evidence.MonthOf(time.Now()) - 1
	first := month.First()
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/explain",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exit": exit},
		Setup: func(env *testscript.Env) error {
			// Of its own for each script: they run at the same time.
			w := scene.New(t, evidence.Lab, 1)
			id := w.RelayID
			l, err := store.Create(filepath.Join(env.WorkDir, "log"), store.Options{Name: "m1", Network: evidence.Lab, First: first})
			if err != nil {
				return err
			}
			m := &scene.Watcher{Name: "m1", Log: l}
			w.Monitors = []*scene.Watcher{m}
			for n, outcome := range []evidence.Outcome{evidence.OK, evidence.Fail} {
				h := first + evidence.Hour(n)
				a := w.Attempt(m, h, time.Minute)
				if outcome == evidence.Fail {
					a = w.Down(m, h, time.Minute)
				}
				if err := l.Begin(h, h.Start(), "relaymon/test"); err != nil {
					return err
				}
				if err := l.Append(h, a, certificates(w, a)...); err != nil {
					return err
				}
			}
			if _, err := l.Seal((first + 3).End().Add(evidence.CloseAfter)); err != nil {
				return err
			}
			for name, text := range map[string]string{
				"relaymon.yaml": "name: m1\nnetwork: lab\ndata_dir: .\nroster: roster.yaml\nrules: rules.yaml\n",
				"rules.yaml":    "network: lab\n",
				"roster.yaml": fmt.Sprintf("network: lab\nmonitors:\n- {name: m1, operator: us, log_key: %q, from: %q}\n"+
					"relays:\n- {peer_id: %s, operator: them, ipv4: %s, tcp_port: 4001, domain: relay.example.org, enrolled: %[2]q}\n", l.Key(), first, id, w.IP),
			} {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), []byte(text), 0o644); err != nil {
					return err
				}
			}
			env.Setenv("ID", id)
			env.Setenv("MONTH", month.String())
			for n, name := range []string{"UP", "FAIL", "GAP"} {
				env.Setenv(name, (first + evidence.Hour(n)).String())
			}
			env.Setenv("BEFORE", (first - 1).String())
			env.Setenv("SHORT", first.Start().Format("2006-01-02T15"))
			return l.Close()
		},
	})
}

// certificates are the leaves that an attempt tells of.
func certificates(w *scene.Scene, a evidence.Attempt) [][]byte {
	if a.Facts.Certificate == nil {
		return nil
	}
	return [][]byte{w.DER}
}

// exit runs a command and wants its exit code: exit 2 relaymon ...
func exit(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if err != nil {
		fmt.Sscanf(err.Error(), "exit status %d", &code)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

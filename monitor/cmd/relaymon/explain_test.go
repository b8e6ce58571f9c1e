package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// The scripts find a log of the last month, of one relay: $ID. Its first hour, $UP,
// was up, the next, $FAIL, has one failure, and the one after that is a gap.
func TestExplain(t *testing.T) {
	const id = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
	month := evidence.MonthOf(time.Now()) - 1
	first := month.First()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/explain",
		Setup: func(env *testscript.Env) error {
			l, err := evidence.Create(filepath.Join(env.WorkDir, "log"), evidence.Options{Name: "m1", Network: evidence.Lab, First: first})
			if err != nil {
				return err
			}
			for n, outcome := range []evidence.Outcome{evidence.OK, evidence.Fail} {
				h := first + evidence.Hour(n)
				a := evidence.Attempt{
					Started: evidence.TimeOf(h.Start().Add(time.Minute)), PeerID: id, Level: evidence.LevelEchoed,
					TCP4Addr: "/ip4/127.0.0.2/tcp/4001/p2p/" + id, WSSAddr: "/dns4/relay.test/tcp/443/wss/p2p/" + id,
					Rungs: []evidence.Rung{}, Results: map[evidence.Component]evidence.Result{},
				}
				for _, c := range evidence.Components {
					a.Results[c] = evidence.Result{Outcome: evidence.OK}
				}
				if outcome == evidence.Fail {
					a.Level = 0
					a.Results[evidence.TCP4] = evidence.Result{Outcome: evidence.Fail, Class: evidence.Refused}
					a.Rungs = []evidence.Rung{{Name: "tcp4", Component: evidence.TCP4, Outcome: evidence.Fail, Class: evidence.Refused}}
				}
				if err := l.Begin(h, h.Start(), "relaymon/test"); err != nil {
					return err
				}
				if err := l.Append(h, a); err != nil {
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
					"relays:\n- {peer_id: %s, operator: them, ipv4: 127.0.0.2, tcp_port: 4001, domain: relay.test, wss_port: 443, enrolled: %[2]q}\n", l.Key(), first, id),
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

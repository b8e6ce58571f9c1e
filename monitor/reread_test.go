package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// A new roster ends the run between two attempts, whoever reads it opens the
// monitor anew. One that is broken changes nothing.
func TestNewRosterEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{took: time.Minute, outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
		m, ids := newTestMonitor(t, f, 1, 8)
		m.cfg.Rules, m.cfg.Roster = filepath.Join(m.cfg.DataDir, "rules.yaml"), filepath.Join(m.cfg.DataDir, "roster.yaml")
		good := fmt.Appendf(nil, "network: lab\nmonitors:\n- {name: m1, operator: us, log_key: %q, from: %q}\n"+
			"relays:\n- {peer_id: %s, operator: them, ipv4: 127.0.0.2, tcp_port: 4001, domain: relay.test, enrolled: %[2]q}\n",
			m.store.Key(), evidence.HourOf(time.Now()), ids[0])
		must(t, os.WriteFile(m.cfg.Rules, []byte("network: lab\n"), 0o600))
		must(t, os.WriteFile(m.cfg.Roster, good, 0o600))
		must(t, m.readRules())
		must(t, m.readRoster())
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
		defer cancel()
		changed := time.Now().Add(2 * time.Hour)
		go func() {
			time.Sleep(time.Hour)
			must(t, os.WriteFile(m.cfg.Roster, []byte("nonsense\n"), 0o600))
			time.Sleep(time.Until(changed))
			must(t, os.WriteFile(m.cfg.Roster, append(good, "# a new one\n"...), 0o600))
		}()
		if err := m.Run(ctx); !errors.Is(err, ErrChanged) {
			t.Fatalf("the run ended with %v", err)
		}
		if now := time.Now(); now.Before(changed) || now.Sub(changed) > 2*time.Minute {
			t.Errorf("the run ended %s after the change", now.Sub(changed))
		}
		if m.refused == "" {
			t.Error("the broken roster was not noticed")
		}
		if f.running != 0 || len(m.planner.busy) != 0 {
			t.Error("an attempt was under way")
		}
	})
}

package monitor

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
)

// A monitor follows a signed roster that a newer program wrote, and says once what it
// does not know of it.
func TestRosterFromTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		m, ids := newTestMonitor(t, &fakeNet{}, 2, 4)
		m.log = slog.New(slog.NewTextHandler(&said, nil))
		byFile(t, m, map[string][]int{ids[0]: {4001}})
		secret, key, err := note.GenerateKey(rand.Reader, "committee.example.org")
		must(t, err)
		signer, err := note.NewSigner(secret)
		must(t, err)
		m.cfg.Committee = key
		rules := strings.Replace(string(bounty.DefaultRules), "network: psf", "network: lab", 1)
		signed, err := bounty.Sign([]byte(rules), signer)
		must(t, err)
		must(t, os.WriteFile(m.cfg.Rules, signed, 0o600))
		for serial, relays := range [][]string{1: ids[:1], 2: ids[1:]} {
			if serial == 0 {
				continue
			}
			text := fmt.Appendf(nil, "version: 1\nserial: %d\ncolour: red\n%s", serial, rosterFile(m, m.store.Key(), map[string][]int{relays[0]: {4001}}, 0))
			if serial == 2 {
				text = fmt.Appendf(nil, "previous: %s\n%s", m.basis().roster.SHA256, text)
			}
			signed, err := bounty.Sign(text, signer)
			must(t, err)
			must(t, os.WriteFile(m.cfg.Roster, signed, 0o600))
			said.Reset()
			for range 3 {
				m.reread(t.Context(), time.Now())
			}
			m.running.Wait()
			if got := m.basis().targets(m.store.First()); !slices.Equal(got, relays) {
				t.Fatalf("the relays are %v, want %v: %s", got, relays, said.String())
			}
			if got := strings.Count(said.String(), `the roster file has members that this relaymon does not know: they mean nothing to it" members=colour`); got != 1 {
				t.Errorf("it is said %d times what is unknown, want once: %s", got, said.String())
			}
		}
	})
}

package committee

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/pgtest"
	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// engines are the databases with which each test is run.
func engines(t *testing.T, test func(t *testing.T, address string)) {
	t.Run("sqlite", func(t *testing.T) { test(t, filepath.Join(t.TempDir(), "a folder", "committee.db")) })
	t.Run("postgres", func(t *testing.T) { test(t, server(t).Database(t)) })
}

var shared struct {
	sync.Mutex
	*pgtest.Server
}

// server is one that the tests of this package share.
func server(t *testing.T) *pgtest.Server {
	shared.Lock()
	defer shared.Unlock()
	if shared.Server == nil {
		shared.Server = pgtest.Start(keeps{t})
	}
	return shared.Server
}

// keeps is a test whose server outlives it.
type keeps struct{ *testing.T }

func (keeps) Cleanup(func()) {}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.Server != nil {
		if err := shared.Server.Close(); err != nil && code == 0 {
			code = 1
		}
	}
	os.Exit(code)
}

func open(t testing.TB, address string) *DB {
	t.Helper()
	d, err := Open(t.Context(), address)
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

// basisOf is that of the files of a committee.
func basisOf(t testing.TB, m evidence.Month, rules, roster, releases []byte) *Basis {
	t.Helper()
	b := &Basis{Month: m}
	var err error
	b.Rules, b.RulesSignedBy, err = bounty.OpenRules("rules", rules, "")
	must(t, err)
	b.Roster, b.RosterSignedBy, err = bounty.OpenRoster("roster", roster, "")
	must(t, err)
	if releases != nil {
		b.Releases, err = release.Parse("releases", releases)
		must(t, err)
	}
	b.Geo, err = bundle.DefaultGeo()
	must(t, err)
	return b
}

// same says whether a verdict from the database is that of relayaudit, but for the digests
// of the files that it was judged by there.
func same(t testing.TB, got, want *bounty.Verdict) {
	t.Helper()
	bare := *want
	bare.Monitors = append([]bounty.MonitorReport{}, want.Monitors...)
	for i := range bare.Monitors {
		if bare.Monitors[i].Log && bare.Monitors[i].Digest == "" {
			t.Error("relayaudit tells no digest: this test says nothing")
		}
		bare.Monitors[i].Digest = ""
	}
	a, err := evidence.Encode(got)
	must(t, err)
	b, err := evidence.Encode(&bare)
	must(t, err)
	if !bytes.Equal(a, b) {
		t.Errorf("the verdict differs:\ngot  %s\nwant %s", a, b)
	}
}

// takeExport takes in what a bundle has of a log, as a log would be.
func takeExport(t testing.TB, d *DB, m evidence.MonitorMonth, b *Basis) {
	t.Helper()
	_, keys := b.keys(m.Key)
	whole, err := evidence.VerifyMonth(m, keys)
	must(t, err)
	spine, err := evidence.VerifySpine(m.Spine(), keys)
	must(t, err)
	print, err := keysPrint(keys)
	must(t, err)
	spinePrint, err := printOfSpine(m.Spine())
	must(t, err)
	examiner, err := evidence.NewExaminer(keys)
	must(t, err)
	x := &taker{d: d, log: onlyKey{key: m.Key, certs: whole.Certificates}, holder: "test", certs: map[string]bool{}, fresh: map[string]bool{}}
	free, err := x.claim(t.Context())
	must(t, err)
	if !free {
		t.Fatal("the log is taken")
	}
	must(t, x.begin(t.Context(), b.Month, spine, print, b.relays(), m.StartSize))
	records := m.Records
	for _, h := range whole.Hours {
		if h.Record == nil {
			continue
		}
		tx, err := d.write.BeginTx(t.Context(), nil)
		must(t, err)
		must(t, x.rows(t.Context(), tx, b.Month, h.Header.Hour, []*evidence.Record{h.Record}, records[:1], examiner))
		must(t, tx.Commit())
		records = records[1:]
	}
	must(t, x.finish(t.Context(), b.Month, m.Spine(), spine, spinePrint))
	must(t, x.release(t.Context()))
}

type onlyKey struct {
	Log
	key   string
	certs map[string][]byte
}

func (k onlyKey) Key() string                              { return k.key }
func (k onlyKey) CertificateOf(sha string) ([]byte, error) { return k.certs[sha], nil }

// take takes in logs, one after the other.
func take(t testing.TB, d *DB, now time.Time, bases []*Basis, logs ...Log) (blocks, records int64) {
	t.Helper()
	for _, l := range logs {
		r, err := d.Take(t.Context(), l, now, bases, nil)
		must(t, err)
		if r.Busy {
			t.Errorf("%s: another one is at it", l.Origin())
		}
		blocks, records = blocks+r.Blocks, records+r.Records
	}
	return blocks, records
}

func judge(t testing.TB, d *DB, b *Basis) int64 {
	t.Helper()
	r, err := d.Judge(t.Context(), b, 2, nil)
	must(t, err)
	if len(r.Faults) > 0 {
		t.Errorf("faults: %q", r.Faults)
	}
	return r.Relays
}

// world is a scene with several relays, of which all monitors' whole logs are there.
type world struct {
	*scene.Scene
	keys    []crypto.PrivKey // of the relays
	relays  []string
	entries string // of the roster, besides the first
}

func newWorld(t testing.TB, monitors, relays, hours int) *world {
	t.Helper()
	w := &world{Scene: scene.New(t, evidence.PSF, monitors)}
	w.Hours = hours
	w.keys, w.relays = append(w.keys, w.Relay), append(w.relays, w.RelayID)
	for i := 1; i < relays; i++ {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		must(t, err)
		id, err := peer.IDFromPrivateKey(key)
		must(t, err)
		w.keys, w.relays = append(w.keys, key), append(w.relays, id.String())
		w.enrol(i, w.First)
	}
	return w
}

// enrol enters a relay in the roster.
func (w *world) enrol(i int, from evidence.Hour) {
	w.entries += fmt.Sprintf("- {peer_id: %s, operator: operator-of-%d, ipv4: %s, tcp_port: %d, domain: relay%d.example.org, region: SG, enrolled: %s}\n",
		w.relays[i], i, addressOf(i), 4001, i, from)
}

func addressOf(i int) string { return fmt.Sprintf("165.21.83.%d", 88+i) }

// as makes a relay the one that is seen and exported.
func (w *world) as(i int) { w.Relay, w.RelayID, w.IP = w.keys[i], w.relays[i], addressOf(i) }

// roster is the file, with all relays.
func (w *world) roster() []byte {
	w.as(0)
	return w.Signed(strings.Replace(w.RosterYAML(), "controls:\n", w.entries+"controls:\n", 1))
}

// watch lets hours pass. Each relay has bad ones of its own.
func (w *world) watch(from, until evidence.Hour) {
	for h := from; h < until; h++ {
		for _, m := range w.Monitors {
			for i := range w.relays {
				w.as(i)
				up := w.Attempt(m, h, 10*time.Minute)
				switch (int(h-w.First) + i) % 5 {
				case 3:
					w.Observe(m, h, []evidence.Attempt{w.Down(m, h, 10*time.Minute), w.Down(m, h, 16*time.Minute)})
				case 4: // not seen
				default:
					w.Observe(m, h, []evidence.Attempt{up})
				}
			}
		}
		for _, m := range w.Monitors {
			w.Seal(m, h.End().Add(17*time.Minute))
		}
	}
}

// bases are those of the months of the scene.
func (w *world) bases(t testing.TB, roster []byte) []*Basis {
	t.Helper()
	m := w.First.Month()
	return []*Basis{basisOf(t, m, w.RulesFile(), roster, nil), basisOf(t, m+1, w.RulesFile(), roster, nil)}
}

func (w *world) logs() (out []Log) {
	for _, m := range w.Monitors {
		out = append(out, m.Log)
	}
	return out
}

func settle(t testing.TB, d *DB, bases []*Basis) {
	t.Helper()
	for _, b := range bases {
		must(t, d.Settle(t.Context(), b))
	}
}

// asAudited says whether the verdicts of all relays and months are those of relayaudit.
func (w *world) asAudited(t testing.TB, d *DB, bases []*Basis, roster []byte, forks ...[]byte) {
	t.Helper()
	rules := w.RulesFile()
	for _, b := range bases {
		judge(t, d, b)
		for i, relay := range w.relays {
			if _, ok := b.relays()[relay]; !ok {
				continue
			}
			w.as(i)
			var zip bytes.Buffer
			want, err := bundle.Write(&zip, bundle.Input{Rules: rules, Roster: roster, Relay: relay, Month: b.Month, Logs: w.LogsOf(b.Month), Forks: forks,
				Sign: w.Monitors[0].Log.SignStatement})
			must(t, err)
			got, err := d.Verdict(t.Context(), b.Month, relay)
			must(t, err)
			same(t, got, want)
		}
	}
}

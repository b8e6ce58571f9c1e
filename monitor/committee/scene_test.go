package committee

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/pgtest"
	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/mirror"
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

// exported is an export of one relay as a log: what a test has of a bundle.
type exported struct {
	evidence.MonitorMonth
	dir string
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
	x := &taker{d: d, log: onlyKey{key: m.Key, certs: whole.Certificates}, holder: "test", certs: map[string]bool{}}
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

var _ = context.Background
var _ = mirror.Open

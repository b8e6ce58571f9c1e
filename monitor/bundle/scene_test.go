package bundle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// A scene is a relay, the monitors that watch it with real logs on disk, their
// witnesses and a committee. Only the network between them is left out.
type scene struct {
	t        testing.TB
	network  evidence.Network
	rules    string // YAML over the defaults
	relay    crypto.PrivKey
	relayID  string
	monitors []*watcher
	der      []byte
	cert     *evidence.Certificate
	first    evidence.Hour // the enrolment and the logs begin here
	hours    int
	asOf     time.Time

	committeeKey, committeeSigner string
	releases                      []byte
	place                         string // of all monitors, YAML
	notes                         string // YAML

	set func(*watcher, evidence.Hour) time.Duration // how far the clock was set within the hour; nil: never
}

type watcher struct {
	name      string
	operator  string
	committee bool
	log       *evidence.Log
	dir       string
	from      evidence.Hour  // 0: the scene's first
	until     *evidence.Hour // nil: for ever
	cosigner  ed25519.PrivateKey
	cosignKey string
}

const relayIP = "198.41.0.4"

func newScene(t testing.TB, network evidence.Network, monitors int) *scene {
	t.Helper()
	w := &scene{t: t, network: network}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	w.must(err)
	id, err := peer.IDFromPrivateKey(key)
	w.must(err)
	w.relay, w.relayID = key, id.String()
	w.first = evidence.HourOf(time.Date(2026, 10, 31, 18, 0, 0, 0, time.UTC))
	w.hours = 6
	w.asOf = time.Date(2026, 11, 4, 0, 0, 0, 0, time.UTC)
	w.rules = "hours_required: 5\ncoverage_flag: 0\n"
	w.committeeSigner, w.committeeKey, err = note.GenerateKey(rand.Reader, "committee.example.org")
	w.must(err)
	w.certificate()
	for i := range monitors {
		w.join(i)
	}
	return w
}

// join adds a monitor with a new log that begins in the first hour; number 0 is
// the committee's.
func (w *scene) join(i int) {
	w.t.Helper()
	name := fmt.Sprintf("m%d.example.org", i+1)
	m := &watcher{name: name, operator: fmt.Sprintf("operator-%d", i+1), committee: i == 0, dir: filepath.Join(w.t.TempDir(), name)}
	log, err := evidence.Create(m.dir, evidence.Options{Name: name, Network: w.network, First: w.first})
	w.must(err)
	w.t.Cleanup(func() { log.Close() })
	m.log = log
	m.cosigner, m.cosignKey = newWitness(w.t, name+"-witness")
	w.monitors = append(w.monitors, m)
}

func (w *scene) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *scene) certificate() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay.example.org"}, DNSNames: []string{"relay.example.org"},
		NotBefore: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2026, 12, 30, 0, 0, 0, 0, time.UTC),
	}
	w.der, err = x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	w.must(err)
	w.cert, err = evidence.NewCertificate(w.der)
	w.must(err)
}

// newWitness makes a key for cosignatures (C2SP tlog-cosignature, type 4).
func newWitness(t testing.TB, name string) (ed25519.PrivateKey, string) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	material := append([]byte{4}, pub...)
	sum := sha256.Sum256(append([]byte(name+"\n"), material...))
	return key, fmt.Sprintf("%s+%s+%s", name, hex.EncodeToString(sum[:4]), base64.StdEncoding.EncodeToString(material))
}

// cosign is the line that a witness adds to a checkpoint.
func cosign(key ed25519.PrivateKey, vkey string, checkpoint []byte, at time.Time) []byte {
	text, _, _ := bytes.Cut(checkpoint, []byte("\n\n"))
	msg := fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s\n", at.Unix(), text)
	name, rest, _ := strings.Cut(vkey, "+")
	hash, _, _ := strings.Cut(rest, "+")
	raw, _ := hex.DecodeString(hash)
	raw = binary.BigEndian.AppendUint64(raw, uint64(at.Unix()))
	raw = append(raw, ed25519.Sign(key, msg)...)
	return fmt.Appendf(nil, "— %s %s\n", name, base64.StdEncoding.EncodeToString(raw))
}

// attempt is a full climb by the monitor, so much after the hour's start.
func (w *scene) attempt(m *watcher, h evidence.Hour, after time.Duration) evidence.Attempt {
	w.t.Helper()
	at := h.Start().Add(after)
	id, err := peer.Decode(w.relayID)
	w.must(err)
	salt := make([]byte, 32)
	rand.Read(salt)
	key, err := evidence.Challenge{MonitorKey: m.log.Key(), Relay: id, Hour: h, Salt: salt}.Key()
	w.must(err)
	self, err := peer.IDFromPrivateKey(key)
	w.must(err)
	expires := at.Add(time.Hour)
	e, err := record.Seal(&relayv2.ReservationVoucher{Relay: id, Peer: self, Expiration: expires}, w.relay)
	w.must(err)
	voucher, err := e.Marshal()
	w.must(err)
	return evidence.Attempt{
		Started: evidence.TimeOf(at), PeerID: w.relayID,
		TCP4Addr: "/ip4/" + relayIP + "/tcp/4001/p2p/" + w.relayID,
		WSSAddr:  "/dns4/relay.example.org/tcp/443/tls/ws/p2p/" + w.relayID,
		Rungs: []evidence.Rung{
			{Name: "tcp4", Component: evidence.TCP4, Outcome: evidence.OK, DurationUS: 41_000},
			{Name: "wss", Component: evidence.WSS, Outcome: evidence.OK, OffsetUS: 50_000, DurationUS: 120_000},
			{Name: "reserve", Component: evidence.Relay, Outcome: evidence.OK, OffsetUS: 200_000, DurationUS: 40_000},
			{Name: "circuit", Component: evidence.Relay, Outcome: evidence.OK, OffsetUS: 300_000, DurationUS: 90_000},
		},
		Results: map[evidence.Component]evidence.Result{
			evidence.TCP4: {Outcome: evidence.OK, DurationUS: 41_000}, evidence.WSS: {Outcome: evidence.OK, DurationUS: 120_000},
			evidence.Relay: {Outcome: evidence.OK, DurationUS: 130_000},
		},
		Level: evidence.LevelEchoed,
		Facts: evidence.Facts{
			AgentVersion: "relayd/1.2.3", ResolvedIPv4: []string{relayIP}, Certificate: w.cert, HTTPStatus: 101,
			PingUS: []int64{40_100, 39_900}, HopReserve: 100, HopConnect: 100,
			Reservation: &evidence.Reservation{Peer: self.String(), Salt: salt, Voucher: voucher, Expires: evidence.TimeOf(expires)},
		},
	}
}

// down is a climb that finds nobody listening, with controls that worked.
func (w *scene) down(m *watcher, h evidence.Hour, after time.Duration) evidence.Attempt {
	a := w.attempt(m, h, after)
	a.Facts, a.Level = evidence.Facts{}, 0
	a.Rungs = []evidence.Rung{
		{Name: "tcp4", Component: evidence.TCP4, Outcome: evidence.Fail, Class: evidence.Refused, DurationUS: 41_000},
		{Name: "wss", Component: evidence.WSS, Outcome: evidence.Fail, Class: evidence.Refused, OffsetUS: 41_000, DurationUS: 41_000},
		{Name: "reserve", Component: evidence.Relay, Outcome: evidence.Skipped, Class: evidence.BelowFailed},
	}
	fail := evidence.Result{Outcome: evidence.Fail, Class: evidence.Refused}
	a.Results = map[evidence.Component]evidence.Result{
		evidence.TCP4: fail, evidence.WSS: fail, evidence.Relay: {Outcome: evidence.Skipped, Class: evidence.BelowFailed},
	}
	for _, name := range []string{"c1", "c2", "c3"} {
		for _, c := range []evidence.Component{evidence.TCP4, evidence.WSS} {
			a.Controls = append(a.Controls, evidence.Control{Name: name, Component: c, Outcome: evidence.OK, Started: evidence.TimeOf(a.Started.Add(10 * time.Second))})
		}
	}
	return a
}

// watch lets all monitors watch for w.hours hours. What they see comes from see;
// nil: one full climb an hour.
func (w *scene) watch(see func(m *watcher, h evidence.Hour) []evidence.Attempt) {
	w.t.Helper()
	if see == nil {
		see = func(m *watcher, h evidence.Hour) []evidence.Attempt {
			return []evidence.Attempt{w.attempt(m, h, 10*time.Minute)}
		}
	}
	for h := w.first; h < w.first+evidence.Hour(w.hours); h++ {
		for _, m := range w.monitors {
			w.observe(m, h, see(m, h))
		}
		for _, m := range w.monitors {
			w.seal(m, h.End().Add(17*time.Minute))
		}
	}
}

func (w *scene) observe(m *watcher, h evidence.Hour, attempts []evidence.Attempt) {
	w.t.Helper()
	w.must(m.log.Begin(h, h.Start(), "relaymon/test"))
	w.must(m.log.Mark(h, evidence.Mark{Clock: &evidence.ClockSample{At: evidence.TimeOf(h.Start()), Synchronised: true}}))
	if w.set != nil {
		by := w.set(m, h)
		later := evidence.ClockSample{At: evidence.TimeOf(h.Start().Add(30*time.Minute + by)), Synchronised: true, UpMS: (30 * time.Minute).Milliseconds()}
		w.must(m.log.Mark(h, evidence.Mark{Clock: &later}))
	}
	for _, a := range attempts {
		if a.Facts.Certificate != nil {
			w.must(m.log.Append(h, a, w.der))
		} else {
			w.must(m.log.Append(h, a))
		}
	}
}

// seal seals what has closed; the other monitors cosign it three minutes later.
func (w *scene) seal(m *watcher, now time.Time) {
	w.t.Helper()
	_, err := m.log.Seal(now)
	w.must(err)
	checkpoint, err := m.log.Checkpoint()
	w.must(err)
	for _, o := range w.monitors {
		if o != m {
			w.must(m.log.AddCosignatures(m.log.Size(), cosign(o.cosigner, o.cosignKey, checkpoint, now.Add(3*time.Minute)), o.cosignKey))
		}
	}
}

func (w *scene) rosterYAML() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nserial: 1\nnetwork: %s\nmonitors:\n", w.network)
	for _, m := range w.monitors {
		place, until := "null", "null"
		if m.until != nil {
			until = m.until.String()
		}
		if w.place != "" {
			place = w.place
		}
		fmt.Fprintf(&b, "- {name: %s, operator: %s, committee: %v, log_key: %q, witness_key: %q, place: %s, from: %s, until: %s}\n",
			m.name, m.operator, m.committee, m.log.Key(), m.cosignKey, place, max(m.from, w.first), until)
	}
	s, err := statement.Sign(statement.Statement{
		Kind: statement.Enrol, Network: string(w.network), PeerID: w.relayID, Operator: "relay-operator", IPv4: relayIP, TCPPort: 4001,
		Domain: "relay.example.org", WSSPort: 443, Payout: "bitcoincash:qexample", From: w.first.Start(), Made: w.first.Start(),
	}, w.relay)
	w.must(err)
	fmt.Fprintf(&b, "relays:\n- {peer_id: %s, operator: relay-operator, ipv4: %s, tcp_port: 4001, domain: relay.example.org, region: SG, payout: \"bitcoincash:qexample\", enrolled: %s, statement: %q}\n",
		w.relayID, relayIP, w.first, statement.Text(s))
	b.WriteString("controls:\n")
	for i := range 3 {
		fmt.Fprintf(&b, "- {name: c%d, operator: c%d, tcp4: /ip4/192.5.5.241/tcp/4001, wss: /dns4/c%d.example.net/tcp/443/wss}\n", i+1, i+1, i+1)
	}
	b.WriteString(w.notes)
	if w.releases != nil {
		fmt.Fprintf(&b, "releases: %s\n", hashOf(w.releases))
	}
	return b.String()
}

// rulesOver are whole rules: the defaults, and over them what the YAML says.
func rulesOver(t testing.TB, over string) string {
	t.Helper()
	rules := map[string]any{}
	for _, file := range []string{string(bounty.DefaultRules), over} {
		var some map[string]any
		if err := yaml.Unmarshal([]byte(file), &some); err != nil {
			t.Fatal(err)
		}
		maps.Copy(rules, some)
	}
	out, err := yaml.Marshal(rules)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func (w *scene) signed(yaml string) []byte {
	w.t.Helper()
	signer, err := note.NewSigner(w.committeeSigner)
	w.must(err)
	out, err := bounty.Sign([]byte(yaml), signer)
	w.must(err)
	return out
}

func (w *scene) input() Input {
	w.t.Helper()
	month := w.first.Month()
	in := Input{
		Rules: w.signed(rulesOver(w.t, fmt.Sprintf("network: %s\n%s", w.network, w.rules))), Roster: w.signed(w.rosterYAML()), Releases: w.releases,
		Relay: w.relayID, Month: month, AsOf: w.asOf, Sign: w.monitors[0].log.SignStatement,
	}
	var witnesses []string
	for _, m := range w.monitors {
		witnesses = append(witnesses, m.cosignKey)
	}
	for _, m := range w.monitors {
		log, err := m.log.Month(month, w.relayID, w.asOf, witnesses...)
		w.must(err)
		in.Logs = append(in.Logs, log)
	}
	return in
}

func (w *scene) options(in Input) Options {
	return Options{Rules: in.Rules, Roster: in.Roster, Committee: w.committeeKey, Geo: in.Geo}
}

func (w *scene) bundle(in Input) []byte {
	w.t.Helper()
	var b bytes.Buffer
	w.must(Write(&b, in))
	return b.Bytes()
}

func verify(b []byte, o Options) (Result, error) {
	return Verify(bytes.NewReader(b), int64(len(b)), o)
}

// copyLog copies the folder of a monitor's log, as a backup or a snapshot of its
// host would.
func copyLog(t testing.TB, w *scene, m *watcher, to string) {
	t.Helper()
	w.must(os.CopyFS(to, os.DirFS(m.dir)))
}

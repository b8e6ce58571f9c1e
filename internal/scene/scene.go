// Package scene sets up for tests what a bundle is made of: a relay, monitors that
// watch it and keep real logs, their witnesses and a committee, all with real keys.
// Only the network between them is left out.
package scene

import (
	"bytes"
	"cmp"
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
	"slices"
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
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// Scene is a relay, the monitors that watch it with real logs on disk, their
// witnesses and a committee.
type Scene struct {
	t        testing.TB
	Network  evidence.Network
	Rules    string // YAML over the defaults
	Relay    crypto.PrivKey
	RelayID  string
	IP       string // the relay's
	Monitors []*Watcher
	DER      []byte                // the relay's certificate
	Cert     *evidence.Certificate // what a record tells of it
	First    evidence.Hour         // the enrolment and the logs begin here
	Hours    int
	AsOf     time.Time // when the logs are exported

	CommitteeKey, CommitteeSigner string // of notes: verifier key and secret key
	Releases                      []byte // the file, or nil
	Place                         string // of all monitors, YAML
	Notes                         string // YAML
	Beacon                        []byte // goes into identities; nil: another operator's cosignature does

	// Witness is when a monitor cosigns another one's log that was sealed at that time; zero:
	// it does not. nil: three minutes later.
	Witness func(by, of *Watcher, sealed time.Time) time.Time

	// OffPlan leaves attempts at the times that were given, whatever the monitor's plan says.
	OffPlan bool

	// Set is how far a monitor's clock was set within the hour; nil: never.
	Set func(*Watcher, evidence.Hour) time.Duration
}

// Watcher is a monitor.
type Watcher struct {
	Name      string
	Operator  string
	Committee bool
	Log       *store.Log
	Dir       string         // of the log
	From      evidence.Hour  // 0: the scene's first
	Until     *evidence.Hour // nil: for ever
	Cosigner  ed25519.PrivateKey
	CosignKey string // verifier key
	PlanKey   string // in the roster; empty: that of the log
}

// RelayIP is where a scene's relay is: in Singapore, say both built-in data sets.
const RelayIP = "165.21.83.88"

// New makes a scene of six hours across the end of a month; nothing has been seen yet.
func New(t testing.TB, network evidence.Network, monitors int) *Scene {
	t.Helper()
	w := &Scene{t: t, Network: network}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	w.Must(err)
	id, err := peer.IDFromPrivateKey(key)
	w.Must(err)
	w.Relay, w.RelayID, w.IP = key, id.String(), RelayIP
	w.First = evidence.HourOf(time.Date(2026, 10, 31, 18, 0, 0, 0, time.UTC))
	w.Hours = 6
	w.AsOf = time.Date(2026, 11, 4, 1, 0, 0, 0, time.UTC)
	w.Rules = "hours_required: 5\ncoverage_flag: 0\n"
	w.CommitteeSigner, w.CommitteeKey, err = note.GenerateKey(rand.Reader, "committee.example.org")
	w.Must(err)
	w.certificate()
	for i := range monitors {
		w.Join(i)
	}
	return w
}

// Join adds a monitor with a new log that begins in the first hour; number 0 is
// the committee's.
func (w *Scene) Join(i int) {
	w.t.Helper()
	name := fmt.Sprintf("m%d.example.org", i+1)
	m := &Watcher{Name: name, Operator: fmt.Sprintf("operator-%d", i+1), Committee: i == 0, Dir: filepath.Join(w.t.TempDir(), name)}
	log, err := store.Create(m.Dir, store.Options{Name: name, Network: w.Network, First: w.First})
	w.Must(err)
	w.t.Cleanup(func() { log.Close() })
	m.Log = log
	m.Cosigner, m.CosignKey = NewWitness(w.t, name+"-witness")
	w.Monitors = append(w.Monitors, m)
}

// Must ends the test on an error.
func (w *Scene) Must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *Scene) certificate() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.Must(err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay.example.org"}, DNSNames: []string{"relay.example.org"},
		NotBefore: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2026, 12, 30, 0, 0, 0, 0, time.UTC),
	}
	w.DER, err = x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	w.Must(err)
	w.Cert, err = evidence.NewCertificate(w.DER)
	w.Must(err)
}

// NewWitness makes a key for cosignatures (C2SP tlog-cosignature, type 4).
func NewWitness(t testing.TB, name string) (ed25519.PrivateKey, string) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	material := append([]byte{4}, pub...)
	sum := sha256.Sum256(append([]byte(name+"\n"), material...))
	return key, fmt.Sprintf("%s+%s+%s", name, hex.EncodeToString(sum[:4]), base64.StdEncoding.EncodeToString(material))
}

// Cosign is the line that a witness adds to a checkpoint.
func Cosign(key ed25519.PrivateKey, vkey string, checkpoint []byte, at time.Time) []byte {
	text, _, _ := bytes.Cut(checkpoint, []byte("\n\n"))
	msg := fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s\n", at.Unix(), text)
	name, rest, _ := strings.Cut(vkey, "+")
	hash, _, _ := strings.Cut(rest, "+")
	raw, _ := hex.DecodeString(hash)
	raw = binary.BigEndian.AppendUint64(raw, uint64(at.Unix()))
	raw = append(raw, ed25519.Sign(key, msg)...)
	return fmt.Appendf(nil, "— %s %s\n", name, base64.StdEncoding.EncodeToString(raw))
}

// Attempt is a full climb by the monitor, so much after the hour's start.
func (w *Scene) Attempt(m *Watcher, h evidence.Hour, after time.Duration) evidence.Attempt {
	w.t.Helper()
	at := h.Start().Add(after)
	id, err := peer.Decode(w.RelayID)
	w.Must(err)
	salt := make([]byte, 32)
	rand.Read(salt)
	cosigned := w.Fresh(m, h)
	key, err := evidence.Challenge{Beacon: w.Beacon, Cosigned: cosigned, MonitorKey: m.Log.Key(), Relay: id, Hour: h, Salt: salt}.Key()
	w.Must(err)
	self, err := peer.IDFromPrivateKey(key)
	w.Must(err)
	expires := at.Add(time.Hour)
	e, err := record.Seal(&relayv2.ReservationVoucher{Relay: id, Peer: self, Expiration: expires}, w.Relay)
	w.Must(err)
	voucher, err := e.Marshal()
	w.Must(err)
	return evidence.Attempt{
		Started: evidence.TimeOf(at), PeerID: w.RelayID,
		TCP4Addr: "/ip4/" + w.IP + "/tcp/4001/p2p/" + w.RelayID,
		WSSAddr:  "/dns4/relay.example.org/tcp/443/tls/ws/p2p/" + w.RelayID,
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
			AgentVersion: "relayd/1.2.3", ResolvedIPv4: []string{w.IP}, Certificate: w.Cert, HTTPStatus: 101,
			PingUS: []int64{40_100, 39_900}, HopReserve: 100, HopConnect: 100,
			Reservation: &evidence.Reservation{Peer: self.String(), Salt: salt, Beacon: w.Beacon, Cosigned: cosigned, Voucher: voucher, Expires: evidence.TimeOf(expires)},
		},
	}
}

// Fresh is what nobody could know before hour h: a cosignature of its first second, by
// the next monitor in force, of the log's checkpoint without any block; empty: there is no other.
func (w *Scene) Fresh(m *Watcher, h evidence.Hour) string {
	i := slices.Index(w.Monitors, m)
	var other *Watcher
	for k := range w.Monitors {
		o := w.Monitors[(i+1+k)%len(w.Monitors)]
		if o != m && (o.Until == nil || h < *o.Until) {
			other = o
			break
		}
	}
	if other == nil {
		return ""
	}
	root := sha256.Sum256(nil)
	text := fmt.Sprintf("%s\n0\n%s\n\n", m.Log.Origin(), base64.StdEncoding.EncodeToString(root[:]))
	return text + string(Cosign(other.Cosigner, other.CosignKey, []byte(text), h.Start()))
}

// Down is a climb that finds nobody listening, with controls that worked.
func (w *Scene) Down(m *Watcher, h evidence.Hour, after time.Duration) evidence.Attempt {
	a := w.Attempt(m, h, after)
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

// Watch lets all monitors watch for w.Hours hours. What they see comes from see;
// nil: one full climb an hour.
func (w *Scene) Watch(see func(m *Watcher, h evidence.Hour) []evidence.Attempt) {
	w.t.Helper()
	if see == nil {
		see = func(m *Watcher, h evidence.Hour) []evidence.Attempt {
			return []evidence.Attempt{w.Attempt(m, h, 10*time.Minute)}
		}
	}
	for h := w.First; h < w.First+evidence.Hour(w.Hours); h++ {
		for _, m := range w.Monitors {
			w.Observe(m, h, see(m, h))
		}
		for _, m := range w.Monitors {
			w.Seal(m, h.End().Add(17*time.Minute))
		}
	}
	w.Settle()
}

// Settle lets the logs go on, without a look at any relay, until they are exported.
func (w *Scene) Settle() {
	w.t.Helper()
	last := w.AsOf.Truncate(time.Hour).Add(-time.Hour).Add(17 * time.Minute)
	for _, m := range w.Monitors {
		if int64(evidence.HourOf(last)-w.First) > m.Log.Size() {
			w.Seal(m, last)
		}
	}
}

// onPlan moves attempts of the real network by so much that the first one begins when it
// is due, if it would be earlier: else no hour would count (rule R2).
func (w *Scene) onPlan(m *Watcher, h evidence.Hour, attempts []evidence.Attempt) []evidence.Attempt {
	if w.Network == evidence.Lab || w.OffPlan || len(attempts) == 0 {
		return attempts
	}
	by := m.Log.Offset(attempts[0].PeerID, h) - attempts[0].Started.Sub(h.Start())
	if by <= 0 {
		return attempts
	}
	out := slices.Clone(attempts)
	for i := range out {
		out[i].Started = evidence.TimeOf(out[i].Started.Add(by))
		out[i].Controls = slices.Clone(out[i].Controls)
		for k, c := range out[i].Controls {
			out[i].Controls[k].Started = evidence.TimeOf(c.Started.Add(by))
		}
	}
	return out
}

// Observe writes what the monitor saw in an hour into its log.
func (w *Scene) Observe(m *Watcher, h evidence.Hour, attempts []evidence.Attempt) {
	w.t.Helper()
	w.Must(m.Log.Begin(h, h.Start(), "relaymon/test"))
	w.Must(m.Log.Mark(h, evidence.Mark{Clock: &evidence.ClockSample{At: evidence.TimeOf(h.Start()), Synchronised: true}}))
	if w.Set != nil {
		by := w.Set(m, h)
		later := evidence.ClockSample{At: evidence.TimeOf(h.Start().Add(30*time.Minute + by)), Synchronised: true, UpMS: (30 * time.Minute).Milliseconds()}
		w.Must(m.Log.Mark(h, evidence.Mark{Clock: &later}))
	}
	for _, a := range w.onPlan(m, h, attempts) {
		if a.Facts.Certificate != nil {
			w.Must(m.Log.Append(h, a, w.DER))
		} else {
			w.Must(m.Log.Append(h, a))
		}
	}
}

// Seal seals what has closed; the other monitors cosign it three minutes later.
func (w *Scene) Seal(m *Watcher, now time.Time) {
	w.t.Helper()
	_, err := m.Log.Seal(now)
	w.Must(err)
	checkpoint, err := m.Log.Checkpoint()
	w.Must(err)
	for _, o := range w.Monitors {
		at := now.Add(3 * time.Minute)
		if w.Witness != nil {
			at = w.Witness(o, m, now)
		}
		if o == m || at.IsZero() {
			continue
		}
		w.Must(m.Log.AddCosignatures(m.Log.Size(), Cosign(o.Cosigner, o.CosignKey, checkpoint, at), o.CosignKey))
	}
}

// RosterYAML is the roster, before it is signed.
func (w *Scene) RosterYAML() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nserial: 1\nnetwork: %s\nmonitors:\n", w.Network)
	for _, m := range w.Monitors {
		place, until := "null", "null"
		if m.Until != nil {
			until = m.Until.String()
		}
		if w.Place != "" {
			place = w.Place
		}
		fmt.Fprintf(&b, "- {name: %s, operator: %s, committee: %v, log_key: %q, plan_key: %q, witness_key: %q, place: %s, from: %s, until: %s}\n",
			m.Name, m.Operator, m.Committee, m.Log.Key(), cmp.Or(m.PlanKey, m.Log.PlanKey()), m.CosignKey, place, max(m.From, w.First), until)
	}
	s, err := statement.Sign(statement.Statement{
		Kind: statement.Enrol, Network: string(w.Network), PeerID: w.RelayID, Operator: "relay-operator", IPv4: w.IP, TCPPort: 4001,
		Domain: "relay.example.org", WSSPort: 443, Payout: "bitcoincash:qexample", From: w.First.Start(), Made: w.First.Start(),
	}, w.Relay)
	w.Must(err)
	fmt.Fprintf(&b, "relays:\n- {peer_id: %s, operator: relay-operator, ipv4: %s, tcp_port: 4001, domain: relay.example.org, region: SG, payout: \"bitcoincash:qexample\", enrolled: %s, statement: %q}\n",
		w.RelayID, w.IP, w.First, statement.Text(s))
	b.WriteString("controls:\n")
	for i := range 3 {
		fmt.Fprintf(&b, "- {name: c%d, operator: c%d, tcp4: /ip4/192.5.5.241/tcp/4001, wss: /dns4/c%d.example.net/tcp/443/wss}\n", i+1, i+1, i+1)
	}
	b.WriteString(w.Notes)
	if w.Releases != nil {
		fmt.Fprintf(&b, "releases: %x\n", sha256.Sum256(w.Releases))
	}
	return b.String()
}

// Signed puts the committee's signature under a file.
func (w *Scene) Signed(yaml string) []byte {
	w.t.Helper()
	signer, err := note.NewSigner(w.CommitteeSigner)
	w.Must(err)
	out, err := bounty.Sign([]byte(yaml), signer)
	w.Must(err)
	return out
}

// RulesOver are whole rules: the defaults, and over them what the YAML says.
func RulesOver(t testing.TB, over string) string {
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

// RulesFile is the rules, signed.
func (w *Scene) RulesFile() []byte {
	return w.Signed(RulesOver(w.t, fmt.Sprintf("network: %s\n%s", w.Network, w.Rules)))
}

// Logs are the exports of the monitors' logs for the month in which the scene begins.
func (w *Scene) Logs() []evidence.MonitorMonth { return w.LogsOf(w.First.Month()) }

// LogsOf are the exports of the monitors' logs for a month.
func (w *Scene) LogsOf(month evidence.Month) []evidence.MonitorMonth {
	w.t.Helper()
	var witnesses []string
	for _, m := range w.Monitors {
		witnesses = append(witnesses, m.CosignKey)
	}
	var out []evidence.MonitorMonth
	for _, m := range w.Monitors {
		log, err := m.Log.Month(month, w.RelayID, w.AsOf, witnesses...)
		w.Must(err)
		out = append(out, log)
	}
	return out
}

// Fork begins the victim's first hour; two copies of its folder then write two other
// histories from the same keys. Their checkpoints convict it (evidence.NewFork).
func (w *Scene) Fork(victim *Watcher) []byte {
	w.t.Helper()
	w.Observe(victim, w.First, []evidence.Attempt{w.Attempt(victim, w.First, time.Minute)})
	var checkpoints [2][]byte
	for i := range checkpoints {
		copied := filepath.Join(w.t.TempDir(), "copy")
		w.Must(os.CopyFS(copied, os.DirFS(victim.Dir)))
		twin, err := store.Open(copied)
		w.Must(err)
		w.t.Cleanup(func() { twin.Close() })
		w.Must(twin.Append(w.First, w.Attempt(victim, w.First, time.Duration(20+i)*time.Minute), w.DER))
		_, err = twin.Seal(w.First.End().Add(17 * time.Minute))
		w.Must(err)
		checkpoints[i], err = twin.Checkpoint()
		w.Must(err)
	}
	pair, err := evidence.NewFork(checkpoints[0], checkpoints[1], victim.Log.Key())
	w.Must(err)
	return pair
}

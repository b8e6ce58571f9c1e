package scale

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/bls"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// watcher is one of the fleet's monitors. Every tenth is the committee's; of the others each
// operator has two.
type watcher struct {
	name, operator string
	committee      bool
	lat, lon       float64
	key            evidence.SigningKey
	witness        evidencetest.Witness
	plan           *bls.SecretKey
	log            *store.Log
}

// relay is one of the fleet's.
type relay struct {
	evidencetest.Relay
	number               int
	id, domain, operator string
	ipv4                 string
	der                  []byte
	template             evidence.Attempt // a full climb, to another time
}

// found are the fleet's monitors, and its drand.
func found(dir string, o Options) (*Fleet, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	f := &Fleet{Options: o, dir: dir}
	var err error
	if f.drand, err = o.newDrand(); err != nil {
		return nil, err
	}
	for i := range o.Monitors {
		m, err := o.newMonitor(i)
		if err != nil {
			return nil, err
		}
		f.monitors = append(f.monitors, m)
	}
	return f, nil
}

func (o Options) newMonitor(i int) (*watcher, error) {
	m := &watcher{
		name: fmt.Sprintf("m%02d.fleet.test", i), operator: fmt.Sprintf("monitor-operator-%02d", i/2),
		committee: i%10 == 0, lat: float64(i*7%120 - 60), lon: float64(i*37%360 - 180),
	}
	if m.committee {
		m.operator = "the-committee"
	}
	origin, err := evidence.Origin(m.name, evidence.Lab)
	if err != nil {
		return nil, err
	}
	if m.key, err = evidence.NewSigningKey(o.chance("log", i), origin, evidence.LogKeyType); err != nil {
		return nil, err
	}
	if m.witness.SigningKey, err = evidence.NewSigningKey(o.chance("witness", i), origin+"/witness", evidence.WitnessKeyType); err != nil {
		return nil, err
	}
	seed := o.seedOf("plan", i)
	m.plan, err = bls.KeyGen(seed[:])
	return m, err
}

// create makes the monitor's log, as "relaymon init" does, but with keys that follow from
// the seed: a log takes keys that a creation before has left behind.
func (m *watcher) create(dir string) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for file, key := range map[string]string{"log.key": m.key.String(), "witness.key": m.witness.String(), "plan.key": m.plan.Text()} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(key+"\n"), 0o600); err != nil {
			return err
		}
	}
	m.log, err = store.Create(dir, store.Options{Name: m.name, Network: evidence.Lab, First: Month.First()})
	return err
}

func (o Options) newRelay(i int) (*relay, error) {
	seed := o.seedOf("relay", i)
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		return nil, err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	r := &relay{
		Relay: evidencetest.Relay{Key: key, ID: id}, number: i, id: id.String(),
		domain: fmt.Sprintf("r%05d.fleet.test", i), operator: fmt.Sprintf("relay-operator-%05d", i/5),
		ipv4: fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255),
	}
	return r, r.ready(o)
}

// ready makes what the relay shows: its certificate, and an attempt that finds it up.
func (r *relay) ready(o Options) error {
	seed := o.seedOf("certificate", r.number)
	key := ed25519.NewKeyFromSeed(seed[:])
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(int64(r.number) + 1), Subject: pkix.Name{CommonName: r.domain}, DNSNames: []string{r.domain},
		NotBefore: Month.First().Start().AddDate(0, 0, -10), NotAfter: Month.First().Start().AddDate(0, 0, 80),
	}
	var err error
	if r.der, err = x509.CreateCertificate(nil, leaf, leaf, key.Public(), key); err != nil {
		return err
	}
	cert, err := evidence.NewCertificate(r.der)
	if err != nil {
		return err
	}
	a := r.Attempt(must{}, "key", Month.First(), 0, cert)
	a.TCP4Addr = fmt.Sprintf("/ip4/%s/tcp/4001/p2p/%s", r.ipv4, r.id)
	a.WSSAddr = fmt.Sprintf("/dns4/%s/tcp/443/tls/ws/p2p/%s", r.domain, r.id)
	a.Facts.CircuitAddr = a.TCP4Addr + "/p2p-circuit"
	a.Facts.ResolvedIPv4 = []string{r.ipv4}
	r.template = a
	return nil
}

// up is a full climb at a time, with a reservation for that very hour.
func (r *relay) up(o Options, m *watcher, h evidence.Hour, at time.Time, round []byte) (evidence.Attempt, error) {
	a := r.template
	a.Started = evidence.TimeOf(at)
	salt := o.seedOf("salt", m.name, r.number, h)
	key, err := evidence.Challenge{Beacon: round, MonitorKey: m.log.Key(), Relay: r.ID, Hour: h, Salt: salt[:]}.Key()
	if err != nil {
		return a, err
	}
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return a, err
	}
	expires := at.Add(time.Hour)
	a.Facts.Reservation = &evidence.Reservation{
		Peer: self.String(), Salt: salt[:], Beacon: round, Voucher: r.Voucher(must{}, self, expires), Expires: evidence.TimeOf(expires),
	}
	return a, nil
}

// down is a climb that finds nobody listening, with controls that worked.
func (r *relay) down(at time.Time) evidence.Attempt {
	a := r.template
	a.Started, a.Facts, a.Level = evidence.TimeOf(at), evidence.Facts{}, 0
	a.Rungs = []evidence.Rung{
		{Name: "tcp4", Component: evidence.TCP4, Outcome: evidence.Fail, Class: evidence.Refused, DurationUS: 41_000},
		{Name: "wss", Component: evidence.WSS, Outcome: evidence.Fail, Class: evidence.Refused, OffsetUS: 41_000, DurationUS: 41_000},
		{Name: "reserve", Component: evidence.Relay, Outcome: evidence.Skipped, Class: evidence.BelowFailed},
	}
	refused := evidence.Result{Outcome: evidence.Fail, Class: evidence.Refused, DurationUS: 41_000}
	a.Results = map[evidence.Component]evidence.Result{
		evidence.TCP4: refused, evidence.WSS: refused, evidence.Relay: {Outcome: evidence.Skipped, Class: evidence.BelowFailed},
	}
	for i := range controls {
		for _, c := range []evidence.Component{evidence.TCP4, evidence.WSS} {
			a.Controls = append(a.Controls, evidence.Control{
				Name: controlName(i), Component: c, Outcome: evidence.OK, Started: evidence.TimeOf(at.Add(10 * time.Second)), DurationUS: 80_000, Sent: 9,
			})
		}
	}
	return a
}

// isDown says whether the relay is down: every tenth is, for two hours in each twelve.
func (r *relay) isDown(h evidence.Hour) bool {
	since := int(h-Month.First()) + r.number/10*5
	return r.number%10 == 3 && (since%12 == 1 || since%12 == 2)
}

// must ends on what cannot fail here, where no test does it.
type must struct{ testing.TB }

func (must) Helper() {}

func (must) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

package monitor

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/monitor/beacon"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// drand is a server of a chain whose secret key is known, so that it has a round
// for any hour.
type drand struct {
	*beacon.Chain
	t       *testing.T
	genesis time.Time
	secret  *big.Int
	asked   int
	answer  func(number uint64, good string) (int, string) // nil: the good one
}

func newDrand(t *testing.T, genesis time.Time) *drand {
	t.Helper()
	d := &drand{t: t, genesis: genesis, secret: big.NewInt(1234567)}
	_, _, _, key := bls12381.Generators()
	key.ScalarMultiplication(&key, d.secret)
	raw := key.Bytes()
	var err error
	d.Chain, err = beacon.NewChain(strings.Repeat("ab", 32), raw[:], genesis, 3*time.Second)
	must(t, err)
	return d
}

func (d *drand) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.asked++
	number, err := strconv.ParseUint(filepath.Base(r.URL.Path), 10, 64)
	if err != nil || r.URL.Path != "/api/"+d.Path(number) {
		d.t.Errorf("asked for %s", r.URL.Path)
	}
	if time.Now().Before(d.genesis.Add(time.Duration(number-1) * 3 * time.Second)) {
		http.NotFound(w, r)
		return
	}
	status, body := http.StatusOK, d.round(number)
	if d.answer != nil {
		status, body = d.answer(number, body)
	}
	w.WriteHeader(status)
	fmt.Fprint(w, body)
}

// round is one as drand's API gives it out.
func (d *drand) round(number uint64) string {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, number))
	sig, err := bls12381.HashToG1(sum[:], []byte("BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"))
	if err != nil {
		d.t.Error(err)
	}
	sig.ScalarMultiplication(&sig, d.secret)
	return fmt.Sprintf(`{"round":%d,"signature":"%x"}`, number, sig.Bytes())
}

// A round goes into the identity that reserves, stands with the attempt in the
// log, and is found good by whoever verifies it.
func TestBeaconInChallenge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDrand(t, time.Now().Add(-90*24*time.Hour-7*time.Second))
		f := &fakeNet{took: time.Second, outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
		m, ids := newTestMonitor(t, f, 1, 8)
		client := &http.Client{Transport: inBubble{"drand": func() http.Handler { return d }}}
		m.beacons = newBeacons(d.Chain, []string{"http://drand/api/"}, client, m.log)
		m.identities.beacon = m.beacons.of
		id, err := peer.Decode(ids[0])
		must(t, err)
		make := func(h evidence.Hour) identity {
			t.Helper()
			i, err := m.identities.of(ids[0], h)
			must(t, err)
			return i
		}

		time.Sleep(5 * time.Second) // the hour's round is out
		before := make(evidence.HourOf(time.Now()) - 1)
		if before.beacon != nil {
			t.Fatal("it has a beacon of which nobody was asked")
		}
		m.fetchBeacons(t.Context())
		h := evidence.HourOf(time.Now())
		i := make(h)
		if err := d.VerifyBeacon(i.beacon, h.Start()); err != nil {
			t.Fatal(err)
		}
		want, err := evidence.Challenge{Beacon: i.beacon, MonitorKey: m.store.Key(), Relay: id, Hour: h, Salt: i.salt}.Key()
		must(t, err)
		if !want.Equals(i.key) {
			t.Error("the beacon is not in the challenge")
		}
		a := evidence.Attempt{Facts: evidence.Facts{Reservation: &evidence.Reservation{}}}
		i.sign(&a, h)
		if string(a.Facts.Reservation.Beacon) != string(i.beacon) {
			t.Error("the beacon is not in the record")
		}
		// An identity made before its hour's round was there goes on without.
		if again := make(h - 1); again.beacon != nil || !again.key.Equals(before.key) {
			t.Error("an identity has changed")
		}
		// After a restart it is the same one.
		restarted := &identities{monitor: m.store.Key(), salts: map[job][]byte{}, beacon: func(evidence.Hour) []byte { return nil }}
		a.PeerID = ids[0]
		restarted.restore(evidence.Record{PeerID: ids[0], Hour: h, Attempts: []evidence.Attempt{a}})
		if again, err := restarted.of(ids[0], h); err != nil || !again.key.Equals(i.key) {
			t.Errorf("after a restart there is another identity: %v", err)
		}
		asked := d.asked
		m.fetchBeacons(t.Context())
		if d.asked != asked {
			t.Error("it is asked for what is at hand")
		}
	})
}

// What no server has, or what is not the chain's, is done without; tries become
// rarer, and the next server is asked.
func TestBeaconServers(t *testing.T) {
	now := time.Now()
	h := evidence.HourOf(now)
	d := newDrand(t, now.Add(-30*24*time.Hour))
	bad, good := httptest.NewServer(d), httptest.NewServer(newDrandLike(d))
	defer bad.Close()
	defer good.Close()
	other := newDrand(t, d.genesis)
	other.secret = big.NewInt(99)
	for name, answer := range map[string]func(uint64, string) (int, string){
		"not there": func(uint64, string) (int, string) { return 404, "" },
		"garbage":   func(uint64, string) (int, string) { return 200, "<html>" },
		"endless":   func(_ uint64, good string) (int, string) { return 200, strings.Repeat(" ", maxRoundAnswer) + good },
		"other round": func(n uint64, good string) (int, string) {
			return 200, strings.Replace(good, fmt.Sprint(n), fmt.Sprint(n+1), 1)
		},
		"forged": func(n uint64, _ string) (int, string) { return 200, other.round(n) },
	} {
		d.answer = answer
		b := newBeacons(d.Chain, []string{bad.URL + "/api"}, bad.Client(), slog.New(slog.DiscardHandler))
		d.asked = 0
		for s := range 3600 {
			b.fetch(t.Context(), []evidence.Hour{h}, now.Add(time.Duration(s)*time.Second))
		}
		if b.of(h) != nil {
			t.Errorf("%s: it counts", name)
		}
		if d.asked < 10 || d.asked > 30 {
			t.Errorf("%s: asked %d times in an hour", name, d.asked)
		}
		b.urls = append(b.urls, "http://127.0.0.1:1", good.URL+"/api")
		b.fetch(t.Context(), []evidence.Hour{h}, now.Add(2*time.Hour))
		if err := d.VerifyBeacon(b.of(h), h.Start()); err != nil {
			t.Errorf("%s: the server after it was not heard: %v", name, err)
		}
		b.fetch(t.Context(), []evidence.Hour{h + 100}, (h + 100).Start().Add(-time.Second))
		for later := h + 1; later < h+100; later++ {
			b.note(later, []byte{1}, nil, now)
		}
		if len(b.rounds) > 50 || b.of(h) != nil {
			t.Errorf("%s: %d rounds are kept", name, len(b.rounds))
		}
	}
}

// newDrandLike serves the same chain without faults.
func newDrandLike(d *drand) *drand {
	return &drand{Chain: d.Chain, t: d.t, genesis: d.genesis, secret: d.secret}
}

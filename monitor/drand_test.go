package monitor

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bls"
	"github.com/psf-relay/relay-appliance/monitor/beacon"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// drand is a server of a chain whose secret key is known, so that it has a round
// for any hour.
type drand struct {
	*beacon.Chain
	t       *testing.T
	genesis time.Time
	secret  *bls.SecretKey
	asked   int
	answer  func(number uint64, good string) (int, string) // nil: the good one
}

func newDrand(t *testing.T, genesis time.Time) *drand {
	t.Helper()
	secret, err := bls.GenerateKey()
	must(t, err)
	d := &drand{t: t, genesis: genesis, secret: secret}
	d.Chain, err = beacon.NewChain(strings.Repeat("ab", 32), secret.Public().Bytes(), genesis, 3*time.Second)
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
	sig, err := d.secret.Sign(sum[:])
	if err != nil {
		d.t.Error(err)
	}
	return fmt.Sprintf(`{"round":%d,"signature":"%x"}`, number, sig)
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
		roster := m.basis().roster
		time.Sleep(20 * time.Minute)
		m.fetchBeacons(t.Context())
		h := evidence.HourOf(time.Now())
		id, err := m.identify(roster, &roster.Relays[0], h)
		must(t, err)
		if err := d.VerifyBeacon(id.beacon, h.Start()); err != nil {
			t.Fatal(err)
		}
		a := attempt(time.Now(), evidence.OK)
		a.PeerID, a.Facts.Reservation = ids[0], grant(ids[0], id.key, time.Now(), time.Hour)
		id.sign(&a)
		vouchers, err := evidence.NewVouchers(evidence.Keys{Log: m.store.Key(), Beacon: d})
		must(t, err)
		if got := vouchers.Verify(a, h); got.State != evidence.VoucherBound || !got.Beacon {
			t.Errorf("%+v", got)
		}
		asked := d.asked
		m.fetchBeacons(t.Context())
		if d.asked != asked {
			t.Error("it is asked for what is at hand")
		}
		// Retries of an hour are made in the next one: both rounds are at hand, of no hour more.
		time.Sleep(45 * time.Minute)
		m.fetchBeacons(t.Context())
		if m.beacons.of(h) == nil || m.beacons.of(h+1) == nil || len(m.beacons.rounds) != 2 {
			t.Errorf("%d rounds", len(m.beacons.rounds))
		}
	})
}

// Servers that hang or lie cost a moment, not the hour.
func TestBeaconFromTheServerThatWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(10 * time.Second)
		h := evidence.HourOf(time.Now())
		good := newDrand(t, time.Now().Add(-30*24*time.Hour))
		liar := newDrandLike(good)
		other := newDrand(t, good.genesis)
			liar.answer = func(n uint64, _ string) (int, string) { return 200, other.round(n) }
		var hangs atomic.Int64
		transport := roundTripper(func(r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Host, "hangs") {
				hangs.Add(1)
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return inBubble{"good": func() http.Handler { return good }, "liar": func() http.Handler { return liar }, "dead": func() http.Handler { return nil }}.RoundTrip(r)
		})
		for name, c := range map[string]struct {
			servers []string
			hangs   int
			most    time.Duration
		}{
			"one that hangs":           {[]string{"hangs", "good"}, 1, time.Second},
			"two that hang":            {[]string{"hangs", "hangs2", "good"}, 2, 2 * time.Second},
			"one that lies":            {[]string{"liar", "good"}, 0, 0},
			"one that is dead":         {[]string{"dead", "good"}, 0, 0},
			"the first":                {[]string{"good", "hangs"}, 0, 0},
			"one that lies, one hangs": {[]string{"liar", "hangs", "dead", "good"}, 1, time.Second},
		} {
			var urls []string
			for _, s := range c.servers {
				urls = append(urls, "http://"+s+"/api")
			}
			hangs.Store(0)
			b := newBeacons(good.Chain, urls, &http.Client{Transport: transport}, slog.New(slog.DiscardHandler))
			began := time.Now()
			b.fetch(t.Context(), []evidence.Hour{h}, began)
			if err := good.VerifyBeacon(b.of(h), h.Start()); err != nil || time.Since(began) > c.most || int(hangs.Load()) != c.hangs {
				t.Errorf("%s: %v, after %s; %d wait", name, err, time.Since(began), hangs.Load())
			}
			synctest.Wait() // those that hang were given up
		}
		// If none works, that is said, with what each of them did.
		b := newBeacons(good.Chain, []string{"http://hangs/api", "http://liar/api", "http://dead/api"}, &http.Client{Transport: transport}, slog.New(slog.DiscardHandler))
		began := time.Now()
		b.fetch(t.Context(), []evidence.Hour{h}, began)
		if why := b.fault(h); b.of(h) != nil || time.Since(began) > drandTimeout ||
			!strings.Contains(why, "hangs") || !strings.Contains(why, "not the chain's") || !strings.Contains(why, "refused") {
			t.Errorf("after %s: %s", time.Since(began), why)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The real network has servers of several operators by default, a lab none.
func TestDrandServers(t *testing.T) {
	for text, want := range map[string]int{
		"":                             len(publicDrand),
		"network: psf":                 len(publicDrand),
		"network: lab":                 0,
		"drand: []":                    0,
		"drand: ['https://d.example']": 1,
		"network: lab\ndrand: ['http://127.0.0.1/d']": 1,
	} {
		cfg, _ := ParseConfig("test", []byte(text))
		if got := len(cfg.DrandServers()); got != want {
			t.Errorf("%q: %d servers, want %d", text, got, want)
		}
	}
	for _, u := range publicDrand {
		if !isWebURL(u) {
			t.Errorf("%s is no URL", u)
		}
	}
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

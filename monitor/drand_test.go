package monitor

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/beacon/beacontest"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
)

// A round goes into the identity that reserves, stands with the attempt in the
// log, and is found good by whoever verifies it.
func TestBeaconInChallenge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := beacontest.New(t, time.Now().Add(-90*24*time.Hour-7*time.Second))
		f := &fakeNet{took: time.Second, outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
		m, ids := newTestMonitor(t, f, 1, 8)
		client := &http.Client{Transport: inBubble{"drand": func() http.Handler { return d }}}
		m.beacons = schedule.NewBeacons(d.Chain, []string{"http://drand/api/"}, client, m.log)
		roster := m.basis().roster
		time.Sleep(20 * time.Minute)
		m.fetchBeacons(t.Context())
		h := evidence.HourOf(time.Now())
		id, err := m.identify(roster, &roster.Relays[0], h)
		must(t, err)
		if err := d.VerifyBeacon(id.Beacon, h.Start()); err != nil {
			t.Fatal(err)
		}
		a := attempt(time.Now(), evidence.OK)
		a.PeerID, a.Facts.Reservation = ids[0], grant(ids[0], id.Key, time.Now(), time.Hour)
		id.Sign(&a)
		vouchers, err := evidence.NewVouchers(evidence.Keys{Log: m.store.Key(), Beacon: d})
		must(t, err)
		if got := vouchers.Verify(a, h); got.State != evidence.VoucherBound || !got.Beacon {
			t.Errorf("%+v", got)
		}
		asked := d.Asked.Load()
		m.fetchBeacons(t.Context())
		if d.Asked.Load() != asked {
			t.Error("it is asked for what is at hand")
		}
		// Retries of an hour are made in the next one: both rounds are at hand.
		time.Sleep(45 * time.Minute)
		m.fetchBeacons(t.Context())
		if m.beacons.Of(h) == nil || m.beacons.Of(h+1) == nil {
			t.Error("the rounds of both hours are not at hand")
		}
	})
}

// The real network has servers of several operators by default, a lab none.
func TestDrandServers(t *testing.T) {
	for text, want := range map[string]int{
		"":                             len(schedule.PublicDrand),
		"network: psf":                 len(schedule.PublicDrand),
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
	for _, u := range schedule.PublicDrand {
		if !isWebURL(u) {
			t.Errorf("%s is no URL", u)
		}
	}
}

package monitor

import (
	"context"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/monitor/beacon/beacontest"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/history"
	"github.com/psf-relay/relay-appliance/monitor/probe"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
	"github.com/psf-relay/relay-appliance/monitor/store"
	"github.com/psf-relay/relay-appliance/monitor/witness"
)

// A go-libp2p relay, three monitors and their witnesses, without drand: what a witness of
// another operator has cosigned goes into the identity, as soon as it is there, and what
// the relay then signs counts. What it signed beforehand does not.
func TestRealRelaySignsWhatIsNew(t *testing.T) {
	host, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay())
	must(t, err)
	defer host.Close()
	service, err := relayv2.New(host, relayv2.WithInfiniteLimits())
	must(t, err)
	defer service.Close()
	target := probe.Target{PeerID: host.ID(), TCP4: host.Addrs()[0]}
	relay := &bounty.Relay{PeerID: host.ID().String(), Operator: "another"}

	h := newHouse(t, 3)
	s := h.spots[0]
	this := evidence.HourOf(time.Now())
	// climb asks the relay for a place, in the name that is due.
	climb := func(m *Monitor, hour evidence.Hour) (schedule.Identity, evidence.Attempt) {
		t.Helper()
		m.mu.Lock()
		id, err := m.identify(m.basis().roster, relay, hour)
		m.mu.Unlock()
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		a, _ := m.climb(ctx, target, nil, id.Key)
		id.Sign(&a)
		if a.Facts.Reservation == nil {
			t.Fatalf("no reservation: %+v", a.Rungs)
		}
		return id, a
	}
	// judge is what an auditor on the real network makes of it.
	judge := func(m *Monitor, a evidence.Attempt, hour evidence.Hour) (evidence.VoucherCheck, bounty.Why) {
		t.Helper()
		roster := *m.basis().roster
		v, err := evidence.NewVouchers(evidence.Keys{Log: m.store.Key(), Plan: m.store.PlanKey(), Witnesses: roster.WitnessKeys(hour.Month())})
		must(t, err)
		check := v.Verify(a, hour)
		roster.Network = evidence.PSF
		return check, bounty.Defaults().Unproven(&roster, roster.Monitor(m.cfg.Name, hour), &a, check)
	}
	m := s.m
	m.seen[relay.PeerID] = &evidence.Attempt{Started: evidence.TimeOf(time.Now()), Facts: evidence.Facts{Reservation: &evidence.Reservation{}}} // frees its places
	old, a := climb(m, this)
	if check, why := judge(m, a, this); old.Fresh() || check.State != evidence.VoucherBound || why != bounty.NotFresh {
		t.Errorf("with nothing new: %+v (%s)", check, why)
	}
	// Who cosigns is of the monitor's own operator.
	roster := m.basis().roster
	for i := range roster.Monitors {
		roster.Monitors[i].Operator = "o0"
	}
	h.seal(m, 1)
	wantCosigned(t, m, 1, 2)
	if same, _ := climb(m, this); !same.Key.Equals(old.Key) || same.Fresh() {
		t.Error("a witness of the same operator makes it new")
	}
	roster.Monitors[2].Operator = "o2"
	id, a := climb(m, this)
	if check, why := judge(m, a, this); id.Key.Equals(old.Key) || check.Witness != roster.Monitors[2].WitnessKey || why != bounty.None {
		t.Errorf("with a cosignature: %+v (%s)", check, why)
	}
	// If that witness turns out to be of the same operator, it proves nothing.
	roster.Monitors[2].Operator = "o0"
	if check, why := judge(m, a, this); check.State != evidence.VoucherBound || why != bounty.NotFresh {
		t.Errorf("of the same operator: %+v (%s)", check, why)
	}
	roster.Monitors[2].Operator = "o2"
	// It was collected for another hour than the one that it is shown for.
	for _, hour := range []evidence.Hour{this + 1, this + 2} {
		later := a
		later.Started = evidence.TimeOf(a.Started.Add(time.Duration(hour-this) * time.Hour))
		if check, why := judge(m, later, hour); why != bounty.BadVoucher {
			t.Errorf("shown for %s: %+v (%s)", hour, check, why)
		}
	}
	// The relay signs today for the hour after the next: what is new now is old then.
	_, early := climb(m, this+2)
	early.Started = evidence.TimeOf((this + 2).Start())
	if check, why := judge(m, early, this+2); why != bounty.BadVoucher {
		t.Errorf("signed beforehand: %+v (%s)", check, why)
	}

	// After a restart within the hour it is the same identity: no third place is taken.
	a.Started = evidence.TimeOf(this.Start())
	must(t, m.store.Begin(this, a.Started.Time, "test"))
	must(t, m.store.Append(this, a))
	h.stop(s)
	m = h.start(s)
	m.seen[relay.PeerID] = nil
	if again, _ := climb(m, this); !again.Key.Equals(id.Key) {
		t.Error("another identity after a restart")
	}
}

// The real network through seven hours. While drand is not reached a witness of another
// operator does; relays that were asked with nothing new are asked once more when there is
// something. Where there is nothing the hour is unknown, and that is said: once.
func TestRunWithNothingNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hours = 7
		f := &fakeNet{took: 5 * time.Second, outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
		m, ids := newTestMonitor(t, f, 4, 8)
		must(t, m.store.Close())
		first := evidence.HourOf(time.Now())
		at := func(hour int, minutes time.Duration) time.Time {
			return (first + evidence.Hour(hour)).Start().Add(minutes * time.Minute)
		}
		var err error
		m.store, err = store.Create(filepath.Join(t.TempDir(), "log"), store.Options{Name: "m1", Network: evidence.PSF, First: first})
		must(t, err)
		defer m.store.Close()
		other, err := store.Create(filepath.Join(t.TempDir(), "log"), store.Options{Name: "m2", Network: evidence.PSF, First: first})
		must(t, err)
		defer other.Close()
		cosigner, err := ownWitness(other)
		must(t, err)
		m.cfg.Network = evidence.PSF
		m.identities = schedule.NewIdentities(m.store.Key())
		roster := &bounty.Roster{Network: evidence.PSF, Relays: m.basis().roster.Relays, Monitors: []bounty.Monitor{
			{Name: "m1", Operator: "us", LogKey: m.store.Key(), WitnessKey: m.store.WitnessKey(), Term: bounty.Term{From: first}},
			{Name: "m2", Operator: "them", LogKey: other.Key(), WitnessKey: other.WitnessKey(), WitnessURL: "http://m2/witness", Term: bounty.Term{From: first}},
		}}
		for i := range roster.Relays {
			roster.Relays[i].IPv4 = "203.0.113.7"
		}
		d := beacontest.New(t, time.Now().Add(-90*24*time.Hour-7*time.Second))
		rules := bounty.Defaults()
		m.inForce.Store(&basis{rules: rules, roster: roster, history: history.New(m.store, rules, roster, d)})
		m.climb = func(ctx context.Context, target probe.Target, look *lookout, key crypto.PrivKey) (evidence.Attempt, [][]byte) {
			a, certs := f.climb(ctx, target, look, key)
			a.TCP4Addr, a.WSSAddr = roster.Relay(a.PeerID).Multiaddrs(a.PeerID)
			a.Level = evidence.LevelEchoed
			return a, certs
		}
		during := func(from, to time.Time) bool { now := time.Now(); return !now.Before(from) && now.Before(to) }
		h := http.StripPrefix("/witness", witness.Handler(cosigner, func() []string { return []string{m.store.Key()} }, m.log))
		net := inBubble{
			"m2": func() http.Handler {
				if during(at(3, 10), at(6, 0)) {
					return nil
				}
				return h
			},
			"drand": func() http.Handler {
				if during(at(1, 0), at(5, 30)) {
					return nil
				}
				return d
			},
		}
		client := &http.Client{Transport: net}
		m.witnessing = newWitnessing(m, client)
		m.beacons = schedule.NewBeacons(d.Chain, []string{"http://hangs/api", "http://drand/api"}, client, m.log)
		net["hangs"] = func() http.Handler {
			return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		}
		p := &pager{start: time.Now()}
		m.alerts, err = alert.New(filepath.Join(t.TempDir(), "alerts.json"), m.log, p)
		must(t, err)

		ctx, cancel := context.WithTimeout(t.Context(), hours*time.Hour+evidence.CloseAfter+5*time.Minute)
		defer cancel()
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		look := func(when time.Time, fresh bool) {
			t.Helper()
			time.Sleep(time.Until(when))
			metric := map[bool]string{true: "relaymon_fresh 1\n", false: "relaymon_fresh 0\n"}[fresh]
			if _, body := fetch(m.local(m.public()), "/metrics"); !strings.Contains(body, metric) {
				t.Errorf("at %s the metrics lack %q", when, metric)
			}
			_, body := fetch(m.local(m.public()), "/")
			for _, words := range []string{"No relay counts up in this hour", "no witness of another operator has cosigned", "no drand server gave"} {
				if strings.Contains(body, words) == fresh {
					t.Errorf("at %s, fresh %v: the page says %q: %v", when, fresh, words, !fresh)
				}
			}
		}
		look(at(0, 30), true)
		look(at(2, 30), true)
		look(at(4, 30), false)
		look(at(5, 50), true)
		must(t, <-done)

		for _, id := range ids {
			export, err := m.store.Month(first.Month(), id, time.Now(), roster.WitnessKeys(first.Month())...)
			must(t, err)
			v, err := evidence.VerifyMonth(export, evidence.Keys{Log: m.store.Key(), Plan: m.store.PlanKey(), Witnesses: roster.WitnessKeys(first.Month()), Beacon: d})
			must(t, err)
			known, err := m.basis().history.Month(first.Month())
			must(t, err)
			for i := range hours {
				vh := v.Hours[i]
				vote := bounty.VoteOf(rules, roster, &roster.Monitors[0], roster.Relay(id), vh.Record, vh.Vouchers)
				if live := known.Of(id).Hours[first+evidence.Hour(i)-first.Month().First()]; live.Vote != vote.Value || live.Why != vote.Why {
					t.Errorf("hour %d: this monitor says %s (%s), an auditor %s (%s)", i, live.Vote, live.Why, vote.Value, vote.Why)
				}
				began := vh.Record.Attempts[0].Started.Time
				// In some hours the plan may want an attempt before there is anything new: before drand
				// has answered, which is asked every five minutes at least, or, in the hour in which it
				// fell silent, before the first checkpoint was cosigned.
				nothing := map[int]time.Time{0: at(0, 1), 1: at(1, 17), 5: at(5, 36), 6: at(6, 1)}
				asked := vh.Vouchers[0]
				most, late := 1, !asked.Beacon && asked.Witness == "" && began.Before(nothing[i])
				switch {
				case i == 4:
					if vote.Why != bounty.NotFresh {
						t.Errorf("hour %d: %s (%s)", i, vote.Value, vote.Why)
					}
				case late:
					// What is new came after the first attempt: there is one more, if it is not over.
					most = 2
					if n := len(vh.Record.Attempts); n != 2 && n != 3 || vote.Value != bounty.Up {
						t.Errorf("hour %d, begun at %s: %d attempts, %s (%s)", i, began, n, vote.Value, vote.Why)
					}
				default:
					if vote.Value != bounty.Up || len(vh.Record.Attempts) != 1 {
						t.Errorf("hour %d, begun at %s: %d attempts, %s (%s)", i, began, len(vh.Record.Attempts), vote.Value, vote.Why)
					}
				}
				var peers []string
				for k, a := range vh.Record.Attempts {
					if c := vh.Vouchers[k]; k == vote.UpAttempt && c.Beacon == (i >= 1 && i <= 4) {
						t.Errorf("hour %d: %+v", i, c)
					}
					if p := a.Facts.Reservation.Peer; !slices.Contains(peers, p) {
						peers = append(peers, p)
					}
				}
				if len(peers) > most {
					t.Errorf("hour %d: %d places were taken, want %d at most", i, len(peers), most)
				}
			}
		}
		if fired, ended := p.told("NothingFresh firing"), p.told("NothingFresh resolved"); !slices.Equal(fired, []int{1, 4}) || !slices.Equal(ended, []int{1, 5}) {
			t.Errorf("an alert fires in the hours %v and ends in %v", fired, ended)
		}
	})
}

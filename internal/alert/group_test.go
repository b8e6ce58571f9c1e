package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// many are alerts of one kind about n relays.
func many(n int) (list []Alert) {
	for i := range n {
		id := fmt.Sprintf("r%04d", i)
		list = append(list, Alert{
			Name: "RelayDown", Labels: map[string]string{"monitor": "m1", "severity": "critical"}, Summary: "relay " + id + " is down",
			Of: map[string]string{"relay": id, "operator": "o"}, Many: "relays are down",
		})
	}
	return list
}

func own(name string) Alert {
	return Alert{Name: name, Labels: map[string]string{"monitor": "m1", "severity": "critical"}, Summary: name}
}

// hook is a real receiver of webhooks.
type hook struct {
	*httptest.Server
	mu      sync.Mutex
	got     []string // "RelayDown firing r0001: summary"
	refuse  func(hookMessage) bool
	arrived chan struct{}
}

func newHook(t *testing.T, refuse func(hookMessage) bool) *hook {
	h := &hook{refuse: refuse, arrived: make(chan struct{}, 1)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m hookMessage
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		if h.refuse != nil && h.refuse(m) {
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, a := range m.Alerts {
			h.got = append(h.got, strings.TrimSpace(a.Labels["alertname"]+" "+a.Status+" "+a.Labels["relay"])+": "+a.Annotations["summary"])
		}
		select {
		case h.arrived <- struct{}{}:
		default:
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.got)
}

// wait waits until something like that was received.
func (h *hook) wait(t *testing.T, what string) {
	t.Helper()
	long := time.After(2 * time.Minute)
	for {
		got := strings.Join(h.all(), "\n")
		if strings.Contains(got, what) {
			return
		}
		select {
		case <-h.arrived:
		case <-long:
			t.Fatalf("got\n%.2000s\nwant %q in it", got, what)
		}
	}
}

func running(t *testing.T, file string, to ...Receiver) (*Keeper, func()) {
	t.Helper()
	k, err := New(file, quiet, to...)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { k.Run(ctx); close(done) }()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return k, stop
}

// Whatever is wrong with however many relays, what is wrong with the monitor arrives.
func TestStormLeavesRoom(t *testing.T) {
	h := newHook(t, nil)
	k, _ := running(t, filepath.Join(t.TempDir(), "alerts.json"), Webhook(URL(h.URL), "relaymon"))
	k.Set(time.Now(), many(maxAlerts))
	h.wait(t, "RelayDown firing: 1000 relays are down: ")
	k.Set(time.Now(), append(many(maxAlerts), own("MonitorNotJudging")))
	h.wait(t, "MonitorNotJudging firing")
	if got := h.all(); len(got) != 2 {
		t.Errorf("%d alerts were told, want 2: %.500q", len(got), got)
	}
	if list := k.Holding(); list[0].Name != "MonitorNotJudging" || list[1].Labels["relay"] != "" || list[1].Labels["monitor"] != "m1" {
		t.Errorf("got %.500v, want the monitor's own alert first, and one about the relays", list)
	}
	if k.Outside() != 0 {
		t.Errorf("there was no room for %d", k.Outside())
	}
}

// The file is full with a thousand alerts, all of them told.
// They end, and what is new is not kept waiting by that.
func TestFileOfAStorm(t *testing.T) {
	h := newHook(t, func(m hookMessage) bool { return m.Status == "resolved" })
	file := filepath.Join(t.TempDir(), "alerts.json")
	s := state{Told: map[string][]string{}, Salt: []byte("salt")}
	receiver := Webhook(URL(h.URL), "relaymon")
	key := (&Keeper{salt: s.Salt}).key(receiver)
	for i := range maxAlerts {
		a := Alert{Name: "MonthOutOfReach", Labels: map[string]string{"monitor": "m1", "relay": fmt.Sprint(i)}, Summary: "late", Since: time.Now().UTC()}
		s.Alerts = append(s.Alerts, a)
		s.Told[key] = append(s.Told[key], a.id())
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := New(file, quiet, receiver)
	if err != nil {
		t.Fatal(err)
	}
	if len(k.Holding()) != maxAlerts || k.Waiting() != 0 {
		t.Errorf("%d alerts hold and %d are to be told, want %d and 0", len(k.Holding()), k.Waiting(), maxAlerts)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	k.Set(time.Now(), []Alert{own("MonitorNotJudging")})
	go k.Run(ctx)
	h.wait(t, "MonitorNotJudging firing")
	// Nobody is told that it began who was told before.
	if got := h.all(); len(got) != 1 {
		t.Errorf("%d alerts were told, want 1: %.500q", len(got), got)
	}
	for long := time.Now().Add(2 * time.Minute); k.Waiting() != maxAlerts; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(long) {
			t.Fatalf("%d ends are to be told, want %d", k.Waiting(), maxAlerts)
		}
	}
}

// What a receiver does not take about relays does not keep it from what it takes.
func TestRefusedRelays(t *testing.T) {
	h := newHook(t, func(m hookMessage) bool { return m.Alerts[0].Labels["relay"] != "" })
	k, _ := running(t, filepath.Join(t.TempDir(), "alerts.json"), Webhook(URL(h.URL), "relaymon"))
	k.Set(time.Now(), append(many(3), own("MonitorBlind")))
	h.wait(t, "MonitorBlind firing")
}

func TestManyBecomeOne(t *testing.T) {
	for _, repeats := range []bool{false, true} {
		t.Run(fmt.Sprint("repeats ", repeats), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := &inbox{name: "in", repeats: repeats}
				file := filepath.Join(t.TempDir(), "alerts.json")
				k, stop := start(t, file, in)
				took := func(what string, n int, want map[string]int) {
					t.Helper()
					in.mu.Lock()
					in.got = nil
					in.mu.Unlock()
					for range 3 {
						k.Set(time.Now(), many(n))
						synctest.Wait()
					}
					in.mu.Lock()
					defer in.mu.Unlock()
					got := map[string]int{}
					for _, g := range in.got {
						got[g]++
					}
					if !repeats && fmt.Sprint(got) != fmt.Sprint(want) {
						t.Errorf("%s: got %v, want %v", what, got, want)
					}
				}
				one := func(n int) {
					t.Helper()
					list := k.Holding()
					if len(list) != 1 || list[0].Count != n || list[0].Labels["relay"]+list[0].Labels["operator"] != "" || !strings.HasPrefix(list[0].Summary, fmt.Sprint(n, " relays are down: relay r0000 is down; ")) {
						t.Errorf("got %.300v, want one for %d", list, n)
					}
					if len(list[0].Summary) > 20*210+200 {
						t.Errorf("a summary of %d bytes", len(list[0].Summary))
					}
				}
				took("few", mostSingle, map[string]int{"RelayDown firing": mostSingle})
				took("one more", mostSingle+1, map[string]int{"RelayDown firing": 1, "RelayDown resolved": mostSingle})
				one(mostSingle + 1)
				since := k.Holding()[0].Since
				time.Sleep(time.Hour)
				took("some more", 2*mostSingle, map[string]int{})
				one(2 * mostSingle)
				took("many more", 500, map[string]int{"RelayDown firing": 1})
				one(500)
				took("fewer", mostSingle, map[string]int{})
				// A restart in the middle tells nothing again.
				stop()
				k, stop = start(t, file, in)
				defer stop()
				took("after a restart", mostSingle, map[string]int{})
				one(mostSingle)
				if got := k.Holding()[0].Since; !got.Equal(since) {
					t.Errorf("it holds since %v, want %v", got, since)
				}
				took("few again", leftSingle, map[string]int{"RelayDown firing": leftSingle, "RelayDown resolved": 1})
				took("over", 0, map[string]int{"RelayDown resolved": leftSingle})
				if k.Waiting() != 0 || len(k.alerts) != 0 {
					t.Errorf("%d to be told, %d known, want none", k.Waiting(), len(k.alerts))
				}
			})
		})
	}
}

// A receiver that was gone while many came and went is told how it stands then.
func TestManyWhileGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &inbox{name: "in"}
		k, stop := start(t, filepath.Join(t.TempDir(), "alerts.json"), in)
		defer stop()
		k.Set(time.Now(), many(3))
		synctest.Wait()
		in.mu.Lock()
		in.fault, in.got = errors.New("gone"), nil
		in.mu.Unlock()
		for _, n := range []int{20, 1000, 3, 900, 30} {
			k.Set(time.Now(), many(n))
			time.Sleep(time.Hour)
		}
		in.recover()
		time.Sleep(time.Hour)
		in.want(t, "RelayDown firing", "RelayDown resolved", "RelayDown resolved", "RelayDown resolved")
	})
}

// What is not known to hold, nor to be over, stays as it was told.
func TestAdd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &inbox{name: "in"}
		k, stop := start(t, filepath.Join(t.TempDir(), "alerts.json"), in)
		defer stop()
		k.Set(time.Now(), many(2))
		synctest.Wait()
		k.Add(time.Now(), []Alert{own("MonitorNotJudging")})
		in.want(t, "RelayDown firing", "RelayDown firing", "MonitorNotJudging firing")
		k.Set(time.Now(), many(2))
		in.want(t, "RelayDown firing", "RelayDown firing", "MonitorNotJudging firing", "MonitorNotJudging resolved")
	})
}

// More kinds of alerts than anybody has thought of are not dropped in silence.
func TestOutside(t *testing.T) {
	k, err := New(filepath.Join(t.TempDir(), "alerts.json"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	var list []Alert
	for i := range maxAlerts + 3 {
		list = append(list, own(fmt.Sprint(i)))
	}
	k.Set(time.Now(), list)
	if k.Outside() != 3 || len(k.Holding()) != maxAlerts {
		t.Errorf("%d without room, %d hold, want 3 and %d", k.Outside(), len(k.Holding()), maxAlerts)
	}
	k.Set(time.Now(), nil)
	if k.Outside() != 0 {
		t.Errorf("%d without room, want 0", k.Outside())
	}
}

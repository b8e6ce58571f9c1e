package listen

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/listen/listentest"
)

const patience = 2 * time.Minute

// serve answers every request with its own visitor's address.
func serve(t *testing.T, b Bounds, log *slog.Logger) *Listener {
	t.Helper()
	l, err := TCP("test", "127.0.0.1:0", b, log)
	if err != nil {
		t.Fatal(err)
	}
	s := Server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) }), slog.New(slog.DiscardHandler))
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l
}

// visit makes a request from ip and leaves the connection open.
func visit(t *testing.T, l *Listener, ip string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if !asks(c) {
		t.Fatalf("a visitor from %s is not served", ip)
	}
	return c
}

func asks(c net.Conn) bool {
	_ = c.SetDeadline(time.Now().Add(patience))
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if err == nil {
		_, err = c.Read(make([]byte, 4<<10))
	}
	return err == nil
}

func TestCrowd(t *testing.T) {
	l := serve(t, Bounds{All: 64, PerAddress: 8, LoopbackCounts: true}, slog.New(slog.DiscardHandler))
	listentest.Crowd{
		From: "127.0.0.2", Addr: l.Addr().String(), Conns: 300, Bound: 8,
		Refused: func() int { return int(l.Counts()[Address]) },
		Served: func(d *net.Dialer) error {
			client := http.Client{Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}, Timeout: patience}
			resp, err := client.Get("http://" + l.Addr().String())
			if err == nil {
				resp.Body.Close()
			}
			return err
		},
	}.Test(t, "127.0.0.3")
}

// When many addresses fill the room, newcomers are served: the address with most
// loses the connection that it used least recently.
func TestGreediestGives(t *testing.T) {
	l := serve(t, Bounds{All: 4, PerAddress: 4, LoopbackCounts: true}, slog.New(slog.DiscardHandler))
	only := visit(t, l, "127.0.0.2")
	first, second, third := visit(t, l, "127.0.0.3"), visit(t, l, "127.0.0.3"), visit(t, l, "127.0.0.3")
	if !asks(first) {
		t.Fatal("an open connection is not served")
	}
	visit(t, l, "127.0.0.4")
	if asks(second) || !asks(first) || !asks(third) || !asks(only) {
		t.Error("not the one that was used least recently had to go")
	}
	// Each has one, or two: the newcomer's own address counts with the newcomer.
	visit(t, l, "127.0.0.5")
	if n := l.Counts()[Full]; n != 2 || l.Open() != 4 {
		t.Errorf("%d gave way, %d are open", n, l.Open())
	}
	for i := range 50 {
		visit(t, l, fmt.Sprintf("127.0.1.%d", 1+i))
	}
	if n := l.Open(); n != 4 {
		t.Errorf("%d are open", n)
	}
}

// A proxy on this machine is bounded by the whole alone.
func TestLoopbackIsExempt(t *testing.T) {
	l := serve(t, Bounds{All: 40, PerAddress: 2}, slog.New(slog.DiscardHandler))
	var conns []net.Conn
	for range 40 {
		conns = append(conns, visit(t, l, "127.0.0.2"))
	}
	for i, c := range conns {
		if !asks(c) {
			t.Fatalf("connection %d of a proxy was closed", i)
		}
	}
	visit(t, l, "127.0.0.2")
	if l.Open() != 40 || l.Counts()[Full] != 1 {
		t.Errorf("%d are open, %v", l.Open(), l.Counts())
	}
}

func TestWhatCountsAsOne(t *testing.T) {
	r := NewRoom("test", Bounds{All: 100, PerAddress: 2}, slog.New(slog.DiscardHandler))
	enter := func(addr string) (*Visit, bool) { return r.Enter(netip.MustParseAddr(addr), func() {}) }
	for _, tc := range []struct {
		addr string
		ok   bool
	}{
		{"203.0.113.1", true}, {"::ffff:203.0.113.1", true}, {"203.0.113.1", false}, {"203.0.113.2", true},
		{"2001:db8::1", true}, {"2001:db8::2", true}, {"2001:db8::3", false}, {"2001:db8:0:1::3", true},
		{"fe80::1%eth0", true}, {"fe80::2%eth1", true}, {"fe80::3", false},
		{"::1", true}, {"::1", true}, {"::1", true}, {"127.0.0.1", true}, {"127.0.0.1", true}, {"::ffff:127.0.0.1", true},
	} {
		if _, ok := enter(tc.addr); ok != tc.ok {
			t.Errorf("%s: %v", tc.addr, ok)
		}
	}
	v, ok := enter("203.0.113.3")
	open := r.Open()
	v.End()
	v.End()
	if !ok || r.Open() != open-1 {
		t.Errorf("%d are open after one of %d left twice", r.Open(), open)
	}
}

// Many come and go at once, and the count is right in the end.
func TestRoomCounts(t *testing.T) {
	r := NewRoom("test", Bounds{All: 16, PerAddress: 4}, slog.New(slog.DiscardHandler))
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for range 100 {
				if v, ok := r.Enter(netip.AddrFrom4([4]byte{203, 0, 113, byte(i / 4)}), func() {}); ok {
					if n := r.Open(); n > 16 {
						t.Errorf("%d are open", n)
					}
					v.End()
				}
			}
		})
	}
	all.Wait()
	if r.Open() != 0 || len(r.from) != 0 {
		t.Errorf("left over: %d of %d addresses", r.Open(), len(r.from))
	}
}

// What is refused is said once, and addresses in debug lines only.
func TestRefusalsAreSaid(t *testing.T) {
	for level, lines := range map[slog.Level]int{slog.LevelInfo: 1, slog.LevelDebug: 2} {
		var b bytes.Buffer
		r := NewRefusals("pages", slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: level})))
		for range 100 {
			r.Add(Address, netip.MustParseAddr("203.0.113.1"))
		}
		if n := strings.Count(b.String(), "\n"); n != lines || strings.Contains(b.String(), "203.0.113.1") != (level == slog.LevelDebug) || !strings.Contains(b.String(), "listener=pages") {
			t.Errorf("%s: %s", level, b.String())
		}
		if r.Counts()[Address] != 100 {
			t.Errorf("counted: %v", r.Counts())
		}
	}
	var none *Refusals
	none.Add(Full, netip.Addr{}) // a part of the relay that is tested alone
}

func TestRedirects(t *testing.T) {
	s := httptest.NewServer(ToHTTPS("relay.test"))
	defer s.Close()
	listentest.Redirects(t, "ToHTTPS", s.Listener.Addr().String(), "relay.test")
	resp, err := http.Post(s.URL, "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("posted to: %s", resp.Status)
	}
}

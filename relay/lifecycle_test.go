package relay

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

func TestOneRelayPerDataFolder(t *testing.T) {
	c := relaytest.LabConfig(t)
	first := start(t, c)
	second, err := New(c, relaytest.Log(t))
	relaytest.Must(t, err)
	if err := second.Run(relaytest.Context(t)); err == nil || !strings.Contains(err.Error(), "another relayd runs") {
		t.Errorf("a second relay: %v", err)
	}
	relaytest.Must(t, first.stop())
	relaytest.Must(t, start(t, c).stop())
}

// A stop with peers, circuits and half-open connections about is in good order.
func TestStopInUse(t *testing.T) {
	r := start(t, relaytest.LabConfig(t))
	relay := dialable(t, r.Relay)["tcp"]
	to := relaytest.NewPeer(t, nil)
	_, err := relaytest.Reserve(t, to, relay)
	relaytest.Must(t, err)
	for range 5 {
		relaytest.Must(t, relaytest.Echo(t, relaytest.NewPeer(t, nil), to, relay, 1024))
	}
	_, target, err := addrOf(relay.Addrs[0])
	relaytest.Must(t, err)
	conn, err := net.Dial("tcp", target)
	relaytest.Must(t, err)
	defer conn.Close()
	relaytest.Must(t, r.stop()) // an error if it takes longer than closeTime
}

// systemd is told when the relay is ready, that it lives, that it reloads, that
// it stops.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	relaytest.Must(t, err)
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "300000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	next := func() string {
		t.Helper()
		relaytest.Must(t, l.SetReadDeadline(time.Now().Add(relaytest.Patience)))
		buf := make([]byte, 1024)
		n, err := l.Read(buf)
		relaytest.Must(t, err)
		return string(buf[:n])
	}
	until := func(want string) {
		t.Helper()
		for {
			switch got := next(); {
			case strings.HasPrefix(got, want):
				return
			case got != "WATCHDOG=1":
				t.Fatalf("systemd is told %q, want %q", got, want)
			}
		}
	}
	c := relaytest.LabConfig(t)
	r := start(t, c)
	until("READY=1")
	if got := next(); got != "WATCHDOG=1" {
		t.Errorf("systemd is told %q", got)
	}
	_, err = r.Reload(c)
	relaytest.Must(t, err)
	until("RELOADING=1\nMONOTONIC_USEC=")
	until("READY=1")
	relaytest.Must(t, r.stop())
	until("STOPPING=1")
}

// helperVar makes the test binary a relay: for a test that kills it.
const helperVar = "RELAY_TEST_DATA_DIR"

func TestHelperRelay(t *testing.T) {
	dir := os.Getenv(helperVar)
	if dir == "" {
		t.Skip("for TestKill only")
	}
	c := relaytest.LabConfig(t)
	c.DataDir = dir
	r, err := New(c, relaytest.Log(t))
	relaytest.Must(t, err)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		<-r.Ready()
		fmt.Println("ready", r.ID())
	}()
	relaytest.Must(t, r.Run(ctx))
}

// A relay that is killed at any moment, of its very first start too, starts
// again as the same one.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	run := func(kill time.Duration) (id string) {
		t.Helper()
		cmd := exec.Command(os.Args[0], "-test.run=^TestHelperRelay$", "-test.v")
		cmd.Env = append(os.Environ(), helperVar+"="+dir)
		out, err := cmd.StdoutPipe()
		relaytest.Must(t, err)
		relaytest.Must(t, cmd.Start())
		end := time.AfterFunc(relaytest.Patience, func() { cmd.Process.Kill() })
		defer end.Stop()
		if kill > 0 {
			time.AfterFunc(kill, func() { cmd.Process.Kill() })
		}
		var lines []string
		for s := bufio.NewScanner(out); s.Scan(); {
			lines = append(lines, s.Text())
			if word, rest, _ := strings.Cut(s.Text(), " "); word == "ready" {
				id = rest
				if kill == 0 {
					relaytest.Must(t, cmd.Process.Signal(syscall.SIGTERM))
				}
			}
		}
		if err := cmd.Wait(); err != nil && kill == 0 {
			t.Fatalf("%v:\n%s", err, strings.Join(lines, "\n"))
		}
		return id
	}
	var first string
	for n := range 12 {
		id := run(time.Duration(10*(n+1)) * time.Millisecond)
		if first == "" {
			first = id
		}
		if id != "" && id != first {
			t.Fatalf("started as %s, was %s", id, first)
		}
	}
	id := run(0)
	if id == "" || first != "" && id != first {
		t.Errorf("started as %q, was %q", id, first)
	}
	if again := run(0); again != id {
		t.Errorf("started as %q, was %q", again, id)
	}
}

package probe

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"

	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// ownErrors are those with which this machine fails, wherever a socket is made.
var ownErrors = []syscall.Errno{
	syscall.EMFILE, syscall.ENFILE, syscall.EPERM, syscall.EACCES, syscall.ENOBUFS, syscall.ENOMEM,
	syscall.EADDRNOTAVAIL, syscall.EADDRINUSE, syscall.EAGAIN, syscall.ENETDOWN,
}

// Every socket of an attempt fails once, with each error that only this machine can be
// the reason of: for a relay that is well, and for one whose wss port is closed, so
// that a second opinion is asked for.
func TestOwnFaultOfEverySocket(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	well := newRelay(t, ca.leaf(t, nil), true, []relayv2.Option{everyAddr}).Target
	_, closed := boundSocket(t)
	half := Target{PeerID: well.PeerID, WSS: wssAt(closed)}
	own, second := nameServer(t, says("A 127.0.0.1")), secondServer(t, ca, says("A 127.0.0.1"))
	for what, test := range map[string]struct {
		target  Target
		sockets int32
		refused bool // once all sockets are made
	}{
		"both ways":   {Target{well.PeerID, well.TCP4, well.WSS}, 3, false},     // tcp4, DNS, wss
		"only tcp4":   {Target{PeerID: well.PeerID, TCP4: well.TCP4}, 2, false}, // for each peer
		"only wss":    {Target{PeerID: well.PeerID, WSS: well.WSS}, 4, false},   // DNS and wss, for each peer
		"closed port": {half, 3, true},                                          // DNS, wss, DNS over TLS
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			for _, errno := range ownErrors {
				for n := int32(1); n <= test.sockets+1; n++ {
					o := ca.options()
					lookedUp(&o, own, second)
					made := failing(&o, n, errno)
					a := Run(within(t), test.target, o)
					failed, blind := outcomes(a)
					if whole := n > test.sockets; whole {
						if blind != 0 || (failed != 0) != test.refused || made.Load() != test.sockets {
							t.Errorf("without a fault: %d sockets were made, want %d: %+v", made.Load(), test.sockets, a.Rungs)
						}
					} else if failed != 0 || blind == 0 {
						t.Errorf("%v at socket %d: got %d failed and %d blind rungs, want none failed: %+v", errno, n, failed, blind, a.Rungs)
					}
				}
			}
		})
	}
}

// A control whose socket fails says nothing good of the line.
func TestOwnFaultOfControls(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert := ca.leaf(t, nil)
	own := nameServer(t, says("A 127.0.0.1"))
	web := listenAnd(t, func(l net.Listener) { status(http.StatusNotFound)(t, l, cert) })
	for sockets, host := range map[int32]ControlHost{
		3: {"relay", newRelay(t, cert, true, nil).Target}, // DNS, wss, DNS for a new name
		5: {"web", Target{WSS: wssAt(web)}},               // DNS and wss twice, DNS for a new name
	} {
		for _, errno := range ownErrors {
			for n := int32(1); n <= sockets+1; n++ {
				o := ca.options()
				lookedUp(&o, own)
				failing(&o, n, errno)
				want := evidence.Blind
				if n > sockets {
					want = evidence.OK
				}
				if c := Controls(within(t), []ControlHost{host}, []evidence.Component{evidence.WSS}, o); len(c) != 1 || c[0].Outcome != want {
					t.Errorf("%s, %v at socket %d: got %+v, want %s", host.Name, errno, n, c, want)
				}
			}
		}
	}
}

// The listener's own fault is not the relay's silence.
func TestOwnFaultOfListener(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	relay := newRelay(t, ca.leaf(t, nil), true, []relayv2.Option{everyAddr}).Target
	o := ca.options()
	tried := newSignal()
	ofListener := o
	ofListener.control = func(string, string, syscall.RawConn) error { tried.close(); return syscall.EMFILE }
	l, err := NewListener(nil, ofListener)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Watch([]Target{relay})
	<-tried.done
	o.Listener = l
	for ctx := within(t); ; {
		a := Run(ctx, relay, o)
		got := rungOf(t, a, "announce")
		if got.Outcome == evidence.Blind && got.Class == evidence.OwnFault {
			return
		}
		if ctx.Err() != nil { // the listener notes its fault a moment after it was tried
			t.Fatalf("got %+v, want blind (own-fault)", got)
		}
	}
}

// failing lets the nth socket fail, and counts them.
func failing(o *Options, n int32, errno syscall.Errno) *atomic.Int32 {
	last := n
	if errno == syscall.EADDRNOTAVAIL {
		last += 2 // package net tries again
	}
	made := new(atomic.Int32)
	o.control = func(string, string, syscall.RawConn) error {
		if i := made.Add(1); n <= i && i <= last {
			return errno
		}
		return nil
	}
	return made
}

func outcomes(a evidence.Attempt) (failed, blind int) {
	for _, r := range a.Rungs {
		switch r.Outcome {
		case evidence.Fail:
			failed++
		case evidence.Blind:
			blind++
		}
	}
	return failed, blind
}

// envCase hands the child process what it is to do.
const envCase = "PROBE_OWN_FAULT"

// childCase is that in JSON.
type childCase struct {
	TCP4, WSS string
	CA        []byte
	Resolv    string // a resolv.conf
	Port      uint16 // of its name server
	Second    string
}

// child runs the test again in a process of its own, which may be given its own
// network, and reports how it went.
func child(t *testing.T, env string, flags uintptr) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), envCase+"="+env)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is of the thread
	defer runtime.UnlockOSThread()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) && os.Getenv("CI") != "true" {
			t.Skipf("skipped: not even root may make a network namespace here: %v", err)
		}
		t.Fatal(err)
	}
	if _, err := io.Copy(t.Output(), out); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("in the child: %v", err)
	}
}

// A healthy relay never fails for want of descriptors, however few this process may
// have: at each limit another place is the one that gets none, the reading of
// resolv.conf among them.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	if env := os.Getenv(envCase); env != "" {
		fewDescriptors(t, env)
		return
	}
	ca := newAuthority(t)
	relay := newRelay(t, ca.leaf(t, nil), true, []relayv2.Option{everyAddr}).Target
	own := nameServer(t, says("A 127.0.0.1"))
	c := childCase{
		TCP4: relay.with(relay.TCP4), WSS: relay.with(relay.WSS),
		CA:     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.root.Raw}),
		Resolv: filepath.Join(t.TempDir(), "resolv.conf"), Port: own.Addr.Port(),
		Second: secondServer(t, ca, says("A 127.0.0.1")).String(),
	}
	if err := os.WriteFile(c.Resolv, []byte("nameserver 127.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	child(t, string(b), 0)
}

func fewDescriptors(t *testing.T, env string) {
	var c childCase
	if err := json.Unmarshal([]byte(env), &c); err != nil {
		t.Fatal(err)
	}
	target, err := ParseTarget([]string{c.TCP4, c.WSS})
	if err != nil {
		t.Fatal(err)
	}
	second, err := ParseNameServer(c.Second)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{AllowPrivate: true, Pace: NewPace(0), Second: []NameServer{second},
		Resolver: func() ([]NameServer, error) { return SystemNameServers(c.Resolv, c.Port) }}
	if o.ExtraCAs, err = ParseCAs(c.CA); err != nil {
		t.Fatal(err)
	}
	// The runtime has all it needs for itself after the first attempt.
	if a := Run(within(t), target, o); a.Level != evidence.LevelEchoed {
		t.Fatalf("the relay is not well: %+v", a.Rungs)
	}
	var usual syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &usual); err != nil {
		t.Fatal(err)
	}
	met := map[string]bool{}
	for limit := uint64(5); ; limit++ {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit, Max: usual.Max}); err != nil {
			t.Fatal(err)
		}
		a := Run(within(t), target, o)
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &usual); err != nil {
			t.Fatal(err)
		}
		failed, _ := outcomes(a)
		if failed != 0 {
			t.Errorf("with %d descriptors: %+v", limit, a.Rungs)
		}
		for _, r := range a.Rungs {
			if r.Outcome == evidence.Blind {
				met[r.Name+" "+string(r.Class)] = true
				if limit < 12 || !met[r.Detail] {
					t.Logf("%d descriptors: %s %s: %s", limit, r.Name, r.Class, r.Detail)
				}
				met[r.Detail] = true
			}
		}
		if a.Level == evidence.LevelEchoed {
			break
		}
		if limit > 200 {
			t.Fatalf("not enough with %d descriptors: %+v", limit, a.Rungs)
		}
	}
	for _, want := range []string{"tcp4 own-fault", "wss own-fault"} {
		if !met[want] {
			t.Errorf("at no limit: %s", want)
		}
	}
}

// A local firewall, and a machine that has no ports left, in a network of the test's
// own: the kernel's real errors.
func TestOwnFaultsOfTheKernel(t *testing.T) {
	t.Parallel()
	if os.Getenv(envCase) != "" {
		kernelFaults(t)
		return
	}
	need.Root(t)
	need.Tools(t, "ip", "nft")
	child(t, "kernel", syscall.CLONE_NEWNET)
}

func kernelFaults(t *testing.T) {
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	run("ip", "link", "set", "lo", "up")
	ca := newAuthority(t)
	o := ca.options()
	relay := newRelay(t, ca.leaf(t, nil), true, []relayv2.Option{everyAddr}).Target
	own, second := nameServer(t, says("A 127.0.0.1")), secondServer(t, ca, says("A 127.0.0.1"))
	lookedUp(&o, own, second)
	want := func(what, rung string, errno syscall.Errno) {
		t.Helper()
		a := Run(within(t), relay, o)
		failed, _ := outcomes(a)
		if got := rungOf(t, a, rung); failed != 0 || got.Class != evidence.OwnFault {
			t.Errorf("%s: got %+v, want %s blind (own-fault: %v)", what, a.Rungs, rung, errno)
		} else {
			t.Logf("%s: %s", what, got.Detail)
		}
	}
	if a := Run(within(t), relay, o); a.Level != evidence.LevelEchoed {
		t.Fatalf("the relay is not well: %+v", a.Rungs)
	}
	run("nft", "add table ip t; add chain ip t out { type filter hook output priority 0; }; add rule ip t out udp dport "+strconv.Itoa(int(own.Addr.Port()))+" drop")
	want("a firewall that drops what goes out to the resolver", "wss", syscall.EPERM)
	run("nft", "delete table ip t")

	// Two ports are left to dial from, and both are taken.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("61000 61001"), 0o600); err != nil {
		t.Fatal(err)
	}
	for port := 61000; port <= 61001; port++ {
		at := fmt.Sprintf("0.0.0.0:%d", port)
		l, err := net.Listen("tcp4", at)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		u, err := net.ListenPacket("udp4", at)
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
	}
	want("no TCP port", "tcp4", syscall.EADDRNOTAVAIL)
	want("no UDP port", "wss", syscall.EAGAIN)
}

package probe

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// An error that only this machine can be the reason of never counts against the
// relay, however a rung has classified it.
func TestOwnFaults(t *testing.T) {
	for _, err := range []error{
		errors.New("nobody has classified this"),
		fail(evidence.ConnectFailed, fmt.Errorf("dial: %w", syscall.EMFILE)),
		fmt.Errorf("wrapped: %w", fail(evidence.Unreachable, syscall.EPERM)),
	} {
		if f := asFault(err); f.outcome != evidence.Blind || f.class != evidence.OwnFault {
			t.Errorf("%v: %+v", err, f)
		}
	}
	if f := asFault(fmt.Errorf("wrapped: %w", fail(evidence.Refused, syscall.ECONNREFUSED))); f.outcome != evidence.Fail || f.class != evidence.Refused {
		t.Errorf("%+v", f)
	}
	if f := asFault(nil); f != nil {
		t.Errorf("%+v", f)
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "plain", "ä\xff\n\x1b[31m", strings.Repeat("ü", 400), "\u202e\U0010ffff"} {
		f.Add(s, 10)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < 0 || limit > 1000 {
			return
		}
		got := clean(s, limit)
		if len(got) > limit || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\x00\x1b") {
			t.Errorf("clean(%q, %d) = %q", s, limit, got)
		}
	})
}

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const a, b = "a", "b"
		p := NewPace(time.Second)
		start := time.Now()
		var at []time.Duration
		for range 3 {
			if err := p.wait(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			at = append(at, time.Since(start))
		}
		if at[0] != 0 || at[1] != time.Second || at[2] != 2*time.Second {
			t.Errorf("dials at %v", at)
		}
		if p.wait(t.Context(), b); time.Since(start) != 2*time.Second {
			t.Errorf("another relay waits, too: %s", time.Since(start))
		}
		time.Sleep(time.Hour)
		if p.wait(t.Context(), a); time.Since(start) != time.Hour+2*time.Second {
			t.Errorf("waits after an hour: %s", time.Since(start))
		}
		if len(p.next) != 1 {
			t.Errorf("%d relays are remembered", len(p.next))
		}
	})
}

func TestMozillaRoots(t *testing.T) {
	o := Options{}
	//lint:ignore SA1019 these are not the system's roots
	if n := len(o.roots().Subjects()); n < 100 {
		t.Errorf("%d roots", n)
	}
	ca := newAuthority(t)
	o.ExtraCAs = ca.options().ExtraCAs
	if o.roots().Equal(mozilla()) {
		t.Error("the extra CA is not among the roots")
	}
	if (&Options{}).roots() != mozilla() {
		t.Error("an extra CA has changed the pinned roots")
	}
}

func TestTCPFaults(t *testing.T) {
	for errno, want := range tcpFaults {
		err := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}
		if f := asFault(tcpFault(err)); f.class != want {
			t.Errorf("%v: %s, want %s", errno, f.class, want)
		}
	}
}

var tcpFaults = map[syscall.Errno]evidence.Class{
	syscall.ECONNREFUSED: evidence.Refused,
	syscall.EHOSTUNREACH: evidence.Unreachable,
	syscall.ENETUNREACH:  evidence.Unreachable,
	syscall.ETIMEDOUT:    evidence.ConnectTimeout,
	syscall.ECONNRESET:   evidence.ConnectFailed,
	syscall.EPERM:        evidence.OwnFault, // a local firewall
	syscall.EMFILE:       evidence.OwnFault,
}

// No class is a word only: each is met in a test.
func TestEveryClassIsMet(t *testing.T) {
	met := map[evidence.Class]string{
		evidence.NotAsked:    "TestOneAddress",
		evidence.BelowFailed: "checkShape",
		evidence.Stopped:     "TestStopped",
		evidence.NotHeard:    "TestNoAnnouncement",
	}
	for _, bad := range badRelays {
		met[bad.class] = bad.name
	}
	for errno, class := range tcpFaults {
		met[class] = errno.Error()
	}
	for _, class := range evidence.Classes() {
		if met[class] == "" {
			t.Errorf("class %s is met in no test", class)
		}
		delete(met, class)
	}
	for class, where := range met {
		t.Errorf("class %s of %s is not listed", class, where)
	}
}

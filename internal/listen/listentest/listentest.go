// Package listentest holds a listener to its bounds, for tests.
package listentest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// patience bounds what is waited for; nothing is measured by it.
const patience = 2 * time.Minute

// Crowd is many connections from one address to one listener, all of which stay.
type Crowd struct {
	From, Addr string // the crowd's IP address; the listener's host:port
	Conns      int
	Bound      int                     // how many of one address may stay
	Greet      func(c net.Conn) error  // what each says before it idles; nil: nothing
	Refused    func() int              // the listener's counter of refusals
	Served     func(*net.Dialer) error // whether a visitor who dials so is served
	// Stays says that those who are refused keep their connection: what is bounded is
	// requests.
	Stays bool
}

// Test says whether the crowd is bounded and counted, others are served meanwhile,
// and everybody is afterwards. visitor is an IP address of the others.
func (c Crowd) Test(t *testing.T, visitor string) {
	t.Helper()
	dialer := func(ip string) *net.Dialer {
		return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: patience}
	}
	if err := c.Served(dialer(visitor)); err != nil {
		t.Fatalf("before: %v", err)
	}
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			conn.Close()
		}
	}()
	before := c.Refused()
	more := func(n int) {
		for range n {
			conn, err := dialer(c.From).Dial("tcp", c.Addr)
			if err != nil {
				continue // refused at once
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			if c.Greet == nil || c.Greet(conn) == nil {
				open = append(open, conn)
			} else {
				conn.Close()
			}
		}
	}
	more(c.Conns)
	if err := c.Served(dialer(visitor)); err != nil {
		t.Errorf("while one address has opened %d connections, another: %v", c.Conns, err)
	}
	// On a slow machine the first ones may have timed out before the last ones came.
	end := time.Now().Add(patience)
	for c.Refused()-before < c.Conns-c.Bound && !t.Failed() {
		if time.Now().After(end) {
			t.Errorf("%d refusals are counted, of %d connections with a bound of %d", c.Refused()-before, c.Conns, c.Bound)
			break
		}
		if !c.Stays {
			more(c.Bound)
		}
		time.Sleep(10 * time.Millisecond)
	}
	// A refusal is counted before its connection ends.
	end = time.Now().Add(patience)
	for n := remaining(open); !c.Stays && n > c.Bound; n = remaining(open) {
		if time.Now().After(end) {
			t.Errorf("%d connections of one address are open, more than %d", n, c.Bound)
			break
		}
	}
	for _, conn := range open {
		conn.Close()
	}
	open = nil
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = c.Served(dialer(c.From)); err == nil {
			return
		}
	}
	t.Errorf("after the crowd has gone, its address: %v", err)
}

// remaining is how many connections the other side has not closed.
func remaining(conns []net.Conn) (n int) {
	buf := make([]byte, 4<<10)
	for _, c := range conns {
		for {
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err := c.Read(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				n++
			}
			if err != nil {
				break
			}
		}
	}
	return n
}

// Redirects says whether plain HTTP at addr leads to the domain and nowhere else.
func Redirects(t *testing.T, name, addr, domain string) {
	t.Helper()
	for _, tc := range []struct{ target, host, want string }{
		{"/a%2fb?x=1", domain, "/a%2fb?x=1"},
		{"/", "evil.test", "/"},
		{"/", "foo:.evil.test", "/"},
		{"/", domain + ":.evil.test", "/"},
		{"//evil.test/", domain, "//evil.test/"},
		{"http://evil.test/x", "evil.test", "/x"},
		{"foo:.evil.test", domain, ""},
		{"foo:@evil.test/", "foo:.evil.test", ""},
		{"foo::.evil.test", domain, ""},
	} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", tc.target, tc.host)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %+v: %v", name, tc, err)
		}
		resp.Body.Close()
		if to := resp.Header.Get("Location"); to != "https://"+domain+tc.want {
			t.Errorf("%s: GET %s, Host: %s: %s to %q", name, tc.target, tc.host, resp.Status, to)
		}
	}
}

// Package listen opens the TCP listeners that strangers reach, apart from libp2p's:
// with bounds for connections, in all and per address, for the time and memory that
// a request may take, and with counters for what was refused.
//
// All listeners of the programs go through it (internal/repo checks that).
package listen

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// Listener is a TCP listener with bounds.
type Listener struct {
	*net.TCPListener
	*Room
}

// TCP listens on hostPort. The name stands in metrics and in the log.
func TCP(name, hostPort string, b Bounds, log *slog.Logger) (*Listener, error) {
	l, err := net.Listen("tcp", hostPort)
	if err != nil {
		return nil, err
	}
	return &Listener{l.(*net.TCPListener), NewRoom(name, b, log)}, nil
}

// Accept waits for a connection that has a place. Those that have none are closed
// at once, and hold nobody up.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
				l.Add(Files, netip.Addr{})
			}
			return nil, err
		}
		var addr netip.Addr
		if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
			addr = a.AddrPort().Addr()
		}
		abort := func() {
			_ = c.SetLinger(0) // what was not read is not kept for who does not read
			_ = c.Close()
		}
		if v, ok := l.Enter(addr, abort); ok {
			return &conn{c, v}, nil
		}
		abort()
	}
}

// conn tells the room when it is used and when it ends.
type conn struct {
	*net.TCPConn
	visit *Visit
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	c.visit.Used()
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	c.visit.Used()
	return c.TCPConn.Write(b)
}

func (c *conn) Close() error {
	err := c.TCPConn.Close()
	c.visit.End()
	return err
}

// Server is an HTTP server for anybody. Its own errors are those of visitors, and
// stand in debug lines.
func Server(h http.Handler, log *slog.Logger) *http.Server {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	Bound(s)
	return s
}

// Bound sets what a request may take of the memory, and how many one connection may
// make at once.
func Bound(s *http.Server) {
	s.MaxHeaderBytes = 16 << 10
	s.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams:          32, // a browser's page takes a few
		MaxReadFrameSize:              16 << 10,
		MaxReceiveBufferPerConnection: 256 << 10,
		MaxReceiveBufferPerStream:     64 << 10,
		WriteByteTimeout:              30 * time.Second,
	}
}

// ToHTTPS sends visitors of plain HTTP to the domain. The name is nothing of
// theirs: neither the Host header, nor the request's target, which need not begin
// with a slash ("GET x:.example.net" would lead to a longer name).
func ToHTTPS(domain string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "use https", http.StatusBadRequest)
			return
		}
		to := url.URL{Scheme: "https", Host: domain, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
		http.Redirect(w, r, to.String(), http.StatusFound)
	})
}

package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/psf-relay/relay-appliance/internal/publicip"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// What a browser sends with a page's websocket request. The page is the one on
// which the bounty's text wants relays to be tried.
const (
	origin    = "https://check-crs.fullstack.cash"
	userAgent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
)

// dialer makes the bare connections of one attempt and notes what it sees.
type dialer struct {
	opts  *Options
	facts *evidence.Facts
	line  *line
}

// tcp dials one address and nothing else.
func (d dialer) tcp(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if !d.opts.AllowPrivate && !publicip.Is4(to.Addr()) {
		return nil, fail(evidence.NotPublic, fmt.Errorf("%s is not a public IPv4 address: not dialled", to.Addr()))
	}
	start := time.Now()
	conn, err := d.socket(ctx, "tcp4", to)
	if err != nil {
		if isTimeout(err) {
			d.line.add(unanswered(time.Since(start)))
		}
		return nil, tcpFault(err)
	}
	c := &listened{Conn: conn}
	d.line.watch(c)
	return c, nil
}

// listened is a connection that notes whether the other end ever said a word on it. A
// relay that does not take a connection, since one of its limits is reached, can only
// close it; what speaks and then closes is something else.
type listened struct {
	net.Conn
	line         *line
	word, closed atomic.Bool
}

// Close lets the line count before the kernel forgets.
func (c *listened) Close() error {
	c.line.closing(c)
	return c.Conn.Close()
}

func (c *listened) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.word.Store(true)
	}
	c.note(err)
	return n, err
}

func (c *listened) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.note(err)
	return n, err
}

func (c *listened) note(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		c.closed.Store(true)
	}
}

// dropped says whether the other end closed the connection without a word.
func (c *listened) dropped() bool { return c.closed.Load() && !c.word.Load() }

// dropped says the same of a connection that a way to the relay has made.
func dropped(conn net.Conn) bool {
	if l, ok := conn.(located); ok {
		conn = l.Conn
	}
	l, ok := conn.(*listened)
	return ok && l.dropped()
}

func tcpFault(err error) *fault {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fail(evidence.Refused, err)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fail(evidence.Unreachable, err)
	}
	return timeoutOr(evidence.ConnectTimeout, evidence.ConnectFailed, err)
}

// tcp4 connects to the target's literal address.
func (d dialer) tcp4(ctx context.Context, t Target) (manet.Conn, error) {
	conn, err := d.tcp(ctx, t.tcp4())
	if err != nil {
		return nil, err
	}
	return located{conn, t.TCP4}, nil
}

// wss connects to the target's name as a browser does.
func (d dialer) wss(ctx context.Context, t Target) (manet.Conn, error) {
	secured, err := d.secured(ctx, t)
	if err != nil {
		return nil, err
	}
	ws, err := d.upgrade(ctx, secured, t.host(), port(t.WSS))
	if err != nil {
		secured.NetConn().Close()
		return nil, err
	}
	remote, err := manet.FromNetAddr(secured.RemoteAddr())
	if err != nil {
		ws.Close()
		return nil, err
	}
	return located{ws, append(remote, wssComponent)}, nil
}

// secured connects to the target's name up to the end of the TLS handshake.
func (d dialer) secured(ctx context.Context, t Target) (*tls.Conn, error) {
	conn, err := d.named(ctx, t)
	if err != nil {
		return nil, err
	}
	secured, err := d.tls(ctx, conn, t.host())
	if err != nil {
		conn.Close()
		return nil, err
	}
	return secured, nil
}

// named looks the target's name up and connects to one of its addresses.
func (d dialer) named(ctx context.Context, t Target) (conn net.Conn, err error) {
	ips, err := d.lookup(ctx, t.host(), port(t.WSS))
	if err != nil {
		return nil, err
	}
	for i, ip := range ips {
		// What time is left is shared by the addresses that are left.
		within, cancel := context.WithTimeout(ctx, share(ctx, len(ips)-i))
		conn, err = d.tcp(within, netip.AddrPortFrom(ip, port(t.WSS)))
		cancel()
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	return conn, err
}

// share divides the time that ctx has left.
func share(ctx context.Context, parts int) time.Duration {
	end, ok := ctx.Deadline()
	if !ok {
		return MaxAttempt
	}
	return time.Until(end) / time.Duration(parts)
}

// tls does the handshake and keeps the certificate, accepted or not.
func (d dialer) tls(ctx context.Context, raw net.Conn, name string) (*tls.Conn, error) {
	conn := tls.Client(raw, &tls.Config{
		RootCAs:    d.opts.roots(),
		ServerName: name,
		NextProtos: []string{"http/1.1"}, // a websocket needs it; h2 would need RFC 8441
		MinVersion: tls.VersionTLS12,
	})
	err := conn.HandshakeContext(ctx)
	if err == nil {
		d.seen(conn.ConnectionState().PeerCertificates[0])
		return conn, nil
	}
	err = fmt.Errorf("tls handshake with %s: %w", name, err)
	var (
		cert   *tls.CertificateVerificationError
		record tls.RecordHeaderError
		op     *net.OpError
	)
	switch {
	case dropped(raw):
		return nil, fail(evidence.Dropped, fmt.Errorf("%w: %w", errDropped, err))
	case errors.As(err, &cert):
		d.seen(cert.UnverifiedCertificates[0])
		return nil, fail(certClass(cert.UnverifiedCertificates, cert.Err), err)
	case errors.As(err, &record):
		return nil, fail(evidence.NotTLS, err)
	case isTimeout(err):
		return nil, fail(evidence.TLSTimeout, err)
	case errors.As(err, &op) && op.Op == "remote error":
		return nil, fail(evidence.TLSAlert, err)
	}
	return nil, fail(evidence.TLSFailed, err)
}

// certClass says what is wrong with a chain, in the way that helps to mend it.
func certClass(chain []*x509.Certificate, err error) evidence.Class {
	var (
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
	)
	leaf := chain[0]
	switch {
	case errors.As(err, &name):
		return evidence.CertWrongName
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		if invalid.Cert != nil && time.Now().Before(invalid.Cert.NotBefore) {
			return evidence.CertNotYetValid
		}
		return evidence.CertExpired
	case errors.As(err, &unknown):
		switch {
		case len(chain) > 1:
			return evidence.CertUntrusted
		case leaf.CheckSignatureFrom(leaf) == nil || string(leaf.RawIssuer) == string(leaf.RawSubject):
			return evidence.CertSelfSigned
		}
		// One certificate alone, signed by somebody: the link is what is missing.
		return evidence.CertMissingIntermediate
	}
	return evidence.CertInvalid
}

func (d dialer) seen(leaf *x509.Certificate) {
	var err error
	// A leaf that no log keeps is not evidence; what was wrong with it still is.
	if d.facts.Certificate, err = evidence.NewCertificate(leaf.Raw); err == nil && d.opts.OnCertificate != nil {
		d.opts.OnCertificate(leaf)
	}
}

// upgrade asks for a websocket over conn, as a page of another site does.
func (d dialer) upgrade(ctx context.Context, conn net.Conn, host string, port uint16) (net.Conn, error) {
	if port != 443 {
		host = net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	ws, resp, err := websocket.Dial(ctx, "wss://"+host+"/", &websocket.DialOptions{
		HTTPHeader: http.Header{"Origin": {origin}, "User-Agent": {userAgent}},
		HTTPClient: clientOver(conn),
	})
	if resp != nil {
		d.facts.HTTPStatus = resp.StatusCode
	}
	switch {
	case err == nil:
		return wsConn{websocket.NetConn(context.Background(), ws, websocket.MessageBinary), ws}, nil
	case resp != nil && resp.StatusCode == http.StatusForbidden:
		return nil, fail(evidence.OriginRefused, fmt.Errorf("websocket upgrade with Origin %s: HTTP %s", origin, resp.Status))
	case resp != nil && resp.StatusCode != http.StatusSwitchingProtocols:
		return nil, fail(evidence.NoUpgrade, fmt.Errorf("websocket upgrade: HTTP %s", resp.Status))
	}
	return nil, timeoutOr(evidence.UpgradeTimeout, evidence.UpgradeFailed, err)
}

// clientOver makes one request over conn, which is made already. It follows no redirect,
// as a websocket does not.
func clientOver(conn net.Conn) *http.Client {
	used := false
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
				if used {
					return nil, errors.New("only one connection is made")
				}
				used = true
				return conn, nil
			},
			MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives:      true,
		},
	}
}

// wsConn closes without the closing handshake, for which a broken server may let
// us wait.
type wsConn struct {
	net.Conn
	ws *websocket.Conn
}

func (c wsConn) Close() error { return c.ws.CloseNow() }

// located is a connection with the multiaddr that was dialled.
type located struct {
	net.Conn
	remote ma.Multiaddr
}

func (c located) RemoteMultiaddr() ma.Multiaddr { return c.remote }
func (c located) LocalMultiaddr() ma.Multiaddr  { return unspecified }

// unspecified stands for our own end, which nobody needs to know.
var unspecified = ma.StringCast("/ip4/0.0.0.0/tcp/0")

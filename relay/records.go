package relay

import (
	"context"
	"net"
	"sync"

	pool "github.com/libp2p/go-buffer-pool"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

// recordsTLS is the library's TLS, but that the records of one write leave together. By
// itself TLS writes each record, of 16 KiB at the most, with a system call of its own:
// what a circuit writes at once, 32 KiB and a header, took three, the last for 12 bytes.
type recordsTLS struct{ *libp2ptls.Transport }

func newRecordsTLS(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (recordsTLS, error) {
	t, err := libp2ptls.New(id, key, muxers)
	return recordsTLS{t}, err
}

func (t recordsTLS) SecureInbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	below := &gathered{Conn: insecure}
	c, err := t.Transport.SecureInbound(ctx, below, p)
	return above(c, below, err)
}

func (t recordsTLS) SecureOutbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	below := &gathered{Conn: insecure}
	c, err := t.Transport.SecureOutbound(ctx, below, p)
	return above(c, below, err)
}

func above(c sec.SecureConn, below *gathered, err error) (sec.SecureConn, error) {
	if err != nil {
		return nil, err
	}
	return &recordsConn{SecureConn: c, below: below}, nil
}

const (
	record   = 16 << 10 // of plain text, at the most
	overhead = 64       // of a record; it takes 22
)

// recordsConn has what it writes gathered below.
type recordsConn struct {
	sec.SecureConn
	below   *gathered
	writing sync.Mutex
}

func (c *recordsConn) Write(p []byte) (int, error) {
	if len(p) <= record {
		return c.SecureConn.Write(p)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.below.hold(len(p) + (len(p)/record+1)*overhead)
	n, err := c.SecureConn.Write(p)
	if sendErr := c.below.send(); err == nil && sendErr != nil {
		return 0, sendErr
	}
	return n, err
}

// gathered is a connection that can hold back what is written, to write it at once.
type gathered struct {
	net.Conn
	mu   sync.Mutex
	room []byte // nil: nothing is held back
	n    int
}

func (g *gathered) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(p) <= len(g.room)-g.n {
		g.n += copy(g.room[g.n:], p)
		return len(p), nil
	}
	if err := g.flush(); err != nil {
		return 0, err
	}
	return g.Conn.Write(p)
}

// hold holds n bytes of what is written from now on.
func (g *gathered) hold(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.room = pool.Get(n)
}

// send writes what was held back.
func (g *gathered) send() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.flush()
	pool.Put(g.room)
	g.room = nil
	return err
}

func (g *gathered) flush() error {
	if g.n == 0 {
		return nil
	}
	_, err := g.Conn.Write(g.room[:g.n])
	g.n = 0
	return err
}

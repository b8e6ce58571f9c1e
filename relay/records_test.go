package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"

	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// writes counts them.
type writes struct {
	net.Conn
	n      atomic.Int32
	broken atomic.Bool
}

var errBroken = errors.New("the connection is broken")

func (w *writes) Write(p []byte) (int, error) {
	if w.broken.Load() {
		return 0, errBroken
	}
	w.n.Add(1)
	return w.Conn.Write(p)
}

// secured is a connection with our TLS at one end and the library's at the other.
func secured(t *testing.T) (ours, theirs sec.SecureConn, below *writes) {
	key := func() (crypto.PrivKey, peer.ID) {
		k, _, err := crypto.GenerateEd25519Key(rand.Reader)
		relaytest.Must(t, err)
		id, err := peer.IDFromPrivateKey(k)
		relaytest.Must(t, err)
		return k, id
	}
	ourKey, ourID := key()
	theirKey, theirID := key()
	us, err := newRecordsTLS(libp2ptls.ID, ourKey, nil)
	relaytest.Must(t, err)
	them, err := libp2ptls.New(libp2ptls.ID, theirKey, nil)
	relaytest.Must(t, err)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	relaytest.Must(t, err)
	t.Cleanup(func() { l.Close() })
	out, err := net.Dial("tcp4", l.Addr().String())
	relaytest.Must(t, err)
	in, err := l.Accept()
	relaytest.Must(t, err)
	below = &writes{Conn: in}
	done := make(chan error, 1)
	go func() {
		var err error
		theirs, err = them.SecureOutbound(context.Background(), out, ourID)
		done <- err
	}()
	ours, err = us.SecureInbound(context.Background(), below, theirID)
	relaytest.Must(t, err)
	relaytest.Must(t, <-done)
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs, below
}

// What is written at once leaves in one piece, however many records it takes, and arrives
// as it was, among small and large ones of several writers.
func TestRecordsOfOneWriteLeaveTogether(t *testing.T) {
	ours, theirs, below := secured(t)
	send := func(n int) (took int32) {
		data := bytes.Repeat([]byte{byte(n)}, n)
		before := below.n.Load()
		if wrote, err := ours.Write(data); wrote != n || err != nil {
			t.Fatalf("%d of %d bytes were written: %v", wrote, n, err)
		}
		got := make([]byte, n)
		_, err := io.ReadFull(theirs, got)
		relaytest.Must(t, err)
		if !bytes.Equal(got, data) {
			t.Errorf("%d bytes arrive changed", n)
		}
		return below.n.Load() - before
	}
	send(300 << 10) // TLS makes full records only after the first 128 KiB
	for _, n := range []int{1, record, record + 1, 2*record + 12, 256 << 10, 12} {
		if took := send(n); took != 1 {
			t.Errorf("%d bytes left in %d writes, want 1", n, took)
		}
	}

	const each, writers = 200 << 10, 4
	failed := make(chan error, writers)
	for w := range writers {
		go func() {
			_, err := ours.Write(bytes.Repeat([]byte{byte(w)}, each))
			failed <- err
		}()
	}
	count := map[byte]int{}
	got := make([]byte, writers*each)
	_, err := io.ReadFull(theirs, got)
	relaytest.Must(t, err)
	for _, b := range got {
		count[b]++
	}
	for w := range writers {
		relaytest.Must(t, <-failed)
		if count[byte(w)] != each {
			t.Errorf("of writer %d %d bytes arrive, want %d", w, count[byte(w)], each)
		}
	}
	below.broken.Store(true)
	if _, err := ours.Write(make([]byte, 100<<10)); !errors.Is(err, errBroken) {
		t.Errorf("a write on a broken connection says %v", err)
	}
}

package load

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// The attack: eight addresses hold as many connections half open as they get, and
// make new ones as fast as this, each.
const (
	attackers       = 8
	halfOpenEach    = 150
	attackPerSecond = 40
)

// The defence is measured by others, who come this often, each from an address of
// its own, and give up after the time that libp2p gives a dial.
const (
	comePerSecond = 20
	giveUp        = 5 * time.Second
)

// halfOpen counts how many ordinary clients get in while others hold connections
// half open.
func (j Job) halfOpen(ctx context.Context, _ func(Ready) error) (Values, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var held atomic.Int64
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for a := range attackers {
		pace := rate.NewLimiter(attackPerSecond, halfOpenEach)
		for i := range halfOpenEach {
			wg.Go(func() {
				for pace.Wait(ctx) == nil {
					j.hold(ctx, 10+a, i, &held)
				}
			})
		}
	}
	// The attack stands before anybody else comes.
	if err := pause(ctx, 2*time.Second); err != nil {
		return nil, err
	}
	var tried, served atomic.Int64
	var clients sync.WaitGroup
	ticks := time.NewTicker(time.Second / comePerSecond)
	defer ticks.Stop()
	begin := time.Now()
	var most int64
	for n := 100; time.Since(begin) < j.For; n++ {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		most = max(most, held.Load())
		clients.Go(func() {
			tried.Add(1)
			within, cancel := context.WithTimeout(ctx, giveUp)
			defer cancel()
			p, err := Dial(within, j.Target, j.Over, n)
			if err != nil {
				return
			}
			defer p.Close()
			if p.Identify(within) == nil {
				served.Add(1)
			}
		})
	}
	clients.Wait()
	return Values{"served_percent": 100 * float64(served.Load()) / float64(tried.Load()), "tried": float64(tried.Load()), "held_open": float64(most)}, nil
}

// hold opens a connection, goes part of the way, and waits until it is closed.
func (j Job) hold(ctx context.Context, from, kind int, held *atomic.Int64) {
	port := "tcp"
	if kind%4 >= 2 {
		port = "wss"
	}
	at, ok := j.Target.Addrs[port]
	if !ok {
		at, kind = j.Target.Addrs["tcp"], 0
	}
	conn, err := DialTCP(ctx, at, from)
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	held.Add(1)
	defer held.Add(-1)
	switch kind % 4 {
	case 0: // silent
	case 1: // the first words of a handshake
		_, err = conn.Write([]byte("\x13/multistream/1.0.0\n"))
	case 2: // no more than TLS
		_, err = j.secure(ctx, conn)
	case 3: // a request that does not end
		var secured net.Conn
		if secured, err = j.secure(ctx, conn); err == nil {
			_, err = secured.Write([]byte("GET / HTTP/1.1\r\nHost: " + ServerName + "\r\nX: "))
		}
	}
	if err == nil {
		_, _ = io.Copy(io.Discard, conn) // until the relay has enough of it
	}
}

func (j Job) secure(ctx context.Context, conn net.Conn) (net.Conn, error) {
	conf, err := clientTLS(j.Target.CA)
	if err != nil {
		return nil, err
	}
	secured := tls.Client(conn, conf)
	return secured, secured.HandshakeContext(ctx)
}
